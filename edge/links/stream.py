"""What the links over TCP and Unix sockets share: a connected socket that is read and written without waiting."""

import select
import socket
import ssl
import struct
import threading

from edge.errors import EndOfStreamError
from edge.links.base import Framing

__all__ = ["StreamLink"]

_BLOCK_BYTES = 65536


class StreamLink:
    """Bytes both ways over a socket, which `attach` gives it once it is connected."""

    framing: Framing = "stream"
    two_way = True

    def __init__(self, name: str) -> None:
        self.name = name
        self._lock = threading.Lock()  # TLS allows one call at a time; sending comes from other threads
        self._sock: socket.socket | None = None
        self._unsent = b""
        self._poll = select.poll()
        self._patience_us = 0

    def attach(self, sock: socket.socket) -> None:
        """Take over a connected socket, TLS handshake done."""
        sock.setblocking(not isinstance(sock, ssl.SSLSocket))
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN)
        self._patience_us = 0
        with self._lock:
            self._sock, self._unsent = sock, b""

    def receive(self, timeout_s: float) -> bytes:
        """Return what has arrived, b"" when nothing did within `timeout_s`.

        Raises: EndOfStreamError when the publisher hung up.
        """
        sock = self._sock
        if sock is None:
            raise self._gone()
        try:
            data = self._take_tls(sock, timeout_s) if isinstance(sock, ssl.SSLSocket) else self._take(sock, timeout_s)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return b""
        except OSError as exc:  # a publisher that is killed resets the connection: that is hanging up too
            raise self._gone() from exc
        if not data:
            raise self._gone()
        return data

    def _take(self, sock: socket.socket, timeout_s: float) -> bytes:
        """Wait in the very call that takes the bytes: polling first would make two of them when it is urgent."""
        patience_us = max(1000, int(timeout_s * 1e6))
        if patience_us != self._patience_us:
            self._patience_us = patience_us
            value = struct.pack("@ll", patience_us // 1_000_000, patience_us % 1_000_000)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, value)
        return sock.recv(_BLOCK_BYTES)  # BlockingIOError when nothing came

    def _take_tls(self, sock: ssl.SSLSocket, timeout_s: float) -> bytes:
        if not sock.pending() and not self._poll.poll(timeout_s * 1000):  # TLS may hold bytes that poll cannot see
            raise BlockingIOError
        with self._lock:
            return sock.recv(_BLOCK_BYTES)

    def send(self, data: bytes) -> None:
        """Send a message now, or drop it; the rest of one that was begun goes first."""
        with self._lock:
            if self._sock is None or (self._unsent and not self._push(self._sock, self._unsent)):
                return
            self._push(self._sock, data)

    def close(self) -> None:
        """Hang up."""
        with self._lock:
            if self._sock is not None:
                self._sock.close()
            self._sock, self._unsent = None, b""

    def _push(self, sock: socket.socket, data: bytes) -> bool:
        """Send what fits; whether that was all. A rest is kept: half a message would spoil the next one."""
        begun = data is self._unsent
        sent = 0
        try:
            sent = sock.send(data) if isinstance(sock, ssl.SSLSocket) else sock.send(data, socket.MSG_DONTWAIT)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            begun = True  # TLS has encrypted it and wants the same bytes again
        except OSError:
            pass  # full; or gone, which `receive` will say
        self._unsent = data[sent:] if sent or begun else b""
        return not self._unsent

    def _gone(self) -> EndOfStreamError:
        return EndOfStreamError(f"{self.name} hung up", "check that the publisher still runs")
