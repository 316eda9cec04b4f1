"""What the links over TCP and Unix sockets share: a connected socket that is read and written without waiting."""

import select
import socket
import ssl
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

    def attach(self, sock: socket.socket) -> None:
        """Take over a connected socket, TLS handshake done."""
        sock.setblocking(False)
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN)
        with self._lock:
            self._sock, self._unsent = sock, b""

    def receive(self, timeout_s: float) -> bytes:
        """Return what has arrived, b"" when nothing did within `timeout_s`.

        Raises: EndOfStreamError when the publisher hung up.
        """
        sock = self._sock
        if sock is None:
            raise self._gone()
        waiting = isinstance(sock, ssl.SSLSocket) and sock.pending()  # TLS may hold bytes that poll cannot see
        if not waiting and not self._poll.poll(timeout_s * 1000):
            return b""
        try:
            with self._lock:
                data = sock.recv(_BLOCK_BYTES)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return b""
        except OSError as exc:  # a publisher that is killed resets the connection: that is hanging up too
            raise self._gone() from exc
        if not data:
            raise self._gone()
        return data

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
            sent = sock.send(data)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            begun = True  # TLS has encrypted it and wants the same bytes again
        except OSError:
            pass  # full; or gone, which `receive` will say
        self._unsent = data[sent:] if sent or begun else b""
        return not self._unsent

    def _gone(self) -> EndOfStreamError:
        return EndOfStreamError(f"{self.name} hung up", "check that the publisher still runs")
