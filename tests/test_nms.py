import itertools
import tracemalloc

import msgspec
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from edge.detections import Detections
from edge.nms import NmsSettings, suppress

TOLERANCE = 1e-6
METHODS = ("hard", "linear", "gaussian", "weighted")


def filled(boxes, scores, class_ids, keypoints=None):
    n = len(boxes)
    made = Detections(max(n, 1), 0 if keypoints is None else len(keypoints[0]))
    made.count = n
    if n:
        made.xyxy[:n], made.scores[:n], made.class_ids[:n] = boxes, scores, class_ids
        made.track_ids[:n] = np.arange(n)  # so that a test can tell who survived
        if keypoints is not None:
            made.keypoints[:n] = keypoints
    return made


def iou(a, b):
    """In float64; boxes thinner than 1e-3 px overlap nothing."""
    sides = [(box[2] - box[0], box[3] - box[1]) for box in (a, b)]
    if any(np.float32(side) < np.float32(1e-3) for pair in sides for side in pair):
        return 0.0
    w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    inter = max(w, 0.0) * max(h, 0.0)
    return inter / (sides[0][0] * sides[0][1] + sides[1][0] * sides[1][1] - inter)


def table(found):
    boxes = [[float(v) for v in box] for box in found.xyxy[: found.count]]
    return [[iou(a, b) for b in boxes] for a in boxes]


def reference(found, config, overlaps=None):
    """Return (index, score, members) of what is kept: every pair compared, one candidate at a time."""
    overlaps, ids = overlaps or table(found), found.class_ids[: found.count].tolist()
    scores = [float(s) for s in found.scores[: found.count]]
    left, kept, taken = set(range(found.count)), [], {}
    soft = config.method in ("linear", "gaussian")
    while left and len(kept) < config.max_detections:
        best = min(left, key=lambda i: (-np.float32(scores[i]), i))
        if soft and np.float32(scores[best]) < np.float32(config.score_threshold):
            break
        left.remove(best)
        taken[ids[best]] = taken.get(ids[best], 0) + 1
        members = [best]
        for i in sorted(left, key=lambda i: (-scores[i], i)):
            if ids[i] != ids[best] and not config.class_agnostic:
                continue
            overlap = overlaps[best][i]
            if config.method == "gaussian":
                scores[i] *= np.exp(-overlap * overlap / config.sigma)
            elif overlap > config.iou_threshold + TOLERANCE:
                if config.method == "linear":
                    scores[i] *= 1 - overlap
                else:
                    members.append(i)
                    left.remove(i)
        kept.append((best, scores[best], members))
        if config.max_per_class is not None and taken[ids[best]] == config.max_per_class:
            left = {i for i in left if ids[i] != ids[best]}
    return kept


def survivors(found, config):
    into = Detections(max(found.capacity, 1), 0 if found.keypoints is None else found.keypoints.shape[1])
    suppress(found, into, config)
    return into


coordinate = st.integers(-40, 40)
side = st.integers(0, 12)
box = st.tuples(coordinate, coordinate, side, side).map(lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3]))
candidate = st.tuples(box, st.integers(0, 8).map(lambda s: s / 8), st.integers(0, 3))
configs = st.builds(
    NmsSettings,
    iou_threshold=st.sampled_from([0.0, 0.25, 0.3, 0.45, 0.5, 0.65, 1.0]),
    class_agnostic=st.booleans(),
    max_detections=st.integers(1, 12),
    max_per_class=st.none() | st.integers(1, 4),
)


