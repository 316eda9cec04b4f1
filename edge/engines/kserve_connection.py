"""An HTTP/1.1 connection on which a whole exchange, from connecting to the answer's last byte, keeps one deadline."""

import http.client
import io
import socket
import ssl
import time
from collections.abc import Sequence
from typing import Any

__all__ = ["Connection"]


class Connection:
    """A kept-alive connection; one request at a time.

    until_s: when (CLOCK_MONOTONIC) whatever waits gives up with TimeoutError. sent: whether the server has the whole
    of the last request, and so may have acted on it.
    Raises: OSError.
    """

    def __init__(self, host: str, port: int, tls: ssl.SSLContext | None, connect_s: float, until_s: float) -> None:
        self.until_s = until_s
        self.sent = False
        self._response: http.client.HTTPResponse | None = None
        self._socket: socket.socket = socket.create_connection(
            (host, port), min(connect_s, max(until_s - time.monotonic(), 0.001))
        )
        try:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if tls:
                self._wait_at_most()
                self._socket = tls.wrap_socket(self._socket, server_hostname=host)
        except BaseException:
            self._socket.close()
            raise

    @property
    def complete(self) -> bool:
        """Whether the answer to the last request was read to its end."""
        return self._response is not None and (self._response.isclosed() or self._response.length == 0)

    def usable(self) -> bool:
        """Whether the last answer was read to its end, the server keeps the connection, and has not hung up since."""
        if self._response and (self._response.will_close or not self.complete):
            return False
        try:
            self._socket.settimeout(0)
            self._socket.recv(1)
            return False  # it hung up, or says what nobody asked
        except (BlockingIOError, ssl.SSLWantReadError):
            return True
        except OSError:
            return False

    def send(self, blocks: Sequence[memoryview]) -> None:
        """Send a request.

        Raises: OSError, TimeoutError.
        """
        self.sent = False
        self._drop_response()
        for block in blocks:
            while block:
                self._wait_at_most()
                block = block[self._socket.send(block) :]
        self.sent = True

    def receive(self) -> http.client.HTTPResponse:
        """Return the answer once its head is here; its body is read from it.

        Raises: OSError, TimeoutError, http.client.HTTPException.
        """
        self._response = http.client.HTTPResponse(_Reading(self), method="POST")  # type: ignore[arg-type]
        self._response.begin()
        return self._response

    def read_some(self, into: Any) -> int:
        """Fill part of a buffer with what comes next and return how many bytes; 0 when the server hung up.

        Raises: OSError, TimeoutError.
        """
        self._wait_at_most()
        return self._socket.recv_into(into)

    def close(self) -> None:
        """Hang up."""
        self._drop_response()
        self._socket.close()

    def _drop_response(self) -> None:
        if self._response:
            self._response.close()
            self._response = None

    def _wait_at_most(self) -> None:
        left_s = self.until_s - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("the time is over")
        self._socket.settimeout(left_s)


class _Reading(io.RawIOBase):
    """What http.client takes for a socket."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(self)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._connection.read_some(buffer)
