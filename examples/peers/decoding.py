"""Decoding and NMS alone on a YOLOv8 head, (1, 84, 8400), float32 and int8, beside other libraries."""

import cv2
import numpy as np
import supervision as sv
from edgefirst.decoder import Decoder, Output
from edgefirst.tensor import Tensor
from interleaved import show, take_turns

from edge.decoders.base import DecoderContext
from edge.decoders.yolo import YoloDecoder
from edge.detections import Detections
from edge.nms import NmsSettings, suppress
from edge.tensor import Quantization, TensorSpec

SCORE, IOU, ROUNDS = 0.25, 0.45, 300
ZERO_POINT = -128  # of the one int8 tensor, whose boxes are normalized so that they share the scores' scale, 1/255


def head(seed: int) -> np.ndarray:
    """A head as a picture with 30 objects gives it: low scores everywhere, clusters of high ones; (1, 84, 8400)."""
    rng = np.random.default_rng(seed)
    raw = np.empty((1, 84, 8400), np.float32)
    raw[0, :2] = rng.uniform(0, 640, (2, 8400))
    raw[0, 2:4] = rng.uniform(10, 200, (2, 8400))
    raw[0, 4:] = rng.uniform(0, 0.05, (80, 8400))
    for _ in range(30):
        center, size, label = rng.uniform(50, 590, 2), rng.uniform(30, 150, 2), rng.integers(80)
        for anchor in rng.choice(8400, 6, replace=False):
            raw[0, :2, anchor] = center + rng.normal(0, 3, 2)
            raw[0, 2:4, anchor] = size + rng.normal(0, 3, 2)
            raw[0, 4 + label, anchor] = rng.uniform(0.4, 0.95)
    return raw


class Harrier:
    """Our decoder and NMS."""

    def __init__(self, dtype: str, quantization: Quantization | None, normalized: bool) -> None:
        spec = TensorSpec("output0", (1, 84, 8400), np.dtype(dtype), None, quantization)
        params = {"objectness": False, "normalized": normalized}
        self._decoder = YoloDecoder(DecoderContext([spec], {"raw": "output0"}, (640, 640), SCORE, 80, params))
        self._candidates, self.found = Detections(1000), Detections(100)
        self._settings = NmsSettings(iou_threshold=IOU)

    def __call__(self, raw: np.ndarray) -> int:
        self._decoder.decode([raw], self._candidates)
        suppress(self._candidates, self.found, self._settings)
        return self.found.count


def plain(raw: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Boxes xyxy, scores and classes over the threshold, the obvious numpy way."""
    rows = raw[0].T
    scores = rows[:, 4:].max(axis=1)
    keep = scores > SCORE
    rows, scores = rows[keep], scores[keep]
    half = rows[:, 2:4] / 2
    return np.concatenate([rows[:, :2] - half, rows[:, :2] + half], axis=1), scores, rows[:, 4:].argmax(axis=1)


def numpy_nms(raw: np.ndarray) -> int:
    """Plain numpy with the usual greedy loop."""
    boxes, scores, classes = plain(raw)
    boxes = boxes + classes[:, None] * 4096
    order, kept = scores.argsort()[::-1], 0
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    while len(order):
        first, rest = order[0], order[1:]
        kept += 1
        wh = np.minimum(boxes[first, 2:], boxes[rest, 2:]) - np.maximum(boxes[first, :2], boxes[rest, :2])
        inter = wh.clip(0).prod(axis=1)
        order = rest[inter / (areas[first] + areas[rest] - inter) <= IOU]
    return kept


def opencv_nms(raw: np.ndarray) -> int:
    """Plain numpy decoding, OpenCV's NMS."""
    boxes, scores, classes = plain(raw)
    boxes[:, 2:] -= boxes[:, :2]
    return len(cv2.dnn.NMSBoxesBatched(boxes, scores, classes.astype(np.int32), SCORE, IOU))


def supervision_nms(raw: np.ndarray) -> int:
    """Plain numpy decoding, supervision's Detections and NMS."""
    boxes, scores, classes = plain(raw)
    return len(sv.Detections(xyxy=boxes, confidence=scores, class_id=classes).with_nms(threshold=IOU))


def edgefirst(dtype: str, raw: np.ndarray):
    """edgefirst-decoder on the same numbers, its boxes normalized as it wants them."""
    output = Output.detection(shape=[1, 84, 8400])
    if dtype == "int8":
        output = output.with_quantization(scale=1 / 255, zero_point=ZERO_POINT)
    decoder = Decoder.new_from_outputs([output], score_threshold=SCORE, iou_threshold=IOU)
    tensor = Tensor(list(raw.shape), dtype=dtype)
    tensor.from_numpy(raw)  # once: an engine of its own would have written there
    return lambda i: len(decoder.decode([tensor])[0])


def main() -> None:
    """Measure float32 and int8."""
    raw = head(0)
    unit = raw.copy()
    unit[0, :4] /= 640
    stored = np.clip(np.rint(unit * 255) + ZERO_POINT, -128, 127).astype(np.int8)
    ours, ours_int8 = Harrier("float32", None, False), Harrier("int8", Quantization(1 / 255, ZERO_POINT), True)
    real = lambda: (stored.astype(np.float32) - ZERO_POINT) / 255 * UNIT_TO_PX  # noqa: E731
    contestants = {
        "float32": {
            "Harrier": lambda i: ours(raw),
            "numpy, greedy NMS": lambda i: numpy_nms(raw),
            "numpy + cv2.dnn NMS": lambda i: opencv_nms(raw),
            "numpy + supervision NMS": lambda i: supervision_nms(raw),
            "edgefirst-decoder": edgefirst("float32", unit),
        },
        "int8": {
            "Harrier": lambda i: ours_int8(stored),
            "numpy, greedy NMS": lambda i: numpy_nms(real()),
            "numpy + cv2.dnn NMS": lambda i: opencv_nms(real()),
            "numpy + supervision NMS": lambda i: supervision_nms(real()),
            "edgefirst-decoder": edgefirst("int8", stored),
        },
    }
    for dtype, turns in contestants.items():
        counts = {name: turn(0) for name, turn in turns.items()}
        print(f"\n{dtype}: detections found: " + ", ".join(f"{name} {count}" for name, count in counts.items()))
        show(f"decode + NMS, {dtype} (1, 84, 8400)", take_turns(turns, ROUNDS), "Harrier")


UNIT_TO_PX = np.ones((1, 84, 1), np.float32)
UNIT_TO_PX[0, :4] = 640

if __name__ == "__main__":
    main()
