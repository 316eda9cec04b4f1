"""The golden picture of a bundle: what the converter saw on it, so that a board can prove it sees the same.

`golden/picture.png` and `golden/results.json` lie in the bundle; the results are those of its pipeline, by target.
"""

import json
from pathlib import Path
from typing import Annotated, Any, cast

import cv2
import msgspec
import numpy as np

from edge.bundle import locate
from edge.config import EngineSection, RunConfig
from edge.detections import Detections
from edge.errors import ConfigError, ManifestError
from edge.evaluation.compare import agreement
from edge.evaluation.datasets import read_picture
from edge.evaluation.gates import AccuracyError
from edge.evaluation.matching import Predicted
from edge.evaluation.runner import OneFrameSource
from edge.model import open_model
from edge.pipeline import Pipeline
from edge.sources.base import FrameSource

__all__ = ["GOLDEN_FOLDER", "GOLDEN_PICTURE", "check_golden", "see", "verdict_of", "write_golden"]

GOLDEN_FOLDER = "golden"
GOLDEN_PICTURE = "golden/picture.png"
_LONGEST_SIDE_PX = 640
_LEAST_AGREEMENT, _MOST_SCORE = 0.9, 0.1  # of the very same target; another CPU rounds otherwise
_LEAST_OF_ANOTHER = 0.5  # another engine may lose a faint object, not half of what there is


class _Seen(msgspec.Struct):
    class_ids: list[Annotated[int, msgspec.Meta(ge=0, le=2**31)]]
    scores: list[float]
    xyxy: list[tuple[float, float, float, float]]

    def __post_init__(self) -> None:
        if not len(self.class_ids) == len(self.scores) == (len(self.xyxy) or len(self.scores)):
            raise ValueError("numbers, scores and boxes are not of one length")


class _Stored(msgspec.Struct):
    results: dict[str, _Seen]
    reference: str

    def __post_init__(self) -> None:
        if self.reference not in self.results:
            raise ValueError("the reference has no results")


def see(reference: str, target: str | None, picture: Path) -> dict[str, Any]:
    """Return what a bundle's target finds on a picture: target, class_ids, scores and xyxy (source px) as lists.

    Raises: ModelError, AcceleratorError or MissingBackendError when the target cannot run here.
    """
    model = open_model(reference, EngineSection(target=target))
    try:
        source = OneFrameSource()
        pipeline = Pipeline(cast(FrameSource, source), model, [], RunConfig())
        source.put(read_picture(picture))
        pipeline.step()
        result, n = pipeline.result, pipeline.result.count
        boxes = result.xyxy[:n] if isinstance(result, Detections) else np.zeros((0, 4))
        return {
            "target": model.target,
            "class_ids": result.class_ids[:n].tolist(),
            "scores": [round(float(score), 5) for score in result.scores[:n]],
            "xyxy": [[round(float(v), 2) for v in box] for box in boxes],
        }
    finally:
        model.close()


def write_golden(folder: Path, picture: np.ndarray, reference: str, targets: list[str]) -> dict[str, Any]:
    """Write the golden picture, (H, W, 3) uint8 BGR, at most 640 px a side, and return what each target sees on it.

    reference: the target that stands for those which do not run here.
    Raises: ModelError when a target cannot run, ManifestError for a picture that cannot be encoded.
    """
    golden = folder / GOLDEN_FOLDER
    golden.mkdir(exist_ok=True)
    ratio = min(1.0, _LONGEST_SIDE_PX / max(picture.shape[:2]))
    size = max(1, round(picture.shape[1] * ratio)), max(1, round(picture.shape[0] * ratio))
    done, data = cv2.imencode(".png", cv2.resize(picture, size, interpolation=cv2.INTER_AREA))
    if not done:
        raise ManifestError("the golden picture cannot be written", "give calibration pictures that OpenCV reads")
    (folder / GOLDEN_PICTURE).write_bytes(data.tobytes())
    results = {name: see(str(folder), name, folder / GOLDEN_PICTURE) for name in targets}
    text = json.dumps({"format": 1, "reference": reference, "results": results}, indent=1)
    (golden / "results.json").write_text(text + "\n")
    return results


def check_golden(reference: str, target: str | None = None) -> dict[str, Any]:
    """Return how far a target's result on the golden picture agrees with the converter's, in [0, 1].

    agreement is 2 * pairs / (both counts) at IoU 0.5 and the same class, for classifiers whether the first class
    is the same; score is the greatest difference of scores in order. `of` names the target compared with.
    Raises: ManifestError when the bundle has no golden picture; as `see`.
    """
    folder = locate(reference)
    golden = folder / GOLDEN_FOLDER
    try:
        stored = msgspec.json.decode((golden / "results.json").read_bytes(), type=_Stored)
    except (OSError, ValueError) as exc:
        raise ManifestError(
            f"{folder} has no golden picture that can be read", "`harrier convert` writes one into its bundles"
        ) from exc
    try:
        read_picture(folder / GOLDEN_PICTURE)
    except ConfigError as exc:
        raise ManifestError(exc.cause, "copy or convert the bundle again") from exc
    now = see(reference, target, folder / GOLDEN_PICTURE)
    of = now["target"] if now["target"] in stored.results else stored.reference
    then = msgspec.structs.asdict(stored.results[of])
    if then["xyxy"] or now["xyxy"]:
        share = agreement(_predicted(then), _predicted(now))
    else:
        share = float(then["class_ids"][:1] == now["class_ids"][:1])
    pairs = zip(then["scores"], now["scores"], strict=False)
    return {
        "target": now["target"],
        "of": of,
        "agreement": share,
        "score": max((abs(a - b) for a, b in pairs), default=0.0),
    }


def verdict_of(found: dict[str, Any]) -> str:
    """Return what check_golden found, as a line.

    Raises: AccuracyError when the target sees something else than the converter did.
    """
    said = (
        f"{found['target']} agrees with the converter's {found['of']} to {100 * found['agreement']:.0f} %, "
        f"scores within {found['score']:.3f}"
    )
    same = found["target"] == found["of"]
    least = _LEAST_AGREEMENT if same else _LEAST_OF_ANOTHER
    if found["agreement"] < least or (same and found["score"] > _MOST_SCORE):
        raise AccuracyError(
            f"on the golden picture {said}", "the file or the engine differs from what was converted: convert again"
        )
    return f"golden picture: {said}"


def _predicted(result: dict[str, Any]) -> Predicted:
    xywh = np.array(result["xyxy"], np.float64).reshape(-1, 4)
    xywh[:, 2:] -= xywh[:, :2]
    return Predicted(xywh, np.array(result["class_ids"], np.int64), np.array(result["scores"], np.float64))
