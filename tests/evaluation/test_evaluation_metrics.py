"""Confusion, curves, intervals and comparisons on cases small enough to check by hand."""

import numpy as np
import pytest

from edge.evaluation.bootstrap import interval_of, resample, warnings_of, wilson_interval
from edge.evaluation.compare import agreement, compare_detectors, picture_quality
from edge.evaluation.detection_metrics import confusion_matrix, pr_curve, predictions, score_detector
from edge.evaluation.matching import Predicted, Truth, average_precision, match
from edge.evaluation.store import Seen


def truth(*rows: tuple) -> Truth:
    """Rows of (class, x, y, w, h[, crowd])."""
    xywh = np.array([row[1:5] for row in rows], np.float64).reshape(-1, 4)
    crowd = np.array([len(row) > 5 for row in rows], bool)
    return Truth(xywh, np.array([row[0] for row in rows], np.int64), crowd, xywh[:, 2] * xywh[:, 3])


def found(*rows: tuple) -> Predicted:
    """Rows of (class, score, x, y, w, h)."""
    xywh = np.array([row[2:] for row in rows], np.float64).reshape(-1, 4)
    return Predicted(xywh, np.array([row[0] for row in rows], np.int64), np.array([row[1] for row in rows], float))


def world(rng: np.random.Generator, images: int, classes: int) -> tuple[list[Truth], list[Predicted]]:
    """Pictures of differing difficulty, a detector with misses, loose boxes and false alarms."""
    truths, seen = [], []
    for _ in range(images):
        n, hard = int(rng.integers(1, 5)), rng.random()
        xywh = np.concatenate([rng.uniform(0, 300, (n, 2)), rng.uniform(40, 80, (n, 2))], axis=1)
        ids = rng.integers(0, classes, n)
        truths.append(Truth(xywh, ids, np.zeros(n, bool), xywh[:, 2] * xywh[:, 3]))
        hit = rng.random(n) > 0.3 * hard
        boxes = xywh[hit] + rng.normal(0, 1 + 4 * hard, (int(hit.sum()), 4))
        seen.append(Predicted(boxes, ids[hit], rng.beta(5, 2, len(boxes))))
    return truths, seen


def test_confusion_by_hand():
    truths = [truth((0, 0, 0, 10, 10), (1, 50, 50, 10, 10), (0, 100, 100, 40, 40, "crowd"))]
    seen = [
        found(
            (1, 0.9, 0, 0, 10, 10),  # the object of class 0, called 1
            (1, 0.8, 51, 50, 10, 10),  # right
            (1, 0.7, 50, 51, 10, 10),  # the same again: background
            (0, 0.9, 105, 105, 5, 5),  # on the crowd: left out
            (0, 0.1, 200, 200, 9, 9),  # below the threshold
        )
    ]
    assert confusion_matrix(truths, seen, 2, 0.25).tolist() == [[0, 1, 0], [0, 1, 0], [0, 1, 0]]
    assert confusion_matrix(truths, [found()], 2, 0.25).tolist() == [[0, 0, 1], [0, 0, 1], [0, 0, 0]]
    equal = [found((1, 0.9, 0, 0, 10, 10), (0, 0.5, 0, 0, 10, 10))]
    assert confusion_matrix([truth((0, 0, 0, 10, 10))], equal, 2, 0.25)[0].tolist() == [1, 0, 0]


def test_pr_curve_by_hand():
    truths = [truth((0, 0, 0, 10, 10), (0, 50, 50, 10, 10))]
    seen = [found((0, 0.9, 0, 0, 10, 10), (0, 0.8, 200, 0, 10, 10), (0, 0.7, 50, 50, 10, 10))]
    curve = pr_curve(match(truths, seen, 2), 0)
    assert curve[:51] == [1.0] * 51
    assert curve[51:] == pytest.approx([2 / 3] * 50, abs=1e-4)
    assert pr_curve(match(truths, seen, 2), 1) is None
    scores = score_detector(truths, seen, ["one", "two"], 0.75, 10).figures
    assert scores["classes"][0]["precision"] == 0.5
    assert scores["classes"][0]["recall"] == 0.5
    assert scores["classes"][0]["ap50"] == pytest.approx((51 + 50 * 2 / 3) / 101)
    assert scores["classes"][1]["ap"] is None


