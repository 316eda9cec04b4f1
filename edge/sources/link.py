"""One connection of a source: a capture and the thread it runs on."""

import atexit
import threading
import time
import weakref
from collections.abc import Callable

import numpy as np

from edge.clock import monotonic_ns
from edge.errors import SourceError, SourceOpenError
from edge.sources.capture import BadFrameError, Capture, Grabbed

__all__ = ["Link"]

_POLITE_S = 0.1  # a streaming capture ends by itself at its next frame
_GRACE_S = 0.5  # what an interrupted one gets; a source's close() must stay under 1 s
_EXIT_WAIT_S = 12.0  # longer than OpenCV's own wait for a camera


class Link:
    """Opens a capture on a thread of its own, hands every frame to `deliver`, and closes it there.

    stop: set by the owner, the thread shall end. wake: set when the owner's supervisor shall look.
    ended: set when the thread has closed the capture. error: why it ended.
    into: the buffer for the next frame. frames: how many were delivered.
    t_busy_ns: since when the thread waits for the device, None while it waits for anything else.
    """

    def __init__(
        self,
        capture: Capture,
        into: np.ndarray | None,
        deliver: Callable[["Link", Grabbed], None],
        skip: Callable[["Link", BadFrameError], None],
        name: str,
    ) -> None:
        self.capture = capture
        self.into = into
        self.frames = 0
        self.error: SourceError | None = None
        self.stop = threading.Event()
        self.wake = threading.Event()
        self.ended = threading.Event()
        self.t_busy_ns: int | None = monotonic_ns()
        self._deliver = deliver
        self._skip = skip
        self._name = name
        # A daemon: a thread that hangs in a driver must not keep the process alive.
        self._thread = threading.Thread(target=self._run, name=f"grab {name}", daemon=True)

    def start(self) -> None:
        """Start the thread, unless the interpreter is ending."""
        with _lock:
            if not _exiting.is_set():
                _running.add(self)
                self._thread.start()
                return
        self.error = SourceOpenError(f"{self._name} was closed", "the process is ending")
        self.ended.set()
        self.wake.set()

    def silent_s(self) -> float:
        """Return for how long the thread has been waiting for the device."""
        t_busy_ns = self.t_busy_ns
        return 0.0 if t_busy_ns is None else (monotonic_ns() - t_busy_ns) / 1e9

    def end(self) -> bool:
        """Stop the thread, by force where it waits for the device; False when it hangs all the same."""
        self.stop.set()
        if self.ended.wait(_POLITE_S):
            return True
        self.capture.interrupt()
        return self.ended.wait(_GRACE_S)

    def _run(self) -> None:
        try:
            try:
                if not self.stop.is_set():
                    self.capture.open()
                while not self.stop.is_set():
                    self._step()
            finally:
                self.capture.close()
        except SourceError as exc:
            self.error = self.error or exc
        except OSError as exc:
            self.error = self.error or SourceError(f"{self._name}: {exc}", "check the device and its permissions")
            self.error.__cause__ = exc
        except Exception as exc:
            # Not the device but a defect: repeating it would only hide it.
            self.error = SourceOpenError(f"{self._name} failed with {exc!r}", "report this as a defect")
            self.error.__cause__ = exc
        finally:
            self.ended.set()
            self.wake.set()

    def _step(self) -> None:
        try:
            grabbed = self.capture.grab(self.into)
        except BadFrameError as exc:
            self._skip(self, exc)
        else:
            self.t_busy_ns = None
            self._deliver(self, grabbed)
        self.t_busy_ns = monotonic_ns()


_running: weakref.WeakSet[Link] = weakref.WeakSet()
_exiting = threading.Event()
_lock = threading.Lock()


@atexit.register
def _end_all() -> None:
    """Wait for every capture thread: one that returns from C++ into an interpreter that has ended aborts."""
    with _lock:
        _exiting.set()
        links = [link for link in _running if not link.ended.is_set()]
    for link in links:
        link.stop.set()
        link.capture.interrupt()
    t_end_s = time.monotonic() + _EXIT_WAIT_S
    for link in links:
        if link.t_busy_ns is not None:  # else it waits in Python, which is safe
            link.ended.wait(max(0.0, t_end_s - time.monotonic()))
