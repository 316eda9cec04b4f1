"""Where the time of a step went: one ring of int64 ns per stage, filled by laps that leave nothing out."""

from enum import IntEnum

import numpy as np

from edge.clock import monotonic_ns

__all__ = ["Stage", "StageTimings"]


class Stage(IntEnum):
    """The parts of one step in their order; together they are the whole step.

    WAIT is spent waiting for a frame to come; the others are work.
    """

    WAIT = 0
    PREPROCESS = 1
    INFER = 2
    DECODE = 3
    NMS = 4
    TRACK = 5
    LOCATE = 6
    PUBLISH = 7


_NO_TIME = (0,) * len(Stage)


class StageTimings:
    """Stage times, wall time and capture-to-publish age of the last `capacity` steps.

    A lap ends where the next begins, so the stages of a step add up to its wall time but for the clock's own cost.
    """

    def __init__(self, capacity: int = 4096) -> None:
        self.capacity = capacity
        self.count = 0
        self._stages = np.zeros((capacity, len(Stage)), np.int64)
        self._wall = np.zeros(capacity, np.int64)
        self._age = np.zeros(capacity, np.int64)
        self._start = self._last = 0
        self._row = list(_NO_TIME)  # numpy would take microseconds for each number
        self._open = False
        self._ended: tuple[Stage | None, int] = (None, 0)

    def start(self) -> None:
        """Begin a step, or go on with one that got no frame: its waiting belongs to the next frame."""
        if not self._open:
            self._open = True
            self._row = list(_NO_TIME)
            self._start = self._last = monotonic_ns()

    def lap(self, stage: Stage) -> None:
        """Charge the time since the last lap to `stage`."""
        now = monotonic_ns()
        self._row[stage] += now - self._last
        self._last = now
        self._ended = (stage, now)

    def hold(self) -> None:
        """The step came to nothing; its time belongs to the next one."""
        self._ended = (None, 0)

    @property
    def last_lap(self) -> tuple[Stage | None, int]:
        """The stage that ended last in the step that is going on, and when (CLOCK_MONOTONIC ns); from any thread.

        None where no stage has ended yet, or no step is going on.
        """
        return self._ended

    def finish(self, t_capture_ns: int, t_publish_ns: int) -> None:
        """End a step: store its wall time and the age its result had when it was published."""
        slot = self.count % self.capacity
        self._age[slot] = t_publish_ns - t_capture_ns
        self._stages[slot] = self._row
        self._wall[slot] = monotonic_ns() - self._start
        self._open = False
        self._ended = (None, 0)
        self.count += 1

    def after(self, count: int) -> tuple[int, np.ndarray, np.ndarray, np.ndarray]:
        """Return what was measured after the first `count` steps; from any thread.

        First how many of those steps have left the ring (of a full one the oldest, too: it may be refilled just now),
        then copies of the others, oldest first: (N, S) stages, (N,) wall times and (N,) ages, all int64 ns.
        """
        end = self.count
        first = max(count, end - self.capacity)
        slots = np.arange(first, end) % self.capacity
        stages, wall, age = self._stages[slots], self._wall[slots], self._age[slots]
        spoiled = max(0, min(self.count + 1 - self.capacity, end) - first)  # refilled while they were copied
        return max(0, first - count) + spoiled, stages[spoiled:], wall[spoiled:], age[spoiled:]

    @property
    def newest_ns(self) -> np.ndarray:
        """A copy, (S + 2,) int64 ns, of the last step: a column per Stage, its wall time, the result's age."""
        slot = (self.count - 1) % self.capacity
        return np.append(self._stages[slot], (self._wall[slot], self._age[slot]))

    @property
    def stages_ns(self) -> np.ndarray:
        """A copy, (N, S) int64 ns, one column per Stage, of the steps still in the ring, oldest first."""
        return self._unrolled(self._stages)

    @property
    def wall_ns(self) -> np.ndarray:
        """A copy, (N,) int64 ns, of the wall time of each step in the ring, measured apart from the laps."""
        return self._unrolled(self._wall)

    @property
    def age_ns(self) -> np.ndarray:
        """A copy, (N,) int64 ns, of the capture-to-publish age of each step in the ring."""
        return self._unrolled(self._age)

    def _unrolled(self, ring: np.ndarray) -> np.ndarray:
        if self.count <= self.capacity:
            return ring[: self.count].copy()
        return np.roll(ring, -(self.count % self.capacity), axis=0)
