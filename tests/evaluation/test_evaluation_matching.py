"""Our own matching beside faster-coco-eval, on random sets with crowds, ties, empty pictures and odd sizes."""

import numpy as np
import pytest

from edge.evaluation.coco_reference import reference_figures
from edge.evaluation.matching import AREA_RANGES, Predicted, Truth, average_precision, iou_matrix, match


def random_set(seed: int, images: int = 25, classes: int = 4) -> tuple[list[Truth], list[Predicted]]:
    """Objects and detections around them; scores in coarse steps, so that many are equal."""
    rng = np.random.default_rng(seed)
    truths, found = [], []
    for _ in range(images):
        n = int(rng.integers(0, 9))
        xywh = np.concatenate([rng.uniform(0, 300, (n, 2)), rng.uniform(4, 200, (n, 2))], axis=1)
        ids = rng.integers(0, classes, n)
        truths.append(Truth(xywh, ids, rng.random(n) < 0.15, xywh[:, 2] * xywh[:, 3] * rng.uniform(0.3, 1, n)))
        near = np.repeat(xywh, 3, axis=0) + rng.normal(0, 6, (3 * n, 4))
        far = np.concatenate([rng.uniform(0, 300, (5, 2)), rng.uniform(4, 200, (5, 2))], axis=1)
        boxes = np.maximum(np.concatenate([xywh, near, far]), 1)
        own = np.concatenate([ids, np.repeat(ids, 3), rng.integers(0, classes, 5)])
        own = np.where(rng.random(len(own)) < 0.1, rng.integers(0, classes, len(own)), own)
        keep = rng.random(len(own)) < rng.choice([0.0, 0.6, 0.9])
        found.append(Predicted(boxes[keep], own[keep], np.round(rng.random(int(keep.sum())), 1)))
    return truths, found


@pytest.mark.parametrize("seed", range(8))
def test_every_figure_equals_faster_coco_eval(seed):
    truths, found = random_set(seed)
    figures = reference_figures(truths, found, 4)
    for name, area in AREA_RANGES.items():
        ap = average_precision(match(truths, found, 4, area))
        key = "map" if name == "all" else f"map_{name}"
        assert np.nanmean(ap) == pytest.approx(figures[key], abs=1e-6), key
        if name == "all":
            assert np.nanmean(ap[0]) == pytest.approx(figures["map50"], abs=1e-6)
            assert np.nanmean(ap[5]) == pytest.approx(figures["map75"], abs=1e-6)


def test_at_most_a_hundred_of_a_class_and_picture_count():
    """240 false alarms and 40 objects found after 90 of them, in a class; in another class all is right."""
    rng = np.random.default_rng(3)
    places = np.stack(np.meshgrid(np.arange(20.0), np.arange(14.0)), axis=2).reshape(-1, 2) * 30
    boxes = np.concatenate([places, np.full((280, 2), 20.0)], axis=1)
    right = boxes[:40]
    ids = np.append(np.zeros(280, np.int64), np.ones(40, np.int64))
    scores = np.concatenate([np.linspace(0.61, 0.6, 40), rng.uniform(0.7, 0.9, 90), rng.uniform(0.1, 0.5, 150)])
    found = Predicted(np.concatenate([boxes, right]), ids, np.append(scores, np.linspace(0.9, 0.8, 40)))
    truth = Truth(np.concatenate([right, right]), np.repeat([0, 1], 40), np.zeros(80, bool), np.full(80, 400.0))
    ap = average_precision(match([truth], [found], 2))
    figures = reference_figures([truth], [found], 2)
    assert np.nanmean(ap) == pytest.approx(figures["map"], abs=1e-9)
    assert (ap[:, 1] == 1).all()
    assert ap[0, 0] == pytest.approx(sum(10 / 100 for k in range(101) if k / 100 <= 10 / 40) / 101)


def test_of_equal_overlaps_the_last_object_is_taken():
    """The first detection lies midway between two objects; the second fits only the one of them that is left."""
    box = [[0.0, 0, 20, 20], [4.0, 0, 20, 20]]
    truth = Truth(np.array(box), np.zeros(2, np.int64), np.zeros(2, bool), np.full(2, 400.0))
    for x, both in ((-4.0, True), (8.0, False)):
        seen = Predicted(np.array([[2.0, 0, 20, 20], [x, 0, 20, 20]]), np.zeros(2, np.int64), np.array([0.9, 0.8]))
        figures = reference_figures([truth], [seen], 1)
        ap = average_precision(match([truth], [seen], 1))
        assert ap[2, 0] == (1.0 if both else pytest.approx(51 / 101))
        assert np.nanmean(ap) == pytest.approx(figures["map"], abs=1e-9)


def test_weights_count_a_picture_as_often_as_they_say():
    truths, found = random_set(99, images=6)
    weights = np.array([2, 0, 1, 3, 1, 0])
    chosen = np.repeat(np.arange(6), weights)
    copied = average_precision(match([truths[i] for i in chosen], [found[i] for i in chosen], 4))
    # scores of one step are equal in both, and ties stand in the order of the pictures
    weighted = average_precision(match(truths, found, 4), weights)
    assert np.isnan(copied).tolist() == np.isnan(weighted).tolist()
    distinct = np.nanmean(np.abs(copied - weighted))
    assert distinct < 0.03


def test_weights_equal_copies_where_scores_differ():
    truths, found = random_set(5, images=8)
    rng = np.random.default_rng(0)
    found = [Predicted(p.xywh, p.class_ids, rng.random(len(p.scores))) for p in found]
    weights = np.array([1, 1, 0, 1, 1, 0, 1, 1])
    chosen = np.flatnonzero(weights)
    copied = average_precision(match([truths[i] for i in chosen], [found[i] for i in chosen], 4))
    np.testing.assert_allclose(average_precision(match(truths, found, 4), weights), copied, atol=1e-12)


def test_a_crowd_is_measured_by_the_share_of_the_detection():
    a, b = np.array([[0.0, 0, 10, 10]]), np.array([[0.0, 0, 100, 100], [0, 0, 100, 100]])
    assert iou_matrix(a, b, np.array([False, True]))[0].tolist() == [0.01, 1.0]


def test_nothing_found_and_nothing_to_find():
    none = Predicted(np.zeros((0, 4)), np.zeros(0, np.int64), np.zeros(0))
    empty = Truth(np.zeros((0, 4)), np.zeros(0, np.int64), np.zeros(0, bool), np.zeros(0))
    one = Truth(np.array([[0.0, 0, 9, 9]]), np.array([1]), np.array([False]), np.array([81.0]))
    ap = average_precision(match([empty, one], [none, none], 2))
    assert np.isnan(ap[:, 0]).all()
    assert (ap[:, 1] == 0).all()
    assert reference_figures([empty, one], [none, none], 2)["map"] == 0
    assert reference_figures([empty], [none], 2)["map"] is None
