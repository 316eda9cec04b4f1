"""What arrives on one opened link, made into messages; no thread, no socket and no clock of its own."""

from edge.clock_sync import ClockSync
from edge.errors import WireError, WireLengthError, WireVersionError
from edge.links.base import Framing
from edge.wire.decoder import decode as decode_binary
from edge.wire.encoder import encode
from edge.wire.framing import Deframer, LineDeframer, SerialDeframer, StreamDeframer, framed
from edge.wire.jsonl import decode as decode_json
from edge.wire.layout import STREAM_SYNC, crc16
from edge.wire.messages import (
    ClockMessage,
    HelloMessage,
    LabelsMessage,
    Message,
    RegionMessage,
    ResultMessage,
    source_id_of,
)
from edge.wire.names import Names

__all__ = ["Reception"]

_JSON = ord("{")
_MOST_AGE_MS = 1e12
_ROUNDING_NS = 1_000  # age_ms has three digits
_FOREIGN_IN_A_ROW = 3
_MOST_UNDECIDED_BYTES = 1 << 16
_NO_MESSAGE = "check the address, and that the sender is harrier run"


class Reception:
    """Bytes in, typed messages out, each result with its capture time on this process's CLOCK_MONOTONIC.

    heard: something whole has come. damaged: messages that were not whole. hello: what the stream says of itself.
    """

    def __init__(self, framing: Framing) -> None:
        self.framing = framing
        self.clock = ClockSync()
        self.heard = False
        self.hello: HelloMessage | None = None
        self._refused = 0
        self._names = Names()
        self._deframer: Deframer | None = None
        self._undecided = b""
        self._foreign = 0

    @property
    def damaged(self) -> int:
        """How many messages were begun and are not whole, or are none of ours."""
        return self._refused + (self._deframer.damaged if self._deframer is not None else 0)

    @property
    def labels(self) -> dict[int, str]:
        """Names of the classes by class id, as far as they were told."""
        return self._names.labels(self.hello.model_id) if self.hello is not None else {}

    def framed(self, message: Message) -> bytes:
        """Return a message of ours as this link carries it; a publisher takes binary whatever it sends itself."""
        data = encode(message)
        return data if self.framing == "message" else framed(data, True, self.framing == "serial")

    def take(self, data: bytes, now_ns: int) -> list[Message]:
        """Return the messages that are complete with these bytes, which arrived at `now_ns` (CLOCK_MONOTONIC).

        Raises: WireVersionError when the publisher speaks another version, WireError when it is no Harrier at all.
        """
        found: list[Message] = []
        for payload in self._payloads(data):
            message = self._message(payload)
            if message is None:
                continue
            if isinstance(message, ClockMessage):
                self.clock.take(message, now_ns)
                continue
            if isinstance(message, ResultMessage):
                placed = self._local(message.t_capture_ns, message.age_ms, now_ns)
                message.t_capture_local_ns, message.clock_error_ms = placed
            elif isinstance(message, RegionMessage):
                message.t_event_local_ns, message.clock_error_ms = self._local(
                    message.t_event_ns, message.age_ms, now_ns
                )
            elif isinstance(message, HelloMessage):
                self.hello = message
            found.append(message)
        return found

    def _payloads(self, data: bytes) -> list[bytes]:
        if self.framing == "message":
            return [data]
        if self._deframer is None:
            self._deframer = _stream_deframer(data) if self.framing == "stream" else self._serial_deframer(data)
            if self._deframer is None:
                return []
            data, self._undecided = self._undecided or data, b""
        try:
            return self._deframer.feed(data)
        except WireLengthError:  # a line without end
            self._refused += 1 + self._deframer.damaged
            self._deframer = LineDeframer()
            return []

    def _serial_deframer(self, data: bytes) -> Deframer | None:
        """A line may be joined amid a message: only frames hold zeros, and only lines hold none until their end."""
        self._undecided += data
        lines = self._undecided.split(b"\n")
        if b"\0" in self._undecided:
            return SerialDeframer()
        if any(line[:1] == b"{" and line.rstrip()[-1:] == b"}" for line in lines[:-1]):
            return LineDeframer()
        if len(self._undecided) > _MOST_UNDECIDED_BYTES:
            self._undecided = b""
            self._refused += 1
        return None

    def _message(self, payload: bytes) -> Message | None:
        try:
            if payload[:1] == b"{":
                message = decode_json(payload)
                if isinstance(message, HelloMessage | LabelsMessage):
                    self._names.learn(message, source_id_of(message.source))
            else:
                message = decode_binary(payload, self._names)
        except WireVersionError:
            self._refused += 1
            # not damage: its checksum is right; not a stray datagram either when nothing else comes
            self._foreign += crc16(payload[:-2]) == int.from_bytes(payload[-2:], "little")
            if self._foreign >= _FOREIGN_IN_A_ROW:
                raise
            return None
        except WireError:
            self._refused += 1
            return None
        if not _possible(message):
            self._refused += 1
            return None
        self.heard, self._foreign = True, 0
        return message

    def _local(self, t_sender_ns: int, age_ms: float, now_ns: int) -> tuple[int, float | None]:
        """A time of the sender's by our clock, and its error in ms; it was not later than arrival less age."""
        latest_ns = now_ns - int(max(age_ms, 0.0) * 1e6)
        local = self.clock.local(t_sender_ns, now_ns)
        if local is not None and local.t_ns - local.error_ns > latest_ns + _ROUNDING_NS:
            self.clock.restart()
            local = None
        if local is None:
            return latest_ns, None
        return min(local.t_ns, latest_ns), local.error_ns / 1e6


def _possible(message: Message) -> bool:
    """Whether the times of a message can be reckoned with; JSON takes numbers of any size."""
    if isinstance(message, ResultMessage):
        return abs(message.age_ms) < _MOST_AGE_MS and 0 <= message.t_capture_ns < 1 << 64
    if isinstance(message, RegionMessage):
        return abs(message.age_ms) < _MOST_AGE_MS and 0 <= message.t_event_ns < 1 << 64
    if isinstance(message, ClockMessage):
        return all(0 <= t < 1 << 64 for t in (message.t_receive_ns, message.t_reply_ns))
    return True


def _stream_deframer(data: bytes) -> Deframer:
    """Raises: WireError for bytes with which no Harrier begins."""
    if data[0] == STREAM_SYNC:
        return StreamDeframer()
    if data[0] == _JSON:
        return LineDeframer()
    if data[:2] == b"\x15\x03":  # an alert: it could not make sense of us
        raise WireError("what answers speaks TLS", "add ?tls=yes&ca=FILE to the address")
    raise WireError(f"not a Harrier message ({bytes(data[:20])!r})", _NO_MESSAGE)
