"""How often an activation took which value: a histogram of fixed size that grows by merging bins.

Bins are 2^e wide and start at whole multiples of that, so zero is always an edge, and two neighbours merge into one
bin of the next width exactly. e is the smallest with which all values fit: the result does not depend on the order in
which values came, and two histograms of the same tensor add up.
"""

import numpy as np

__all__ = ["BINS", "Histogram"]

BINS = 4096
SENTINEL = 1e30
"""Values beyond are stand-ins for infinity (masks, the padding of max pools), no activations: they are left out."""

_SMALLEST_EXPONENT = -120  # the inverse width must be a float32
_BLOCK = 1 << 16  # values handled at once; the scratch arrays then stay in the cache


class Histogram:
    """The distribution of one tensor, or of each of its channels, over many samples.

    counts: (C, B) int64; bin i of channel c covers [offset[c] + i, offset[c] + i + 1) * 2^exponent[c].
    exponent, offset: (C,) int64. zeros: (C,) int64, values that are exactly 0. left_out: (C,) int64, sentinels.
    lows, highs: for each sample (C,) float32, the least and greatest value.
    """

    def __init__(self, channels: int = 1, bins: int = BINS) -> None:
        self.counts = np.zeros((channels, bins), np.int64)
        self.exponent = np.full(channels, _SMALLEST_EXPONENT, np.int64)
        self.offset = np.zeros(channels, np.int64)
        self.zeros = np.zeros(channels, np.int64)
        self.left_out = np.zeros(channels, np.int64)
        self.lows: list[np.ndarray] = []
        self.highs: list[np.ndarray] = []

    @property
    def channels(self) -> int:
        """How many channels are told apart; 1 for a whole tensor."""
        return len(self.counts)

    @property
    def low(self) -> np.ndarray:
        """The least value of each channel, (C,) float32; 0 before the first sample."""
        return np.min(self.lows, axis=0) if self.lows else np.zeros(self.channels, np.float32)

    @property
    def high(self) -> np.ndarray:
        """The greatest value of each channel, (C,) float32; 0 before the first sample."""
        return np.max(self.highs, axis=0) if self.highs else np.zeros(self.channels, np.float32)

    def add(self, values: np.ndarray, axis: int = 0) -> None:
        """Count one sample, of any shape and a dtype that becomes float32; `axis` is that of the channels told apart.

        Raises: ValueError for NaN, for no values, or for a wrong number of channels.
        """
        rows = _rows(np.asarray(values, np.float32), self.channels, axis)
        low, high = rows.min(axis=1), rows.max(axis=1)
        if np.isnan(low).any():
            raise ValueError("it holds NaN")
        if max(-low.min(), high.max()) >= SENTINEL:
            self._add_without_sentinels(rows)
            return
        self.zeros += rows.shape[1] - np.count_nonzero(rows, axis=1)
        self.lows.append(low)
        self.highs.append(high)
        self._make_room(low, high)
        self._count(rows)

    def merge(self, other: "Histogram") -> None:
        """Add the samples of another histogram of the same tensor, after one's own.

        Raises: ValueError when the numbers of channels or bins differ.
        """
        if other.counts.shape != self.counts.shape:
            raise ValueError(f"histograms of {self.counts.shape} and {other.counts.shape} do not add up")
        self._make_room(other.low, other.high)
        for c in range(self.channels):
            self.counts[c] += _moved(
                other.counts[c], other.exponent[c], other.offset[c], self.exponent[c], self.offset[c]
            )
        self.zeros += other.zeros
        self.left_out += other.left_out
        self.lows += other.lows
        self.highs += other.highs

    def channel(self, index: int) -> "Histogram":
        """Return one channel as a histogram of its own."""
        one = Histogram(1, self.counts.shape[1])
        chosen = slice(index, index + 1)
        for name in ("counts", "exponent", "offset", "zeros", "left_out"):
            setattr(one, name, getattr(self, name)[chosen].copy())
        one.lows = [low[chosen] for low in self.lows]
        one.highs = [high[chosen] for high in self.highs]
        return one

    def edges(self, channel: int = 0) -> np.ndarray:
        """Return the (B + 1,) float64 borders of a channel's bins."""
        places = self.offset[channel] + np.arange(self.counts.shape[1] + 1)
        return np.ldexp(places.astype(np.float64), int(self.exponent[channel]))

    def _make_room(self, low: np.ndarray, high: np.ndarray) -> None:
        """Widen the bins of the channels in which low to high (C,) and 0 do not fit."""
        bins = self.counts.shape[1]
        width = np.ldexp(1.0, self.exponent)
        first, last = np.floor(np.minimum(low, 0) / width), np.floor(np.maximum(high, 0) / width)
        for c in np.flatnonzero((first < self.offset) | (last >= self.offset + bins)):
            exponent, offset = int(self.exponent[c]), int(self.offset[c])
            edge = int(np.flatnonzero(self.counts[c])[-1]) if self.counts[c].any() else -1
            least = min(float(low[c]), 0.0, np.ldexp(float(offset), exponent))
            most = max(float(high[c]), 0.0, np.ldexp(float(offset + edge), exponent))
            wider = _exponent(least, most, bins, exponent)
            start = int(np.floor(np.ldexp(least, -wider)))
            self.counts[c] = _moved(self.counts[c], exponent, offset, wider, start)
            self.exponent[c], self.offset[c] = wider, start

    def _count(self, rows: np.ndarray) -> None:
        channels, length = rows.shape
        bins = self.counts.shape[1]
        inverse = np.ldexp(np.float32(1), -self.exponent.astype(np.int32))[:, None]
        start = (self.offset - np.arange(channels) * bins)[:, None]  # channel c counts from place c * bins on
        together = max(1, _BLOCK // length)
        for c in range(0, channels, together):
            group = slice(c, min(c + together, channels))
            for x in range(0, length, _BLOCK):
                places = rows[group, x : x + _BLOCK] * inverse[group]
                np.floor(places, out=places)
                whole = places.astype(np.intp)
                whole -= start[group] + c * bins
                counted = np.bincount(whole.ravel(), minlength=(group.stop - c) * bins)
                self.counts[group] += counted.reshape(-1, bins)

    def _add_without_sentinels(self, rows: np.ndarray) -> None:
        """Count a sample channel by channel, which may have different numbers of values left."""
        kept = [row[np.abs(row) < SENTINEL] for row in rows]
        low = np.array([row.min(initial=np.inf) for row in kept], np.float32)
        high = np.array([row.max(initial=-np.inf) for row in kept], np.float32)
        none = np.array([not row.size for row in kept])
        low[none] = high[none] = 0
        self.lows.append(low)
        self.highs.append(high)
        self._make_room(low, high)
        for c, row in enumerate(kept):
            self.left_out[c] += rows.shape[1] - row.size
            self.zeros[c] += row.size - np.count_nonzero(row)
            if row.size:
                one = self.channel(c)
                one._count(row[None])
                self.counts[c] = one.counts[0]


def _rows(values: np.ndarray, channels: int, axis: int) -> np.ndarray:
    if not values.size:
        raise ValueError("it is empty")
    if channels == 1:
        return values.reshape(1, -1)
    if values.shape[axis] != channels:
        raise ValueError(f"it has {values.shape[axis]} channels, not {channels}")
    return np.ascontiguousarray(np.moveaxis(values, axis, 0).reshape(channels, -1))


def _exponent(low: float, high: float, bins: int, least: int) -> int:
    """The smallest exponent from `least` on with which low to high take at most `bins` bins."""
    span = high - low
    exponent = max(least, int(np.frexp(span / bins)[1]) - 2) if span else least
    while np.floor(np.ldexp(high, -exponent)) - np.floor(np.ldexp(low, -exponent)) >= bins:
        exponent += 1
    return exponent


def _moved(counts: np.ndarray, exponent: int, offset: int, wider: int, start: int) -> np.ndarray:
    """Return the (B,) counts on a grid of wider (or the same) bins that begins at bin `start`."""
    used = np.flatnonzero(counts)
    places = np.right_shift(used + int(offset), min(int(wider) - int(exponent), 62)) - int(start)
    moved = np.zeros_like(counts)
    np.add.at(moved, places, counts[used])
    return moved
