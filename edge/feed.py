"""The thread that keeps a link open and empties it, whatever its readers do."""

import random
import threading
import time
from collections.abc import Callable
from typing import Literal

from edge.clock import monotonic_ns
from edge.errors import EdgeError, EndOfStreamError, PublishError, SourceOpenError, SourceTimeoutError
from edge.inbox import Inbox
from edge.links.base import Link
from edge.reception import Reception
from edge.wire.messages import (
    ClassificationMessage,
    ControlMessage,
    CreditMessage,
    DetectionsMessage,
    HeartbeatMessage,
    HelloMessage,
    Message,
    ResultMessage,
)

__all__ = ["ConnectionState", "Feed"]

ConnectionState = Literal["connecting", "connected", "lost", "failed", "closed"]
"""lost: it is tried again. failed: no retry would mend it, see `error`."""

_OPEN_S = 3.0
_LOOK_NS = 50_000_000  # between looks at what there is to do beside receiving
_FIRST_BACKOFF_S, _MOST_BACKOFF_S = 0.1, 2.0
_PERIOD_MS = 250  # of heartbeats, until the publisher says
_MISSED_PERIODS = 3
_CREDIT_LOST_NS = 1_000_000_000


class Feed:
    """Messages of one publisher into an inbox, connecting again and again unless `reconnect` is off.

    wanted: whether a message is for the inbox. newest: the newest result, wanted or not. view: what the publisher is
    asked to send, told on every new connection.
    """

    def __init__(
        self,
        link: Link,
        name: str,
        inbox: Inbox,
        wanted: Callable[[Message], bool],
        *,
        token: str,
        credit: bool,
        reconnect: bool,
        timeout_s: float,
    ) -> None:
        self.link, self.name, self.inbox, self._wanted = link, name, inbox, wanted
        self.state: ConnectionState = "connecting"
        self.error = ""
        self.newest: DetectionsMessage | ClassificationMessage | None = None
        self.view: ControlMessage | None = None
        self.reception = Reception(link.framing)
        self._token, self._credit = token, credit
        self._reconnect, self._timeout_s = reconnect, timeout_s
        self._damaged_before = 0
        self._life_ns: int | None = None
        self._period_ms = _PERIOD_MS
        self._asking = threading.Lock()
        self._read_from = False  # a result that nobody waits for would only grow old here
        self._asked_ns: int | None = None  # in credit mode: when the result now waited for was asked for
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"connect {name}", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether it is connected, and a result or a heartbeat came within the last three heartbeat periods."""
        life_ns = self._life_ns
        if life_ns is None or self.state != "connected":
            return False
        return monotonic_ns() - life_ns <= _MISSED_PERIODS * self._period_ms * 1_000_000

    @property
    def damaged(self) -> int:
        """How many messages arrived damaged, on all connections so far."""
        return self._damaged_before + self.reception.damaged

    def send(self, message: Message) -> None:
        """Send a message of ours; it is dropped while nobody is connected."""
        self.link.send(self.reception.framed(message))

    def ask(self, regardless: bool = False) -> None:
        """In credit mode, ask for one result where none is under way, nor (but `regardless`) waiting in the inbox."""
        self._read_from = True
        if not self._credit or self._asked_ns is not None or (len(self.inbox) and not regardless):
            return
        with self._asking:
            if self._asked_ns is None:
                self._asked_ns = monotonic_ns()
                self.send(CreditMessage(results=1))

    def close(self) -> None:
        """Hang up and end whoever reads; calling it twice is allowed."""
        self._stop.set()
        self.inbox.end(EndOfStreamError("the connection is closed", "open another with edge.connect"))
        self._thread.join(_OPEN_S + 1)
        self.state, self.newest = "closed", None

    def _run(self) -> None:
        failure: EdgeError
        try:
            self._keep_connected()
            return
        except EdgeError as exc:
            failure = exc
        except Exception as exc:  # a defect: whoever reads must not wait for ever
            failure = PublishError(f"the connection ended ({exc!r})", "report this as a defect")
        finally:
            self.link.close()
        self.state, self.error = "failed", str(failure)
        self.inbox.end(failure)

    def _keep_connected(self) -> None:
        """Raises: what no retry mends, and where none is wanted, whatever ended the connection."""
        deadline, tries = time.monotonic() + self._timeout_s, 0
        while not self._stop.is_set():
            opened = False
            try:
                self.link.open(min(self._timeout_s, _OPEN_S))
                opened = True
                self._empty()
            except (SourceTimeoutError, PublishError, EndOfStreamError) as exc:
                self.link.close()
                lost: EdgeError = exc
                if isinstance(exc, EndOfStreamError) and not self.reception.heard:
                    # some transports bring what the other side said
                    cause = exc.cause if "(" in exc.cause else f"{self.name} hung up without a word"
                    lost = SourceOpenError(cause, "check the token, and whether it wants TLS")
                nobody_yet = isinstance(exc, SourceTimeoutError) and not opened and time.monotonic() < deadline
                if not (self._reconnect or nobody_yet):
                    raise lost from exc
                self.state, self.error = "lost" if opened or self.state == "lost" else "connecting", str(lost)
            tries = 0 if not self._reconnect or (opened and self.reception.heard) else tries + 1
            backoff_s = min(_FIRST_BACKOFF_S * 2 ** min(tries, 10), _MOST_BACKOFF_S)
            self._stop.wait(backoff_s * random.uniform(0.5, 1.0))  # else a thousand readers come back at once

    def _empty(self) -> None:
        """Take what comes until the connection is closed.

        Raises: SourceTimeoutError after `timeout_s` of silence, and what the link and the reception raise.
        """
        self._damaged_before += self.reception.damaged
        reception = self.reception = Reception(self.link.framing)
        self._greet()
        self.state = "connected"
        now = t_heard_ns = look_ns = monotonic_ns()
        while not self._stop.is_set():
            if now >= look_ns:
                look_ns = now + self._ask_for_the_time()
            # little stands between waking a reader and waiting here, where it gets the interpreter
            data = self.link.receive((look_ns - now) / 1e9)
            now = monotonic_ns()
            messages = reception.take(data, now) if data else []
            if messages:
                t_heard_ns = now
                self._deliver(messages, now)
            elif now - t_heard_ns > self._timeout_s * 1e9:
                raise self._silent()

    def _silent(self) -> SourceTimeoutError:
        damaged, silence = self.reception.damaged, f"from {self.name} for {self._timeout_s:g} s"
        if damaged:
            return SourceTimeoutError(f"nothing whole came {silence}, {damaged} damaged", "check cable and baud rate")
        return SourceTimeoutError(f"nothing came {silence}", "check that the sender runs")

    def _ask_for_the_time(self) -> int:
        """Ask if it is time to; return in how many ns to look again."""
        if not self.link.two_way:
            return _LOOK_NS
        clock = self.reception.clock
        if clock.due_in_ns(monotonic_ns()) == 0:
            self.send(clock.question(monotonic_ns()))
        return min(_LOOK_NS, clock.due_in_ns(monotonic_ns()))

    def _greet(self) -> None:
        """Say what every new connection must know of us; the token goes first."""
        if self._token:
            self.send(HelloMessage(token=self._token))
        if self.view is not None:
            self.send(self.view)
        with self._asking:
            self._asked_ns = monotonic_ns() if self._credit and self._read_from else None
            if self._credit:  # none yet also says that nothing is to be sent unasked
                self.send(CreditMessage(results=1 if self._asked_ns else 0))

    def _deliver(self, messages: list[Message], now_ns: int) -> None:
        for message in messages:
            self.error = ""
            if isinstance(message, DetectionsMessage | ClassificationMessage):
                self._life_ns, self._asked_ns = now_ns, None
                if self.newest is None or _captured_ns(message) >= _captured_ns(self.newest):  # networks reorder
                    self.newest = message
            elif isinstance(message, HeartbeatMessage):
                self._life_ns = now_ns
                self._period_ms = message.period_ms or _PERIOD_MS
                self._look_after_credit(message, now_ns)
            elif isinstance(message, HelloMessage):
                self._period_ms = message.heartbeat_ms or _PERIOD_MS
        wanted = [message for message in messages if self._wanted(message)]
        if wanted:
            self.inbox.put(wanted)

    def _look_after_credit(self, beat: HeartbeatMessage, now_ns: int) -> None:
        """Ask again where a result was made after we asked and did not come: it was lost, or our question was."""
        if self._asked_ns is None or beat.newest_age_ms is None:
            return
        waited_ns = now_ns - self._asked_ns
        if waited_ns > _CREDIT_LOST_NS and beat.newest_age_ms * 1e6 < waited_ns - _CREDIT_LOST_NS / 2:
            self._asked_ns = None
            self.ask()


def _captured_ns(message: ResultMessage) -> int:
    """By our clock, on which the reception has put it."""
    return message.t_capture_local_ns or 0
