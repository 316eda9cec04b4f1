"""Results to an MQTT broker, one topic a kind, so that whoever subscribes late knows what there is."""

import socket
import threading
import time
from collections import deque

import msgspec

from edge.clock import monotonic_ns, unix_ns_from_monotonic_ns
from edge.errors import EdgeError, WireError
from edge.publishers.base import PublisherBase
from edge.publishers.mqtt_broker import Broker, BrokerConnection, broker_of, warn_if_open
from edge.publishers.outbox import Outbox
from edge.uri import Uri
from edge.wire.building import restamped
from edge.wire.messages import EVENT_KINDS, KEPT_KINDS, LabelsMessage, Message, StatusMessage

__all__ = ["MqttPublisher", "topic_of"]

_CONNECT_WITHIN_S = 3.0
_RETRY_S = (0.5, 5.0)
_STALLED_S = 1.0
_AT_ONCE = 16


def topic_of(message: Message) -> str:
    """Return the topic below the prefix: the kind, and for LABELS also the first class id there."""
    return f"labels/{message.first}" if isinstance(message, LabelsMessage) else message.kind


class MqttPublisher(PublisherBase):
    """`mqtt://user:password@host:1883/topic/prefix` and `mqtts://`: publishes to `prefix/detections` and so on.

    While the broker has not read what was sent before, or is not there, only the newest result waits, and the last 64
    events; the others are dropped and counted. STATUS, HELLO and LABELS are retained; where the connection is lost
    without a word, the broker itself publishes the status `closed`, "lost connection".
    """

    @staticmethod
    def check(uri: Uri) -> None:
        """Check address, options and files.

        Raises: ConfigError.
        """
        broker_of(uri)

    def __init__(self, uri: Uri) -> None:
        self._broker: Broker = broker_of(uri)
        super().__init__(self._broker.address, self._broker.options.format or "json")
        warn_if_open(self._broker)
        self._lock = threading.Lock()
        self._inbox: Outbox[Message] = Outbox()
        self._kept: dict[str, Message] = {}
        self._wake_in, self._wake_out = socket.socketpair()
        self._wake_in.setblocking(False)
        self._wake_out.setblocking(False)
        self._something = threading.Event()
        self._deadline: float | None = None
        self._thread = threading.Thread(target=self._run, name=f"publish {self.address}", daemon=True)
        self._thread.start()

    def send(self, message: Message) -> None:
        """Put one message in its slot and wake the thread."""
        with self._lock:
            before = self._inbox.dropped
            self._inbox.put(message.kind, message)
            self.dropped += self._inbox.dropped - before
        self._wake()

    def close(self, drain_s: float = 0.5) -> None:
        """Let the broker take what is pending for at most `drain_s`, say `closed` if nobody did, and hang up."""
        if self._deadline is None:
            self._deadline = time.monotonic() + drain_s
            self._wake()
        self._thread.join(drain_s + 0.5)

    def _wake(self) -> None:
        self._something.set()
        try:
            self._wake_in.send(b"w")
        except OSError:
            pass  # full: the thread is awake already; closed: nobody to wake

    def _run(self) -> None:
        try:
            self._serve()
        except Exception as exc:  # a defect: the loop goes on, and the run says that nobody is served
            self.failure = f"stopped publishing ({exc!r}): report this as a defect"
        finally:
            self._wake_in.close()
            self._wake_out.close()

    def _serve(self) -> None:
        self._something.wait()  # the last will names the source, which the first message tells
        pause_s = _RETRY_S[0]
        while self._inbox or self._kept:
            started = time.monotonic()
            try:
                self._publish_until_closed()
                return
            except EdgeError as exc:
                self.failure = str(exc)
            if time.monotonic() - started > 2 * _RETRY_S[1]:
                pause_s = _RETRY_S[0]  # it had worked for a while
            resume = time.monotonic() + pause_s
            while time.monotonic() < resume and self._deadline is None:
                self._something.wait(resume - time.monotonic())
                self._set_aside()
            pause_s = min(pause_s * 2, _RETRY_S[1])
            if self._deadline is not None:
                return

    def _over(self) -> bool:
        return self._deadline is not None and time.monotonic() > self._deadline

    def _take(self) -> Message | None:
        with self._lock:
            taken = self._inbox.take()
        return taken[1] if taken else None

    def _set_aside(self) -> None:
        """Keep what the broker is to be told when it is there again; the newest of the rest goes on waiting."""
        self._something.clear()
        waiting: Outbox[Message] = Outbox()
        with self._lock:
            while (taken := self._inbox.take()) is not None:
                if taken[0] in KEPT_KINDS:
                    self._keep(taken[1])
                else:
                    waiting.put(*taken)
            waiting.dropped = self._inbox.dropped
            self._inbox = waiting

    def _keep(self, message: Message) -> None:
        if message.kind == "hello":
            self._kept = {topic: kept for topic, kept in self._kept.items() if kept.kind == "status"}
        self._kept[topic_of(message)] = message

    def _publish_until_closed(self) -> None:
        """Connect and publish. Raises: EdgeError when that fails or ends before `close`."""
        self._set_aside()
        connection = BrokerConnection(self._broker, ("status", self._will()), wake=self._wake_out)
        said_all = False
        try:
            connection.open(_CONNECT_WITHIN_S)
            due = deque(self._kept.values())
            asked = time.monotonic()
            while not said_all and not self._over():
                if connection.taken:
                    self.failure = ""
                    said_all = not self._send_some(connection, due) and self._deadline is not None
                    asked = time.monotonic()
                elif time.monotonic() - asked > _STALLED_S:
                    self.failure = f"broker {self._broker.host}:{self._broker.port} does not take what is sent"
                if not said_all:
                    connection.turn(0.02 if self._deadline is not None else 0.25)
        finally:
            connection.close(said_all)

    def _send_some(self, connection: BrokerConnection, due: deque[Message]) -> bool:
        """Send what waits, and a question whether it was read; return whether there was anything."""
        count = 0
        self._something.clear()
        while count < _AT_ONCE and (message := due.popleft() if due else self._take()) is not None:
            if message.kind in KEPT_KINDS:
                self._keep(message)
            self._send_one(connection, message)
            count += 1
        if not count and self._deadline is not None and (last := self._last_word()):
            self._keep(last)
            self._send_one(connection, last)
            count = 1
        if count:
            connection.probe()
        return bool(count)

    def _send_one(self, connection: BrokerConnection, message: Message) -> None:
        try:
            payload = self._payload(restamped(message))
        except WireError:
            self.dropped += 1
            return
        kept, counts = message.kind in KEPT_KINDS, message.kind in EVENT_KINDS
        self.sent += connection.publish(topic_of(message), payload, kept, counts)

    def _last_word(self) -> StatusMessage | None:
        """The status `closed`, where the run has not said it: hanging up in order keeps the broker from telling."""
        status = self._kept.get("status")
        if isinstance(status, StatusMessage) and status.state == "closed":
            return None
        return self._closed("stopped")

    def _will(self) -> bytes:
        """What the broker publishes when we vanish; its times are those of connecting, the only ones known then."""
        return self._payload(self._closed("lost connection"))

    def _payload(self, message: Message) -> bytes:
        data: bytes = self.encode(message)
        return data.rstrip(b"\n") if self.format == "json" else data  # a checksum may end like a line

    def _closed(self, reason: str) -> StatusMessage:
        now = unix_ns_from_monotonic_ns(monotonic_ns())
        source = next((kept.source for kept in self._kept.values()), "")
        status = self._kept.get("status")
        if not isinstance(status, StatusMessage):
            status = StatusMessage(t_publish_ns=now, t_event_ns=now, state="closed")
        return msgspec.structs.replace(
            status, source=source, t_publish_ns=now, t_event_ns=now, state="closed", reason=reason, flags=()
        )
