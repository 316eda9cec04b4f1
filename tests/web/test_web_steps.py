"""The waterfall and the plots: what they say adds up, and lies where it happened."""

import numpy as np
import pytest

from edge.timings import Stage, StageTimings
from edge.web.steps import BIN_S, HISTORY_S, history, point, waterfall


def timings_of(wall_ms: list[float], work_ms: float = 4.0, capacity: int = 4096) -> StageTimings:
    """Steps that wait, then spend their work on preprocessing, inference and publishing as 1 : 2 : 1."""
    timings = StageTimings(capacity)
    for wall in wall_ms:
        slot = timings.count % capacity
        timings._wall[slot] = wall * 1e6
        row = timings._stages[slot]
        row[:] = 0
        row[Stage.WAIT] = (wall - work_ms) * 1e6
        row[Stage.PREPROCESS], row[Stage.INFER], row[Stage.PUBLISH] = 1e6, 2e6, 1e6
        timings._age[slot] = 7e6
        timings.count += 1
    return timings


def test_the_means_of_the_stages_add_up_to_the_mean_step():
    told = waterfall(timings_of([20, 30, 40, 34]))
    assert [stage["stage"] for stage in told["stages"]] == ["wait", "preprocess", "infer", "publish"]
    assert sum(stage["mean_ms"] for stage in told["stages"]) == pytest.approx(told["step"]["mean_ms"])
    assert told["work"] == {"mean_ms": 4.0, "p50_ms": 4.0, "p99_ms": 4.0}
    assert told["steps"] == 4


def test_it_is_of_the_last_five_seconds():
    told = waterfall(timings_of([1000.0] * 10 + [50.0] * 80))
    assert told["steps"] == 80  # 4 s; one more would reach beyond
    assert waterfall(timings_of([100.0, 9000.0]))["steps"] == 1  # there is no shorter one
    assert waterfall(StageTimings())["steps"] == 0


def test_history_lies_where_it_happened():
    timings = timings_of([100.0] * 10 + [5000.0] + [100.0] * 10)
    points = history(timings, 100.0)
    times = [p.t_s for p in points]
    assert times == sorted(times)
    assert times[-1] == pytest.approx(100.0, abs=1.01 * BIN_S)
    gaps = np.diff(times)
    assert gaps.max() == pytest.approx(5.0, abs=2 * BIN_S)
    assert np.count_nonzero(gaps > 1) == 1
    assert all((p.age_ms, p.work_ms) == (7.0, 4.0) for p in points)


def test_history_is_at_most_a_minute():
    points = history(timings_of([100.0] * 1000), 500.0)
    assert points[0].t_s >= 500.0 - HISTORY_S
    assert len(points) == pytest.approx(HISTORY_S / BIN_S, abs=2)
    assert history(StageTimings(), 1.0) == []


def test_a_moment_without_a_step_is_a_gap():
    empty = point(1.0, StageTimings().after(0)[1:])
    assert (empty.t_s, empty.age_ms, empty.work_max_ms) == (1.0, None, None)
