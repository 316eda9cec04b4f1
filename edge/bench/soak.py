"""A long run in windows: does memory leak, does latency drift, does the tail grow."""

from collections.abc import Callable, Sequence

import numpy as np

from edge.bench.intervals import Interval, sen_slope
from edge.bench.measure import Block
from edge.bench.results import Soak
from edge.bench.sensors import Sample
from edge.bench.summaries import estimate_of

__all__ = ["WINDOWS", "SoakLog"]

WINDOWS = 48

_SETTLING_SHARE = 0.2  # caches, arenas and pools fill at first
_LEAK_MIN_MB = 2.0
_LEAK_MIN_SHARE = 0.01
_DRIFT_SHARE = 0.05
_TAIL_SHARE = 0.20


class SoakLog:
    """Keeps a few numbers per window, so that the log itself does not grow like a leak."""

    def __init__(self, window_s: float) -> None:
        self.window_s = window_s
        self._t0_ns = 0
        self._rows: list[tuple[int, int, float, float, float, float]] = []

    def add(self, block: Block) -> None:
        """Note one window."""
        self._t0_ns = self._t0_ns or block.t_start_ns
        p50, p99, most = np.percentile(block.age_ns, (50, 99, 100)) / 1e6
        fps = block.steps / block.elapsed_s
        self._rows.append((block.t_start_ns, block.t_end_ns, float(p50), float(p99), float(most), fps))

    def conclude(self, samples: Sequence[Sample]) -> Soak:
        """Return the windows, the slopes after the first fifth, and what they mean."""
        spans = np.array([(row[0], row[1]) for row in self._rows], np.int64)
        hours = (spans.mean(axis=1) - self._t0_ns) / 3.6e12
        rss = _per_window(spans, samples)
        skip = min(len(hours) - 1, int(len(hours) * _SETTLING_SHARE))
        columns = [np.array([row[i] for row in self._rows]) for i in (2, 3)]
        slopes = [sen_slope(hours[skip:], values[skip:]) for values in (rss, *columns)]
        told = [estimate_of(slope) if len(hours) - skip > 1 else None for slope in slopes]
        problems, remarks = _growth(slopes, [v[skip:] for v in (rss, *columns)], float(hours[-1] - hours[skip]))
        return Soak(
            window_s=round(self.window_s, 3),
            t_s=[round(float(h) * 3600, 3) for h in hours],
            p50_ms=[round(row[2], 4) for row in self._rows],
            p99_ms=[round(row[3], 4) for row in self._rows],
            max_ms=[round(row[4], 4) for row in self._rows],
            throughput_fps=[round(row[5], 2) for row in self._rows],
            rss_mb=[round(float(v), 3) for v in rss],
            rss_slope_mb_per_hour=told[0],
            p50_slope_ms_per_hour=told[1],
            p99_slope_ms_per_hour=told[2],
            problems=problems,
            remarks=remarks,
        )


def _growth(slopes: Sequence[Interval], values: Sequence[np.ndarray], hours: float) -> tuple[list[str], list[str]]:
    """What surely grew: by so much that it is a problem, and by less."""
    names: list[tuple[str, str, Callable[[float], float], str]] = [
        ("memory leak", "RSS", lambda first: max(_LEAK_MIN_MB, _LEAK_MIN_SHARE * first), "MB"),
        ("drift", "p50 of capture to publish", lambda first: _DRIFT_SHARE * first, "ms"),
        ("tail growth", "p99 of capture to publish", lambda first: _TAIL_SHARE * first, "ms"),
    ]
    problems, remarks = [], []
    for (kind, name, least, unit), slope, series in zip(names, slopes, values, strict=True):
        grown = slope.value * hours
        start = float(np.median(series[: max(1, len(series) // 4)]))
        if slope.low is None or slope.low <= 0:
            continue
        if grown > least(start):
            problems.append(f"{kind}: {name} grew by {grown:.2f} {unit} in {_span(hours)}, from {start:.2f} {unit}")
        else:
            remarks.append(f"{name} rose {grown:.2g} {unit}, under the {least(start):.2g} {unit} that count")
    return problems, remarks


def _span(hours: float) -> str:
    return f"{hours:.1f} h" if hours >= 1 else f"{hours * 60:.1f} min" if hours * 60 >= 1 else f"{hours * 3600:.1f} s"


def _per_window(spans: np.ndarray, samples: Sequence[Sample]) -> np.ndarray:
    """Median RSS of each window's samples, (W,) float64 MB; a window without one takes the nearest sample."""
    t_ns = np.array([s.t_ns for s in samples], np.int64)
    rss = np.array([s.rss_mb for s in samples])
    found = []
    for start, end in spans:
        inside = (t_ns >= start) & (t_ns < end)
        nearest = int(np.abs(t_ns - (start + end) // 2).argmin())
        found.append(float(np.median(rss[inside])) if inside.any() else float(rss[nearest]))
    return np.array(found)
