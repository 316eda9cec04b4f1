"""The reader's end of datagrams."""

import errno
import select
import socket
import struct
from contextlib import suppress

import msgspec

from edge.errors import ConfigError, EndOfStreamError, PublishError
from edge.links.base import Framing
from edge.publishers.multicast import group_request, interface_index, is_multicast
from edge.uri import Uri

__all__ = ["UdpLink", "UdpLinkOptions"]

_MOST_BYTES = 65_535
_RECEIVE_BUFFER_BYTES = 1 << 18
_IP_MULTICAST_ALL = 49  # of Linux; left on, the group also comes from where other programs have joined it


class UdpLinkOptions(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Options of `udp://` for a reader; interface: where a group is joined, by name or (IPv4) address."""

    interface: str = ""


class UdpLink:
    """`udp://:7788` takes what comes to that port, `udp://239.1.2.3:7788?interface=eth0` what is sent to a group.

    What is sent goes to whoever sent the newest datagram.
    """

    framing: Framing = "message"
    two_way = True

    def __init__(self, uri: Uri) -> None:
        self._uri = uri
        self._host, self._port = uri.host_port()
        if self._port == 0:
            raise ConfigError(f"{uri.safe_text} names no port", "write the one the publisher sends to: udp://:7788")
        self._interface = uri.options(UdpLinkOptions).interface
        self._socket: socket.socket | None = None
        self._asking: socket.socket | None = None
        self._sender: tuple | None = None
        self._poll = select.poll()
        self._patience_us = 0
        self._buffer = memoryview(bytearray(_MOST_BYTES))

    def open(self, timeout_s: float) -> None:
        """Take the port, and join the group if the address is one.

        Raises: PublishError when the port is in use or there is no such address or interface, ConfigError for a name
        nobody knows.
        """
        self.close()
        try:
            found = socket.getaddrinfo(
                self._host or "0.0.0.0", self._port, type=socket.SOCK_DGRAM, flags=socket.AI_PASSIVE
            )[0]
        except (socket.gaierror, UnicodeError) as exc:
            raise ConfigError(f"host '{self._host}' is not known ({exc})", "give an IP address") from exc
        family, address = found[0], found[4]
        self._socket = self._asking = socket.socket(family, socket.SOCK_DGRAM)
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER_BYTES)
            if is_multicast(str(address[0])):
                self._join(family, address)
            else:
                self._socket.bind(address)
        except OSError as exc:
            self.close()
            raise _explained(self._uri, exc) from exc
        self._poll = select.poll()
        for sock in {self._socket, self._asking}:
            sock.setblocking(self._asking is self._socket)
            self._poll.register(sock, select.POLLIN)
        self._patience_us = 0
        self._buffer = memoryview(bytearray(_MOST_BYTES))

    def receive(self, timeout_s: float) -> bytes:
        """Return one datagram, b"" when none came within `timeout_s`.

        Raises: EndOfStreamError when it is not open.
        """
        if self._socket is None or self._asking is None:
            raise EndOfStreamError(f"{self._uri.safe_text} is not open", "open it first")
        if self._asking is self._socket:
            return self._take(self._socket, timeout_s)
        for fd, _ in self._poll.poll(max(0.0, timeout_s) * 1000):
            sock = self._socket if fd == self._socket.fileno() else self._asking
            try:
                data, self._sender = sock.recvfrom(_MOST_BYTES)
            except OSError:
                continue  # a damaged datagram, or an answer that says nobody is there
            return data
        return b""

    def _take(self, sock: socket.socket, timeout_s: float) -> bytes:
        """Wait in the very call that takes the datagram: polling first would make two of them when it is urgent."""
        patience_us = max(1000, int(timeout_s * 1e6))
        if patience_us != self._patience_us:
            self._patience_us = patience_us
            value = struct.pack("@ll", patience_us // 1_000_000, patience_us % 1_000_000)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, value)
        try:
            size, self._sender = sock.recvfrom_into(self._buffer)  # a new buffer of this size each time would cost
        except OSError:
            return b""  # nothing in time, or an answer that says nobody is there
        return bytes(self._buffer[:size])

    def send(self, data: bytes) -> None:
        """Send one datagram to whoever sent the newest one; dropped while nobody has."""
        sock, sender = self._asking, self._sender
        if sock is not None and sender is not None:
            with suppress(OSError):
                sock.sendto(data, socket.MSG_DONTWAIT, sender)

    def close(self) -> None:
        """Leave group and port; calling it twice is allowed."""
        for sock in {self._socket, self._asking} - {None}:
            assert sock is not None
            sock.close()
        self._socket = self._asking = self._sender = None

    def _join(self, family: int, address: tuple) -> None:
        """Take the port of a group, beside other readers on this machine, and ask from a port of our own.

        An answer to the group's port would reach only one of the readers. Raises: OSError.
        """
        assert self._socket is not None
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        group = str(address[0]).partition("%")[0]
        if family == socket.AF_INET6:
            index = interface_index(self._interface) or address[3]
            self._socket.bind((*address[:3], index))
            request = socket.inet_pton(socket.AF_INET6, group) + struct.pack("@I", index)
            self._socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, request)
        else:
            self._socket.bind(address)
            with suppress(OSError):
                self._socket.setsockopt(socket.IPPROTO_IP, _IP_MULTICAST_ALL, 0)
            request = group_request(group, self._interface)
            self._socket.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, request)
        self._asking = socket.socket(family, socket.SOCK_DGRAM)


def _explained(uri: Uri, error: OSError) -> PublishError:
    if error.errno == errno.EADDRINUSE:
        return PublishError(
            f"another program listens on {uri.safe_text}", "stop it, or send to another port and listen there"
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return PublishError(f"no interface has the address of {uri.safe_text}", "write udp://:PORT for all of them")
    if error.errno == errno.ENODEV:
        return PublishError(f"no interface of {uri.safe_text} takes a group", "add ?interface=NAME; see: ip link")
    return PublishError(f"cannot listen on {uri.safe_text} ({error.strerror})", "check address and interface")