@settings(max_examples=400, deadline=None)
@given(st.lists(candidate, max_size=25), configs, st.sampled_from(["hard", "weighted"]))
def test_survivors_equal_the_reference(candidates, config, method):
    found = filled(*zip(*candidates, strict=True)) if candidates else filled([], [], [])
    config = msgspec.structs.replace(config, method=method)
    into = survivors(found, config)
    expected = reference(found, config)
    assert into.track_ids[: into.count].tolist() == [index for index, _, _ in expected]
    assert into.scores[: into.count].tolist() == [np.float32(score) for _, score, _ in expected]
    for i, (index, _, members) in enumerate(expected):
        weights = found.scores[members].astype(np.float64)
        mean = found.xyxy[index]
        if method == "weighted" and weights.sum() > 0:
            mean = (weights[:, None] * found.xyxy[members]).sum(axis=0) / weights.sum()
        np.testing.assert_allclose(into.xyxy[i], mean, atol=1e-4)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(box, st.floats(0, 1, width=32), st.integers(0, 2)), min_size=1, max_size=20),
    configs,
    st.sampled_from(["linear", "gaussian"]),
    st.sampled_from([0.0, 0.001, 0.2]),
)
def test_soft_scores_equal_the_reference(candidates, config, method, score_threshold):
    found = filled(*zip(*candidates, strict=True))
    config = msgspec.structs.replace(config, method=method, score_threshold=score_threshold)
    expected = reference(found, config)
    # faded scores that differ by rounding alone may come in either order
    all_faded = reference(found, msgspec.structs.replace(config, max_detections=100, score_threshold=0.0))
    gaps = sorted([s for _, s, _ in all_faded] + [score_threshold])
    assume(all(b - a > 1e-5 for a, b in itertools.pairwise(gaps)))
    into = survivors(found, config)
    assert into.track_ids[: into.count].tolist() == [index for index, _, _ in expected]
    np.testing.assert_allclose(into.scores[: into.count], [s for _, s, _ in expected], rtol=1e-4, atol=1e-7)


@pytest.fixture(scope="module")
def crowd():
    """Enough candidates to be worked in several blocks, and their IoU table."""
    rng = np.random.default_rng(1)
    n = 700
    corner = rng.uniform(-300, 300, (n, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(5, 150, (n, 2))], axis=1)
    found = filled(boxes, rng.random(n), rng.integers(0, 6, n))
    return found, table(found)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("class_agnostic", [True, False])
@pytest.mark.parametrize("max_per_class", [None, 3])
@pytest.mark.parametrize("max_detections", [40, 500])
def test_many_candidates_equal_the_reference(crowd, method, class_agnostic, max_per_class, max_detections):
    found, overlaps = crowd
    config = NmsSettings(
        method=method,
        class_agnostic=class_agnostic,
        max_per_class=max_per_class,
        max_detections=max_detections,
        score_threshold=0.1,
    )
    into, expected = survivors(found, config), reference(found, config, overlaps)
    assert into.track_ids[: into.count].tolist() == [index for index, _, _ in expected]
    np.testing.assert_allclose(into.scores[: into.count], [s for _, s, _ in expected], rtol=1e-4)


def test_all_of_one_heap_is_worked_through_in_blocks():
    rng = np.random.default_rng(2)
    n = 900
    corner = np.concatenate([rng.uniform(0, 1, (n - 1, 2)), [[500, 500]]])
    scores = np.append(rng.uniform(0.5, 1, n - 1), 0.1)
    into = survivors(filled(np.concatenate([corner, corner + 100], axis=1), scores, np.zeros(n)), NmsSettings())
    assert into.count == 2
    assert into.track_ids[:2].tolist() == [int(scores.argmax()), n - 1]


@pytest.mark.parametrize("method", METHODS)
def test_ties_go_to_the_lower_index(method):
    boxes = [(20 * (i % 7), 0, 20 * (i % 7) + 10, 10) for i in range(21)]
    found = filled(boxes, [0.5] * 21, [0] * 21)
    into = survivors(found, NmsSettings(method=method, max_detections=7))
    assert into.track_ids[:7].tolist() == list(range(7))


@pytest.mark.parametrize("threshold", [0.05 * k for k in range(1, 20)])
@pytest.mark.parametrize("method", ["hard", "weighted"])
@pytest.mark.parametrize("shift", [0, 100000])
def test_an_overlap_equal_to_the_threshold_does_not_suppress(threshold, method, shift):
    """IoU is k / 20 exactly: one box of 20 x 1 inside which lies one of k x 1."""
    k = round(threshold * 20)
    boxes = [(shift, 0, shift + 20, 1), (shift, 0, shift + k, 1)]
    found = filled(boxes, [0.9, 0.8], [1, 1])
    assert survivors(found, NmsSettings(iou_threshold=threshold, method=method)).count == 2
    assert survivors(found, NmsSettings(iou_threshold=threshold - 1e-4, method=method)).count == 1


