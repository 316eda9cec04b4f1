"""Any engine in a process of its own: what hangs, crashes or leaks there is ended and started again.

The loop's thread asks and waits at most the deadline; a keeper thread starts the process, relays what it prints,
buries it and starts the next. No other thread starts one, because the kernel ends a process with the thread that
started it.
"""

import json
import logging
import os
import select
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from edge.clock import monotonic_ns
from edge.config import EngineSection
from edge.engines.adapted import tensor_spec
from edge.engines.portable import Tensor
from edge.engines.worker_child import DONE, FAILED
from edge.engines.worker_memory import TensorMemory
from edge.engines.worker_process import WorkerProcess
from edge.engines.worker_start import begin, error_of
from edge.errors import ConfigError, EdgeError, EngineLostError
from edge.tensor import TensorSpec

__all__ = ["WorkerEngine"]

log = logging.getLogger("harrier")

_LEAST_PAUSE_S, _MOST_PAUSE_S = 0.1, 10.0
"""Before a process is started again; doubled from one attempt to the next."""

_STEADY_S = 10.0
"""A process that ran for this long ran well: the next is started after the least pause."""

_MEMORY_LOOK_NS = 1_000_000_000
_LEAVE_S = 2.0
_CURE = "it is started again; if this goes on, see docs/workers.md"


