"""The headline figures from faster-coco-eval, the field's own evaluation. Imported only when it is needed."""

import contextlib
import io
import logging
from collections.abc import Sequence

from faster_coco_eval import COCO, COCOeval_faster

from edge.evaluation.matching import Predicted, Truth

__all__ = ["NAMES", "reference_figures"]

NAMES = (
    "map",
    "map50",
    "map75",
    "map_small",
    "map_medium",
    "map_large",
    "ar1",
    "ar10",
    "ar100",
    "ar_small",
    "ar_medium",
    "ar_large",
)


def reference_figures(truths: Sequence[Truth], found: Sequence[Predicted], class_count: int) -> dict[str, float | None]:
    """Return the twelve COCO figures, each in [0, 1], None where the set has nothing of that size."""
    annotations = [
        {
            "id": 0,
            "image_id": i,
            "category_id": int(c),
            "bbox": box.tolist(),
            "area": float(area),
            "iscrowd": int(crowd),
        }
        for i, truth in enumerate(truths, 1)
        for box, c, area, crowd in zip(truth.xywh, truth.class_ids, truth.area, truth.crowd, strict=True)
    ]
    for number, annotation in enumerate(annotations, 1):
        annotation["id"] = number
    records = [
        {"image_id": i, "category_id": int(c), "bbox": box.tolist(), "score": float(score)}
        for i, predicted in enumerate(found, 1)
        for box, c, score in zip(predicted.xywh, predicted.class_ids, predicted.scores, strict=True)
    ]
    if not records:
        return dict.fromkeys(NAMES, 0.0 if annotations else None)
    if not annotations:
        return dict.fromkeys(NAMES)
    document = {
        "info": {},
        "images": [{"id": i, "width": 1, "height": 1} for i in range(1, len(truths) + 1)],
        "categories": [{"id": c, "name": str(c)} for c in range(class_count)],
        "annotations": annotations,
    }
    logging.getLogger("faster_coco_eval").setLevel(logging.WARNING)  # it tells its steps, and the figures once more
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(document)
        evaluation = COCOeval_faster(coco, coco.loadRes(records), "bbox")
        evaluation.run()
    values = [float(value) for value in evaluation.stats[: len(NAMES)]]
    return {name: None if value < 0 else value for name, value in zip(NAMES, values, strict=True)}
