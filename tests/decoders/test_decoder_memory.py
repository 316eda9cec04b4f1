"""A decode with few survivors allocates nothing that grows with the tensor."""

import tracemalloc

import numpy as np
import pytest
from decoder_reference import context, tensor

from edge.detections import Classification, Detections
from edge.registry import resolve

FACE = {"strides": [4], "anchors_per_cell": 1, "keypoints": 6}
RESULTS = {"boxes": (1, 100, 4), "scores": (1, 100), "classes": (1, 100), "count": (1,)}

CASES = [
    ("yolox", {"raw": (1, 8400, 85)}, {}, 640),
    ("yolox", {"raw": (1, 85, 8400)}, {}, 640),
    ("yolox", {"boxes": (1, 8400, 4), "objectness": (1, 8400, 1), "scores": (1, 8400, 80)}, {}, 640),
    ("yolo", {"raw": (1, 84, 8400)}, {}, 640),
    ("yolo", {"raw": (1, 8400, 84)}, {}, 640),
    ("yolo", {"raw": (1, 25200, 85)}, {"objectness": True}, 640),
    ("nanodet", {"raw": (1, 3598, 112)}, {}, 416),
    ("fastestdet", {"raw": (1, 85, 1936)}, {}, 704),
    ("ssd_anchors", {"boxes": (1, 2304, 16), "scores": (1, 2304, 1)}, FACE, 192),
    ("detr", {"boxes": (1, 900, 4), "logits": (1, 900, 91)}, {"background": "last"}, 640),
    ("detr", {"boxes": (1, 900, 4), "logits": (1, 900, 91)}, {"activation": "softmax"}, 640),
    ("ssd_postprocess", RESULTS, {}, 320),
    ("classification", {"scores": (1, 21843)}, {}, 224),
    ("classification", {"scores": (1, 21843)}, {"softmax": True}, 224),
]  # fmt: skip


SURVIVORS = 20

# numpy brings two buffers of 8192 numbers, 64 KiB, to a reduction over rows, however long the tensor
LIMIT_BYTES = 80 * 1024


def filled(role, shape, logits):
    """Return real values in which 20 candidates are plainly above all others."""
    real = np.random.default_rng(1).uniform(0, 0.2, shape)
    if role == "boxes" or role == "count":
        return real if role == "boxes" else np.full(shape, 1000.0)
    low, high = (-9.0, 9.0) if logits else (0.01, 0.95)
    axis = int(np.argmax(shape))
    rows = np.moveaxis(real, axis, 0)
    rows[:] = low
    step = len(rows) // SURVIVORS
    rows[: step * SURVIVORS : step] = high
    if role == "logits" or (role == "scores" and rows[0].size > 1):
        rows[:, ..., 1:] = low
    return real


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
@pytest.mark.parametrize(("family", "shapes", "params", "side"), CASES)
def test_peak_is_bounded(dtype, family, shapes, params, side):
    logits = family in ("detr", "ssd_anchors")
    tensors = [tensor(role, filled(role, shape, logits), dtype) for role, shape in shapes.items()]
    roles = {role: role for role in shapes}
    threshold = 0.03 if params.get("softmax") else 0.6
    decoder = resolve("decoders", family)(context(tensors, roles, (side, side), threshold, params))
    outputs = [t.stored for t in tensors]
    into = Detections(300, 6) if decoder.kind == "detections" else Classification(5)
    decoder.decode(outputs, into)
    assert into.count == (0 if params.get("softmax") else min(SURVIVORS, into.capacity))
    tracemalloc.start()
    decoder.decode(outputs, into)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < LIMIT_BYTES
