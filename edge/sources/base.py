"""FrameSource: any capture behind its own thread, a one-frame slot, timeouts, reconnect and state events."""

import threading
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path

from edge.clock import monotonic_ns
from edge.errors import EndOfStreamError, SourceError, SourceOpenError, SourceTimeoutError
from edge.frame import Frame, FrameInfo
from edge.registry import resolve
from edge.sources.address import source_uri
from edge.sources.capture import (
    LOST_AFTER_TIMEOUTS,
    BadFrameError,
    Capture,
    Grabbed,
)
from edge.sources.link import Link
from edge.sources.picture_watch import PictureWatch
from edge.sources.slot import LatestFrame
from edge.sources.state import SourceEvent, SourceState, SourceStats
from edge.uri import mask_secrets

__all__ = ["FrameSource", "SourceEvent", "SourceState", "SourceStats", "open_source"]

_MAX_HUNG = 3  # abandoned capture threads that may still be alive before no new one is started
_MAX_EVENTS = 64


class FrameSource:
    """Frames of one capture, the newest first, each at most once.

    A thread per connection grabs; a supervisor thread watches it, so that a stall is noticed even when nobody
    reads and a hung device blocks nobody. The constructor raises what the capture's constructor raises.
    """

    def __init__(self, make_capture: Callable[[], Capture], source_id: str) -> None:
        self._make = make_capture
        self._spare: Capture | None = make_capture()  # at once, so that wrong options and missing files fail here
        self.source_id = source_id
        self.live = self._spare.live
        self.options = self._spare.options
        self._pictures = PictureWatch(self.options.frozen_s, self.options.blank_s)
        self._changed = threading.Condition()  # guards everything below
        self._slot = LatestFrame()
        self._state: SourceState = "connecting"
        self._reason = ""
        self._events: deque[SourceEvent] = deque(maxlen=_MAX_EVENTS)
        self._link: Link | None = None
        self._hung: list[Link] = []
        self._failure: SourceError | None = None  # final
        self._trouble: SourceError | None = None  # the latest, perhaps passing
        self._captured = self._delivered = self._corrupt = self._reconnects = self._abandoned = 0
        self._t_last_ns = 0
        self._t_silent_ns = monotonic_ns()  # nothing was read since
        self._seq = -1
        self._closing = threading.Event()
        self._supervisor = threading.Thread(target=self._supervise, name=f"watch {source_id}", daemon=True)

    def __enter__(self) -> "FrameSource":
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    @property
    def state(self) -> SourceState:
        """The present state: connecting, streaming, stalled, lost, ended or closed."""
        return self._state

    @property
    def picture_fault(self) -> str:
        """Why a camera's picture cannot be trusted, "" while it can: it is frozen, or black."""
        return self._pictures.fault

    @property
    def stats(self) -> SourceStats:
        """The counters as they are now."""
        with self._changed:
            return SourceStats(
                self._captured,
                self._delivered,
                self._slot.dropped,
                self._corrupt,
                self._reconnects,
                self._abandoned,
            )

    def start(self) -> None:
        """Begin to capture; returns at once. Calling it again changes nothing."""
        with self._changed:
            if self._supervisor.ident is None and not self._closing.is_set():
                self._supervisor.start()

    def read(self, timeout_s: float) -> Frame:
        """Return the newest frame not read before; its image is valid until the next read.

        Raises: SourceTimeoutError when none came in time (it names the state and the reason),
        EndOfStreamError at the end or after `close`, another SourceError when no frame will ever come.
        """
        t_deadline_ns = monotonic_ns() + int(timeout_s * 1e9)
        with self._changed:
            while True:
                if self._closing.is_set():
                    raise EndOfStreamError(f"{self.source_id} was closed", "open it again to read on")
                frame = self._slot.take()
                if frame is not None:
                    self._delivered += 1
                    self._t_silent_ns = monotonic_ns()
                    if not self.live:
                        self._changed.notify_all()  # the capture waits for this
                    return frame
                if self._failure is not None:
                    raise type(self._failure)(self._failure.cause, self._failure.cure) from self._failure
                left_s = (t_deadline_ns - monotonic_ns()) / 1e9
                if left_s <= 0:
                    raise self._timeout_error() from self._trouble
                self._changed.wait(left_s)

    def poll_events(self) -> list[SourceEvent]:
        """Return the events since the last call, oldest first; at most the last 64 are kept."""
        with self._changed:
            events = list(self._events)
            self._events.clear()
        return events

    def close(self) -> None:
        """Stop within a second, even while the device hangs. Calling it again changes nothing."""
        with self._changed:
            self._closing.set()
            link = self._link
            self._changed.notify_all()
        if link is not None:
            link.stop.set()
            link.wake.set()
        if self._supervisor.ident is not None:
            self._supervisor.join(0.8)
        with self._changed:
            if self._state != "closed":
                self._note("closed", "")

    def _timeout_error(self) -> SourceTimeoutError:
        if self._supervisor.ident is None:
            return SourceTimeoutError(f"{self.source_id} was not started", "call start() before read()")
        trouble = None if self._state == "streaming" else self._trouble
        reason = self._reason or (trouble.cause if trouble else "")
        reason = f"{self._state}: {reason}" if reason else self._state
        cure = trouble.cure if trouble else "wait, or check the camera"
        silent_s = (monotonic_ns() - self._t_silent_ns) / 1e9
        return SourceTimeoutError(f"no frame from {self.source_id} for {silent_s:.2f} s ({reason})", cure)

    def _note(self, state: SourceState, reason: str) -> None:
        """Record a state; the caller holds the lock."""
        self._state, self._reason = state, mask_secrets(reason)
        self._events.append(SourceEvent(state, self._reason, monotonic_ns()))

    def _fail(self, error: SourceError) -> None:
        with self._changed:
            self._failure = self._trouble = error
            self._note("ended" if isinstance(error, EndOfStreamError) else "lost", error.cause)
            self._changed.notify_all()

    # On the supervisor thread.

    def _supervise(self) -> None:
        attempt = 0
        while (link := self._connect()) is not None:
            self._watch(link)
            if not link.ended.is_set():
                self._retire(link)
            if self._closing.is_set() or self._conclude(link):
                return
            attempt = 0 if link.frames else attempt
            if self._closing.wait(self.options.wait_s(attempt)):
                return
            attempt += 1

    def _connect(self) -> Link | None:
        while sum(not link.ended.is_set() for link in self._hung) >= _MAX_HUNG:
            if self._closing.wait(self.options.backoff_s):
                return None
        self._hung = [link for link in self._hung if not link.ended.is_set()]
        try:
            capture, self._spare = self._spare or self._make(), None
        except SourceError as exc:
            self._fail(exc)
            return None
        with self._changed:
            if self._closing.is_set():
                return None
            self._note("connecting", "")
            link = Link(capture, self._slot.writing, self._deliver, self._skip, self.source_id)
            self._link = link
        link.start()
        return link

    def _watch(self, link: Link) -> None:
        """Return when the connection ended, was silent for too long, or the source is closing."""
        read_s, open_s = self.options.read_timeout_s, self.options.open_timeout_s
        while True:
            t_busy_ns = link.t_busy_ns
            silent_s = link.silent_s()
            limit_s = read_s * LOST_AFTER_TIMEOUTS if link.frames else open_s
            if silent_s >= limit_s:
                did = "sent no frame for" if link.frames else "did not open within"
                link.error = SourceTimeoutError(
                    f"{self.source_id} {did} {limit_s:g} s", "check the device, its cable and its network"
                )
                return
            if link.frames and silent_s >= read_s:
                with self._changed:
                    if self._state == "streaming" and link.t_busy_ns == t_busy_ns:
                        self._note("stalled", f"no frame for {read_s:g} s")
            elif link.frames:
                limit_s = read_s
            if link.wake.wait(min(limit_s - silent_s, read_s) + 0.001):
                return

    def _retire(self, link: Link) -> None:
        """Ask a connection to end, and leave it behind when it does not."""
        link.stop.set()
        with self._changed:
            self._changed.notify_all()
        if link.end():
            return
        with self._changed:
            self._slot.forfeit()
            self._abandoned += 1
        self._hung.append(link)

    def _conclude(self, link: Link) -> bool:
        """Record how a connection ended; True when that is final."""
        error = link.error or SourceError(f"{self.source_id} stopped", "open it again")
        if isinstance(error, EndOfStreamError | SourceOpenError):
            self._fail(error)
            return True
        if not (self.live and self.options.reconnect):
            self._fail((SourceError if link.frames else SourceOpenError)(error.cause, error.cure))
            return True
        with self._changed:
            self._trouble = error
            self._note("lost", error.cause)
        return False

    # On the capture thread.

    def _deliver(self, link: Link, grabbed: Grabbed) -> None:
        early_s = (grabbed.t_capture_ns - monotonic_ns()) / 1e9
        if early_s > 0 and link.stop.wait(early_s):
            return
        height_px, width_px = grabbed.image.shape[:2]
        if self.live and grabbed.timestamp_quality != "generated":
            if link.frames == 0:  # of another camera perhaps
                self._pictures = PictureWatch(self.options.frozen_s, self.options.blank_s)
            self._pictures.look(grabbed.image, grabbed.t_capture_ns)
        with self._changed:
            while self._slot.fresh and not self.live and not link.stop.is_set():
                self._changed.wait()
            if link.stop.is_set():
                return
            self._t_last_ns = max(self._t_last_ns, grabbed.t_capture_ns)  # estimated stamps may step back
            self._seq = self._seq + 1 if grabbed.seq is None else max(self._seq + 1, grabbed.seq)
            info = FrameInfo(
                self._seq,
                self.source_id,
                self._t_last_ns,
                width_px,
                height_px,
                timestamp_quality=grabbed.timestamp_quality,
                frame_ref=grabbed.frame_ref,
            )
            self._slot.publish(Frame(grabbed.image, info))
            link.into = self._slot.writing
            self._reconnects += link.frames == 0 and self._captured > 0
            self._captured += 1
            link.frames += 1
            if self._state != "streaming":
                self._note("streaming", link.capture.note if link.frames == 1 else "")
            self._changed.notify_all()

    def _skip(self, link: Link, error: BadFrameError) -> None:
        with self._changed:
            if not link.stop.is_set():
                self._corrupt += 1
                self._note(self._state, error.cause)


def open_source(text: str | Path) -> FrameSource:
    """Return the source for a URI or anything else `source_uri` understands; not yet started.

    Raises: ConfigError for an unknown scheme or option, SourceOpenError for a file or tool that is not there.
    """
    uri = source_uri(str(text))
    return FrameSource(partial(resolve("sources", uri.scheme), uri), mask_secrets(uri.safe_text))
