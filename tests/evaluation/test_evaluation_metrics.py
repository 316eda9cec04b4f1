"""Confusion, curves, intervals and comparisons on cases small enough to check by hand."""

from pathlib import Path

import numpy as np
import pytest

from edge.evaluation.bootstrap import Interval, interval_of, mean_interval, resample, warnings_of, wilson_interval
from edge.evaluation.classification_metrics import first_categories, hits_of, score_classifier
from edge.evaluation.compare import agreement, compare_classifiers, compare_detectors, picture_quality
from edge.evaluation.datasets import Dataset, Sample
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


def test_the_interval_covers_the_truth_with_many_classes_too():
    """20 classes on 80 pictures: mAP reads high there, and the interval must be moved down by as much."""
    rng = np.random.default_rng(20)
    true = float(np.nanmean(average_precision(match(*world(rng, 3000, 20), 20))))
    inside, excess, off = 0, [], []
    for seed in range(24):
        matches = match(*world(rng, 80, 20), 20)

        def figure(weights: np.ndarray, matches=matches) -> np.ndarray:
            return np.array([np.nanmean(average_precision(matches, weights))])

        value = float(figure(np.ones(80, np.int64))[0])
        interval = interval_of(value, resample(figure, 80, matches.hit.size, 100, seed)[:, 0])
        assert interval.width < 0.2
        inside += interval.low <= true <= interval.high
        excess.append(value - true)
        off.append((interval.low + interval.high) / 2 - true)
    assert inside >= 20, f"the 95 % interval held the truth in {inside} of 24 sets"
    assert np.mean(excess) > 0.02
    assert abs(np.mean(off)) < np.mean(excess) / 2


def test_the_interval_covers_the_truth_where_most_classes_are_in_few_pictures():
    """60 classes on 80 pictures: halves lose whole classes, and what is left is the mean of others."""
    rng = np.random.default_rng(60)
    true = float(np.nanmean(average_precision(match(*world(rng, 4000, 60), 60))))
    inside, off = {"mean over classes": 0, "one figure": 0}, []
    for seed in range(40):
        matches = match(*world(rng, 80, 60), 60)

        def figure(weights: np.ndarray, matches=matches) -> np.ndarray:
            return average_precision(matches, weights).mean(axis=0)

        whole, halves = figure(np.ones(80, np.int64)), resample(figure, 80, matches.hit.size, 100, seed)
        interval = mean_interval(whole, halves, np.count_nonzero(matches.objects, axis=0))
        assert interval.low <= interval.value <= interval.high
        assert interval.value == pytest.approx(float(np.nanmean(whole)))
        single = interval_of(float(np.nanmean(whole)), np.nanmean(halves, axis=1))
        inside["mean over classes"] += interval.low <= true <= interval.high
        inside["one figure"] += single.low <= true <= single.high
        off.append((single.low + single.high) / 2 - (interval.low + interval.high) / 2)
    assert inside["mean over classes"] >= 33, f"the 95 % intervals held the truth in {inside} of 40 sets"
    assert inside["mean over classes"] > inside["one figure"]
    assert np.mean(off) > 0.01


def test_a_mean_over_classes_of_which_none_is_in_three_pictures_is_one_figure():
    halves = np.array([[0.4, np.nan, np.nan], [np.nan, 0.6, np.nan], [np.nan, np.nan, np.nan]])
    interval = mean_interval(np.array([0.4, 0.5, np.nan]), halves, np.array([2, 1, 0]))
    assert interval == interval_of(0.45, np.array([0.4, 0.6]))
    assert mean_interval(np.array([0.5]), np.full((3, 1), np.nan), np.array([9])) == Interval(0.5, 0.5, 0.5)


def test_a_class_in_many_pictures_adds_less_excess_by_the_root_of_their_number():
    """Halving adds 0.02 and 0.01; half the excess of the class in 4 pictures is that of the one in 16."""
    halves = np.tile([0.52, 0.41, 0.9], (50, 1))
    interval = mean_interval(np.array([0.5, 0.4, 0.9]), halves, np.array([4, 16, 1]))
    each = 0.03 / (np.sqrt(2) - 1) / (1 / 2 + 1 / 4)
    assert interval.low == pytest.approx(0.6 - each * np.mean([1 / 2, 1 / 4, 1]))
    assert interval.high == 0.6


def test_models_that_number_their_classes_differently_are_compared_by_category():
    seen = [Seen((9, 9), np.zeros((0, 4)), np.array(c), np.ones(len(c))) for c in ([3, 1], [5], [], [7])]
    assert first_categories(seen, [5, 3]) == [1, 0, -(2**40), -9]
    assert first_categories(seen, [3, 5, 7]) == [0, 1, -(2**40), 2]


