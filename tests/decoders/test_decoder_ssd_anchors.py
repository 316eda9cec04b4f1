import math

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
    logistic,
    probabilities,
    tensor,
)

from edge.decoders.ssd_anchors import SsdAnchorsDecoder, fixed_size_anchors
from edge.detections import Detections
from edge.errors import ManifestError

SIZE = (32, 48)
STRIDES = [8, 16, 16]
POINTS = 6


def anchor_centres():
    """Centres in px: layers of equal stride share a grid, row by row, all anchors of a cell together."""
    centres = []
    for stride, per_cell in ((8, 2), (16, 4)):
        for y in range(SIZE[1] // stride):
            for x in range(SIZE[0] // stride):
                centres.extend([((x + 0.5) * stride, (y + 0.5) * stride)] * per_cell)
    return centres


ANCHORS = len(anchor_centres())


def reference(numbers, scores):
    found = []
    for (ax, ay), row, (logit,) in zip(anchor_centres(), numbers, scores, strict=True):
        v = [float(n) for n in row]
        points = [[v[4 + 2 * k] + ax, v[5 + 2 * k] + ay] for k in range(POINTS)]
        found.append(Candidate(logistic(float(logit)), 0, corners(v[0] + ax, v[1] + ay, v[2], v[3]), points))
    return found


@pytest.mark.parametrize(
    ("side", "strides", "per_cell", "count"), [(128, [8, 16, 16, 16], 2, 896), (192, [4], 1, 2304)]
)
def test_mediapipe_face_detectors_have_their_number_of_anchors(side, strides, per_cell, count):
    anchors = fixed_size_anchors((side, side), strides, per_cell)
    assert anchors.shape == (count, 4)
    assert (anchors[:, 2:] == 1).all()
    np.testing.assert_allclose(anchors[0, :2], strides[0] / 2 / side)
    np.testing.assert_allclose(anchors[-1, :2], 1 - strides[-1] / 2 / side)
    assert (anchors[:per_cell] == anchors[0]).all()
    assert anchors[per_cell, 0] > anchors[0, 0]


@every_dtype
@every_threshold
def test_blazeface_equals_the_reference(dtype, threshold):
    rng = np.random.default_rng(1)
    tensors = [
        tensor("s", rng.normal(-2, 4, (1, ANCHORS, 1)), dtype),
        tensor("b", rng.normal(5, 10, (1, ANCHORS, 4 + 2 * POINTS)), dtype),
    ]
    params = {"strides": STRIDES, "anchors_per_cell": 2, "keypoints": POINTS}
    decoder = SsdAnchorsDecoder(context(tensors, {"boxes": "b", "scores": "s"}, SIZE, threshold, params))
    assert decoder.keypoint_count == POINTS
    expected = reference(tensors[1].real[0], tensors[0].real[0])
    check_decode(decoder, tensors, expected, threshold)


@every_dtype
@every_threshold
@pytest.mark.parametrize("activation", ["softmax", "sigmoid", "none"])
@pytest.mark.parametrize("background", ["first", "last", None])
def test_explicit_anchors_equal_the_reference(dtype, threshold, activation, background):
    rng = np.random.default_rng(2)
    n, columns = 40, 5
    anchors = rng.uniform(0.1, 0.9, (n, 4)).astype(np.float32)
    logits = probabilities(rng, 1, n, columns) if activation == "none" else rng.normal(0, 2, (1, n, columns))
    tensors = [tensor("b", rng.normal(0, 2, (1, n, 4)), dtype), tensor("s", logits, dtype)]
    params = {
        "anchors": anchors.tolist(),
        "box_order": "yxhw",
        "exponential": True,
        "x_scale": 10.0,
        "y_scale": 10.0,
        "w_scale": 5.0,
        "h_scale": 5.0,
        "activation": activation,
    } | ({"background": background} if background else {})
    decoder = SsdAnchorsDecoder(context(tensors, {"boxes": "b", "scores": "s"}, SIZE, threshold, params))
    assert decoder.class_count == columns - bool(background)
    expected = []
    for anchor, row, scores in zip(anchors.tolist(), tensors[0].real[0], tensors[1].real[0], strict=True):
        raw = [float(v) for v in scores]
        weights = [math.exp(v - max(raw)) for v in raw]
        p = {
            "none": raw,
            "sigmoid": [logistic(v) for v in raw],
            "softmax": [w / sum(weights) for w in weights],
        }[activation]
        score, class_id = best_class(p[1:] if background == "first" else p[: columns - bool(background)])
        ty, tx, th, tw = (float(v) for v in row)
        cx, cy = tx / 10 * anchor[2] + anchor[0], ty / 10 * anchor[3] + anchor[1]
        w, h = math.exp(tw / 5) * anchor[2], math.exp(th / 5) * anchor[3]
        expected.append(Candidate(score, class_id, corners(cx * SIZE[0], cy * SIZE[1], w * SIZE[0], h * SIZE[1])))
    check_decode(decoder, tensors, expected, threshold)


def test_numbers_that_are_not_finite_are_never_published():
    numbers, scores = np.ones((1, ANCHORS, 4 + 2 * POINTS), np.float32), np.ones((1, ANCHORS, 1), np.float32)
    tensors = [tensor("b", numbers, "float32"), tensor("s", scores, "float32")]
    params = {"strides": STRIDES, "keypoints": POINTS}
    decoder = SsdAnchorsDecoder(context(tensors, {"boxes": "b", "scores": "s"}, SIZE, 0.0, params))
    scores[0, 0], scores[0, 1] = math.nan, math.inf
    numbers[0, 2, 1], numbers[0, 3, 9], numbers[0, 4, 15] = math.nan, math.inf, math.nan
    into = Detections(1000, POINTS)
    decoder.decode([numbers, scores], into)
    assert into.count == ANCHORS - 5
    assert np.isfinite(into.keypoints[: into.count]).all()
    assert np.isfinite(into.xyxy[: into.count]).all()


@pytest.mark.parametrize(
    ("params", "cause"),
    [
        ({"strides": [8, 16]}, "shape (1, 72, 16)"),
        ({}, "either strides or anchors"),
        ({"strides": [8], "anchors": [[0.5, 0.5, 1, 1]]}, "either strides or anchors"),
        ({"strides": [0]}, "params"),
    ],
)
def test_contradictions_are_named(params, cause):
    tensors = [tensor("b", np.zeros((1, 72, 16)), "float32"), tensor("s", np.zeros((1, 72, 1)), "float32")]
    with pytest.raises(ManifestError) as caught:
        SsdAnchorsDecoder(context(tensors, {"boxes": "b", "scores": "s"}, SIZE, 0.5, params | {"keypoints": POINTS}))
    assert cause in str(caught.value)
