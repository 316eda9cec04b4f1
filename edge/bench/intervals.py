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
_MAX_LAG = 100
_MAX_RESAMPLED, _PIECES = 20_000, 20  # what is resampled of more values: so many pieces, spread evenly


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with its 95 % confidence bounds; low and high are None when there is too little to tell.

    count_needed: of a percentile without bounds, about how many values would give it some.
    """

    value: float
    low: float | None = None
    high: float | None = None
    count_needed: int | None = None

    @property
    def known(self) -> bool:
        """Whether there are bounds."""
        return self.low is not None and self.high is not None


def block_length(values: np.ndarray) -> int:
    """Return how many neighbours of (N,) float64 hang together: twice the autocorrelation time of their ranks.

    At least the cube root of N, at most N / 5.
    """
    n = len(values)
    return int(np.clip(np.ceil(2 * _correlation_time(values)), np.ceil(n ** (1 / 3)), max(1, n // 5)))


def _correlation_time(values: np.ndarray) -> float:
    """In how many of (N,) float64 there is as much to learn as in one that depends on no other.

    That of their ranks, which keep one outlier from hiding the correlation.
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
    return tau


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

    For bounds only, which so many values give narrow enough.
    """
    if len(values) <= _MAX_RESAMPLED:
        return values
    length = _MAX_RESAMPLED // _PIECES
    starts = np.linspace(0, len(values) - length, _PIECES).astype(int)
    return np.concatenate([values[start : start + length] for start in starts])


def percentile_intervals(values: np.ndarray, percents: Sequence[float]) -> list[Interval]:
    """Return an Interval for each percentile of (N,) float64, N >= 1, in the order of time.

    The bounds are two of the values, as many ranks apart as the binomial law has it for N / autocorrelation time
    values that do not depend on each other. No distribution is assumed. Where a bound would lie beyond the largest or
    smallest value, there is none. Source: David and Nagaraja, "Order Statistics", section 7.1.
    """
    points = np.percentile(values, percents)
    n, ordered = len(values), np.sort(values)
    tau = _correlation_time(values)
    found = []
    for point, share in zip(points, np.asarray(percents) / 100, strict=True):
        reach = 1.96 * np.sqrt(n * share * (1 - share) * tau)
        low, high = int(np.floor(n * share - reach)), int(np.ceil(n * share + reach)) + 1  # ranks from 1 on
        if n < _MIN_VALUES or low < 1 or high > n:
            found.append(Interval(float(point), count_needed=max(n + 1, _count_needed(share, tau))))
        else:
            found.append(Interval(float(point), float(ordered[low - 1]), float(ordered[high - 1])))
    return found


def _count_needed(share: float, tau: float) -> int:
    """The least n whose bounds are among its values: n * tail - reach >= 1, a quadratic inequality in sqrt(n)."""
    tail, spread = min(share, 1 - share), 1.96 * np.sqrt(share * (1 - share) * tau)
    root = (spread + np.sqrt(spread**2 + 4 * tail)) / (2 * tail)
    return max(_MIN_VALUES, int(np.ceil(root**2)))


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
    Kendall's tau", JASA 63 (1968); the variance times the autocorrelation time of what the slope leaves over, as
    Hamed and Rao have it, Journal of Hydrology 204 (1998).
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
    reach = 1.96 * np.sqrt(n * (n - 1) * (2 * n + 5) / 18 * _correlation_time(y - value * t))
    low = int(max(0, np.floor((len(slopes) - reach) / 2)))
    high = int(min(len(slopes) - 1, np.ceil((len(slopes) + reach) / 2)))
    return Interval(value, float(slopes[low]), float(slopes[high]))
