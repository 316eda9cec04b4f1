"""The thread behind tcp:// and unix://: accepts readers and gives each the newest it can take, never a backlog."""

import contextlib
import errno
import logging
import os
import resource
import selectors
import socket
import ssl
import threading
import time

from edge.publishers.access import ListenOptions
from edge.publishers.base import PublisherBase
from edge.publishers.handover import Handover
from edge.publishers.session import Channel, ClientCounts
from edge.publishers.stream_client import StreamClient
from edge.wire.framing import framed
from edge.wire.messages import Message

__all__ = ["StreamServer"]

log = logging.getLogger("harrier")

_SEND_BUFFER_BYTES = 8192  # small, so that little stale data waits in the kernel behind a slow reader
_TCP_OPTIONS = {
    "TCP_NODELAY": 1,
    "TCP_NOTSENT_LOWAT": 1,  # bytes that wait in the kernel while the network takes none: they would grow old there
    "TCP_USER_TIMEOUT": 120_000,  # ms: a reader whose network took nothing for so long is gone
}
_NICENESS = 5  # the loop comes first
_READERS_AT_ONCE = 4  # about 40 us
_READERS_AT_A_TIME = 16  # about 0.1 ms of work
_REST_S = 50e-6
_NO_ROOM_PAUSE_NS = 100_000_000
_RESERVED_FDS = 32  # for a camera, a port or an engine that is opened again
_LOG_PERIOD_NS = 1_000_000_000


