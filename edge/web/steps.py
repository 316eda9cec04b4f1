"""What the timing ring says of the last seconds: where the time of a step went, and how it changed."""

from typing import Any

import msgspec
import numpy as np

from edge.timings import Stage, StageTimings

__all__ = ["BIN_S", "HISTORY_S", "Point", "history", "point", "waterfall"]

BIN_S = 0.2
HISTORY_S = 60.0
_WINDOW_S = 5.0

_Rows = tuple[np.ndarray, np.ndarray, np.ndarray]


class Point(msgspec.Struct, array_like=True):
    """A fifth of a second, ending t_s after the start of the run: mean and worst age, and work of a step, in ms.

    None where no step ended in that time. Work is the wall time of a step without the wait for its frame.
    """

    t_s: float
    age_ms: float | None = None
    age_max_ms: float | None = None
    work_ms: float | None = None
    work_max_ms: float | None = None


def waterfall(timings: StageTimings) -> dict[str, Any]:
    """Return where the steps of the last five seconds spent their time, in ms.

    The means of all stages add up to the mean step; percentiles of parts do not add up to one of the whole.
    """
    _, stages, wall, _ = timings.after(0)
    recent = len(wall) - max(1, int(np.searchsorted(np.cumsum(wall[::-1]), _WINDOW_S * 1e9)))
    if not len(wall):
        return {"steps": 0, "stages": [], "step": None, "work": None}
    stages, wall = stages[recent:], wall[recent:]
    told = [{"stage": stage.name.lower(), **_summary(stages[:, stage])} for stage in Stage if stages[:, stage].any()]
    work = wall - stages[:, Stage.WAIT]
    return {"steps": len(wall), "stages": told, "step": _summary(wall), "work": _summary(work)}


def point(t_s: float, rows: _Rows) -> Point:
    """Return what stages (N, S), wall times (N,) and ages (N,), all int64 ns, of the steps of a moment come to."""
    stages, wall, age = rows
    if not len(wall):
        return Point(t_s)
    work = wall - stages[:, Stage.WAIT]
    return Point(t_s, _ms(age.mean()), _ms(age.max()), _ms(work.mean()), _ms(work.max()))


def history(timings: StageTimings, t_last_s: float) -> list[Point]:
    """Return the points of the last minute, as far as the ring reaches.

    t_last_s: when the newest step ended, from the start of the run; the others ended as long before as steps took.
    """
    _, stages, wall, age = timings.after(0)
    if not len(wall):
        return []
    ends_s = t_last_s - (np.cumsum(wall[::-1])[::-1] - wall) / 1e9
    bins = np.floor(ends_s / BIN_S).astype(np.int64)
    found = []
    for at in np.unique(bins[ends_s > t_last_s - HISTORY_S]).tolist():
        of = slice(*np.searchsorted(bins, (at, at + 1)))
        found.append(point(round((at + 1) * BIN_S, 3), (stages[of], wall[of], age[of])))
    return found


def _summary(values_ns: np.ndarray) -> dict[str, float]:
    p50, p99 = np.percentile(values_ns, (50, 99))
    return {"mean_ms": _ms(values_ns.mean()), "p50_ms": _ms(p50), "p99_ms": _ms(p99)}


def _ms(value_ns: float) -> float:
    return round(float(value_ns) / 1e6, 3)
