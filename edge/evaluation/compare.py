"""Two models on the same pictures: the difference with its interval, and the pictures where they differ most."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from edge.evaluation.bootstrap import Interval, interval_of, resample, wilson_interval
from edge.evaluation.matching import IOU_THRESHOLDS, Matches, Predicted, Truth, average_precision, iou_matrix

__all__ = ["FEWEST_DIFFERENT", "agreement", "at_score", "compare_classifiers", "compare_detectors", "picture_quality"]

FEWEST_DIFFERENT = 6
"""Pictures on which two models must differ before a verdict: 5 of 5 against one of them is chance in 1 of 16 cases."""


def compare_detectors(
    names: Sequence[str],
    truths: Sequence[Truth],
    matches: tuple[Matches, Matches],
    found: tuple[Sequence[Predicted], Sequence[Predicted]],
    operating: tuple[float, float],
    resamples: int = 1000,
) -> dict[str, Any]:
    """Return the drop of mAP from A to B, resampling the same pictures for both, and a row for each picture.

    names: of the pictures. found: at any score; each picture is judged at its model's `operating` score.
    Rows come with the largest difference in quality first, then the least agreement.
    """

    def drop(weights: np.ndarray | None) -> np.ndarray:
        a, b = (_mean(average_precision(m, weights)) for m in matches)
        return np.array([a - b])

    drawn = resample(drop, len(truths), matches[0].hit.size + matches[1].hit.size, resamples)
    different = sum(not _equal(a, b) for a, b in zip(*found, strict=True))
    interval = interval_of(float(drop(None)[0]), drawn[:, 0], paired=True)
    if different < FEWEST_DIFFERENT:
        # what so few pictures vary by says nothing: allow for those that the next ones may hold
        reach = wilson_interval(different, len(truths)).high
        interval = Interval(interval.value, interval.value - reach, interval.value + reach)
    interval = interval.within(-1, 1)
    kept = [[at_score(p, least) for p in side] for side, least in zip(found, operating, strict=True)]
    rows: list[dict[str, Any]] = []
    for name, truth, a, b in zip(names, truths, kept[0], kept[1], strict=True):
        quality_a, quality_b = picture_quality(truth, a), picture_quality(truth, b)
        rows.append(
            {
                "picture": name,
                "quality_a": round(quality_a, 4),
                "quality_b": round(quality_b, 4),
                "difference": round(quality_a - quality_b, 4),
                "agreement": round(agreement(a, b), 4),
            }
        )
    rows.sort(key=lambda row: (-abs(row["difference"]), row["agreement"], row["picture"]))
    return {
        "drop": interval.as_dict(),
        "verdict": _verdict("mAP", interval, different, len(truths)),
        "agreement": float(np.mean([row["agreement"] for row in rows])),
        "pictures": rows,
    }


def compare_classifiers(
    names: Sequence[str], hits: tuple[np.ndarray, np.ndarray], classes: tuple[Sequence[int], Sequence[int]]
) -> dict[str, Any]:
    """Return the drop of top-1 from A to B and a row for each picture, the changed ones first.

    hits: (N, 2) bool of each, as `hits_of` gives them. classes: of each picture, as `first_categories` does.
    """
    a, b = (side[:, 0].astype(np.float64) for side in hits)
    interval = _paired_difference(hits[0][:, 0], hits[1][:, 0])
    rows: list[dict[str, Any]] = [
        {
            "picture": name,
            "quality_a": float(a[i]),
            "quality_b": float(b[i]),
            "difference": float(a[i] - b[i]),
            "agreement": float(classes[0][i] == classes[1][i]),
        }
        for i, name in enumerate(names)
    ]
    rows.sort(key=lambda row: (-abs(row["difference"]), row["agreement"], row["picture"]))
    return {
        "drop": interval.as_dict(),
        "verdict": _verdict("top-1", interval, int((a != b).sum()), len(a)),
        "agreement": float(np.mean([row["agreement"] for row in rows])),
        "pictures": rows,
    }


def picture_quality(truth: Truth, found: Predicted) -> float:
    """Return how well one picture is solved, in [0, 1]: the F1 score, mean over the IoU thresholds of COCO.

    1 where there is nothing to find and nothing was found. Detections on ignored regions do not count.
    """
    real = ~truth.crowd
    want, on_crowd = int(real.sum()), _on_crowd(found, truth)
    overlaps = iou_matrix(found.xywh, truth.xywh[real], np.zeros(want, bool))
    overlaps[found.class_ids[:, None] != truth.class_ids[real][None]] = 0
    shares = []
    for threshold in IOU_THRESHOLDS:
        paired = _pairs(overlaps, threshold)
        counted = int((paired | ~on_crowd).sum())
        shares.append(2 * int(paired.sum()) / (want + counted) if want + counted else 1.0)
    return float(np.mean(shares))


def agreement(a: Predicted, b: Predicted, iou: float = 0.5) -> float:
    """Return the share of detections that A and B have in common, in [0, 1]: 2 * pairs / (A + B); 1 for none."""
    total = len(a.scores) + len(b.scores)
    if not total:
        return 1.0
    overlaps = iou_matrix(a.xywh, b.xywh, np.zeros(len(b.scores), bool))
    overlaps[a.class_ids[:, None] != b.class_ids[None]] = 0
    return 2 * int(_pairs(overlaps, iou).sum()) / total


def _pairs(overlaps: np.ndarray, least: float) -> np.ndarray:
    """(A,) bool: the rows of an (A, B) overlap matrix that greedy matching pairs with a column, first rows first."""
    free = np.ones(overlaps.shape[1], bool)
    paired = np.zeros(len(overlaps), bool)
    for i in np.flatnonzero(overlaps.max(axis=1, initial=0) >= least):
        open_ = np.where(free, overlaps[i], -1)
        best = int(open_.argmax())
        if open_[best] >= least:
            free[best] = False
            paired[i] = True
    return paired


def _on_crowd(found: Predicted, truth: Truth) -> np.ndarray:
    """Detections that lie on an ignored region of their class."""
    share = iou_matrix(found.xywh, truth.xywh[truth.crowd], np.ones(int(truth.crowd.sum()), bool))
    share[found.class_ids[:, None] != truth.class_ids[truth.crowd][None]] = 0
    return share.max(axis=1, initial=0) >= 0.5


def at_score(found: Predicted, least: float) -> Predicted:
    """Return the detections of at least this score."""
    keep = found.scores >= least
    return Predicted(found.xywh[keep], found.class_ids[keep], found.scores[keep])


def _mean(ap: np.ndarray) -> float:
    return float(np.nanmean(ap)) if np.isfinite(ap).any() else float("nan")


def _equal(a: Predicted, b: Predicted) -> bool:
    fields = ((a.xywh, b.xywh), (a.class_ids, b.class_ids), (a.scores, b.scores))
    return all(np.array_equal(x, y) for x, y in fields)


def _paired_difference(a: np.ndarray, b: np.ndarray) -> Interval:
    """The share of (N,) bool a less that of b, with the 95 % interval of the two Wilson intervals put together.

    It has a width also where a and b never differ. Source: R. G. Newcombe, "Improved confidence intervals for the
    difference between binomial proportions based on paired data", Statistics in Medicine 17 (1998), method 10.
    """
    n = len(a)
    both, only_a, only_b, none = (int(np.sum(x)) for x in (a & b, a & ~b, ~a & b, ~a & ~b))
    first, second = wilson_interval(both + only_a, n), wilson_interval(both + only_b, n)
    margins = float(both + only_a) * (only_b + none) * (both + only_b) * (only_a + none)
    cross = float(both * none - only_a * only_b)
    cross = max(cross - n / 2, 0.0) if cross > 0 else cross
    phi = cross / np.sqrt(margins) if margins else 0.0

    def reach(one: float, other: float) -> float:
        return float(np.sqrt(max(0.0, one * one - 2 * phi * one * other + other * other)))

    value = (only_a - only_b) / n
    low = value - reach(first.value - first.low, second.high - second.value)
    high = value + reach(first.high - first.value, second.value - second.low)
    return Interval(value, low, high).within(-1, 1)


def _verdict(name: str, interval: Interval, different: int, pictures: int) -> str:
    low, high = interval.low, interval.high
    if different < FEWEST_DIFFERENT:
        return f"too few pictures to tell: A and B differ on {different} of {pictures}"
    if low > 0:
        return f"B is worse: it loses {low:.3f} to {high:.3f} {name}"
    if high < 0:
        return f"B is better: it gains {-high:.3f} to {-low:.3f} {name}"
    return f"no difference can be told: the drop lies between {low:+.3f} and {high:+.3f} {name}"
