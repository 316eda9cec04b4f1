"""One datagram per message to one address, a multicast group or a whole network."""

import errno
import select
import socket
import threading
import time
from contextlib import suppress
from typing import Annotated

import msgspec

from edge.clock import monotonic_ns, unix_ns_from_monotonic_ns
from edge.errors import ConfigError, PublishError, WireError
from edge.publishers.base import PublisherBase, PublisherOptions, options_of
from edge.publishers.fitting import fitted
from edge.publishers.multicast import group_request, interface_index, is_multicast
from edge.publishers.rotation import Rotation
from edge.uri import Uri
from edge.wire import decoder, jsonl
from edge.wire.building import restamped
from edge.wire.messages import EVENT_KINDS, RESULT_KINDS, ClockMessage, HelloMessage, LabelsMessage, Message

__all__ = ["UdpOptions", "UdpPublisher"]

_MOST_BYTES = {socket.AF_INET: 1472, socket.AF_INET6: 1452}  # of payload in one Ethernet frame
_MOST_QUESTIONS_HZ = 200


class UdpOptions(PublisherOptions, kw_only=True):
    """Options of `udp://`.

    ttl: how many routers a multicast message may pass. interface: where multicast goes out, by name or (IPv4) address.
    broadcast: the address is that of a whole network. max_bytes: of one result; None: what one Ethernet frame holds.
    """

    ttl: Annotated[int, msgspec.Meta(ge=0, le=255)] = 1
    interface: str = ""
    broadcast: bool = False
    max_bytes: Annotated[int, msgspec.Meta(ge=64, le=65_507)] | None = None


