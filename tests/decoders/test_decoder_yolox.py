import math

import cv2
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
    grid,
    logistic,
    probabilities,
    recall_of_large_objects,
    tensor,
    turned,
)

from edge.decoders.yolox import YoloxDecoder
from edge.detections import Detections
from edge.errors import ManifestError

SIZE = (64, 48)
STRIDES = (8, 16, 32)
CELLS = len(grid(SIZE, STRIDES))
CLASSES = 7


def values(rng, activated=True):
    boxes = np.concatenate([rng.normal(0, 1, (1, CELLS, 2)), rng.normal(0, 0.7, (1, CELLS, 2))], axis=2)
    objectness, scores = probabilities(rng, 1, CELLS, 1), probabilities(rng, 1, CELLS, CLASSES)
    if not activated:
        objectness, scores = rng.normal(0, 3, objectness.shape), rng.normal(0, 3, scores.shape)
    return boxes, objectness, scores


def reference(boxes, objectness, scores, activated=True, decoded=False):
    found = []
    for i, (x, y, stride) in enumerate(grid(SIZE, STRIDES)):
        score, class_id = best_class(scores[i])
        confidence = float(objectness[i][0])
        if not activated:
            score, confidence = logistic(score), logistic(confidence)
        cx, cy, w, h = (float(v) for v in boxes[i])
        if not decoded:
            cx, cy, w, h = (cx + x) * stride, (cy + y) * stride, math.exp(w) * stride, math.exp(h) * stride
        found.append(Candidate(confidence * score, class_id, corners(cx, cy, w, h)))
    return found


@every_dtype
@every_threshold
@both_orientations
@pytest.mark.parametrize("activated", [True, False])
def test_fused_tensor_equals_the_reference(dtype, threshold, channels_first, activated):
    rng = np.random.default_rng(1)
    whole = np.concatenate(values(rng, activated), axis=2)
    t = tensor("out", turned(whole, channels_first), dtype)
    real = turned(t.real, channels_first)[0]
    decoder = YoloxDecoder(context([t], {"raw": "out"}, SIZE, threshold, {"activated": activated}))
    expected = reference(real[:, :4], real[:, 4:5], real[:, 5:], activated)
    check_decode(decoder, [t], expected, threshold)


@every_dtype
@every_threshold
@both_orientations
def test_separate_tensors_equal_the_reference(dtype, threshold, channels_first):
    rng = np.random.default_rng(2)
    parts = [
        tensor(name, turned(v, channels_first and name != "o"), dtype)
        for name, v in zip("bos", values(rng), strict=True)
    ]
    b, o, s = (turned(t.real, channels_first and t.spec.name != "o")[0] for t in parts)
    shuffled = [parts[2], parts[0], parts[1]]
    roles = {"boxes": "b", "objectness": "o", "scores": "s"}
    decoder = YoloxDecoder(context(shuffled, roles, SIZE, threshold))
    check_decode(decoder, shuffled, reference(b, o, s), threshold)


def test_decoded_heads_are_taken_as_px():
    rng = np.random.default_rng(3)
    _, objectness, scores = values(rng)
    boxes = rng.uniform(1, 40, (1, CELLS, 4))
    t = tensor("out", np.concatenate([boxes, objectness, scores], axis=2), "float32")
    decoder = YoloxDecoder(context([t], {"raw": "out"}, SIZE, 0.2, {"decoded": True}))
    check_decode(decoder, [t], reference(boxes[0], objectness[0], scores[0], decoded=True), 0.2)


def test_the_threshold_may_change_between_frames():
    rng = np.random.default_rng(4)
    t = tensor("out", np.concatenate(values(rng), axis=2), "int8")
    real = t.real[0]
    decoder = YoloxDecoder(context([t], {"raw": "out"}, SIZE, 0.9))
    for threshold in (0.9, 0.05, 0.5):
        decoder.score_threshold = threshold
        check_decode(decoder, [t], reference(real[:, :4], real[:, 4:5], real[:, 5:]), threshold)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("activated", [True, False])
