import math

import numpy as np
import pytest
from decoder_reference import (
    Candidate,
    best_class,
    both_orientations,
    check_decode,
    context,
    corners,
    every_dtype,
    every_threshold,
    logistic,
    probabilities,
    tensor,
    turned,
)

from edge.decoders.yolo import YoloDecoder
from edge.detections import Detections
from edge.errors import ManifestError

SIZE = (64, 48)
ROWS = 64  # 8*6 + 4*3 + 2*2
CLASSES = 7


def reference(boxes, objectness, scores, *, normalized=False, activated=True, keypoints=None):
    sx, sy = SIZE if normalized else (1, 1)
    found = []
    for i in range(len(boxes)):
        score, class_id = best_class(scores[i])
        score = score if activated else logistic(score)
        if objectness is not None:
            score *= float(objectness[i][0]) if activated else logistic(float(objectness[i][0]))
        cx, cy, w, h = (float(v) for v in boxes[i])
        points = None
        if keypoints is not None:
            points = [[float(p[0]) * sx, float(p[1]) * sy] for p in keypoints[i]]
        found.append(Candidate(score, class_id, corners(cx * sx, cy * sy, w * sx, h * sy), points))
    return found


def parts(rng, rows=ROWS, activated=True):
    boxes = rng.uniform(0.05, 0.9, (1, rows, 4))
    objectness, scores = probabilities(rng, 1, rows, 1), probabilities(rng, 1, rows, CLASSES)
    if not activated:
        objectness, scores = rng.normal(0, 3, objectness.shape), rng.normal(0, 3, scores.shape)
    return boxes, objectness, scores


@every_dtype
@every_threshold
@both_orientations
@pytest.mark.parametrize("activated", [True, False])
def test_v8_equals_the_reference(dtype, threshold, channels_first, activated):
    boxes, _, scores = parts(np.random.default_rng(1), activated=activated)
    t = tensor("out", turned(np.concatenate([boxes, scores], axis=2), channels_first), dtype)
    real = turned(t.real, channels_first)[0]
    params = {"normalized": True, "activated": activated}
    decoder = YoloDecoder(context([t], {"raw": "out"}, SIZE, threshold, params))
    assert decoder.class_count == CLASSES
    assert decoder.needs_nms
    expected = reference(real[:, :4], None, real[:, 4:], normalized=True, activated=activated)
    check_decode(decoder, [t], expected, threshold)


@every_dtype
@every_threshold
@both_orientations
def test_v5_equals_the_reference(dtype, threshold, channels_first):
    whole = np.concatenate(parts(np.random.default_rng(2), 3 * ROWS), axis=2)
    whole[:, :, :4] *= 30
    t = tensor("out", turned(whole, channels_first), dtype)
    real = turned(t.real, channels_first)[0]
    decoder = YoloDecoder(context([t], {"raw": "out"}, SIZE, threshold, {"objectness": True}))
    check_decode(decoder, [t], reference(real[:, :4], real[:, 4:5], real[:, 5:]), threshold)


@every_dtype
@pytest.mark.parametrize("objectness", [True, False])
@both_orientations
def test_separate_tensors_equal_the_reference(dtype, objectness, channels_first):
    made = dict(zip(("b", "o", "s"), parts(np.random.default_rng(3)), strict=True))
    if not objectness:
        del made["o"]
    tensors = [tensor(k, turned(v, channels_first and k != "o"), dtype) for k, v in made.items()]
    real = {t.spec.name: turned(t.real, channels_first and t.spec.name != "o")[0] for t in tensors}
    roles = {"boxes": "b", "scores": "s"} | ({"objectness": "o"} if objectness else {})
    params = {"objectness": objectness, "normalized": True}
    tensors.reverse()
    decoder = YoloDecoder(context(tensors, roles, SIZE, 0.3, params))
    expected = reference(real["b"], real.get("o"), real["s"], normalized=True)
    check_decode(decoder, tensors, expected, 0.3)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("normalized", [True, False])
