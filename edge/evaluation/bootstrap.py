"""How sure a figure is: the bootstrap over pictures in its subsampling form (Politis and Romano, 1994).

Sets of half the pictures are drawn without replacement. Their spread about their mean is that of the whole set
about its own (the delete-half jackknife, Shao and Wu, 1989), and no picture stands twice in a set, which moves
precision where a class has few objects. Average precision reads high on small sets: 0.31 on 80 pictures of COCO
where all 5000 give 0.26. How much a half reads above the whole tells how much the whole reads above the truth;
simulated sets show that the excess falls as the root of the number of pictures, and the interval is moved by it.

A mean over classes needs more: a half loses classes that few pictures have, and then is the mean of others. Its excess
is therefore that of its classes: what halving adds is measured on those that nearly all halves keep, and that of the
others follows from the root of the number of pictures that they are in.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from edge.progress import Progress

__all__ = [
    "FEWEST_OF_A_CLASS",
    "FEWEST_PICTURES",
    "WIDEST",
    "Interval",
    "interval_of",
    "mean_interval",
    "resample",
    "warnings_of",
    "wilson_interval",
]

WIDEST = 0.04  # an interval wider than this (+-0.02) cannot tell two ordinary variants of a model apart
FEWEST_PICTURES = 200
FEWEST_OF_A_CLASS = 5  # pictures with a class: below it a half says nothing, and the interval is 0 to 1
_FEWEST_FOR_EXCESS = 3  # pictures with a class: seven of eight halves then keep it
_EXCESS = 1 / (np.sqrt(2) - 1)
_BUDGET = 4e9  # of array elements: bounds the time on large sets


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure with the ends of its 95 % interval; `resamples` 0 means that it comes from a formula."""

    value: float
    low: float
    high: float
    resamples: int = 0

    @property
    def width(self) -> float:
        """High minus low."""
        return self.high - self.low

    def within(self, lowest: float, highest: float) -> "Interval":
        """Return the same with its ends inside the possible range."""
        return Interval(self.value, max(self.low, lowest), min(self.high, highest), self.resamples)

    def as_dict(self) -> dict[str, Any]:
        """Return the fields, for JSON."""
        return asdict(self)


def resample(
    figure: Callable[[np.ndarray], np.ndarray], pictures: int, cost: int, most: int = 1000, seed: int = 0
) -> np.ndarray:
    """Return (R, F) float64: the figures of R sets of half the pictures; R is at most `most`, fewer where costly.

    figure takes (pictures,) int64, how often each counts, and returns (F,) float64. cost: its array elements.
    """
    rng = np.random.default_rng(seed)
    rounds = int(min(most, max(100, _BUDGET / max(1, 30 * cost))))
    drawn = []
    progress = Progress("resampling", rounds)
    for _ in range(max(1, rounds // 2)):
        half = np.zeros(pictures, np.int64)
        half[rng.permutation(pictures)[: max(1, pictures // 2)]] = 1
        drawn += [figure(half), figure(1 - half)]  # both halves: their errors partly cancel in the mean
        progress.update(len(drawn), f"{len(drawn)} of {rounds} rounds")
    progress.clear()
    return np.stack(drawn)


def interval_of(
    value: float, drawn: np.ndarray, level: float = 0.95, paired: bool = False, excess: float | None = None
) -> Interval:
    """Return the interval of a figure from (R,) float64 figures of half the pictures, as `resample` gives them.

    paired: the figure is the difference of two models on the same pictures, in which their excesses cancel.
    excess: how much the figure reads above that of a large set; None: as much as halving tells.
    """
    good = drawn[np.isfinite(drawn)]
    if not len(good):
        return Interval(value, value, value)
    low, high = np.quantile(good, [(1 - level) / 2, (1 + level) / 2])
    gap = float(np.mean(good)) - value  # what halving adds to the excess; the excess itself is _EXCESS times that
    move = gap if paired else gap + (_EXCESS * gap if excess is None else excess)
    # an interval that left out its own figure would be distrusted, and a wider one is never wrong
    return Interval(value, min(value, float(low) - move), max(value, float(high) - move), len(good))


def mean_interval(whole: np.ndarray, drawn: np.ndarray, pictures: np.ndarray) -> Interval:
    """Return the interval of the mean over classes, those without a figure (NaN) left out.

    whole: (C,) float64 on all pictures. drawn: (R, C) float64 of half the pictures, as `resample` gives them.
    pictures: (C,) int64, how many a class is in.
    """
    seen = np.isfinite(whole)
    value, halves = float(whole[seen].mean()), drawn[np.isfinite(drawn).any(axis=1)]
    kept = seen & (pictures >= _FEWEST_FOR_EXCESS) & np.isfinite(drawn).any(axis=0)
    means = np.nanmean(halves, axis=1) if len(halves) else np.zeros(0)
    if not kept.any():
        return interval_of(value, means)
    gaps = np.nanmean(halves[:, kept], axis=0) - whole[kept]
    each = _EXCESS * gaps.sum() / np.sum(1 / np.sqrt(pictures[kept]))  # of a class in one picture
    return interval_of(value, means, excess=float(each * np.mean(1 / np.sqrt(pictures[seen]))))


def wilson_interval(right: int, total: int) -> Interval:
    """Return the 95 % score interval of a share (Wilson, 1927)."""
    if total == 0:
        return Interval(float("nan"), 0.0, 1.0)
    z, p = 1.959964, right / total
    middle = (p + z * z / (2 * total)) / (1 + z * z / total)
    half = z / (1 + z * z / total) * float(np.sqrt(p * (1 - p) / total + z * z / (4 * total * total)))
    return Interval(p, middle - half, middle + half)


def warnings_of(name: str, intervals: Mapping[str, Interval], pictures: int) -> list[str]:
    """Return, in plain words and one sentence, why a figure must not be leaned on; [] when it may.

    intervals: of the figure `name`, by the title of its model; "" where there is one model only.
    """
    few = pictures < FEWEST_PICTURES
    only = f"only {pictures} picture{'s' if pictures > 1 else ''}"
    widest = max(interval.width for interval in intervals.values())
    if widest <= WIDEST:
        return [f"{only}: take at least {FEWEST_PICTURES}, better 1000"] if few else []
    known = " and ".join(f"+-{x.width / 2:.3f}{f' ({title})' if title else ''}" for title, x in intervals.items())
    needed = max(FEWEST_PICTURES, int(np.ceil(pictures * (widest / WIDEST) ** 2 / 100) * 100))
    return [
        f"{only + ': ' if few else ''}{name} is known to {known} only, too little to tell two ordinary variants of a "
        f"model apart: about {needed} pictures would bring it to +-{WIDEST / 2:g}"
        + ("; read the interval of the drop, not the difference of the two" if len(intervals) > 1 else "")
    ]