@pytest.mark.parametrize("threshold", [0.0, 0.3])
def test_numbers_that_are_not_finite_are_never_published(bad, activated, threshold):
    rng = np.random.default_rng(5)
    whole = np.concatenate(values(rng, activated), axis=2).astype(np.float32)
    whole[0, :, 4:] = 0.9 if activated else 3.0
    for row, column in enumerate((0, 2, 4, 6)):
        whole[0, 10 * row, column] = bad
    whole[0, 3, 2:4] = 200  # exp overflows
    whole[0, 4, 2:4] = 60  # exp gives a finite, impossible size
    t = tensor("out", whole, "float32")
    decoder = YoloxDecoder(context([t], {"raw": "out"}, SIZE, threshold, {"activated": activated}))
    into = Detections(1000)
    decoder.decode([t.stored], into)
    assert np.isfinite(into.xyxy[: into.count]).all()
    assert np.isfinite(into.scores[: into.count]).all()
    assert np.abs(into.xyxy[: into.count]).max() < 1e6
    # an exponent of minus infinity is a size of 0; a class of minus infinity is not the best one
    lost = 6 - (bad == -math.inf) * 2
    assert into.count == CELLS - lost


def test_scores_published_lie_within_0_and_1():
    whole = np.zeros((1, CELLS, 5 + CLASSES), np.float32)
    whole[0, :, 4:] = np.float32(1.0000002)
    t = tensor("out", whole, "float32")
    decoder = YoloxDecoder(context([t], {"raw": "out"}, SIZE, 0.5))
    into = Detections(1000)
    decoder.decode([t.stored], into)
    assert into.count == CELLS
    assert (into.scores == np.where(np.arange(1000) < CELLS, 1, 0)).all()


def test_ties_beyond_capacity_go_to_the_lower_row():
    whole = np.zeros((1, CELLS, 5 + CLASSES), np.float32)
    whole[0, :, 4:6] = 0.5
    whole[0, 40, 4:6] = 1.0
    t = tensor("out", whole, "float32")
    decoder = YoloxDecoder(context([t], {"raw": "out"}, SIZE, 0.1))
    into = Detections(3)
    decoder.decode([t.stored], into)
    assert into.scores.tolist() == [0.25, 0.25, 1.0]
    np.testing.assert_allclose(into.xyxy[1], corners(8, 0, 8, 8))


@pytest.mark.parametrize(
    ("shape", "cause"),
    [
        ((1, 65, 12), "shape (1, 65, 12)"),
        ((1, 64, 5), "5 channels"),
        ((1, 64, 64), "channels_first"),
        ((1, 2, 3, 4, 5), "shape (1, 2, 3, 4, 5)"),
    ],
)
def test_wrong_shapes_are_named(shape, cause):
    t = tensor("out", np.zeros(shape), "float32")
    with pytest.raises(ManifestError) as caught:
        YoloxDecoder(context([t], {"raw": "out"}, SIZE, 0.5))
    assert cause in str(caught.value)


def test_an_ambiguous_shape_is_decided_by_the_parameter_or_the_labels():
    rng = np.random.default_rng(6)
    t = tensor("out", probabilities(rng, 1, CELLS, CELLS), "float32")
    real = t.real[0].T
    expected = reference(real[:, :4], real[:, 4:5], real[:, 5:])
    decoder = YoloxDecoder(context([t], {"raw": "out"}, SIZE, 0.3, {"channels_first": True}))
    assert decoder.class_count == CELLS - 5
    check_decode(decoder, [t], expected, 0.3)


def test_a_missing_role_is_named():
    t = tensor("out", np.zeros((1, CELLS, 4)), "float32")
    with pytest.raises(ManifestError, match="objectness"):
        YoloxDecoder(context([t], {"boxes": "out"}, SIZE, 0.5))


@pytest.mark.shared
def test_the_real_model_finds_what_is_large_in_coco(shared):
    session = pytest.importorskip("onnxruntime").InferenceSession(shared / "models" / "yolox_nano.onnx")
    t = tensor("output", np.zeros((1, 3549, 85)), "float32")
    decoder = YoloxDecoder(context([t], {"raw": "output"}, (416, 416), 0.3))
    into = Detections(1000)

    def detect(picture):
        scale = 416 / max(picture.shape)
        canvas = np.full((416, 416, 3), 114, np.uint8)
        small = cv2.resize(picture, None, fx=scale, fy=scale)
        canvas[: small.shape[0], : small.shape[1]] = small
        decoder.decode(session.run(None, {"images": canvas.transpose(2, 0, 1)[None].astype(np.float32)}), into)
        return into.xyxy[: into.count] / scale, into.class_ids[: into.count]

    assert recall_of_large_objects(shared / "data" / "coco-val80", detect) > 0.7