def test_pose_keypoints_equal_the_reference(dims, normalized):
    rng = np.random.default_rng(4)
    boxes, _, scores = parts(rng)
    points = rng.uniform(0, 1, (1, ROWS, 3 * dims))
    t = tensor("out", turned(np.concatenate([boxes, scores, points], axis=2), True), "float32")
    params = {"keypoints": 3, "keypoint_dims": dims, "normalized": normalized}
    decoder = YoloDecoder(context([t], {"raw": "out"}, SIZE, 0.3, params))
    assert decoder.keypoint_count == 3
    assert decoder.class_count == CLASSES
    expected = reference(boxes[0], None, scores[0], normalized=normalized, keypoints=points.reshape(ROWS, 3, dims))
    check_decode(decoder, [t], expected, 0.3)


@every_threshold
@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("split", [True, False])
def test_end_to_end_equals_the_reference(threshold, dtype, split):
    rng = np.random.default_rng(5)
    n = 30
    boxes, scores = rng.uniform(0, 60, (1, n, 4)), probabilities(rng, 1, n, 1)
    classes = rng.integers(0, 80, (1, n, 1)).astype(float)
    if split:
        tensors = [
            tensor("c", classes, dtype),
            tensor("b", boxes, dtype),
            tensor("s", scores[:, :, 0], dtype),
        ]
        roles = {"boxes": "b", "scores": "s", "classes": "c"}
        b, s, c = tensors[1].real[0], tensors[2].real[0], tensors[0].real[0, :, 0]
    else:
        tensors = [tensor("out", np.concatenate([boxes, scores, classes], axis=2), dtype)]
        roles = {"raw": "out"}
        real = tensors[0].real[0]
        b, s, c = real[:, :4], real[:, 4], real[:, 5]
    decoder = YoloDecoder(context(tensors, roles, SIZE, threshold, {"end_to_end": True}))
    assert not decoder.needs_nms
    expected = [Candidate(float(s[i]), int(c[i]), [float(v) for v in b[i]]) for i in range(n)]
    check_decode(decoder, tensors, expected, threshold)


def test_end_to_end_leaves_out_rows_without_a_class():
    whole = np.tile(np.array([1, 2, 3, 4, 0.9, 5], np.float32), (1, 20, 1))
    whole[0, 3, 5], whole[0, 4, 5], whole[0, 5, 5] = math.nan, -1, math.inf
    t = tensor("out", np.zeros((1, 20, 6)), "float32")
    decoder = YoloDecoder(context([t], {"raw": "out"}, SIZE, 0.5, {"end_to_end": True}))
    into = Detections(100)
    decoder.decode([whole], into)
    assert into.count == 17
    assert (into.class_ids[:17] == 5).all()


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("threshold", [0.0, 0.3])
@both_orientations
def test_numbers_that_are_not_finite_are_never_published(dtype, threshold, channels_first):
    whole = np.full((1, ROWS, 4 + CLASSES), 0.5)
    t = tensor("out", turned(whole, channels_first), dtype)
    decoder = YoloDecoder(context([t], {"raw": "out"}, SIZE, threshold))
    whole[0, 1, 0], whole[0, 2, 3], whole[0, 3, 6], whole[0, 4, 5] = math.nan, math.inf, math.nan, math.inf
    into = Detections(1000)
    decoder.decode([np.ascontiguousarray(turned(whole, channels_first)).astype(dtype)], into)
    assert into.count == ROWS - 4
    assert np.isfinite(into.xyxy[: into.count]).all()
    assert (into.scores[: into.count] == 0.5).all()


@pytest.mark.parametrize(
    ("shape", "params", "cause"),
    [
        ((1, 4, 64), {}, "4 channels"),
        ((1, 300, 7), {"end_to_end": True}, "shape (1, 300, 7)"),
        ((1, 300, 6), {"end_to_end": True, "objectness": True}, "objectness"),
        ((1, 77, 11), {}, "channels_first"),
        ((1, 64, 11), {"keypoint": 2}, "did you mean 'keypoints'"),
    ],
)
def test_contradictions_are_named(shape, params, cause):
    t = tensor("out", np.zeros(shape), "float32")
    with pytest.raises(ManifestError) as caught:
        YoloDecoder(context([t], {"raw": "out"}, SIZE, 0.5, params))
    assert cause in str(caught.value)


def test_labels_decide_an_orientation_that_cells_do_not():
    t = tensor("out", np.zeros((1, 11, 77)), "float32")
    decoder = YoloDecoder(context([t], {"raw": "out"}, SIZE, 0.5, class_count=7))
    assert decoder.class_count == 7
