"""The figures of a detector: COCO mAP, per class and per size, PR curves and the confusion matrix."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edge.errors import ConfigError
from edge.evaluation.bootstrap import FEWEST_OF_A_CLASS, Interval, interval_of, mean_interval, resample
from edge.evaluation.datasets import Dataset
from edge.evaluation.matching import (
    AREA_RANGES,
    IOU_THRESHOLDS,
    RECALLS,
    Matches,
    Predicted,
    Truth,
    average_precision,
    iou_matrix,
    match,
)
from edge.evaluation.store import Seen

__all__ = ["DetectionScores", "confusion_matrix", "mean_of", "pr_curve", "predictions", "score_detector", "truths_of"]


@dataclass(slots=True)
class DetectionScores:
    """What was measured. figures is ready for JSON; matches is kept for paired comparisons."""

    figures: dict[str, Any]
    matches: Matches


def truths_of(dataset: Dataset, seen: Sequence[Seen]) -> list[Truth]:
    """Return the truth of each sample in source px."""
    truths = []
    for sample, result in zip(dataset.samples, seen, strict=True):
        xywh = sample.xywh
        if dataset.relative:
            xywh = xywh * np.tile(np.array(result.size_wh, np.float64), 2)
        area = sample.area if len(sample.area) == len(xywh) else xywh[:, 2] * xywh[:, 3]
        truths.append(Truth(xywh, sample.category, sample.ignore, area))
    return truths


def predictions(seen: Sequence[Seen], classes: Sequence[int], least: float = 0.0) -> list[Predicted]:
    """Return the detections of at least this score, their classes as the data set numbers its categories.

    classes: the model's class of each category. Detections of classes that the data set lacks are left out.
    """
    highest = max([*classes, *(int(s.class_ids.max()) for s in seen if len(s.class_ids))], default=0)
    category_of = np.full(highest + 1, -1, np.int64)
    category_of[list(classes)] = np.arange(len(classes))
    found = []
    for result in seen:
        category = category_of[result.class_ids]
        keep = (category >= 0) & (result.scores >= least)
        xywh = result.xyxy[keep]
        xywh = np.concatenate([xywh[:, :2], xywh[:, 2:] - xywh[:, :2]], axis=1)
        found.append(Predicted(xywh, category[keep], result.scores[keep]))
    return found


def mean_of(values: np.ndarray) -> float | None:
    """Return the mean of float64 values of any shape without its NaNs, None when nothing is left."""
    good = values[np.isfinite(values)]
    return float(good.mean()) if len(good) else None


def score_detector(
    truths: Sequence[Truth],
    found: Sequence[Predicted],
    names: Sequence[str],
    operating: float,
    resamples: int = 1000,
) -> DetectionScores:
    """Return every figure; `operating` is the score threshold of the confusion matrix and of precision and recall.

    Raises: ConfigError when the set has no object that counts.
    """
    count = len(names)
    matches = {size: match(truths, found, count, area) for size, area in AREA_RANGES.items()}
    every = matches["all"]
    if not every.objects.sum():
        raise ConfigError("the data set has no object that counts", "give annotated pictures")
    ap = {size: average_precision(value) for size, value in matches.items()}
    drawn = resample(lambda weights: _class_ap(every, weights), len(truths), every.hit.size, resamples)
    halves, whole = drawn.reshape(-1, 3, count), _class_ap(every, None).reshape(3, count)
    seen_in = np.count_nonzero(every.objects, axis=0)
    figures: dict[str, Any] = {"pictures": len(truths), "objects": int(every.objects.sum())}
    for i, name in enumerate(("map", "map50", "map75")):
        interval = mean_interval(whole[i], halves[:, i], seen_in).within(0, 1)
        few = len(truths) < FEWEST_OF_A_CLASS
        figures[name] = (Interval(interval.value, 0.0, 1.0) if few else interval).as_dict()
    figures["sizes"] = {
        size: {"map": mean_of(ap[size]), "objects": int(matches[size].objects.sum())}
        for size in ("small", "medium", "large")
    }
    figures["classes"] = [
        _class_figures(c, names[c], every, ap["all"][:, c], operating, halves[:, 0, c]) for c in range(count)
    ]
    figures["operating_score"] = operating
    figures["pr_curves"] = {"all": pr_curve(every, None), **{names[c]: pr_curve(every, c) for c in range(count)}}
    figures["confusion"] = {
        "names": [*names, "background"],
        "counts": confusion_matrix(truths, found, count, operating).tolist(),
    }
    return DetectionScores(figures, every)


def pr_curve(matches: Matches, class_id: int | None, threshold: int = 0) -> list[float] | None:
    """Return precision at the 101 recalls 0, 0.01 ... 1 for one class, or the mean of all; None without objects.

    threshold: position in IOU_THRESHOLDS (0 is IoU 0.5).
    """
    if class_id is None:
        curves = [pr_curve(matches, c, threshold) for c in range(matches.objects.shape[1])]
        real = [curve for curve in curves if curve is not None]
        return np.mean(real, axis=0).round(4).tolist() if real else None
    objects = int(matches.objects[:, class_id].sum())
    if not objects:
        return None
    own = (matches.class_ids == class_id) & ~matches.void[threshold]
    hits = np.cumsum(matches.hit[threshold, own])
    precision = hits / np.arange(1, len(hits) + 1)
    envelope = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0.0)
    return envelope[np.searchsorted(hits / objects, RECALLS, side="left")].round(4).tolist()


def confusion_matrix(
    truths: Sequence[Truth], found: Sequence[Predicted], class_count: int, least: float, iou: float = 0.5
) -> np.ndarray:
    """Return (C + 1, C + 1) int64: rows are the truth, columns what was found, the last of each is background.

    Detections of at least `least` and objects are paired by falling IoU whatever their classes, best pairs first.
    Detections that match nothing but an ignored region are left out.
    """
    counts = np.zeros((class_count + 1, class_count + 1), np.int64)
    for truth, predicted in zip(truths, found, strict=True):
        keep = predicted.scores >= least
        boxes, classes = predicted.xywh[keep], predicted.class_ids[keep]
        real = ~truth.crowd
        overlaps = iou_matrix(boxes, truth.xywh[real], np.zeros(int(real.sum()), bool))
        own = truth.class_ids[real]
        # of equal overlaps the pair of the same class goes first
        order = np.lexsort(((classes[:, None] != own[None]).ravel(), -overlaps.ravel()))
        left, free = np.ones(len(boxes), bool), np.ones(len(own), bool)
        for pair in order[overlaps.ravel()[order] >= iou]:
            d, g = divmod(int(pair), len(own))
            if left[d] and free[g]:
                left[d] = free[g] = False
                counts[own[g], classes[d]] += 1
        np.add.at(counts[:, class_count], own[free], 1)
        if truth.crowd.any():
            left &= iou_matrix(boxes, truth.xywh[truth.crowd], np.ones(int(truth.crowd.sum()), bool)).max(axis=1) < iou
        np.add.at(counts[class_count], classes[left], 1)
    return counts


def _class_ap(matches: Matches, weights: np.ndarray | None) -> np.ndarray:
    """The AP of each class, mean over the IoU thresholds, then at 0.5, then at 0.75; NaN where there is nothing."""
    ap = average_precision(matches, weights)
    return np.concatenate([ap.mean(axis=0), ap[0], ap[len(IOU_THRESHOLDS) // 2]])


def _class_figures(
    c: int, name: str, matches: Matches, ap: np.ndarray, operating: float, drawn: np.ndarray
) -> dict[str, Any]:
    objects = int(matches.objects[:, c].sum())
    own = (matches.class_ids == c) & (matches.scores >= operating) & ~matches.void[0]
    found, right = int(own.sum()), int(matches.hit[0, own].sum())
    known = bool(np.isfinite(ap).all())
    interval = interval_of(float(ap.mean()), drawn).within(0, 1)
    if np.count_nonzero(matches.objects[:, c]) < FEWEST_OF_A_CLASS:
        interval = Interval(interval.value, 0.0, 1.0)
    return {
        "name": name,
        "objects": objects,
        "ap": interval.as_dict() if known else None,
        "ap50": float(ap[0]) if known else None,
        "ap75": float(ap[len(IOU_THRESHOLDS) // 2]) if known else None,
        "precision": right / found if found else None,
        "recall": right / objects if objects else None,
    }