def test_the_fifth_class_is_among_the_first_five_and_the_sixth_is_not():
    dataset = Dataset(
        "classification", "CSV", Path(), ["x"], [Sample(n, Path(n), category=np.array([0])) for n in "ab"]
    )
    seen = [Seen((9, 9), np.zeros((0, 4)), np.array(c), np.ones(6)) for c in ([1, 2, 3, 4, 9, 5], [1, 2, 3, 4, 5, 9])]
    assert hits_of(dataset, seen, [9]).tolist() == [[False, True], [False, False]]


def test_what_lies_on_a_crowd_is_no_false_alarm():
    truths = [truth((0, 0, 0, 10, 10), (0, 100, 100, 40, 40, "crowd"))]
    seen = [found((0, 0.9, 0, 0, 10, 10), (0, 0.8, 110, 110, 9, 9), (0, 0.7, 60, 60, 9, 9))]
    (row,) = score_detector(truths, seen, ["one"], 0.25, 2).figures["classes"]
    assert (row["precision"], row["recall"], row["objects"]) == (0.5, 1.0, 1)
    assert row["ap50"] == 1.0


def test_a_class_in_fewer_than_five_pictures_has_no_interval():
    rng = np.random.default_rng(2)
    truths, seen = world(rng, 30, 1)
    for i in range(30):
        if i < 4:
            truths[i].class_ids[:] = 1
            seen[i].class_ids[:] = 1
    rows = score_detector(truths, seen, ["often", "seldom"], 0.25, 40).figures["classes"]
    assert rows[0]["ap"]["resamples"] == 40
    assert 0 < rows[0]["ap"]["low"] < rows[0]["ap"]["value"] < rows[0]["ap"]["high"] < 1
    assert (rows[1]["ap"]["low"], rows[1]["ap"]["high"], rows[1]["ap"]["resamples"]) == (0, 1, 0)


def classifier_hits(both: int, only_a: int, only_b: int, none: int) -> tuple[np.ndarray, np.ndarray]:
    a = np.repeat([True, True, False, False], (both, only_a, only_b, none))
    b = np.repeat([True, False, True, False], (both, only_a, only_b, none))
    return np.stack([a, a], axis=1), np.stack([b, b], axis=1)


def classifier_drop(both: int, only_a: int, only_b: int, none: int) -> tuple[float, float, float, str]:
    n = both + only_a + only_b + none
    hits = classifier_hits(both, only_a, only_b, none)
    found = compare_classifiers([str(i) for i in range(n)], hits, ([0] * n, [0] * n))
    return found["drop"]["value"], found["drop"]["low"], found["drop"]["high"], found["verdict"]


@pytest.mark.parametrize(
    "counts", [(1, 0, 0, 0), (0, 1, 0, 0), (0, 2, 0, 0), (1, 2, 0, 0), (15, 5, 0, 0), (20, 0, 0, 0)]
)
def test_few_pictures_or_few_that_differ_give_no_verdict(counts):
    value, low, high, verdict = classifier_drop(*counts)
    assert verdict == f"too few pictures to tell: A and B differ on {counts[1]} of {sum(counts)}"
    assert -1 <= low <= value <= high <= 1
    assert high - low > 0.1  # 20 equal pictures are no proof that the next are


def test_a_drop_of_top1_is_told_where_enough_pictures_differ():
    assert classifier_drop(80, 12, 0, 8)[3].startswith("B is worse: it loses 0.05")
    assert classifier_drop(80, 0, 12, 8)[3].startswith("B is better: it gains 0.05")
    assert classifier_drop(80, 6, 6, 8)[3].startswith("no difference can be told")


def test_the_interval_of_a_paired_drop_by_hand():
    """48 of 50 is 0.96 in 0.8654 to 0.9890, 38 is 0.76 in 0.6259 to 0.8570, phi is -24 / sqrt(48 * 2 * 38 * 12)."""
    value, low, high, _ = classifier_drop(36, 12, 2, 0)
    assert (value, low, high) == pytest.approx((0.2, 0.0569, 0.3404), abs=2e-4)
    value, low, high, _ = classifier_drop(36, 2, 12, 0)
    assert (value, low, high) == pytest.approx((-0.2, -0.3404, -0.0569), abs=2e-4)


def test_the_interval_of_a_paired_drop_covers_the_truth():
    rng = np.random.default_rng(0)
    shares = np.array([0.7, 0.12, 0.04, 0.14])
    hits = [
        low <= 0.08 <= high for _, low, high, _ in (classifier_drop(*rng.multinomial(60, shares)) for _ in range(300))
    ]
    assert 0.91 <= np.mean(hits) <= 0.99