class StreamServer(PublisherBase):
    """A publisher on a listening stream socket, which it owns; `context` puts TLS on every connection.

    Each reader has a slot for the newest result: whoever is slow or dead delays neither the loop nor other readers.
    """

    def __init__(
        self, server: socket.socket, address: str, options: ListenOptions, context: ssl.SSLContext | None = None
    ) -> None:
        super().__init__(address, options.format or "binary")
        self._server = server
        self._context = context
        self._channel = Channel(options, self._frame)
        self._handover = Handover()
        self._serving = threading.Lock()  # held by whoever deals with readers
        self._wake_in, self._wake_out = socket.socketpair()
        self._wake_in.setblocking(False)
        self._wake_out.setblocking(False)
        self._clients: dict[socket.socket, StreamClient] = {}
        self._timed: dict[StreamClient, int] = {}
        self._listen_again_ns: int | None = None
        self._logged_ns = 0
        self._selector = selectors.DefaultSelector()
        self._selector.register(server, selectors.EVENT_READ)
        self._selector.register(self._wake_out, selectors.EVENT_READ)
        self._deadline_ns: int | None = None
        self._thread = threading.Thread(target=self._run, name=f"publish {address}", daemon=True)
        self._thread.start()

    @property
    def client_count(self) -> int:
        """How many readers are connected now."""
        return len(self._clients)

    @property
    def clients(self) -> list[ClientCounts]:
        """The readers connected now, with what each was sent and has missed."""
        return self._channel.clients

    def send(self, message: Message) -> None:
        """Put one message in the slot and give it to the readers: a few at once, many by the server thread."""
        asleep = self._handover.put(message)
        if len(self._clients) <= _READERS_AT_ONCE and self._serving.acquire(blocking=False):
            try:
                self._offer()  # no socket ever waits, and waking a thread would take longer than this
            except Exception as exc:
                self.failure = f"could not serve ({exc!r}): report this as a defect"
                self._handover.awake = False  # else the thread would never be woken again
            finally:
                self._serving.release()
            if self._timed:
                self._wake()  # it has to look after them
        elif asleep:
            self._wake()

    def close(self, drain_s: float = 0.5) -> None:
        """Let readers take what is pending for at most `drain_s`, then hang up."""
        if self._deadline_ns is None:
            self._deadline_ns = time.monotonic_ns() + int(drain_s * 1e9)
            self._wake()
        self._thread.join(drain_s + 0.5)

    def _frame(self, message: Message) -> bytes:
        return framed(self.encode(message), self.format == "binary", serial=False)

    def _wake(self) -> None:
        with contextlib.suppress(OSError):  # full: the thread is awake already; closed: nobody to wake
            self._wake_in.send(b"w")

    def _run(self) -> None:
        with contextlib.suppress(OSError, AttributeError):  # not every system has priorities of threads
            own = threading.get_native_id()
            os.setpriority(os.PRIO_PROCESS, own, os.getpriority(os.PRIO_PROCESS, own) + _NICENESS)
        try:
            self._serve()
        except Exception as exc:  # a defect: the loop goes on, and the run says that nobody is served
            self.failure = f"stopped serving ({exc!r}): report this as a defect"
        finally:
            with self._serving:  # the loop may be sending
                for client in list(self._clients.values()):
                    client.close()
                self._clients.clear()
                self._timed.clear()
                for sock in (self._server, self._wake_in, self._wake_out):
                    sock.close()
                self._selector.close()

    def _serve(self) -> None:
        while not self._finished():
            ready = self._selector.select(self._patience_s())
            with self._serving:
                self._round(ready)

    def _round(self, ready: list[tuple[selectors.SelectorKey, int]]) -> None:
        """Deal with what has happened and what is due."""
        for number, (key, events) in enumerate(ready, 1):
            if key.fileobj is self._server:
                self._accept()
            elif key.fileobj is self._wake_out:
                self._wake_out.recv(4096)
                self._offer()
            elif client := self._clients.get(key.fileobj):  # type: ignore[call-overload]
                if events & selectors.EVENT_READ or client.session is None:
                    client.read()
                self._flush(client)  # else it was hung up earlier in this round
            _give_way(number)
        now = time.monotonic_ns()
        for client in [client for client, due_ns in self._timed.items() if due_ns <= now]:
            self._flush(client)
        if self._listen_again_ns is not None and self._listen_again_ns <= now:
            self._listen_again_ns = None
            self._selector.register(self._server, selectors.EVENT_READ)
        self._report()

    def _finished(self) -> bool:
        if self._deadline_ns is None:
            return False
        idle = not self._handover and not any(client.pending for client in self._clients.values())
        return idle or time.monotonic_ns() > self._deadline_ns

    def _patience_s(self) -> float | None:
        """How long nothing needs to be done unless something happens."""
        if self._deadline_ns is not None:
            return 0.02
        times = [*self._timed.values()]
        if self._listen_again_ns is not None:
            times.append(self._listen_again_ns)
        return max(0.0, (min(times) - time.monotonic_ns()) / 1e9) if times else None

    def _report(self) -> None:
        channel = self._channel
        self.sent, self.dropped = channel.sent, channel.dropped
        if channel.command:
            self.command, channel.command = channel.command, ""

    def _accept(self) -> None:
        try:
            sock, peer = self._server.accept()
        except OSError as exc:
            if exc.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                self._rest(str(exc.strerror))
            return
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        if most != resource.RLIM_INFINITY and sock.fileno() >= most - _RESERVED_FDS:  # the lowest free number
            sock.close()
            self._rest("the last descriptors are the camera's")
            return
        self.failure = ""
        address = _name_of(sock, peer)
        if len(self._clients) >= self._channel.options.max_clients:
            self._log(address, f"{len(self._clients)} readers are connected already (max_clients)")
            sock.close()
            return
        try:
            sock = self._prepared(sock)
        except OSError:
            sock.close()  # it is gone already
            return
        client = self._clients[sock] = StreamClient(sock, address, self._channel)
        self._selector.register(sock, selectors.EVENT_READ)
        self._flush(client)

    def _rest(self, reason: str) -> None:
        """Listen again a little later: whoever calls stays in the queue and would wake us at once."""
        self.failure = f"no new reader can connect ({reason}): raise `ulimit -n`"
        self._listen_again_ns = time.monotonic_ns() + _NO_ROOM_PAUSE_NS
        self._selector.unregister(self._server)

    def _prepared(self, sock: socket.socket) -> socket.socket:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
        if sock.family != socket.AF_UNIX:
            for name, value in _TCP_OPTIONS.items():
                if hasattr(socket, name):  # not every system has them
                    sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        if self._context is None:
            return sock
        return self._context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)

    def _offer(self) -> None:
        """Give every reader what the loop has handed over."""
        while True:
            message, missed = self._handover.take()
            if missed:
                self._channel.missed(missed)
            if message is None:
                self._report()
                return
            item = self._channel.put(message)
            for number, client in enumerate(list(self._clients.values()), 1):
                _give_way(number)
                if client.session is not None:
                    client.session.put(item)
                    if not client.blocked:
                        self._flush(client)

    def _flush(self, client: StreamClient) -> None:
        """Send what may go to this reader, and see to it that it is looked after again in time."""
        if not client.ended:
            client.write()
        if client.ended:
            self._hang_up(client)
            return
        due_ns = client.due_ns
        if due_ns is not None:
            self._timed[client] = due_ns
        elif self._timed:
            self._timed.pop(client, None)
        if client.selected != (events := client.events):
            client.selected = events
            self._selector.modify(client.sock, events)

    def _hang_up(self, client: StreamClient) -> None:
        self._log(client.address, client.ended)
        self._selector.unregister(client.sock)
        self._clients.pop(client.sock, None)
        self._timed.pop(client, None)
        client.close()

    def _log(self, address: str, reason: str) -> None:
        """Say why a reader is hung up on, but not as often as a bad one might like."""
        now = time.monotonic_ns()
        if reason not in ("", "it is gone", "it hung up") and now - self._logged_ns > _LOG_PERIOD_NS:
            self._logged_ns = now
            log.warning("%s: hung up on %s: %s", self.address, address, reason)


def _give_way(number: int) -> None:
    """Rest after some readers, so that a step of the loop that is due waits neither for core nor for interpreter.

    A thread that only ever leaves the interpreter for a system call takes it back before another can have it.
    """
    if number % _READERS_AT_A_TIME == 0:
        time.sleep(_REST_S)


def _name_of(sock: socket.socket, peer: object) -> str:
    """Return how a reader is called: host and port, or its process."""
    if sock.family == socket.AF_UNIX:
        if not hasattr(socket, "SO_PEERCRED"):
            return "a process of this machine"
        credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        return f"pid {int.from_bytes(credentials[:4], 'little')}"
    host, port = peer[:2]  # type: ignore[index]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
