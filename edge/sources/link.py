"""One connection of a source: a capture and the thread it runs on."""

import threading
from collections.abc import Callable

import numpy as np

from edge.clock import monotonic_ns
from edge.errors import SourceError, SourceOpenError
from edge.sources.capture import BadFrameError, Capture, Grabbed

__all__ = ["Link"]


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
        """Start the thread."""
        self._thread.start()

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
            self.error = self.error or SourceError(
                f"{self._name}: {exc}", "check the device and its permissions"
            )
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
