"""One reader on a connected stream socket (TCP or Unix): bytes to messages and back, never waiting."""

import contextlib
import fcntl
import selectors
import socket
import ssl
import sys
from collections.abc import Callable

from edge.errors import WireLengthError
from edge.publishers.session import Channel, Session
from edge.wire.framing import LineDeframer, StreamDeframer
from edge.wire.layout import STREAM_SYNC

__all__ = ["StreamClient"]

_BLOCK_BYTES = 4096  # read at a time, so that no reader keeps the others waiting
_UNREAD_BYTES, _MOST_UNREAD_BLOCKS = 65536, 16  # taken in at the end
_HANDSHAKE_WITHIN_NS = 5_000_000_000
_NOT_NOW = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
_SIOCOUTQNSD = 0x894B  # Linux: bytes of a socket that have not been sent even once
_LINE_BEGINS = b"{\r\n"


class StreamClient:
    """A connection and its session, which begins once TLS, if any, has shaken hands.

    ended: why to hang up, or "". blocked: the kernel takes no more for now; the rest of a message begun, if any, goes
    first then. selected: what its selector waits for.
    """

    def __init__(self, sock: socket.socket, address: str, channel: Channel) -> None:
        self.sock = sock
        self.session: Session | None = None
        self.address = address
        self.ended = ""
        self.selected = selectors.EVENT_READ
        self.blocked = False
        self._rest: bytes | memoryview = b""
        self._channel = channel
        self._deframer: LineDeframer | StreamDeframer | None = None
        self._unfinished_bytes = 0
        self._tls = sock if isinstance(sock, ssl.SSLSocket) else None
        self._handshake_by_ns = channel.clock() + _HANDSHAKE_WITHIN_NS
        self._send = _sender(sock)
        if not self._tls:
            self.session = channel.open(address)

    @property
    def due_ns(self) -> int | None:
        """When `write` is to be called even if the socket is not ready."""
        if self.session is None:
            return self._handshake_by_ns
        return None if self.blocked and self.session.trusted else self.session.due_ns

    @property
    def events(self) -> int:
        """What its selector is to wait for."""
        return selectors.EVENT_READ | (selectors.EVENT_WRITE if self.blocked else 0)

    @property
    def pending(self) -> bool:
        """Whether something could go to this reader now."""
        return bool(self._rest) or (self.session is not None and self.session.pending)

    def read(self) -> None:
        """Take what has arrived, once the socket is ready."""
        try:
            if self._shaken():
                self._read()
        except ssl.SSLWantWriteError:
            self.blocked = True
        except _NOT_NOW:
            pass
        except OSError:
            self.ended = self.ended or "it is gone"

    def write(self) -> None:
        """Send what may go to this reader until the kernel takes no more."""
        session = self.session
        if session is None:
            if self._channel.clock() >= self._handshake_by_ns:
                self.ended = self.ended or "it did not finish the TLS handshake in time"
            return
        self.blocked = self._congested()
        if self.blocked and not session.trusted:
            session.take()  # nothing goes to it yet, but its time may be over
        while not self.blocked and (payload := self._rest or session.take()):
            try:
                sent = self._send(payload)
            except _NOT_NOW:
                sent = 0
            except OSError:
                self.ended = self.ended or "it is gone"
                return
            if sent < len(payload):
                self.blocked = True
                if sent or self._rest or self._tls:  # TLS has begun a record, and takes it up with the same bytes only
                    self._rest = memoryview(payload)[sent:]
                else:
                    session.put_back()
            elif self._rest:
                self._rest = b""
        self.ended = self.ended or session.ended

    def _congested(self) -> bool:
        """Whether bytes wait in the kernel that the network does not take yet; without TLS, `send` itself says so."""
        return self._tls is not None and _unsent_bytes(self._tls) > 0

    def close(self) -> None:
        """Hang up."""
        if self.session is not None:
            self._channel.close(self.session)
        with contextlib.suppress(OSError, ValueError):
            if self._tls:
                self._tls.unwrap()  # says goodbye; it does not wait for an answer
        with contextlib.suppress(OSError, ValueError):
            # what is left unread would make the kernel reset the connection, and with it what is on its way
            self.sock.shutdown(socket.SHUT_WR)
            for _ in range(0 if self._tls else _MOST_UNREAD_BLOCKS):  # one that never stops is reset
                if not self.sock.recv(_UNREAD_BYTES, socket.MSG_DONTWAIT):
                    break
        self.sock.close()

    def _shaken(self) -> bool:
        if self.session is None and self._tls:
            self._tls.do_handshake()  # raises while it waits for the reader
            self.session = self._channel.open(self.address)
        return True

    def _read(self) -> None:
        session = self.session
        assert session is not None
        while not self.ended:
            block = self.sock.recv(_BLOCK_BYTES)
            if not block:
                self.ended = "it hung up"
                return
            messages = self._messages(block)
            if not messages:
                session.allow(1)  # a crumb costs as much as a message
            for message in messages:
                session.receive(message)
            self.ended = self.ended or session.ended
            if not (self._tls and self._tls.pending()):
                return

    def _messages(self, block: bytes) -> list[bytes]:
        if self._deframer is None:
            if block[0] == STREAM_SYNC:
                self._deframer = StreamDeframer()
            elif block[:1] in _LINE_BEGINS:
                self._deframer = LineDeframer()
            else:
                self.ended = "what it sent is no message"
                return []
        try:
            messages = self._deframer.feed(block)
        except WireLengthError as exc:
            self.ended = exc.cause
            return []
        if isinstance(self._deframer, LineDeframer):
            messages = [line for line in map(bytes.strip, messages) if line]
        self._unfinished_bytes = 0 if messages else self._unfinished_bytes + len(block)
        if self._deframer.damaged:
            self.ended = "what it sent is no message"
        elif self._unfinished_bytes > self._channel.options.max_message_bytes + _BLOCK_BYTES:
            self.ended = f"it sent a message of more than {self._channel.options.max_message_bytes} bytes"
        return messages


def _sender(sock: socket.socket) -> Callable[[bytes | memoryview], int]:
    """Return how to send on the socket so that the kernel joins no messages into a backlog."""
    if isinstance(sock, ssl.SSLSocket) or sock.family == socket.AF_UNIX or sys.platform != "linux":
        return sock.send

    def send(data: bytes | memoryview) -> int:
        return sock.send(data, socket.MSG_EOR)

    return send


def _unsent_bytes(sock: socket.socket) -> int:
    if sys.platform != "linux":
        return 0
    try:
        return int.from_bytes(fcntl.ioctl(sock, _SIOCOUTQNSD, b"\0\0\0\0"), sys.byteorder)
    except OSError:  # an emulated kernel does not tell (qemu-user, some sandboxes)
        return 0
