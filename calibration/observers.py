"""From how often an activation took which value to the range it is quantized with: five rules, one histogram.

An observer is named in one word: `min-max`, `moving-average:0.95`, `percentile:99.9`, `entropy` or `mse`. Every range
includes 0, which padding and ReLU need exactly.
"""

import numpy as np

from calibration.histogram import Histogram
from edge.errors import ConfigError

__all__ = ["OBSERVERS", "check_observer", "clipped_share", "range_of"]

OBSERVERS = ("min-max", "moving-average", "percentile", "entropy", "mse")

_DEFAULTS = {"moving-average": 0.95, "percentile": 99.9}
_LIMITS = {"moving-average": (0.0, 1.0), "percentile": (50.0, 100.0)}
_CANDIDATES = 96  # thresholds looked at by entropy and mse
_REFINEMENTS = 24  # of each end alone, by mse
_FLOOR = 1e-4  # what an empty bin counts where the reference has something, as a share of a value


def range_of(histogram: Histogram, observer: str, bits: int = 8, symmetric: bool = False) -> tuple[float, float]:
    """Return the range (low, high) with low <= 0 <= high that the observer gives a histogram of one channel.

    symmetric: -low == high, for zero points that must be 0. bits: of the integers, which entropy and mse need.
    A tensor that is always 0 has the range (0, 0).
    Raises: ConfigError for an unknown observer, ValueError for several channels.
    """
    if histogram.channels != 1:
        raise ValueError("choose one channel of the histogram")
    name, value = check_observer(observer)
    if name == "moving-average":
        low, high = _moving_average(histogram, value)
    elif name == "percentile":
        low, high = _percentile(histogram, value, symmetric)
    elif name == "entropy":
        low, high = _entropy(histogram, bits, symmetric)
    elif name == "mse":
        low, high = _least_error(histogram, bits, symmetric)
    else:
        low, high = float(histogram.low[0]), float(histogram.high[0])
    if symmetric:
        widest = max(-low, high, 0.0)
        return 0.0 - widest, widest
    return min(low, 0.0), max(high, 0.0)


def check_observer(observer: str) -> tuple[str, float]:
    """Return the observer's name and number (0 where it takes none).

    Raises: ConfigError for an unknown name, or a number that does not fit.
    """
    name, colon, number = observer.partition(":")
    if name not in OBSERVERS:
        raise ConfigError(f"there is no observer '{name}'", f"use one of {', '.join(OBSERVERS)}")
    if name not in _DEFAULTS:
        if colon:
            raise ConfigError(f"{name} takes no number, '{observer}' has one", f"write {name}")
        return name, 0.0
    low, high = _LIMITS[name]
    try:
        value = float(number) if colon else _DEFAULTS[name]
    except ValueError:
        value = np.nan
    if not low < value <= high or (name == "moving-average" and value == high):
        raise ConfigError(f"'{number}' is no number for {name}", f"write for example {name}:{_DEFAULTS[name]:g}")
    return name, value


def clipped_share(histogram: Histogram, low: float, high: float) -> float:
    """Return the share of values, 0 to 1, that lie outside low..high by the histogram's bins, of one channel."""
    counts, edges = histogram.counts[0], histogram.edges()
    above = (edges[:-1] >= high) & (high < histogram.high[0])  # the greatest value itself may begin a bin
    outside = above | ((edges[1:] <= low) & (low > histogram.low[0]))
    return float(counts[outside].sum() / max(int(counts.sum()), 1))


def _moving_average(histogram: Histogram, smoothing: float) -> tuple[float, float]:
    if not histogram.lows:
        return 0.0, 0.0
    low, high = float(histogram.lows[0][0]), float(histogram.highs[0][0])
    for least, most in zip(histogram.lows[1:], histogram.highs[1:], strict=True):
        low += (1 - smoothing) * (float(least[0]) - low)
        high += (1 - smoothing) * (float(most[0]) - high)
    return low, high


def _percentile(histogram: Histogram, percent: float, symmetric: bool) -> tuple[float, float]:
    """100 - percent is cut off at each end; of the magnitudes where the range is symmetric."""
    counts, edges = _folded(histogram) if symmetric else (histogram.counts[0], histogram.edges())
    if not histogram.counts.any():
        return 0.0, 0.0
    least, most = float(histogram.low[0]), float(histogram.high[0])
    if symmetric:
        nearest = max(least, -most, 0.0)  # the least magnitude, where all values have one sign
        high = _quantile(counts, edges, percent / 100)
        return 0.0, min(max(high, nearest), max(-least, most))
    ends = (_quantile(counts, edges, share) for share in (1 - percent / 100, percent / 100))
    low, high = (min(max(end, least), most) for end in ends)
    return low, high


def _quantile(counts: np.ndarray, edges: np.ndarray, share: float) -> float:
    """Between the two values whose ranks surround the share, as numpy.percentile does."""
    below = np.cumsum(counts)
    rank = share * (below[-1] - 1)
    ends = []
    for whole in (int(np.floor(rank)), int(np.ceil(rank))):
        place = int(np.searchsorted(below, whole, side="right"))
        within = (whole - (below[place] - counts[place]) + 0.5) / counts[place]
        ends.append(edges[place] + within * (edges[place + 1] - edges[place]))
    return float(ends[0] + (rank - np.floor(rank)) * (ends[1] - ends[0]))


