"""Confidence intervals for measurements that depend on their neighbours, as latencies of successive frames do."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

__all__ = [
    "CONFIDENCE",
    "Interval",
    "block_length",
    "bootstrap",
    "evenly",
    "paired_ratio",
    "percentile_intervals",
    "sen_slope",
]

CONFIDENCE = 0.95
_RESAMPLES = 400
_MIN_VALUES = 20
_MIN_EXCEEDANCES = 5  # fewer values beyond a percentile say nothing about its spread
_MAX_LAG = 100
_MAX_RESAMPLED, _PIECES = 20_000, 20  # what is resampled of more values: so many pieces, spread evenly


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with its 95 % confidence bounds; low and high are None when there is too little to tell."""

    value: float
    low: float | None = None
    high: float | None = None

    @property
    def known(self) -> bool:
        """Whether there are bounds."""
        return self.low is not None and self.high is not None


def block_length(values: np.ndarray) -> int:
    """Return how many neighbours of (N,) float64 hang together: twice the autocorrelation time of their ranks.

    At least the cube root of N, at most N / 5. Ranks keep one outlier from hiding the correlation.
    """
    n = len(values)
    ranks = np.argsort(np.argsort(values, kind="stable"), kind="stable").astype(np.float64)
    ranks -= ranks.mean()
    energy = float(ranks @ ranks)
    tau = 1.0
    for lag in range(1, min(_MAX_LAG, n // 4)):
        rho = float(ranks[:-lag] @ ranks[lag:]) / energy if energy else 0.0
        if rho < 0.05:
            break
        tau += 2 * rho
    return int(np.clip(np.ceil(2 * tau), np.ceil(n ** (1 / 3)), max(1, n // 5)))


def bootstrap(
    values: np.ndarray, statistic: Callable[[np.ndarray], np.ndarray | float], seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Return the 2.5 % and 97.5 % points, (S,) float64 each, of a statistic of (N,) float64 in resamples of blocks.

    Moving-block bootstrap: H. R. Kuensch, "The jackknife and the bootstrap for general stationary observations",
    Annals of Statistics 17 (1989). The percentile method, as the statistics here are monotone in the data.
    """
    n = len(values)
    length = block_length(values)
    rng = np.random.default_rng(seed)
    offsets = np.arange(length)
    found = []
    for _ in range(_RESAMPLES):
        starts = rng.integers(0, n - length + 1, -(-n // length))
        found.append(np.atleast_1d(statistic(values[(starts[:, None] + offsets).ravel()[:n]])))
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(np.array(found), (tail, 1 - tail), axis=0)
    return low, high


def evenly(values: np.ndarray) -> np.ndarray:
    """Return (N,) float64 as they are, or 20,000 of them: pieces from start to end, so that neighbours stay together.

    For bounds only, which so many values give wide enough; a percentile itself takes them all.
    """
    if len(values) <= _MAX_RESAMPLED:
        return values
    length = _MAX_RESAMPLED // _PIECES
    starts = np.linspace(0, len(values) - length, _PIECES).astype(int)
    return np.concatenate([values[start : start + length] for start in starts])


def percentile_intervals(values: np.ndarray, percents: Sequence[float]) -> list[Interval]:
    """Return an Interval for each percentile of (N,) float64, N >= 1, in the order of time.

    Without bounds where fewer than 20 values, or fewer than 5 beyond the percentile, are there.
    """
    points = np.percentile(values, percents)
    if len(values) < _MIN_VALUES:
        return [Interval(float(p)) for p in points]
    part = evenly(values)
    low, high = bootstrap(part, lambda sample: np.percentile(sample, percents))
    shift = points - np.percentile(part, percents)  # 0 unless only a part was resampled
    enough = [len(values) * (100 - percent) / 100 >= _MIN_EXCEEDANCES for percent in percents]
    return [
        Interval(float(p), float(lo + by), float(hi + by)) if ok else Interval(float(p))
        for p, lo, hi, by, ok in zip(points, low, high, shift, enough, strict=True)
    ]


def paired_ratio(first: Sequence[float], second: Sequence[float]) -> Interval:
    """Return second / first from measurements made in turns, pair by pair, so that what both suffer cancels.

    Hodges-Lehmann estimate of the log ratio with the exact bounds of the signed-rank test: no distribution is
    assumed and one disturbed pair moves little. Fewer than 6 pairs give no 95 % bounds.
    Source: Hollander and Wolfe, "Nonparametric Statistical Methods", section 3.2 and 3.3.
    """
    logs = np.log(np.asarray(second, np.float64)) - np.log(np.asarray(first, np.float64))
    i, j = np.triu_indices(len(logs))
    walsh = np.sort((logs[i] + logs[j]) / 2)
    value = float(np.exp(np.median(walsh)))
    cut = _signed_rank_cut(len(logs))
    if cut < 1:
        return Interval(value)
    return Interval(value, float(np.exp(walsh[cut - 1])), float(np.exp(walsh[-cut])))


def _signed_rank_cut(pairs: int) -> int:
    """The largest k with P(signed-rank sum < k) <= 2.5 % under no difference, from its exact distribution."""
    ways = np.zeros(pairs * (pairs + 1) // 2 + 1)
    ways[0] = 1
    for rank in range(1, pairs + 1):
        ways[rank:] += ways[:-rank].copy()
    below = np.cumsum(ways / ways.sum())
    return int(np.searchsorted(below, (1 - CONFIDENCE) / 2, side="right"))


def sen_slope(t: np.ndarray, y: np.ndarray) -> Interval:
    """Return the slope of y over t, both (N,) float64: the median of all pairs' slopes, with Sen's bounds.

    Without bounds for fewer than 8 points. Source: P. K. Sen, "Estimates of the regression coefficient based on
    Kendall's tau", JASA 63 (1968).
    """
    i, j = np.triu_indices(len(t), 1)
    apart = t[j] != t[i]
    slopes = np.sort((y[j] - y[i])[apart] / (t[j] - t[i])[apart])
    if not len(slopes):
        return Interval(0.0)
    value = float(np.median(slopes))
    n = len(t)
    if n < 8:
        return Interval(value)
    reach = 1.96 * np.sqrt(n * (n - 1) * (2 * n + 5) / 18)
    low = int(max(0, np.floor((len(slopes) - reach) / 2)))
    high = int(min(len(slopes) - 1, np.ceil((len(slopes) + reach) / 2)))
    return Interval(value, float(slopes[low]), float(slopes[high]))
