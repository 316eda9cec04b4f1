"""A build that shows how far it is and can be stopped: TensorRT works in a thread of its own."""

import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

from edge.progress import Progress

__all__ = ["Watch", "supervised"]

_LOG = logging.getLogger(__name__)
_LOOK_S = 0.1


class Watch:
    """What the builder is doing, told by its progress monitor where it has one (`can_stop`). stopped: give up."""

    def __init__(self, can_stop: bool) -> None:
        self.can_stop = can_stop
        self.stopped = threading.Event()
        self._monitor: Any = None  # the builder does not keep it alive
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

        self._monitor = Monitor()
        config.progress_monitor = self._monitor

    def show(self, progress: Progress, started: float) -> None:
        """Show the state: the outermost phase as the bar, the innermost as text; without a monitor the seconds."""
        if not self.can_stop:
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

    A builder without a monitor cannot be stopped: it is waited for; a second Ctrl-C ends the process at once.
    All of TensorRT's work belongs in `work`: a KeyboardInterrupt that arose in one of its callbacks would be lost.
    """
    outcome: list[Any] = []
    failure: list[BaseException] = []

    begun, finished = threading.Event(), threading.Event()

    def run() -> None:
        begun.set()
        try:
            if not watch.stopped.is_set():
                outcome.append(work())
        except BaseException as exc:
            failure.append(exc)
        finally:
            finished.set()

    started = time.monotonic()
    thread = threading.Thread(target=run, name="tensorrt-build", daemon=True)
    try:
        thread.start()
        watch.show(progress, started)
        while not finished.wait(
            _LOOK_S
        ):  # not join: until Python 3.12 one that is interrupted takes the thread for dead
            watch.show(progress, started)
    except KeyboardInterrupt:
        watch.stopped.set()
        if begun.is_set():  # else it will see that it has nothing to do
            _wait(finished, watch)
        raise
    finally:
        progress.clear()
    if failure:
        raise failure[0]
    return outcome[0]


def _wait(finished: threading.Event, watch: Watch) -> None:
    if watch.can_stop:
        _LOG.info("stopping at the builder's next step")
    else:
        _LOG.warning("this TensorRT cannot be stopped while it builds: waiting for it; Ctrl-C again leaves at once")
    try:
        finished.wait()
    except KeyboardInterrupt:
        # an orderly exit would end the thread inside TensorRT, which aborts; nothing is written yet
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