class WorkerEngine:
    """The engine of a model file, run by a child process. See `edge.engines.base.Engine` for the contract.

    Inputs and outputs lie in memory that both processes share. A process that dies between two frames is missed at
    the next one. restarts: how often another process has taken over.
    Raises: what the engine raises when it is loaded; EngineLostError where its process dies or takes too long,
    ConfigError for an interpreter that does not work.
    """

    def __init__(self, file: Path, options: EngineSection) -> None:
        if not hasattr(os, "memfd_create") or not hasattr(os, "eventfd"):
            raise ConfigError("a worker needs memfd_create and eventfd of Linux", "leave out isolate and python")
        self.input_specs: Sequence[TensorSpec] = []
        self.output_specs: Sequence[TensorSpec] = []
        self.embedded: Mapping[str, str] = {}
        self.lost = ""
        self.restarts = 0
        self._file, self._options = file.absolute(), options
        self._who = f"the process of {file.name}"
        self._timeout_ns = int(options.deadline_ms * 1e6)
        self._number = self._next_look_ns = 0
        self._memory = TensorMemory()
        self.inputs: Sequence[np.ndarray] = self._memory.inputs
        self.outputs: Sequence[np.ndarray] = self._memory.outputs
        self._process: WorkerProcess | None = None
        self._closing, self._lock = False, threading.Lock()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._tried = threading.Event()
        self._why_not: Exception | None = None
        self._keeper = threading.Thread(target=self._keep, name="harrier-worker", daemon=True)
        self._keeper.start()
        try:
            self._tried.wait()
        except BaseException:  # Ctrl-C
            self.close()
            raise
        if self._why_not:
            self.close()
            raise self._why_not

    @property
    def pid(self) -> int:
        """The number of the process that can run a frame, 0 while there is none."""
        return self._process.pid if self._process and not self.lost else 0

    def run(self) -> None:
        """Have the process compute the outputs.

        Raises: EngineError where the engine fails, EngineLostError where the process does not answer within the
        deadline, died, or gave what cannot be used.
        """
        process = self._process
        if self.lost or process is None:
            raise EngineLostError(self.lost, _CURE)
        if self._options.memory_mb:
            self._look_at_memory(process)
        self._number += 1
        try:
            what, number, said = process.ask(self._number, self._timeout_ns)
        except TimeoutError as exc:
            raise self._lose(process, f"did not answer within {self._options.deadline_ms:g} ms") from exc
        except EOFError as exc:
            process.kill()
            process.reap(0.05)
            raise self._lose(process, process.fate()) from exc
        if number != self._number:
            raise self._lose(process, "answered for another frame")
        if what == DONE:
            for i, shape in json.loads(said).items() if said else ():
                self._memory.move(int(i), shape)
            if (odd := self._memory.not_finite()) is not None:
                raise self._lose(process, f"gave numbers that are not finite as '{self.output_specs[odd].name}'")
        elif what == FAILED:
            raise error_of(json.loads(said))
        else:
            broken = json.loads(said)
            raise self._lose(process, f"cannot go on ({broken['cause']})", broken["cure"] or _CURE)

    def close(self) -> None:
        """End the process; waits until it is gone."""
        with self._lock:
            if self._closing:
                return
            self._closing = True
            self.lost = f"{self._who} is closed"
            if self._process:
                self._process.hang_up()
            os.eventfd_write(self._wake, 1)  # last: the keeper forgets the process
        self._keeper.join()
        os.close(self._wake)
        self._memory.close()

    def _look_at_memory(self, process: WorkerProcess) -> None:
        now_ns = monotonic_ns()
        if now_ns >= self._next_look_ns:
            self._next_look_ns = now_ns + _MEMORY_LOOK_NS
            if said := self._too_much_memory(process):
                raise self._lose(process, said)

    def _too_much_memory(self, process: WorkerProcess) -> str:
        used_mb, limit_mb = process.resident_bytes() / 1e6, self._options.memory_mb
        return (
            f"took {used_mb:.0f} MB of memory, over memory_mb = {limit_mb}" if limit_mb and used_mb > limit_mb else ""
        )

    def _lose(self, process: WorkerProcess, why: str, cure: str = _CURE) -> EngineLostError:
        """End the process now; the keeper buries it and starts the next."""
        process.kill()
        with self._lock:
            if not self._closing:
                self.lost = f"{self._who} {why}"
                log.warning("%s; it is started again", self.lost)
                os.eventfd_write(self._wake, 1)
        return EngineLostError(self.lost, cure)

    def _keep(self) -> None:
        """The keeper's whole life: one process after the other."""
        pause_s = _LEAST_PAUSE_S
        while not self._closing:
            ready_ns = None
            try:
                self._start()
            except Exception as exc:  # a defect, too, must not leave the loop waiting
                self._bury(at_once=True)
                if not self._tried.is_set():
                    self._why_not = exc
                    break
                self._tell_failed_start(exc, pause_s)
            else:
                ready_ns = monotonic_ns()
                self._attend()
                self._bury(at_once=not self._closing)
                if monotonic_ns() - ready_ns > _STEADY_S * 1e9:
                    pause_s = _LEAST_PAUSE_S
            self._sleep(pause_s)
            pause_s = min(2 * pause_s, _MOST_PAUSE_S)
        self._tried.set()

    def _start(self) -> None:
        with self._lock:
            if self._closing:
                raise EngineLostError(self.lost, _CURE)
            python, foreign = self._options.python or sys.executable, self._options.python is not None
            self._process = process = WorkerProcess(python, foreign, self._memory.fd, self._file.name)
        said = begin(process, self._memory, self._file, self._options)
        if too_much := self._too_much_memory(process):
            raise ConfigError(f"{self._who} {too_much}, before its first frame", "raise memory_mb")
        again = self._tried.is_set()
        if not again:
            self.input_specs = [tensor_spec(Tensor(*tensor)) for tensor in said["inputs"]]
            self.output_specs = [tensor_spec(Tensor(*tensor)) for tensor in said["outputs"]]
            self.embedded = said["embedded"]
        with self._lock:
            if not self._closing:
                self.lost = ""
        self._tried.set()
        if again:
            self.restarts += 1
            log.warning("%s runs again", self._who)

    def _tell_failed_start(self, exc: Exception, pause_s: float) -> None:
        why = exc.cause if isinstance(exc, EdgeError) else repr(exc)
        with self._lock:
            if not self._closing:
                self.lost = f"{self._who} could not be started again ({why})"
                log.warning("%s; the next attempt is in %g s", self.lost, pause_s)

    def _attend(self) -> None:
        """Relay what the process prints until somebody wakes this thread."""
        assert self._process
        waiting = select.poll()
        waiting.register(self._wake, select.POLLIN)
        waiting.register(self._process.output_fd, select.POLLIN)
        while True:
            for fd, _ in waiting.poll():
                if fd == self._wake:
                    return
                if not self._process.relay():
                    waiting.unregister(fd)

    def _bury(self, at_once: bool) -> None:
        """Wait until the process is gone for good: before that its device and the shared memory are not free."""
        process, self._process = self._process, None
        if process is None:
            return
        if not at_once:
            process.leave(_LEAVE_S)
        process.kill()
        while not process.reap(_LEAVE_S) and not self._closing:
            self.lost = f"{self._who} cannot be ended: a driver holds it in the kernel"
        process.relay_rest()
        process.close()

    def _sleep(self, pause_s: float) -> None:
        try:
            os.eventfd_read(self._wake)  # what woke it until now
        except BlockingIOError:
            pass
        if not self._closing:
            waiting = select.poll()
            waiting.register(self._wake, select.POLLIN)
            waiting.poll(pause_s * 1e3)
