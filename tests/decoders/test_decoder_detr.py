import math

import numpy as np
import pytest
from decoder_reference import (
    Candidate,
    check_decode,
    context,
    corners,
    every_dtype,
    every_threshold,
    logistic,
    tensor,
)

from edge.decoders.detr import DetrDecoder
from edge.detections import Detections
from edge.errors import ManifestError

SIZE = (640, 480)
QUERIES, COLUMNS = 20, 9


def reference(logits, boxes, activation, columns, offset):
    """Every query with every class, in the order of the flattened tensor."""
    found = []
    for q in range(len(logits)):
        row = [float(v) for v in logits[q]]
        weights = [math.exp(v - max(row)) for v in row]
        cx, cy, w, h = (float(v) for v in boxes[q])
        box = corners(cx * SIZE[0], cy * SIZE[1], w * SIZE[0], h * SIZE[1])
        for c in columns:
            score = {"none": row[c], "sigmoid": logistic(row[c]), "softmax": weights[c] / sum(weights)}[activation]
            found.append(Candidate(score, c - offset, box))
    return found


@every_dtype
@every_threshold
@pytest.mark.parametrize(
    ("activation", "params", "columns", "offset"),
    [
        ("sigmoid", {}, range(COLUMNS), 0),
        ("sigmoid", {"class_offset": 1}, range(1, COLUMNS), 1),
        ("sigmoid", {"background": "first"}, range(1, COLUMNS), 0),
        ("softmax", {"background": "last"}, range(COLUMNS - 1), 0),
        ("none", {}, range(COLUMNS), 0),
    ],
)
def test_equals_the_reference(dtype, threshold, activation, params, columns, offset):
    rng = np.random.default_rng(1)
    logits = rng.normal(-1, 3, (1, QUERIES, COLUMNS))
    if activation == "none":
        logits = rng.random(logits.shape)
    tensors = [tensor("b", rng.random((1, QUERIES, 4)), dtype), tensor("l", logits, dtype)]
    params = {"activation": activation, **params}
    decoder = DetrDecoder(context(tensors, {"logits": "l", "boxes": "b"}, SIZE, threshold, params))
    assert not decoder.needs_nms
    assert decoder.class_count == max(columns) - offset + 1
    expected = reference(tensors[1].real[0], tensors[0].real[0], activation, columns, offset)
    check_decode(decoder, tensors, expected, threshold)


@pytest.mark.parametrize("channels_first", [True, False])
def test_a_fused_tensor_is_read_both_ways(channels_first):
    rng = np.random.default_rng(2)
    whole = rng.random((1, QUERIES, 4 + COLUMNS))
    made = np.swapaxes(whole, 1, 2) if channels_first else whole
    t = tensor("out", made, "float32")
    params = {"activation": "none", "channels_first": channels_first}
    decoder = DetrDecoder(context([t], {"raw": "out"}, SIZE, 0.4, params))
    real = whole[0].astype(np.float32)
    check_decode(decoder, [t], reference(real[:, 4:], real[:, :4], "none", range(COLUMNS), 0), 0.4)


@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_numbers_that_are_not_finite_are_never_published(activation, bad):
    logits, boxes = np.zeros((1, QUERIES, COLUMNS), np.float32), np.full((1, QUERIES, 4), 0.5, np.float32)
    tensors = [tensor("b", boxes, "float32"), tensor("l", logits, "float32")]
    params = {"activation": activation}
    decoder = DetrDecoder(context(tensors, {"logits": "l", "boxes": "b"}, SIZE, 0.0, params))
    boxes[0, 1, 2] = bad
    logits[0, 2, 3] = bad
    into = Detections(1000)
    decoder.decode([boxes, logits], into)
    assert into.count == QUERIES * COLUMNS - COLUMNS - (1 if activation == "sigmoid" else COLUMNS)
    assert np.isfinite(into.xyxy[: into.count]).all()
    assert np.isfinite(into.scores[: into.count]).all()


@pytest.mark.parametrize(
    ("logits", "params", "cause"),
    [((1, 21, 9), {}, "(1, 21, 9)"), ((1, 20, 2), {"class_offset": 2}, "no class column")],
)
def test_wrong_outputs_are_named(logits, params, cause):
    tensors = [tensor("b", np.zeros((1, QUERIES, 4)), "float32"), tensor("l", np.zeros(logits), "float32")]
    with pytest.raises(ManifestError) as caught:
        DetrDecoder(context(tensors, {"logits": "l", "boxes": "b"}, SIZE, 0.5, params))
    assert cause in str(caught.value)
