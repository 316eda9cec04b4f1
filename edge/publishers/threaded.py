"""What publishers that only send share: an outbox, and the one thread that empties it."""

import threading
import time
from abc import ABC, abstractmethod
from queue import Empty, SimpleQueue

from edge.errors import EdgeError
from edge.publishers.base import PublisherBase
from edge.publishers.outbox import Outbox
from edge.wire.messages import EVENT_KINDS, KEPT_KINDS, RESULT_KINDS, Message

__all__ = ["ThreadedPublisher"]

_LOOK_S = 0.5


class ThreadedPublisher(PublisherBase, ABC):
    """A publisher that says how one message is written; its thread does that, and the loop never waits.

    `begin` starts the thread, once a constructor has succeeded. `look` is called every 0.5 s.
    """

    def __init__(self, address: str, format: str) -> None:
        super().__init__(address, format)
        self._outbox: Outbox[Message] = Outbox()
        self._lock = threading.Lock()
        self._wake: SimpleQueue[None] = SimpleQueue()  # in C: a condition takes 50 us longer to wake a thread
        self._busy = False
        self._closing = False
        self._unwell = ""  # what `look` says
        self._failed = ""  # why the last result could not be written
        self._look_at = 0.0
        self._thread = threading.Thread(target=self._run, name=f"publish {address}", daemon=True)

    @abstractmethod
    def write(self, message: Message) -> bool:
        """Hand one message to the library; return False when it is none for these readers.

        Raises: EdgeError when that failed: the message is counted as dropped.
        """

    def look(self) -> str:
        """Return what is wrong just now even while nothing is written, such as a lost connection; else ""."""
        return ""

    @abstractmethod
    def shut(self) -> None:
        """Let go of the library."""

    def begin(self) -> None:
        """Start writing."""
        self._thread.start()

    def send(self, message: Message) -> None:
        """Put one message in its slot and wake the thread."""
        with self._lock:
            if self._closing:
                return
            before = self._outbox.dropped
            self._outbox.put(message.kind, message)
            self.dropped += self._outbox.dropped - before
        self._wake.put(None)

    def close(self, drain_s: float = 0.5) -> None:
        """Write what waits, for at most `drain_s`, then let go; calling it twice is allowed."""
        deadline = time.monotonic() + drain_s
        while (self._busy or self._outbox) and self._thread.is_alive() and time.monotonic() < deadline:
            time.sleep(0.002)
        with self._lock:
            self._closing = True
        self._wake.put(None)
        self._thread.join(drain_s + 1.0)

    def _run(self) -> None:
        try:
            while not self._closing:
                message = self._next()
                if time.monotonic() >= self._look_at:
                    self._look_at = time.monotonic() + _LOOK_S
                    self._unwell = self.look()
                if message is not None:
                    self._write(message)
                self.failure = self._unwell or self._failed
        except Exception as exc:  # a defect: the loop goes on, and the run says that nobody is served
            self.failure = f"stopped ({exc!r}): report this as a defect"
        try:
            self.shut()
        except Exception as exc:  # the library is gone already, and so is the reason to complain
            self.failure = self.failure or f"did not end well ({exc!r})"

    def _next(self) -> Message | None:
        """What is to be written now, None when nothing came for a while."""
        with self._lock:
            taken = self._outbox.take()
            self._busy = taken is not None
        if taken is not None:
            return taken[1]
        try:
            self._wake.get(timeout=_LOOK_S)  # some wake-ups are for what has been taken by now
        except Empty:
            pass
        return None

    def _write(self, message: Message) -> None:
        result = message.kind in RESULT_KINDS
        try:
            if self.write(message):
                self.sent += 1
                if result:
                    self._failed = ""
        except EdgeError as exc:
            self._failed = "" if self._unwell else exc.cause  # what `look` has noticed it also sees pass
            self.dropped += result or message.kind in KEPT_KINDS | EVENT_KINDS