def _folded(histogram: Histogram) -> tuple[np.ndarray, np.ndarray]:
    """The counts of the magnitudes, from 0 on, and their edges: 0 is an edge, so bins fall on bins."""
    counts, offset = histogram.counts[0], int(histogram.offset[0])
    places: np.ndarray = offset + np.arange(len(counts))
    places = np.where(places < 0, -1 - places, places)  # bin -1 mirrors bin 0
    folded = np.zeros(int(places.max()) + 1, np.int64)
    np.add.at(folded, places, counts)
    return folded, np.ldexp(np.arange(len(folded) + 1, dtype=np.float64), int(histogram.exponent[0]))


def _entropy(histogram: Histogram, bits: int, symmetric: bool) -> tuple[float, float]:
    """The threshold whose quantized distribution is nearest to the true one (Migacz, "8-bit inference with TensorRT",
    GTC 2017), generalised to ranges whose ends differ: what lies beyond +-threshold is clipped.

    Exact zeros have no vote: they are exact whatever the threshold, and a ReLU's would drown all else.
    """
    least, most = min(float(histogram.low[0]), 0.0), max(float(histogram.high[0]), 0.0)
    if symmetric:
        counts, _ = _folded(histogram)
        levels, negative = 1 << (bits - 1), 0
    else:
        counts = histogram.counts[0]
        levels, negative = 1 << bits, -int(histogram.offset[0])  # bins below 0
    counts = counts.copy()
    counts[negative] -= histogram.zeros[0]
    used = np.flatnonzero(counts)
    if not used.size or used[-1] + 1 - min(negative, used[0]) <= levels:
        return least, most
    positive = int(used[-1]) + 1 - negative
    widest = max(negative, positive)
    reach = np.unique(np.geomspace(max(2, levels // 4), widest, _CANDIDATES).astype(int))
    reach = [r for r in reach[::-1] if min(r, negative) + min(r, positive) >= levels]  # the first is the widest
    losses = [_divergence(counts, negative - min(r, negative), negative + min(r, positive), levels) for r in reach]
    threshold = float(np.ldexp(float(reach[int(np.argmin(losses))]), int(histogram.exponent[0])))
    return max(least, -threshold), min(most, threshold)


def _divergence(counts: np.ndarray, first: int, last: int, levels: int) -> float:
    """Kullback-Leibler divergence of the counts clipped to bins first..last from the same in `levels` steps."""
    inside = counts[first:last]
    if not inside.any():
        return np.inf
    reference = inside.copy()
    reference[0] += counts[:first].sum()
    reference[-1] += counts[last:].sum()
    borders = np.rint(np.linspace(0, len(inside), levels + 1)).astype(int)
    sums, filled = np.add.reduceat(inside, borders[:-1]), np.add.reduceat(inside > 0, borders[:-1], dtype=np.intp)
    level = np.repeat(sums / np.maximum(filled, 1), np.diff(borders))
    candidate = np.where(reference > 0, np.maximum(np.where(inside > 0, level, 0.0), _FLOOR), 0.0)
    kept = reference > 0
    p, q = reference[kept] / reference.sum(), candidate[kept] / candidate.sum()
    return float((p * np.log(p / q)).sum())


def _least_error(histogram: Histogram, bits: int, symmetric: bool) -> tuple[float, float]:
    """The range with the least mean squared error: both ends together first, then each alone."""
    values, counts = _values(histogram)
    least, most = min(float(histogram.low[0]), 0.0), max(float(histogram.high[0]), 0.0)
    if symmetric:
        most = max(-least, most)
        least = -most
    if not counts.size:
        return 0.0, 0.0
    reach = np.geomspace(1, 1 / 64, _CANDIDATES) * max(-least, most)
    best = _best(values, counts, np.maximum(least, -reach), np.minimum(most, reach), bits, symmetric)
    if symmetric or least == 0 or most == 0:
        return best
    shares = np.linspace(1.25, 0.5, _REFINEMENTS)
    for _ in range(2):
        low, high = best
        highs = np.append(high, np.minimum(most, high * shares))
        low, high = _best(values, counts, np.full_like(highs, low), highs, bits, symmetric)
        lows = np.append(low, np.maximum(least, low * shares))
        best = _best(values, counts, lows, np.full_like(lows, high), bits, symmetric)
    return best


def _best(
    values: np.ndarray, counts: np.ndarray, lows: np.ndarray, highs: np.ndarray, bits: int, symmetric: bool
) -> tuple[float, float]:
    place = int(np.argmin(_errors(values, counts, lows, highs, bits, symmetric)))  # the first is the widest
    return float(lows[place]), float(highs[place])


def _values(histogram: Histogram) -> tuple[np.ndarray, np.ndarray]:
    """The middles of the bins that hold something but zeros, inside the true ends, and their counts."""
    counts, edges = histogram.counts[0].copy(), histogram.edges()
    counts[-int(histogram.offset[0])] -= histogram.zeros[0]
    used = counts > 0
    middles = (edges[:-1] + edges[1:])[used] / 2
    return np.clip(middles, float(histogram.low[0]), float(histogram.high[0])), counts[used]


def _errors(
    values: np.ndarray, counts: np.ndarray, lows: np.ndarray, highs: np.ndarray, bits: int, symmetric: bool
) -> np.ndarray:
    """The summed squared error of each candidate range, on the grid of integers it really gives."""
    least, most = (1 - (1 << (bits - 1)), (1 << (bits - 1)) - 1) if symmetric else (0, (1 << bits) - 1)
    scale = (highs - lows) / (most - least)
    scale = np.where(scale > 0, scale, 1.0)[:, None]
    zero = np.zeros_like(scale) if symmetric else np.rint(-lows[:, None] / scale)
    stored = np.clip(np.rint(values / scale) + zero, least, most)
    return ((stored - zero) * scale - values) ** 2 @ counts
