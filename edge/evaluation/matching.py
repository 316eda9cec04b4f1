"""Which detections are right: the matching and the average precision of COCO, in a form that resamples cheaply.

The rules are those of Lin et al., "Microsoft COCO: Common Objects in Context" (2014), and of its published evaluation:
ten IoU thresholds, greedy by score, crowds and objects outside the area range ignored, precision at 101 recalls.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

__all__ = [
    "AREA_RANGES",
    "IOU_THRESHOLDS",
    "RECALLS",
    "Matches",
    "Predicted",
    "Truth",
    "average_precision",
    "iou_matrix",
    "match",
]

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0, 1, 101)
AREA_RANGES = {"all": (0.0, 1e10), "small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, 1e10)}


@dataclass(frozen=True, slots=True)
class Truth:
    """The objects of one picture: xywh (N, 4) float64 px, class_ids (N,), crowd (N,) bool, area (N,) float64 px^2."""

    xywh: np.ndarray
    class_ids: np.ndarray
    crowd: np.ndarray
    area: np.ndarray


@dataclass(frozen=True, slots=True)
class Predicted:
    """The detections of one picture, best first: xywh (N, 4) float64 px, class_ids (N,), scores (N,) float64."""

    xywh: np.ndarray
    class_ids: np.ndarray
    scores: np.ndarray


@dataclass(frozen=True, slots=True)
class Matches:
    """Every detection of a set with its fate, sorted by class and then by falling score.

    image, class_ids (D,) int64; scores (D,) float64; hit (10, D) bool, matched to an object that counts;
    void (10, D) bool, neither right nor wrong. objects (images, classes) int64: objects that count.
    """

    image: np.ndarray
    class_ids: np.ndarray
    scores: np.ndarray
    hit: np.ndarray
    void: np.ndarray
    objects: np.ndarray


def iou_matrix(a: np.ndarray, b: np.ndarray, crowd: np.ndarray) -> np.ndarray:
    """Return (A, B) float64 overlaps of (A, 4) and (B, 4) float64 xywh; for crowd (B,) bool, the share of a."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, :2] + a[:, None, 2:], b[None, :, :2] + b[None, :, 2:])
    inter = np.maximum(high - low, 0).prod(axis=2)
    own = (a[:, 2] * a[:, 3])[:, None]
    union = np.where(crowd[None], own, own + (b[:, 2] * b[:, 3])[None] - inter)
    return np.divide(inter, union, out=np.zeros_like(inter), where=union > 0)


def match(
    truths: Sequence[Truth],
    found: Sequence[Predicted],
    class_count: int,
    area_range: tuple[float, float] = AREA_RANGES["all"],
    most: int = 100,
) -> Matches:
    """Return the fate of each detection; at most the `most` best of a class and picture count."""
    low, high = area_range
    objects = np.zeros((len(truths), class_count), np.int64)
    parts: list[tuple[np.ndarray, ...]] = []
    for i, (truth, predicted) in enumerate(zip(truths, found, strict=True)):
        aside = truth.crowd | (truth.area < low) | (truth.area > high)
        np.add.at(objects[i], truth.class_ids[~aside], 1)
        keep = _best_of_each_class(predicted, most)
        boxes, classes = predicted.xywh[keep], predicted.class_ids[keep]
        hit = np.zeros((len(IOU_THRESHOLDS), len(keep)), bool)
        taken = np.zeros_like(hit)
        for c in np.unique(truth.class_ids):
            own, real = np.flatnonzero(classes == c), np.flatnonzero(truth.class_ids == c)
            if len(own):
                overlaps = iou_matrix(boxes[own], truth.xywh[real], truth.crowd[real])
                hit[:, own], taken[:, own] = _greedy(overlaps, aside[real], truth.crowd[real])
        size = boxes[:, 2] * boxes[:, 3]
        void = (taken & ~hit) | (~taken & ((size < low) | (size > high)))
        parts.append((np.full(len(keep), i), classes, predicted.scores[keep], hit, void))
    image, class_ids, scores = (np.concatenate([part[k] for part in parts]) for k in range(3))
    hit, void = (np.concatenate([part[k] for part in parts], axis=1) for k in (3, 4))
    order = np.lexsort((-scores, class_ids))  # stable: equal scores stay in the order of the pictures
    return Matches(image[order], class_ids[order], scores[order], hit[:, order], void[:, order], objects)


