"""Readers, messages and waits for the tests of publishers."""

import socket
import time
from collections.abc import Callable

from edge.publishers.stream_server import StreamServer
from edge.uri import parse_uri
from edge.wire import decoder, encoder, jsonl
from edge.wire.framing import LineDeframer, StreamDeframer, framed
from edge.wire.messages import DetectionsMessage, Message, StatusMessage

DEADLINE_S = 20.0


def wait_for(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"waited {DEADLINE_S} s for {what}"
        time.sleep(0.005)


def result(seq: int, ref: str | None = None) -> DetectionsMessage:
    """A result; `ref` makes its JSON line as long as a test needs."""
    return DetectionsMessage(source="test", seq=seq, t_publish_ns=0, t_capture_ns=0, age_ms=0.0, ref=ref, detections=[])


def status(seq: int, state: str = "streaming") -> StatusMessage:
    return StatusMessage(source="test", seq=seq, t_publish_ns=0, t_event_ns=0, state=state)


def on_stream(message: Message, binary: bool = True) -> bytes:
    """The bytes of a message on a stream socket."""
    return framed(encoder.encode(message), True, serial=False) if binary else jsonl.encode(message)


class Reader:
    """A client of a stream publisher, with plain calls."""

    def __init__(self, publisher: StreamServer, binary: bool = True, receive_buffer_bytes: int = 0) -> None:
        uri = parse_uri(publisher.address)
        if uri.scheme == "unix":
            self.sock, to = socket.socket(socket.AF_UNIX), uri.rest
        else:
            to = uri.host_port()
            self.sock = socket.socket(socket.AF_INET6 if ":" in to[0] else socket.AF_INET)
        if receive_buffer_bytes:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        self.sock.settimeout(DEADLINE_S)
        self.sock.connect(to)
        self._binary = binary
        self._deframer = StreamDeframer() if binary else LineDeframer()
        self._ready: list[Message] = []

    def __enter__(self) -> "Reader":
        return self

    def __exit__(self, *_) -> None:
        self.sock.close()

    def say(self, *messages: Message, binary: bool | None = None) -> None:
        kind = self._binary if binary is None else binary
        self.sock.sendall(b"".join(on_stream(message, kind) for message in messages))

    def next(self) -> Message | None:
        """The next message, None when the publisher has hung up."""
        while not self._ready:
            try:
                block = self.sock.recv(65536)
            except ConnectionError:
                return None
            if not block:
                return None
            self._ready += [
                decoder.decode(payload) if self._binary else jsonl.decode(payload)
                for payload in self._deframer.feed(block)
            ]
        return self._ready.pop(0)

    def rest(self) -> list[Message]:
        """All that comes until the publisher hangs up."""
        found = []
        while (message := self.next()) is not None:
            found.append(message)
        return found

    def until(self, kind: str, seq: int) -> list[Message]:
        """All that comes up to that message."""
        found = []
        while not found or (found[-1].kind, found[-1].seq) != (kind, seq):
            message = self.next()
            assert message is not None, f"hung up before {kind} {seq}"
            found.append(message)
        return found
