"""`zenoh://prefix`: one or several publishers below a Zenoh key."""

import threading
import time
from collections import deque
from queue import Empty, SimpleQueue

import msgspec
import zenoh

from edge.errors import EndOfStreamError, PublishError, SourceTimeoutError
from edge.links.base import Framing
from edge.publishers.zenoh_session import ROUTER, open_session, prefix_of
from edge.uri import Uri

__all__ = ["ZenohLink", "ZenohLinkOptions"]

_MOST_WAITING = 256  # the client empties this at once; beyond it something hangs, and the newest matter
_GREETING_S = 1.0
_ORDER = ("hello", "labels", "status")


class ZenohLinkOptions(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """connect: the publisher or router to connect to. config: a Zenoh configuration file, for TLS and the like."""

    connect: str = ""
    config: str = ""


class ZenohLink:
    """`zenoh://prefix?connect=tcp/HOST:7447`; without connect the publisher or router of this machine.

    Of what is sent, questions for the time reach the publisher; a Zenoh reader gives no credits and controls nothing.
    Raises: ConfigError for a wrong key or option.
    """

    framing: Framing = "message"
    two_way = True

    def __init__(self, uri: Uri) -> None:
        self._prefix = prefix_of(uri, "harrier")
        options = uri.options(ZenohLinkOptions)
        self._connect = options.connect or ("" if options.config else ROUTER)
        self._config = options.config
        self._lock = threading.Lock()
        self._told: deque[bytes] = deque()  # what the publishers are, which comes before all else
        self._waiting: SimpleQueue[bytes] = SimpleQueue()  # b"": somebody came or went
        self._alive: set[str] = set()
        self._gone = False
        self._session: zenoh.Session | None = None

    def open(self, timeout_s: float) -> None:
        """Connect, wait for a publisher to be there, and be told what it is.

        Raises: SourceTimeoutError when nobody answers, ConfigError for an endpoint or file that Zenoh does not take.
        """
        deadline = time.monotonic() + timeout_s
        self.close()
        with self._lock:
            self._told.clear()
            self._waiting = SimpleQueue()
            self._alive.clear()
            self._gone = False
        try:
            session = open_session("client", self._connect, "", self._config, timeout_s)
        except PublishError as exc:
            raise SourceTimeoutError(
                f"nobody answers at {self._connect or self._config}", "start harrier run there first"
            ) from exc
        self._session = session
        for key in ("*", "labels/*"):
            session.declare_subscriber(f"{self._prefix}/{key}", self._take)
        session.liveliness().declare_subscriber(f"{self._prefix}/alive/*", self._see, history=True)
        while not (found := bool(self._alive)) and time.monotonic() < deadline:
            time.sleep(0.005)
        if not found:
            self.close()
            raise SourceTimeoutError(
                f"nobody publishes {self._prefix} at {self._connect or self._config}", "check that harrier run is there"
            )
        self._greet(session)

    def receive(self, timeout_s: float) -> bytes:
        """Return the next message, b"" when none came within `timeout_s`.

        Raises: EndOfStreamError when the last publisher is gone.
        """
        if self._told:
            return self._told.popleft()
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                data = self._waiting.get(timeout=max(0.0, deadline - time.monotonic()))
            except Empty:
                data = b""
            if data:
                return data
            if self._gone or self._session is None:
                raise EndOfStreamError(f"zenoh://{self._prefix} hung up", "check that the publisher still runs")
            if time.monotonic() >= deadline:
                return b""

    def send(self, data: bytes) -> None:
        """Ask the publisher; the answer is received like any message."""
        session = self._session
        if session is not None:
            try:
                session.get(f"{self._prefix}/clock", self._hear, payload=data, timeout=1.0)
            except zenoh.ZError:
                pass  # closed meanwhile: `receive` says so

    def close(self) -> None:
        """Disconnect."""
        session, self._session = self._session, None
        if session is not None:
            session.close()

    def _greet(self, session: zenoh.Session) -> None:
        """Put what the publishers are before what has arrived since."""
        told: list[tuple[int, bytes]] = []
        try:
            for reply in session.get(f"{self._prefix}/**", timeout=_GREETING_S):
                sample = reply.ok
                if sample is not None:
                    told.append((_rank(str(sample.key_expr)[len(self._prefix) + 1 :]), sample.payload.to_bytes()))
        except zenoh.ZError as exc:
            raise SourceTimeoutError(f"the connection to {self._connect} broke", "try again") from exc
        told.sort(key=lambda pair: pair[0])
        self._told.extend(payload for _, payload in told)

    def _take(self, sample: zenoh.Sample) -> None:
        self._put(sample.payload.to_bytes())

    def _hear(self, reply: zenoh.Reply) -> None:
        if reply.ok is not None:
            self._put(reply.ok.payload.to_bytes())

    def _put(self, payload: bytes) -> None:
        waiting = self._waiting
        if waiting.qsize() >= _MOST_WAITING:
            try:
                waiting.get_nowait()
            except Empty:
                pass
        waiting.put(payload)

    def _see(self, sample: zenoh.Sample) -> None:
        """A publisher came or went."""
        key = str(sample.key_expr)
        with self._lock:
            if sample.kind == zenoh.SampleKind.PUT:
                late = bool(self._alive) and key not in self._alive
                self._alive.add(key)
            else:
                late = False
                self._alive.discard(key)
                self._gone = not self._alive
        self._waiting.put(b"")
        session = self._session
        if late and session is not None:
            session.get(f"{self._prefix}/**", self._hear, timeout=_GREETING_S)


def _rank(name: str) -> int:
    kind = name.partition("/")[0]
    return _ORDER.index(kind) if kind in _ORDER else len(_ORDER)