def test_classes_do_not_touch_each_other_even_at_large_and_negative_coordinates():
    boxes = [(-5000, -5000, 5000, 5000)] * 4 + [(900000, 10, 900010, 20)]
    found = filled(boxes, [0.9, 0.8, 0.7, 0.6, 0.5], [0, 1, 1, 20000, 0])
    assert survivors(found, NmsSettings()).track_ids[:4].tolist() == [0, 1, 3, 4]
    assert survivors(found, NmsSettings(class_agnostic=True)).track_ids[:2].tolist() == [0, 4]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("class_agnostic", [True, False])
def test_degenerate_and_far_boxes_give_finite_results(method, class_agnostic):
    boxes = [
        (5, 5, 5, 5),
        (5, 5, 5, 5),
        (9, 9, 1, 1),
        (0, 0, 1e-5, 1e-5),
        (-1e6, -1e6, 1e6, 1e6),
        (0, 0, 10, 10),
        (9e5, 0, 1e6, 10),
    ]
    found = filled(boxes, [0.9] * 7, [0] * 7)
    with np.errstate(all="raise"):
        into = survivors(found, NmsSettings(method=method, class_agnostic=class_agnostic))
    assert into.count == 7
    assert np.isfinite(into.scores[:7]).all()
    assert np.isfinite(into.xyxy[:7]).all()


def test_weighted_blends_boxes_and_keypoints_and_keeps_the_best_score():
    found = filled(
        [(0, 0, 10, 10), (2, 0, 12, 10), (50, 50, 60, 60)],
        [0.75, 0.25, 0.5],
        [0, 0, 0],
        [[(1, 1)], [(5, 1)], [(55, 55)]],
    )
    into = survivors(found, NmsSettings(method="weighted", iou_threshold=0.3))
    np.testing.assert_allclose(into.xyxy[:2], [(0.5, 0, 10.5, 10), (50, 50, 60, 60)])
    np.testing.assert_allclose(into.keypoints[:2], [[(2, 1)], [(55, 55)]])
    assert into.scores[:2].tolist() == [0.75, 0.5]


def test_keypoints_follow_their_box():
    found = filled([(0, 0, 9, 9), (50, 0, 59, 9)], [0.5, 0.75], [0, 0], [[(1, 2)], [(51, 2)]])
    into = survivors(found, NmsSettings())
    assert into.keypoints[:2].tolist() == [[[51, 2]], [[1, 2]]]


@pytest.mark.parametrize("method", METHODS)
def test_nothing_in_gives_nothing_out(method):
    into = Detections(5)
    into.count = 3
    suppress(Detections(5), into, NmsSettings(method=method))
    assert into.count == 0


def test_what_is_kept_fits_what_receives_it():
    found = filled([(20 * i, 0, 20 * i + 10, 10) for i in range(9)], [0.5] * 9, [0] * 9)
    into = Detections(4)
    suppress(found, into, NmsSettings())
    assert into.track_ids[:4].tolist() == [0, 1, 2, 3]
    assert into.count == 4


@pytest.mark.parametrize("method", METHODS)
def test_ten_thousand_candidates_stay_bounded(method):
    rng = np.random.default_rng(3)
    n = 10000
    corner = rng.uniform(0, 4000, (n, 2))
    found = filled(np.concatenate([corner, corner + 8], axis=1), rng.random(n), rng.integers(0, 80, n))
    into = Detections(100)
    config = NmsSettings(method=method)
    suppress(found, into, config)
    tracemalloc.start()
    suppress(found, into, config)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert into.count == 100
    assert peak < n * 200  # N x N would be 400 MB


@pytest.mark.parametrize("values", [{"iou_threshold": 1.5}, {"method": "best"}, {"max_detections": 0}, {"sigma": 0}])
def test_settings_are_checked_when_converted(values):
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(values, NmsSettings)
