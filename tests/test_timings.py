"""The ring of stage times: nothing is left out, not even waiting that was interrupted."""

import time

import pytest

from edge.clock import monotonic_ns
from edge.timings import Stage, StageTimings


def test_stages_add_up_and_the_ring_keeps_the_newest():
    timings = StageTimings(capacity=4)
    for i in range(6):
        timings.start()
        time.sleep(0.002)
        timings.lap(Stage.WAIT)
        time.sleep(0.001 * (i + 1))
        timings.lap(Stage.INFER)
        timings.finish(monotonic_ns() - i, monotonic_ns())
    stages, wall = timings.stages_ns, timings.wall_ns
    assert len(stages) == len(wall) == len(timings.age_ns) == 4
    assert (stages[:, Stage.INFER] >= [3_000_000, 4_000_000, 5_000_000, 6_000_000]).all()  # the last four, oldest first
    assert stages.sum() == pytest.approx(wall.sum(), rel=0.03)


def test_waiting_for_a_slow_camera_is_counted_whole_and_spoils_no_older_step():
    timings = StageTimings(capacity=1)
    timings.start()
    timings.lap(Stage.INFER)
    timings.finish(0, 1)
    kept = timings.stages_ns[0, Stage.INFER]
    for _ in range(3):  # three reads that got no frame
        timings.start()
        time.sleep(0.01)
    assert timings.stages_ns[0, Stage.INFER] == kept
    timings.start()
    timings.lap(Stage.WAIT)
    timings.finish(0, 1)
    assert timings.stages_ns[0, Stage.WAIT] >= 30_000_000
    assert timings.wall_ns[0] >= 30_000_000
