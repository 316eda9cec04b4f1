"""A build that shows how far it is and can be stopped: TensorRT works in a thread of its own."""

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from edge.progress import Progress

__all__ = ["Watch", "supervised"]

_LOOK_S = 0.1


class Watch:
    """What the builder is doing, told by its progress monitor where it has one. stopped: ask it to give up."""

    def __init__(self) -> None:
        self.stopped = threading.Event()
        self.monitor: Any = None
        self._done, self._total, self._phases = 0, 0, dict[str, tuple[int, int]]()

    def attach(self, trt: Any, config: Any) -> None:
        """Have the builder report here and stop when asked to."""
        watch = self

        class Monitor(trt.IProgressMonitor):
            def __init__(self) -> None:
                trt.IProgressMonitor.__init__(self)

            def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
                watch._start(phase_name, num_steps)

            def step_complete(self, phase_name: str, step: int) -> bool:
                watch._step(phase_name, step)
                return not watch.stopped.is_set()

            def phase_finish(self, phase_name: str) -> None:
                watch._phases.pop(phase_name, None)

        self.monitor = Monitor()
        config.progress_monitor = self.monitor

    def show(self, progress: Progress, started: float) -> None:
        """Show the state: the outermost phase as the bar, the innermost as text; without a monitor the seconds."""
        if self.monitor is None:
            progress.update(int(time.monotonic() - started), "s")
            return
        phases = list(self._phases.items())  # the builder's thread changes them
        done, total = phases[0][1] if phases else (0, 0)
        name, (step, steps) = phases[-1] if phases else ("", (0, 0))
        progress.update(done, f"{name} {step}/{steps}" if len(phases) > 1 else name, total or None)

    def _start(self, name: str, steps: int) -> None:
        self._phases[name] = (0, steps)

    def _step(self, name: str, step: int) -> None:
        if name in self._phases:
            self._phases[name] = (step + 1, self._phases[name][1])


def supervised(work: Callable[[], Any], watch: Watch, progress: Progress) -> Any:
    """Return what `work` returns, showing progress. Ctrl-C stops the builder where it can be stopped, then goes on.

    A builder without a monitor cannot be stopped: it is waited for; a second Ctrl-C leaves at once.
    """
    outcome: list[Any] = []
    failure: list[BaseException] = []

    def run() -> None:
        try:
            outcome.append(work())
        except BaseException as exc:
            failure.append(exc)

    started = time.monotonic()
    thread = threading.Thread(target=run, name="tensorrt-build", daemon=True)
    thread.start()
    try:
        watch.show(progress, started)
        while thread.is_alive():
            thread.join(_LOOK_S)
            watch.show(progress, started)
    except KeyboardInterrupt:
        watch.stopped.set()
        if watch.monitor is None:
            logging.getLogger(__name__).warning(
                "this TensorRT cannot be stopped while it builds: waiting for it; Ctrl-C again leaves at once"
            )
        thread.join()
        raise
    finally:
        progress.clear()
    if failure:
        raise failure[0]
    return outcome[0]
