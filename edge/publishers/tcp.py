"""A TCP server whose every client gets the newest message it can take, and never a backlog."""

import errno
import selectors
import socket
import threading
import time

from edge.errors import PublishError
from edge.publishers.base import PublisherOptions
from edge.publishers.outbox import Outbox
from edge.uri import Uri

__all__ = ["TcpPublisher"]

_SEND_BUFFER_BYTES = 16384  # small, so that little stale data waits in the kernel behind a slow reader


class _Client:
    """One reader: the bytes being sent, and what waits behind them."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.sending = memoryview(b"")
        self.outbox = Outbox()


class TcpPublisher:
    """`tcp://host:port`: listens there; each client has a latest-value slot, so no reader delays another.

    A result that is replaced in a slot before its turn is counted in `dropped`; changes of state are not replaced,
    and the last one greets whoever connects. Port 0 takes a free port.
    """

    @staticmethod
    def check(uri: Uri) -> None:
        """Check address and options.

        Raises: ConfigError.
        """
        uri.host_port()
        uri.options(PublisherOptions)

    def __init__(self, uri: Uri) -> None:
        self.check(uri)
        host, port = uri.host_port()
        self.format = uri.options(PublisherOptions).format
        self.sent = self._dropped = 0
        self.failure = ""
        self.reader_gone = False
        self._server = _listen(uri, host, port)
        real_host, real_port = self._server.getsockname()[:2]
        self.address = f"tcp://[{real_host}]:{real_port}" if ":" in real_host else f"tcp://{real_host}:{real_port}"
        self._inbox = Outbox()
        self._state = b""
        self._lock = threading.Lock()
        self._wake_in, self._wake_out = socket.socketpair()
        self._wake_in.setblocking(False)
        self._wake_out.setblocking(False)
        self._clients: dict[socket.socket, _Client] = {}
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._server, selectors.EVENT_READ)
        self._selector.register(self._wake_out, selectors.EVENT_READ)
        self._deadline: float | None = None
        self._thread = threading.Thread(target=self._run, name=f"publish {self.address}", daemon=True)
        self._thread.start()

    @property
    def client_count(self) -> int:
        """How many readers are connected now."""
        return len(self._clients)

    @property
    def dropped(self) -> int:
        """How many results were replaced before a reader took them."""
        return self._dropped + sum(client.outbox.dropped for client in list(self._clients.values()))

    def send(self, payload: bytes, keep: bool = False) -> None:
        """Put one message in the slot and wake the server thread."""
        with self._lock:
            before = self._inbox.dropped
            self._inbox.put(payload, keep)
            self._dropped += (self._inbox.dropped - before) * len(self._clients)
        self._wake()

    def close(self, drain_s: float = 0.5) -> None:
        """Let readers take what is pending for at most `drain_s`, then hang up."""
        if self._deadline is None:
            self._deadline = time.monotonic() + drain_s
            self._wake()
        self._thread.join(drain_s + 0.5)

    def _wake(self) -> None:
        try:
            self._wake_in.send(b"w")
        except OSError:
            pass  # full: the thread is awake already; closed: nobody to wake

    def _run(self) -> None:
        try:
            self._serve()
        except Exception as exc:  # a defect: the loop goes on, and the run says that nobody is served
            self.failure = f"stopped serving ({exc!r}): report this as a defect"
        finally:
            for sock in (*self._clients, self._server, self._wake_in, self._wake_out):
                sock.close()
            self._selector.close()

    def _serve(self) -> None:
        while True:
            if self._deadline is not None:
                idle = not any(client.sending or client.outbox for client in self._clients.values())
                if (idle and not self._inbox) or time.monotonic() > self._deadline:
                    break
            for key, _ in self._selector.select(0.05 if self._deadline is not None else None):
                if key.fileobj is self._server:
                    self._accept()
                elif key.fileobj is self._wake_out:
                    self._wake_out.recv(4096)
                    self._offer()
                elif client := self._clients.get(key.fileobj):  # type: ignore[call-overload]
                    self._serve_client(client)  # else it was hung up earlier in this round

    def _accept(self) -> None:
        try:
            sock, _ = self._server.accept()
        except OSError as exc:
            if exc.errno in (errno.EMFILE, errno.ENFILE):
                time.sleep(0.05)  # no descriptors are left: the caller stays in the queue and would wake us at once
            return
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
        client = self._clients[sock] = _Client(sock)
        self._selector.register(sock, selectors.EVENT_READ)
        if self._state:
            client.outbox.put(self._state, keep=True)
            self._flush(client)

    def _offer(self) -> None:
        while True:
            with self._lock:
                item = self._inbox.take()
            if item is None:
                return
            payload, keep = item
            self._state = payload if keep else self._state
            for client in list(self._clients.values()):
                client.outbox.put(payload, keep)
                if not client.sending:
                    self._flush(client)

    def _serve_client(self, client: _Client) -> None:
        try:
            if client.sock.recv(4096, socket.MSG_DONTWAIT) == b"":
                self._hang_up(client)
                return
        except BlockingIOError:
            pass
        except OSError:
            self._hang_up(client)
            return
        self._flush(client)

    def _flush(self, client: _Client) -> None:
        try:
            while client.sending or client.outbox:
                if not client.sending:
                    client.sending = memoryview((client.outbox.take() or (b"", False))[0])
                client.sending = client.sending[client.sock.send(client.sending) :]
                self.sent += not client.sending
        except BlockingIOError:
            pass
        except OSError:
            self._hang_up(client)
            return
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if client.sending else 0)
        if self._selector.get_key(client.sock).events != events:
            self._selector.modify(client.sock, events)

    def _hang_up(self, client: _Client) -> None:
        self._selector.unregister(client.sock)
        self._dropped += client.outbox.dropped
        del self._clients[client.sock]
        client.sock.close()


def _listen(uri: Uri, host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    server = socket.socket(family, socket.SOCK_STREAM)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        server.bind((host, port))
        server.listen(128)
    except UnicodeError as exc:
        server.close()
        raise PublishError(f"host '{host}' is not known ({exc})", "give an IP address") from exc
    except OSError as exc:
        server.close()
        if isinstance(exc, socket.gaierror):
            raise PublishError(f"host '{host}' is not known ({exc.strerror})", "give an IP address") from exc
        if exc.errno == errno.EADDRINUSE:
            raise PublishError(
                f"port {port} is in use", f"stop the other program, or choose another port in {uri.safe_text}"
            ) from exc
        raise PublishError(f"cannot listen on {uri.safe_text} ({exc.strerror})", "check host and port") from exc
    server.setblocking(False)
    return server
