import math

import numpy as np
import pytest
from decoder_reference import (
    Candidate,
    best_class,
    both_orientations,
    check_decode,
    context,
    every_dtype,
    every_threshold,
    grid,
    logistic,
    probabilities,
    tensor,
    turned,
)

from edge.decoders.nanodet import NanodetDecoder
from edge.detections import Detections
from edge.errors import ManifestError

SIZE = (96, 72)
STRIDES = (8, 16, 32, 64)
CELLS = len(grid(SIZE, STRIDES))
CLASSES = 5


def reference(scores, bins, reg_max, offset, activated):
    found = []
    for i, (x, y, stride) in enumerate(grid(SIZE, STRIDES)):
        score, class_id = best_class(scores[i])
        sides = []
        for side in range(4):
            row = [float(v) for v in bins[i][side * (reg_max + 1) : (side + 1) * (reg_max + 1)]]
            weights = [math.exp(v - max(row)) for v in row]
            sides.append(stride * sum(k * w for k, w in enumerate(weights)) / sum(weights))
        cx, cy = (x + offset) * stride, (y + offset) * stride
        box = [cx - sides[0], cy - sides[1], cx + sides[2], cy + sides[3]]
        found.append(Candidate(score if activated else logistic(score), class_id, box))
    return found


@every_dtype
@every_threshold
@both_orientations
@pytest.mark.parametrize("split", [True, False])
@pytest.mark.parametrize(("reg_max", "offset", "activated"), [(7, 0.0, True), (4, 0.5, False)])
def test_equals_the_reference(dtype, threshold, channels_first, split, reg_max, offset, activated):
    rng = np.random.default_rng(1)
    scores = probabilities(rng, 1, CELLS, CLASSES) if activated else rng.normal(0, 3, (1, CELLS, CLASSES))
    bins = rng.normal(0, 2, (1, CELLS, 4 * (reg_max + 1)))
    params = {"reg_max": reg_max, "cell_offset": offset, "activated": activated}
    if split:
        tensors = [tensor(n, turned(v, channels_first), dtype) for n, v in (("b", bins), ("s", scores))]
        b, s = (turned(t.real, channels_first)[0] for t in tensors)
        roles = {"boxes": "b", "scores": "s"}
    else:
        tensors = [tensor("out", turned(np.concatenate([scores, bins], axis=2), channels_first), dtype)]
        real = turned(tensors[0].real, channels_first)[0]
        s, b, roles = real[:, :CLASSES], real[:, CLASSES:], {"raw": "out"}
    decoder = NanodetDecoder(context(tensors, roles, SIZE, threshold, params))
    assert decoder.class_count == CLASSES
    check_decode(decoder, tensors, reference(s, b, reg_max, offset, activated), threshold)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_not_finite_are_never_published(bad):
    whole = np.full((1, CELLS, CLASSES + 32), 0.5, np.float32)
    t = tensor("out", whole, "float32")
    decoder = NanodetDecoder(context([t], {"raw": "out"}, SIZE, 0.3))
    whole[0, 3, 2] = bad
    whole[0, 5, 20] = bad
    whole[0, 7, CLASSES : CLASSES + 8] = bad
    into = Detections(1000)
    decoder.decode([whole], into)
    assert np.isfinite(into.xyxy[: into.count]).all()
    assert (into.scores[: into.count] == 0.5).all()
    # one bin or one class of minus infinity has no weight; a side of nothing else has no distance
    assert into.count == CELLS - (1 if bad == -math.inf else 3)


def test_wrong_shapes_are_named():
    t = tensor("out", np.zeros((1, CELLS + 1, 112)), "float32")
    with pytest.raises(ManifestError, match=str(CELLS + 1)):
        NanodetDecoder(context([t], {"raw": "out"}, SIZE, 0.5))
