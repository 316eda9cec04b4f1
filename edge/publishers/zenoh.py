"""Messages as Zenoh samples: binary or JSON, one key a kind."""

import threading

import zenoh

from edge.clock import monotonic_ns, unix_ns_from_monotonic_ns
from edge.errors import PublishError, WireError
from edge.publishers.base import PublisherOptions, options_of
from edge.publishers.threaded import ThreadedPublisher
from edge.publishers.zenoh_session import ROUTER, check_endpoints, connected, open_session, prefix_of, settings_of
from edge.uri import Uri
from edge.wire import decoder, jsonl
from edge.wire.building import restamped
from edge.wire.messages import KEPT_KINDS, ClockMessage, HelloMessage, LabelsMessage, Message
from edge.wire.names import Names

__all__ = ["ZenohOptions", "ZenohPublisher"]


class ZenohOptions(PublisherOptions, kw_only=True):
    """connect: a router or peer to connect to. listen: where to wait for readers instead (loopback by default).

    Several endpoints have commas between them. config: a Zenoh configuration file (TLS, access control); what is
    given here as well goes before it. insecure: listen elsewhere than on loopback.
    """

    connect: str = ""
    listen: str = ""
    config: str = ""
    insecure: bool = False


class ZenohPublisher(ThreadedPublisher):
    """`zenoh://prefix`: puts each message to `prefix/KIND` (`prefix/labels/FIRST`), dropped where a link is full.

    A query of `prefix/**` gives HELLO, LABELS and the last STATUS. A liveliness token `prefix/alive/ID` says that
    the publisher is there. A query of `prefix/clock` with a CLOCK question as payload is answered.
    Raises: ConfigError for a wrong URI, PublishError when the address it is to listen on is taken.
    """

    @staticmethod
    def check(uri: Uri) -> None:
        """Check key, endpoints and options.

        Raises: ConfigError.
        """
        prefix_of(uri, "harrier")
        options = options_of(uri, ZenohOptions)
        if not options.config:
            check_endpoints(uri, options.listen, options.insecure)
        settings_of("peer", options.connect, options.listen, options.config)

    def __init__(self, uri: Uri) -> None:
        self.check(uri)
        options = options_of(uri, ZenohOptions)
        self._prefix = prefix_of(uri, "harrier")
        listen = options.listen or ("" if options.connect or options.config else ROUTER)
        super().__init__(f"zenoh://{self._prefix} ({options.connect or listen})", options.format or "binary")
        self._connect = options.connect
        self._encoding = "application/json" if self.format == "json" else "application/octet-stream"
        self._kept: dict[str, bytes] = {}
        self._kept_lock = threading.Lock()
        self._publishers: dict[str, zenoh.Publisher] = {}
        self._session = open_session("peer", options.connect, listen, options.config)
        self._linked = not self._connect or connected(self._session)
        self._queryable = self._session.declare_queryable(f"{self._prefix}/**", self._answer)
        self._token = self._session.liveliness().declare_token(f"{self._prefix}/alive/{self._session.zid()}")
        self.begin()

    def write(self, message: Message) -> bool:
        """Put one message.

        Raises: PublishError while not connected.
        """
        payload = self.encode(restamped(message))
        name = f"{message.kind}/{message.first}" if isinstance(message, LabelsMessage) else message.kind
        if message.kind in KEPT_KINDS:
            with self._kept_lock:
                if isinstance(message, HelloMessage):  # of a new model, perhaps: its labels follow
                    self._kept = {key: kept for key, kept in self._kept.items() if not key.startswith("labels/")}
                self._kept[name] = payload
        if not self._linked:
            raise PublishError(self._unlinked, "start the router, or check connect=")
        try:
            publisher = self._publishers.get(name) or self._declared(name)
            publisher.put(payload)
        except zenoh.ZError as exc:
            raise PublishError(f"Zenoh cannot put {self._prefix}/{name} ({exc})", "it is tried again") from exc
        return True

    def look(self) -> str:
        """Return that there is no connection, where one was asked for and is not there."""
        self._linked = not self._connect or connected(self._session)
        return "" if self._linked else self._unlinked

    def shut(self) -> None:
        """Say that nobody is here any more."""
        self._token.undeclare()
        self._session.close()

    @property
    def _unlinked(self) -> str:
        return f"nobody answers at {self._connect}"

    def _declared(self, name: str) -> zenoh.Publisher:
        publisher = self._publishers[name] = self._session.declare_publisher(
            f"{self._prefix}/{name}",
            encoding=self._encoding,
            congestion_control=zenoh.CongestionControl.DROP,
            priority=zenoh.Priority.INTERACTIVE_HIGH,
            express=True,
        )
        return publisher

    def _answer(self, query: zenoh.Query) -> None:
        """From a thread of Zenoh's: what whoever comes late must know, or the time."""
        with query:
            if str(query.key_expr) == f"{self._prefix}/clock":
                reply = self._time_for(b"" if query.payload is None else query.payload.to_bytes())
                if reply:
                    query.reply(query.key_expr, reply, express=True)
                return
            with self._kept_lock:
                kept = dict(self._kept)
            for name, payload in kept.items():
                key = zenoh.KeyExpr(f"{self._prefix}/{name}")
                if query.key_expr.intersects(key):
                    query.reply(key, payload, encoding=self._encoding)

    def _time_for(self, payload: bytes) -> bytes:
        t_receive_ns = unix_ns_from_monotonic_ns(monotonic_ns())
        as_json = payload[:1] == b"{"
        try:
            question = jsonl.decode(payload) if as_json else decoder.decode(payload, Names())
        except WireError:
            return b""
        if not isinstance(question, ClockMessage) or question.reply:
            return b""
        reply = ClockMessage(
            reply=True,
            seq=question.seq,
            t_request_ns=question.t_request_ns,
            t_receive_ns=t_receive_ns,
            t_reply_ns=unix_ns_from_monotonic_ns(monotonic_ns()),
        )
        return self.encode(reply)