class UdpPublisher(PublisherBase):
    """`udp://host:port`: sends each message as one datagram and never waits.

    A result too large for one is cut to its strongest detections; what the network cannot take at once is dropped and
    counted. HELLO and LABELS are repeated in turn, for readers that come later. Questions for the time are answered
    when they come from where results go: that host, or anybody for a group or a network.
    """

    @staticmethod
    def check(uri: Uri) -> None:
        """Check address and options.

        Raises: ConfigError.
        """
        host, port = uri.host_port()
        if not host or port == 0:
            raise ConfigError(f"{uri.safe_text} names nobody to send to", "write udp://HOST:PORT of the receiver")
        options_of(uri, UdpOptions)

    def __init__(self, uri: Uri) -> None:
        self.check(uri)
        options = options_of(uri, UdpOptions)
        host, port = uri.host_port()
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
        except (socket.gaierror, UnicodeError) as exc:
            raise PublishError(f"host '{host}' is not known ({exc})", "give an IP address") from exc
        family, self._to = found[0], found[4]
        address = f"udp://[{host}]:{port}" if ":" in host else f"udp://{host}:{port}"
        super().__init__(address, options.format or "binary")
        self._max_bytes = options.max_bytes or _MOST_BYTES[family]
        self._anybody = options.broadcast or is_multicast(str(self._to[0]))
        self._socket = socket.socket(family, socket.SOCK_DGRAM)
        try:
            self._set_up(family, options)
        except OSError as exc:
            self._socket.close()
            raise PublishError(f"cannot send to {uri.safe_text} ({exc.strerror})", "check the interface") from exc
        self._rotation = Rotation()
        self._lock = threading.Lock()
        self._deadline_s: float | None = None
        self._questions, self._t_questions_s = 0, 0.0
        self._wake_in, self._wake_out = socket.socketpair()
        self._wake_in.setblocking(False)
        self._thread = threading.Thread(target=self._run, name=f"publish {self.address}", daemon=True)
        self._thread.start()

    def send(self, message: Message) -> None:
        """Send one datagram at once: no datagram waits for a reader, and waking a thread would take longer."""
        if isinstance(message, HelloMessage | LabelsMessage):
            with self._lock:
                self._rotation.put(message)
            self._wake()
            return
        try:
            self._send_now(message)
        except Exception as exc:
            self.failure = f"could not send ({exc!r}): report this as a defect"

    def close(self, drain_s: float = 0.5) -> None:
        """Send what waits, then close the socket; datagrams already sent are the network's."""
        if self._deadline_s is None:
            self._deadline_s = time.monotonic() + drain_s
            self._wake()
        self._thread.join(drain_s + 0.5)

    def _set_up(self, family: int, options: UdpOptions) -> None:
        """Set the socket's options. Raises: OSError."""
        self._socket.setblocking(False)
        if options.broadcast:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        if not is_multicast(str(self._to[0])):
            return
        if family == socket.AF_INET6:
            self._socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, options.ttl)
            if options.interface:
                index = interface_index(options.interface)
                self._socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
            return
        self._socket.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, options.ttl)
        if options.interface:
            request = group_request("0.0.0.0", options.interface)
            self._socket.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, request)

    def _wake(self) -> None:
        try:
            self._wake_in.send(b"w")
        except OSError:
            pass  # full: the thread is awake already; closed: nobody to wake

    def _run(self) -> None:
        try:
            self._serve()
        except Exception as exc:  # a defect: the loop goes on, and the run says that nobody is served
            self.failure = f"stopped sending ({exc!r}): report this as a defect"
        finally:
            for sock in (self._socket, self._wake_in, self._wake_out):
                sock.close()

    def _serve(self) -> None:
        poller = select.poll()
        poller.register(self._socket, select.POLLIN)
        poller.register(self._wake_out, select.POLLIN)
        while True:
            now = time.monotonic()
            with self._lock:
                wait_s = self._rotation.wait_s(now, idle=True)
                greeting = self._rotation.take(now) if wait_s <= 0 else None
            if greeting is not None:
                self._send_now(greeting)
                continue
            if self._deadline_s is not None:
                return
            ready = {fd for fd, _ in poller.poll(None if wait_s == float("inf") else wait_s * 1000 + 1)}
            if self._wake_out.fileno() in ready:
                self._wake_out.recv(4096)
            if self._socket.fileno() in ready:
                self._answer()

    def _send_now(self, message: Message) -> None:
        """Send one datagram, or count it as dropped and say why."""
        try:
            self._socket.sendto(fitted(self.encode, restamped(message), self._max_bytes), self._to)
        except WireError as exc:
            self.failure = str(exc)
        except BlockingIOError:
            pass
        except OSError as exc:
            self.failure = f"{self.address}: {exc.strerror}{_CURES.get(exc.errno or 0, '')}"
        else:
            self.sent += 1
            self.failure = ""
            return
        self.dropped += message.kind in RESULT_KINDS | EVENT_KINDS

    def _answer(self) -> None:
        """Answer one question for the time; everything else that comes is passed over."""
        try:
            data, sender = self._socket.recvfrom(2048)
        except OSError:
            return  # an unreachable port is told this way
        t_receive_ns = unix_ns_from_monotonic_ns(monotonic_ns())
        if not self._anybody and _host(sender) != _host(self._to):
            return
        if time.monotonic() - self._t_questions_s > 1.0:
            self._questions, self._t_questions_s = 0, time.monotonic()
        self._questions += 1
        if self._questions > _MOST_QUESTIONS_HZ:
            return
        with suppress(WireError, OSError):
            question = jsonl.decode(data) if data[:1] == b"{" else decoder.decode(data)
            if isinstance(question, ClockMessage) and not question.reply:
                reply = ClockMessage(
                    reply=True,
                    t_request_ns=question.t_request_ns,
                    t_receive_ns=t_receive_ns,
                    t_reply_ns=unix_ns_from_monotonic_ns(monotonic_ns()),
                )
                self._socket.sendto(self.encode(reply, None), sender)


_CURES = {
    errno.EACCES: ": for the address of a whole network add broadcast=yes",
    errno.EMSGSIZE: ": lower max_bytes",
    errno.ENETUNREACH: ": check that the network is up",
    errno.EHOSTUNREACH: ": check that the receiver is on this network",
}


def _host(address: tuple) -> str:
    """The IP address of a socket address, without the interface of a link-local one."""
    return str(address[0]).partition("%")[0]
