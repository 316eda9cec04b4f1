"""The accuracy of the whole runtime beside a plain implementation of the same model's published post-processing."""

import contextlib
import io
import json
from pathlib import Path

import cv2
import numpy as np
import onnxruntime as ort
import pytest
from faster_coco_eval import COCO, COCOeval_faster

from edge.config import RunConfig
from edge.errors import EndOfStreamError
from edge.model import open_model
from edge.pipeline import Pipeline
from edge.testing import MemorySource

pytestmark = pytest.mark.shared

SIZE, SCORE, IOU, MOST = 416, 0.001, 0.65, 100


def plain_detections(session: ort.InferenceSession, image: np.ndarray) -> list[tuple[list[float], float, int]]:
    """YOLOX as its authors describe it, step by step on the whole tensor, in float64: (xyxy, score, class)."""
    ratio = min(SIZE / image.shape[0], SIZE / image.shape[1])
    resized = cv2.resize(image, (int(image.shape[1] * ratio), int(image.shape[0] * ratio)))
    canvas = np.full((SIZE, SIZE, 3), 114, np.uint8)
    canvas[: resized.shape[0], : resized.shape[1]] = resized
    tensor = canvas.transpose(2, 0, 1)[None].astype(np.float32)
    rows = session.run(None, {"images": tensor})[0][0].astype(np.float64)
    start = 0
    for stride in (8, 16, 32):
        side = SIZE // stride
        for y in range(side):
            for x in range(side):
                row = rows[start]
                row[:2] = (row[:2] + np.array([x, y])) * stride
                row[2:4] = np.exp(row[2:4]) * stride
                start += 1
    classes = rows[:, 5:].argmax(axis=1)
    scores = rows[:, 4] * rows[:, 5:].max(axis=1)
    corners = np.concatenate([rows[:, :2] - rows[:, 2:4] / 2, rows[:, :2] + rows[:, 2:4] / 2], axis=1) / ratio
    found = []
    for c in np.unique(classes[scores >= SCORE]):
        indices = [i for i in np.argsort(-scores, kind="stable") if classes[i] == c and scores[i] >= SCORE]
        while indices:
            best, *rest = indices
            found.append((corners[best].tolist(), float(scores[best]), int(c)))
            indices = [i for i in rest if overlap(corners[best], corners[i]) <= IOU]
    return sorted(found, key=lambda record: -record[1])[:MOST]


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    inter = width * height
    return inter / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inter)


def runtime_detections(model_file: Path, images: list[np.ndarray]) -> list[list[tuple[list[float], float, int]]]:
    """What the pipeline publishes for each image, with the thresholds of the evaluation."""
    config = RunConfig()
    config.thresholds.score, config.thresholds.iou = SCORE, IOU
    config.thresholds.max_candidates, config.thresholds.max_detections = 3549, MOST
    model = open_model(str(model_file), config.engine, score_threshold=SCORE)
    pipeline = Pipeline(MemorySource(images, frames=len(images)), model, [], config)
    found = []
    for _ in images:
        message = pipeline.step()
        found.append([(list(d.box), d.score, d.class_id) for d in message.detections])
    with pytest.raises(EndOfStreamError):
        pipeline.step()
    model.close()
    return found


def mean_average_precision(truth: Path, image_ids: list[int], found: list[list]) -> tuple[float, float]:
    """COCO mAP50-95 and mAP50."""
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(truth))
        categories = sorted(coco.getCatIds())
        records = [
            {
                "image_id": image_id,
                "category_id": categories[c],
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "score": score,
            }
            for image_id, detections in zip(image_ids, found, strict=True)
            for (x1, y1, x2, y2), score, c in detections
        ]
        evaluation = COCOeval_faster(coco, coco.loadRes(records), "bbox")
        evaluation.run()
    return float(evaluation.stats[0]), float(evaluation.stats[1])


def test_yolox_scores_the_same_as_the_plain_implementation(shared, record_property):
    folder = shared / "data/coco-val80"
    listed = json.loads((folder / "instances.json").read_text())["images"]
    images = [cv2.imread(str(folder / "images" / entry["file_name"])) for entry in listed]
    ids = [entry["id"] for entry in listed]
    session = ort.InferenceSession(str(shared / "models/yolox_nano.onnx"))
    plain = mean_average_precision(
        folder / "instances.json", ids, [plain_detections(session, image) for image in images]
    )
    ours = mean_average_precision(
        folder / "instances.json", ids, runtime_detections(shared / "models/yolox_nano.onnx", images)
    )
    print(f"mAP50-95 {ours[0]:.4f} (plain {plain[0]:.4f}), mAP50 {ours[1]:.4f} (plain {plain[1]:.4f})")
    assert abs(ours[0] - plain[0]) < 0.002
    assert abs(ours[1] - plain[1]) < 0.002
    assert plain[0] == pytest.approx(0.3067, abs=0.002)  # the reference figure of this model on these images