def average_precision(matches: Matches, weights: np.ndarray | None = None) -> np.ndarray:
    """Return (10, classes) float64 AP in [0, 1], NaN for a class without objects.

    weights: (images,) int64, how often each picture counts; None counts each once.
    """
    thresholds, count = len(IOU_THRESHOLDS), matches.objects.shape[1]
    each = np.ones(len(matches.objects), np.int64) if weights is None else weights
    objects = each @ matches.objects
    share = each[matches.image]
    total = np.zeros((thresholds, count))
    rows, places = np.nonzero(matches.hit)
    if len(rows):
        classes = matches.class_ids
        first = np.searchsorted(classes, np.arange(count))
        segment, start = rows * count + classes[places], first[classes[places]]
        # only hits are visited: what was tried before one is all before it, less what is void there
        tried = _before(share, places + 1) - _before(share, start)
        void_rows, void_places = np.nonzero(matches.void)
        flat, length = void_rows * len(share) + void_places, len(share)
        ends = np.searchsorted(flat, rows * length + places, side="right")
        tried -= _before(share[void_places], ends)
        tried += _before(share[void_places], np.searchsorted(flat, rows * length + start))
        new = np.concatenate([[True], segment[1:] != segment[:-1]])
        opening = np.flatnonzero(new)[np.cumsum(new) - 1]
        right = _before(share[places], np.arange(len(places)) + 1) - _before(share[places], opening)
        total = _areas(segment, right, tried, objects, thresholds)
    with np.errstate(invalid="ignore"):
        return np.where(objects > 0, total, np.nan)


def _before(weights: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """The sum of the weights before each end."""
    return np.concatenate([[0], np.cumsum(weights)])[ends]


def _areas(segment: np.ndarray, right: np.ndarray, tried: np.ndarray, objects: np.ndarray, rows: int) -> np.ndarray:
    """(rows, classes): area under the precision envelope; one entry a hit, segments one after the other."""
    count = len(objects)
    goal = objects[segment % count]
    recall = right / np.maximum(goal, 1)
    precision = right / np.maximum(tried, 1)
    lift = 2.0 * (segment[-1] - segment) if len(segment) else 0.0  # keeps each segment's maximum to itself
    envelope = np.maximum.accumulate((precision + lift)[::-1])[::-1] - lift
    reached = np.searchsorted(RECALLS, recall, side="right")
    earlier = np.concatenate([[0], reached[:-1]])
    if len(segment):
        earlier[np.concatenate([[True], segment[1:] != segment[:-1]])] = 0
    gained = np.where(goal > 0, (reached - earlier) * envelope, 0.0)
    return np.bincount(segment, gained, rows * count).reshape(rows, count) / len(RECALLS)


def _best_of_each_class(predicted: Predicted, most: int) -> np.ndarray:
    order = np.argsort(-predicted.scores, kind="stable")
    if len(order) <= most:
        return order
    kept: list[int] = []
    seen: dict[int, int] = {}
    for i in order.tolist():
        c = int(predicted.class_ids[i])
        seen[c] = seen.get(c, 0) + 1
        if seen[c] <= most:
            kept.append(i)
    return np.array(kept, np.int64)


def _greedy(overlaps: np.ndarray, aside: np.ndarray, crowd: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For (D, G) overlaps of one class, best first: (10, D) hit an object that counts, and (10, D) took any."""
    limits = np.minimum(IOU_THRESHOLDS, 1 - 1e-10)[:, None]
    hit = np.zeros((len(limits), len(overlaps)), bool)
    took = np.zeros_like(hit)
    used = np.zeros((len(limits), overlaps.shape[1]), bool)
    rows = np.arange(len(limits))
    for d in np.flatnonzero(overlaps.max(axis=1) >= limits[0, 0]):
        open_ = (~used | crowd) & (overlaps[d] >= limits)
        counting = open_ & ~aside
        any_counting = counting.any(axis=1)
        choice = np.where(any_counting[:, None], counting, open_ & aside)
        # the last of equal overlaps, as the published evaluation takes it
        best = choice.shape[1] - 1 - np.where(choice, overlaps[d], -1.0)[:, ::-1].argmax(axis=1)
        found = choice.any(axis=1)
        used[rows[found], best[found]] = True
        hit[:, d] = any_counting
        took[:, d] = found
    return hit, took
