import math

import cv2
import numpy as np
import pytest
from decoder_reference import (
    Candidate,
    best_class,
    check_decode,
    context,
    corners,
    every_dtype,
    every_threshold,
    grid,
    logistic,
    probabilities,
    recall_of_large_objects,
    tensor,
)

from edge.decoders.fastestdet import FastestdetDecoder
from edge.detections import Detections
from edge.errors import ManifestError

SIZE = (96, 64)
CELLS = len(grid(SIZE, [16]))
CLASSES = 6


def reference(objectness, boxes, scores):
    found = []
    for i, (x, y, stride) in enumerate(grid(SIZE, [16])):
        score, class_id = best_class(scores[i])
        confidence = max(float(objectness[i][0]), 0) ** 0.6 * max(score, 0) ** 0.4
        cx = (x + math.tanh(float(boxes[i][0]))) * stride
        cy = (y + math.tanh(float(boxes[i][1]))) * stride
        w, h = logistic(float(boxes[i][2])) * SIZE[0], logistic(float(boxes[i][3])) * SIZE[1]
        found.append(Candidate(confidence, class_id, corners(cx, cy, w, h)))
    return found


def values(seed):
    rng = np.random.default_rng(seed)
    return (
        probabilities(rng, 1, CELLS, 1),
        rng.normal(0, 1, (1, CELLS, 4)),
        probabilities(rng, 1, CELLS, CLASSES),
    )


@every_dtype
@every_threshold
@pytest.mark.parametrize("form", ["nchw", "nhwc", "channels first", "rows first"])
def test_fused_tensor_equals_the_reference(dtype, threshold, form):
    rows = np.concatenate(values(1), axis=2)
    maps = rows.reshape(1, 4, 6, -1)
    made = {
        "nchw": maps.transpose(0, 3, 1, 2),
        "nhwc": maps,
        "channels first": rows.transpose(0, 2, 1),
        "rows first": rows,
    }[form]
    t = tensor("out", made, dtype)
    real = t.real[0] if form in ("rows first", "nhwc") else np.moveaxis(t.real[0], 0, -1)
    real = real.reshape(CELLS, -1)
    decoder = FastestdetDecoder(context([t], {"raw": "out"}, SIZE, threshold))
    assert decoder.class_count == CLASSES
    check_decode(decoder, [t], reference(real[:, :1], real[:, 1:5], real[:, 5:]), threshold)


@every_dtype
def test_separate_tensors_equal_the_reference(dtype):
    tensors = [tensor(n, v, dtype) for n, v in zip("obs", values(2), strict=True)]
    roles = {"objectness": "o", "boxes": "b", "scores": "s"}
    decoder = FastestdetDecoder(context(tensors, roles, SIZE, 0.3))
    check_decode(decoder, tensors, reference(*(t.real[0] for t in tensors)), 0.3)


def test_numbers_that_are_not_finite_are_never_published():
    whole = np.full((1, CELLS, 5 + CLASSES), 0.5, np.float32)
    t = tensor("out", whole, "float32")
    decoder = FastestdetDecoder(context([t], {"raw": "out"}, SIZE, 0.3))
    whole[0, 1, 0], whole[0, 2, 3], whole[0, 3, 8], whole[0, 4, 0] = math.nan, math.nan, math.inf, math.inf
    into = Detections(1000)
    decoder.decode([whole], into)
    assert into.count == CELLS - 4
    assert np.isfinite(into.xyxy[: into.count]).all()


def test_even_a_threshold_of_0_lets_nothing_through_that_is_not_finite():
    whole = np.full((1, CELLS, 5 + CLASSES), 0.5, np.float32)
    decoder = FastestdetDecoder(context([tensor("out", whole, "float32")], {"raw": "out"}, SIZE, 0.0))
    whole[0, 1, 0], whole[0, 2, 5:] = -math.inf, -math.inf
    into = Detections(1000)
    decoder.decode([whole], into)
    assert into.count == CELLS - 2


def test_wrong_shapes_are_named():
    t = tensor("out", np.zeros((1, 11, 5, 6)), "float32")
    with pytest.raises(ManifestError, match=r"\(1, 11, 5, 6\)"):
        FastestdetDecoder(context([t], {"raw": "out"}, SIZE, 0.5))


@pytest.mark.shared
def test_the_real_model_finds_what_is_large_in_coco(shared):
    session = pytest.importorskip("onnxruntime").InferenceSession(shared / "models" / "FastestDet.onnx")
    output = session.get_outputs()[0]
    t = tensor(output.name, np.zeros(output.shape), "float32")
    decoder = FastestdetDecoder(context([t], {"raw": output.name}, (352, 352), 0.3))
    into = Detections(1000)

    def detect(picture):
        small = cv2.resize(picture, (352, 352), interpolation=cv2.INTER_AREA)
        outputs = session.run(None, {"input.1": small.transpose(2, 0, 1)[None].astype(np.float32) / 255})
        decoder.decode(outputs, into)
        scale = np.array([*picture.shape[1::-1]] * 2) / 352
        return into.xyxy[: into.count] * scale, into.class_ids[: into.count]

    assert recall_of_large_objects(shared / "data" / "coco-val80", detect) > 0.6
