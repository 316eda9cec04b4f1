"""What the decoder tests share: tensors of every dtype, and selection in slow and obvious plain Python."""

import json
import math
from dataclasses import dataclass

import cv2
import numpy as np
import pytest

from edge.decoders.base import DecoderContext
from edge.detections import Detections
from edge.tensor import Quantization, TensorSpec

DTYPES = ("float32", "float16", "uint8", "int8")
THRESHOLDS = (0.0, 0.3, 1.0)


@dataclass
class Tensor:
    """A tensor as an engine would hand it out, and the real values it stands for."""

    spec: TensorSpec
    stored: np.ndarray
    real: np.ndarray  # float64


@dataclass
class Candidate:
    """One candidate of the reference."""

    score: float
    class_id: int
    xyxy: list
    keypoints: list | None = None


def tensor(name, real, dtype):
    """Return `real` stored as `dtype`, quantized over its own range where that is needed."""
    real = np.asarray(real, np.float64)
    kind = np.dtype(dtype)
    if kind.kind == "f":
        stored = real.astype(kind)
        return Tensor(TensorSpec(name, stored.shape, kind), stored, stored.astype(np.float64))
    info = np.iinfo(kind)
    lowest, highest = min(real.min(), 0.0), real.max()
    scale = 1 / 256 if lowest >= 0 and highest <= 1 else float(np.float32((highest - lowest) / 255))
    zero_point = info.min + round(-lowest / scale)
    stored = np.clip(np.rint(real / scale) + zero_point, info.min, info.max).astype(kind)
    spec = TensorSpec(name, stored.shape, kind, quantization=Quantization(scale, zero_point))
    return Tensor(spec, stored, (stored.astype(np.float64) - zero_point) * scale)


def turned(real, channels_first):
    """Return (1, N, C) values, as (1, C, N) where asked."""
    return np.swapaxes(real, 1, 2) if channels_first else real


def probabilities(rng, *shape):
    """Return mostly small numbers in [0, 1] with some exact 0 and 1."""
    p = rng.random(shape) ** 3
    p[rng.random(shape) < 0.02] = 1.0
    p[rng.random(shape) < 0.05] = 0.0
    return p


def context(tensors, roles, size_wh, threshold, params=None, class_count=None):
    """Return the DecoderContext of these tensors; roles: role -> name."""
    specs = [t.spec for t in tensors]
    return DecoderContext(specs, roles, size_wh, threshold, class_count, params or {})


def logistic(x):
    """Return the sigmoid of a Python float."""
    return 1 / (1 + math.exp(-x)) if x > -700 else 0.0


def best_class(scores):
    """Return the highest score and its first class."""
    best = 0
    for c in range(1, len(scores)):
        if scores[c] > scores[best]:
            best = c
    return float(scores[best]), best


def chosen(candidates, threshold, capacity):
    """Return what a decoder must report: of those at or above the threshold the best `capacity`."""
    passing = [i for i, c in enumerate(candidates) if np.float32(c.score) >= np.float32(threshold)]
    passing.sort(key=lambda i: (-np.float32(candidates[i].score), i))
    return [candidates[i] for i in sorted(passing[:capacity])]


def assert_decoded(into: Detections, expected, rtol=2e-5, atol=2e-3):
    """Check count, order, classes, scores, boxes and keypoints."""
    assert into.count == len(expected)
    n = into.count
    assert into.class_ids[:n].tolist() == [c.class_id for c in expected]
    assert np.isfinite(into.scores[:n]).all()
    assert np.isfinite(into.xyxy[:n]).all()
    assert (into.track_ids[:n] == -1).all()
    np.testing.assert_allclose(into.scores[:n], [min(c.score, 1.0) for c in expected], rtol=2e-5, atol=1e-6)
    if n:
        np.testing.assert_allclose(into.xyxy[:n], [c.xyxy for c in expected], rtol=rtol, atol=atol)
    if n and expected[0].keypoints is not None:
        np.testing.assert_allclose(into.keypoints[:n], [c.keypoints for c in expected], rtol=rtol, atol=atol)


def grid(size_wh, strides):
    """Return (column, row, stride) of each cell, by three loops."""
    cells = []
    for stride in strides:
        for y in range(math.ceil(size_wh[1] / stride)):
            cells.extend((x, y, stride) for x in range(math.ceil(size_wh[0] / stride)))
    return cells


def corners(cx, cy, w, h):
    """Return xyxy of a centre box."""
    return [cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2]


def check_decode(decoder, tensors, candidates, threshold):
    """Compare a decoder with the reference at ample capacity and at one that is too small."""
    outputs = [t.stored for t in tensors]
    for capacity in (1000, 5):
        into = Detections(capacity, decoder.keypoint_count)
        into.track_ids[:] = 7
        decoder.decode(outputs, into)
        assert_decoded(into, chosen(candidates, threshold, capacity))


def recall_of_large_objects(folder, detect):
    """Return the share of COCO's large objects that have a box of their class at IoU 0.5.

    detect: picture (H, W, 3) uint8 BGR -> xyxy (N, 4) in its px and class_ids (N,).
    """
    coco = json.loads((folder / "instances.json").read_text())
    class_of = {c: i for i, c in enumerate(sorted(c["id"] for c in coco["categories"]))}
    found = wanted = 0
    for image in coco["images"]:
        picture = cv2.imread(str(folder / "images" / image["file_name"]))
        boxes, class_ids = detect(picture)
        for truth in coco["annotations"]:
            x, y, w, h = truth["bbox"]
            if truth["image_id"] != image["id"] or truth["iscrowd"] or w * h < 0.1 * picture.shape[0] ** 2:
                continue
            wanted += 1
            own = boxes[class_ids == class_of[truth["category_id"]]]
            inner = np.minimum(own[:, 2:], [x + w, y + h]) - np.maximum(own[:, :2], [x, y])
            common = np.maximum(inner, 0).prod(axis=1)
            union = (own[:, 2:] - own[:, :2]).prod(axis=1) + w * h - common
            found += bool((common / union > 0.5).any())
    assert wanted > 50
    return found / wanted


every_dtype = pytest.mark.parametrize("dtype", DTYPES)
every_threshold = pytest.mark.parametrize("threshold", THRESHOLDS)
both_orientations = pytest.mark.parametrize("channels_first", [False, True])
