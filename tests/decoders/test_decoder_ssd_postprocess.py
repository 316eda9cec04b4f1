import math

import numpy as np
import pytest
from decoder_reference import Candidate, check_decode, context, every_threshold, probabilities, tensor

from edge.decoders.ssd_postprocess import SsdPostprocessDecoder
from edge.detections import Detections
from edge.errors import ManifestError

SIZE = (320, 240)
N = 25
ROLES = {"boxes": "b", "classes": "c", "scores": "s", "count": "n"}


def values(seed, count=N, dtype="float32"):
    rng = np.random.default_rng(seed)
    return {
        "b": tensor("b", rng.random((1, N, 4)), dtype),
        "c": tensor("c", rng.integers(0, 90, (1, N)), "float32"),
        "s": tensor("s", probabilities(rng, 1, N), dtype),
        "n": tensor("n", np.array([count]), "float32"),
    }


def reference(made, count, offset=0):
    found = []
    for i in range(min(count, N)):
        ymin, xmin, ymax, xmax = (float(v) for v in made["b"].real[0][i])
        class_id = int(made["c"].real[0][i]) - offset
        box = [xmin * SIZE[0], ymin * SIZE[1], xmax * SIZE[0], ymax * SIZE[1]]
        if class_id >= 0:
            found.append(Candidate(float(made["s"].real[0][i]), class_id, box))
    return found


@every_threshold
@pytest.mark.parametrize("order", ["bcsn", "sbnc", "ncsb"])
@pytest.mark.parametrize("count", [0, 7, N, 1000])
@pytest.mark.parametrize("offset", [0, 1])
def test_equals_the_reference_in_any_order(threshold, order, count, offset):
    made = values(1, count)
    tensors = [made[k] for k in order]
    decoder = SsdPostprocessDecoder(context(tensors, ROLES, SIZE, threshold, {"class_offset": offset}))
    assert not decoder.needs_nms
    check_decode(decoder, tensors, reference(made, count, offset), threshold)


@pytest.mark.parametrize("dtype", ["float16", "uint8", "int8"])
def test_quantized_outputs_equal_the_reference(dtype):
    made = values(2, dtype=dtype)
    tensors = list(made.values())
    decoder = SsdPostprocessDecoder(context(tensors, ROLES, SIZE, 0.25))
    check_decode(decoder, tensors, reference(made, N), 0.25)


def test_a_count_is_not_needed():
    made = values(3)
    tensors = [made["b"], made["s"], made["c"]]
    roles = {role: name for role, name in ROLES.items() if role != "count"}
    decoder = SsdPostprocessDecoder(context(tensors, roles, SIZE, 0.25))
    check_decode(decoder, tensors, reference(made, N), 0.25)


def test_stale_rows_beyond_the_count_displace_nothing():
    made = values(4, 3)
    made["s"].stored[:] = 0.9
    made["s"].stored[0, :3] = 0.6
    decoder = SsdPostprocessDecoder(context(list(made.values()), ROLES, SIZE, 0.25))
    into = Detections(2)
    decoder.decode([t.stored for t in made.values()], into)
    assert into.scores.tolist() == [np.float32(0.6)] * 2


def test_numbers_that_are_not_finite_are_never_published():
    made = values(5)
    made["s"].stored[:] = 0.5
    made["s"].stored[0, 0], made["s"].stored[0, 1] = math.nan, math.inf
    made["b"].stored[0, 2, 1], made["c"].stored[0, 3] = math.nan, math.nan
    decoder = SsdPostprocessDecoder(context(list(made.values()), ROLES, SIZE, 0.0))
    into = Detections(100)
    outputs = [t.stored for t in made.values()]
    decoder.decode(outputs, into)
    assert into.count == N - 4
    assert np.isfinite(into.xyxy[: N - 4]).all()
    made["n"].stored[:] = math.nan
    decoder.decode(outputs, into)
    assert into.count == 0


def test_outputs_that_do_not_belong_together_are_named():
    made = values(6)
    made["c"] = tensor("c", np.zeros((1, N + 1)), "float32")
    with pytest.raises(ManifestError, match=r"\(1, 26\)"):
        SsdPostprocessDecoder(context(list(made.values()), ROLES, SIZE, 0.5))