def test_predictions_are_numbered_as_the_data_set_numbers_them():
    seen = Seen((9, 9), np.array([[0, 0, 2, 3], [1, 1, 4, 5.0]]), np.array([7, 5]), np.array([0.9, 0.8]))
    (side,) = predictions([seen], [5, 3])
    assert side.class_ids.tolist() == [0]
    assert side.xywh.tolist() == [[1, 1, 3, 4]]


def test_quality_and_agreement_by_hand():
    t = truth((0, 0, 0, 10, 10), (1, 100, 100, 40, 40, "crowd"))
    right, wrong = found((0, 0.9, 0, 0, 10, 10)), found((1, 0.9, 0, 0, 10, 10))
    assert picture_quality(t, right) == 1
    assert picture_quality(t, wrong) == 0
    assert picture_quality(t, found((0, 0.9, 0, 0, 10, 10), (1, 0.8, 110, 110, 5, 5))) == 1  # on the crowd
    assert picture_quality(t, found((0, 0.9, 0, 0, 10, 10), (0, 0.8, 60, 0, 5, 5))) == pytest.approx(2 / 3)
    assert picture_quality(truth(), found()) == 1
    assert agreement(right, right) == 1
    assert agreement(right, wrong) == 0
    assert agreement(right, found()) == 0
    assert agreement(found(), found()) == 1


def test_the_interval_covers_the_truth_on_simulated_sets():
    rng = np.random.default_rng(3)
    true = float(np.nanmean(average_precision(match(*world(rng, 4000, 5), 5))))
    inside = 0
    for seed in range(40):
        matches = match(*world(rng, 80, 5), 5)
        value = float(np.nanmean(average_precision(matches)))

        def figure(weights: np.ndarray, matches=matches) -> np.ndarray:
            return np.array([np.nanmean(average_precision(matches, weights))])

        interval = interval_of(value, resample(figure, 80, matches.hit.size, 100, seed)[:, 0])
        assert interval.width < 0.2
        inside += interval.low <= true <= interval.high
    assert inside >= 33, f"the 95 % interval held the truth in {inside} of 40 sets"


def test_a_long_resampling_shows_how_far_it_is(monkeypatch, capsys, caplog):
    caplog.set_level("INFO")  # as without --quiet
    monkeypatch.setattr("edge.progress._PLAIN_INTERVAL_S", 0.0)
    resample(lambda w: np.array([w.mean()]), 10, 10, 100)
    assert "resampling" in capsys.readouterr().err


def test_the_interval_of_a_mean_is_the_textbook_one():
    values = np.random.default_rng(0).normal(0, 1, 400)
    drawn = resample(lambda w: np.array([w @ values / w.sum()]), 400, 400, 1000)[:, 0]
    interval = interval_of(float(values.mean()), drawn)
    assert interval.width == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.1)
    assert abs((interval.low + interval.high) / 2 - values.mean()) < 0.02


def test_wilson_interval_of_a_share():
    interval = wilson_interval(9, 10)
    assert (interval.low, interval.high) == pytest.approx((0.5958, 0.9821), abs=1e-3)
    assert wilson_interval(0, 10).low == pytest.approx(0, abs=1e-9)


def test_small_sets_are_warned_about():
    assert "only 80 pictures" in warnings_of("mAP", wilson_interval(40, 80), 80)[0]
    assert "+-0.107" in warnings_of("mAP", wilson_interval(40, 80), 80)[1]
    assert warnings_of("mAP", wilson_interval(4000, 5000), 5000) == []


def test_a_paired_drop_is_told_where_single_intervals_overlap():
    rng = np.random.default_rng(8)
    truths, a = world(rng, 120, 2)
    b = [Predicted(p.xywh + 1.2, p.class_ids, p.scores) for p in a]
    names = [str(i) for i in range(120)]
    matches = match(truths, a, 2), match(truths, b, 2)
    result = compare_detectors(names, truths, matches, (a, b), (0.25, 0.25), 200)
    assert result["drop"]["low"] > 0
    assert result["verdict"].startswith("B is worse")
    differences = [abs(row["difference"]) for row in result["pictures"]]
    assert differences == sorted(differences, reverse=True)
    same = compare_detectors(names, truths, (matches[0], matches[0]), (a, a), (0.25, 0.25), 100)
    assert same["verdict"].startswith("no difference")
    assert same["agreement"] == 1