@pytest.mark.parametrize("pictures", [1, 2, 3])
def test_a_detector_on_hardly_any_pictures_has_no_verdict(pictures):
    truths, a = world(np.random.default_rng(1), pictures, 2)
    b = [found() for _ in a]
    matches = match(truths, a, 2), match(truths, b, 2)
    drop = compare_detectors([str(i) for i in range(pictures)], truths, matches, (a, b), (0.25, 0.25), 100)
    assert drop["verdict"].startswith("too few pictures to tell")
    assert -1 <= drop["drop"]["low"] < drop["drop"]["value"] <= drop["drop"]["high"] <= 1
    figures = score_detector(truths, a, ["one", "two"], 0.25, 10).figures
    assert (figures["map"]["low"], figures["map"]["high"], figures["map"]["resamples"]) == (0.0, 1.0, 0)


def test_a_classifiers_recall_and_precision_by_hand():
    truth_and_found = [(0, 5), (0, 5), (0, 5), (0, 7), (1, 7), (1, 5), (1, 9), (1, 9), (2, 2)]
    samples = [Sample(str(i), Path(str(i)), category=np.array([t])) for i, (t, _) in enumerate(truth_and_found)]
    seen = [Seen((1, 1), np.zeros((0, 4)), np.array([f, 5]), np.array([0.6, 0.4])) for _, f in truth_and_found]
    dataset = Dataset("classification", "CSV", Path("x"), ["a", "b", "c"], samples)
    found_figures = score_classifier(dataset, seen, [5, 7, 2], ["a", "b", "c"])
    rows = found_figures["classes"]
    assert [row["recall"]["value"] for row in rows] == [0.75, 0.25, 1.0]
    assert [row["precision"] for row in rows] == [0.75, 0.5, 1.0]
    assert rows[0]["recall"]["low"] == pytest.approx(wilson_interval(3, 4).low)
    assert found_figures["top1"]["value"] == pytest.approx(5 / 9)
    assert found_figures["top5"]["value"] == pytest.approx(6 / 9)


def test_the_interval_of_a_mean_is_the_textbook_one():
    values = np.random.default_rng(0).normal(0, 1, 400)
    drawn = resample(lambda w: np.array([w @ values / w.sum()]), 400, 400, 1000)[:, 0]
    assert np.allclose(drawn[::2] + drawn[1::2], 2 * values.mean())  # each half beside the other one
    interval = interval_of(float(values.mean()), drawn)
    assert interval.width == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.1)
    assert abs((interval.low + interval.high) / 2 - values.mean()) < 0.02


def test_wilson_interval_of_a_share():
    interval = wilson_interval(9, 10)
    assert (interval.low, interval.high) == pytest.approx((0.5958, 0.9821), abs=1e-3)
    assert wilson_interval(0, 10).low == pytest.approx(0, abs=1e-9)


def test_small_sets_are_warned_about():
    (said,) = warnings_of("mAP", {"": wilson_interval(40, 80)}, 80)
    assert said.startswith("only 80 pictures: mAP is known to +-0.107 only")
    assert "about 2300 pictures" in said  # 0.107 / 0.02 squared is 28.5 times as many
    (both,) = warnings_of("mAP", {"A": wilson_interval(40, 80), "B": wilson_interval(8, 80)}, 80)
    assert "mAP is known to +-0.107 (A) and +-0.067 (B) only" in both
    assert "about 2300 pictures" in both
    assert both.endswith("read the interval of the drop, not the difference of the two")
    assert warnings_of("mAP", {"": Interval(0.5, 0.49, 0.51)}, 80) == [
        "only 80 pictures: take at least 200, better 1000"
    ]
    assert warnings_of("mAP", {"": wilson_interval(4000, 5000)}, 5000) == []


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
    assert same["verdict"] == "too few pictures to tell: A and B differ on 0 of 120"
    assert -0.05 < same["drop"]["low"] < 0 < same["drop"]["high"] < 0.05  # and not +-0
    assert same["agreement"] == 1
    few = [*b[:20], *a[20:]]
    some = compare_detectors(names, truths, (matches[0], match(truths, few, 2)), (a, few), (0.25, 0.25), 200)
    assert "too few" not in some["verdict"]


def test_the_interval_of_a_difference_lies_around_it():
    """Halves read a paired difference too low here; what a single model's excess would add has no place in it."""
    halves = np.linspace(0.0, 0.02, 101)
    single, paired = interval_of(0.03, halves), interval_of(0.03, halves, paired=True)
    assert paired.low < 0.03 < paired.high
    assert (paired.low + paired.high) / 2 == pytest.approx(0.03)
    assert single.low == 0.03  # moved up by the excess, but never past the figure itself
    assert single.high > paired.high
