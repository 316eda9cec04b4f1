"""Finds a stage that hangs while it hangs: a thread that looks at the loop's own laps every few milliseconds."""

import logging
import threading

import numpy as np

from edge.clock import monotonic_ns
from edge.timings import Stage, StageTimings

__all__ = ["StageWatch"]

log = logging.getLogger("harrier")

_PERIOD_S = 0.01
_USUAL_TIMES = 10  # what takes this many times as long as it usually does is stuck
_USUAL_PERCENTILE = 90  # so that hangs, while fewer than one step in ten has one, do not become what is usual
_LEAST_MS = 100.0
_REFRESH_S = 1.0


class StageWatch:
    """Says in which stage the loop is stuck, and since when; a context manager that ends its thread.

    A stage is stuck when it takes ten times its own 90th percentile, and at least `least_ms`. Waiting for a frame is
    not looked at: the source and the flag `stale` tell of that. stuck: such as "infer for 140 ms (usually 8 ms)", ""
    for nothing. count: how often a stage was stuck.
    """

    def __init__(self, timings: StageTimings, least_ms: float = _LEAST_MS, period_s: float = _PERIOD_S) -> None:
        self.stuck = ""
        self.count = 0
        self._timings = timings
        self._least_ns = int(least_ms * 1e6)
        self._period_s = period_s
        self._usual_ns = np.zeros(len(Stage), np.int64)
        self._t_usual_ns = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, name="stage watch", daemon=True)

    def __enter__(self) -> "StageWatch":
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._ended.set()
        self._thread.join(1.0)

    def _look(self) -> None:
        told_ns = 0
        while not self._ended.wait(self._period_s):
            now = monotonic_ns()
            if now - self._t_usual_ns > _REFRESH_S * 1e9:
                self._t_usual_ns = now
                stages = self._timings.stages_ns[-512:]
                if len(stages):
                    self._usual_ns = np.percentile(stages, _USUAL_PERCENTILE, axis=0).astype(np.int64)
            last, since_ns = self._timings.last_lap
            stage = None if last is None else self._after(last)
            usual_ns = int(self._usual_ns[stage]) if stage else 0
            if stage is None or now - since_ns < max(self._least_ns, _USUAL_TIMES * usual_ns):
                if self.stuck:
                    log.warning("no longer stuck in %s", self.stuck)
                self.stuck = ""
                continue
            usually = f" (usually {usual_ns / 1e6:.0f} ms)" if usual_ns else ""
            self.stuck = f"{stage.name.lower()} for {(now - since_ns) / 1e6:.0f} ms{usually}"
            if since_ns != told_ns:
                told_ns = since_ns
                self.count += 1
                log.warning("stuck in %s", self.stuck)

    def _after(self, last: Stage) -> Stage | None:
        """The stage that goes on now: the next one that this run has, None where the step is at its end."""
        later = [stage for stage in Stage if stage > last]
        return next((stage for stage in later if self._usual_ns[stage]), later[0] if later else None)
