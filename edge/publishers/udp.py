"""One datagram per message to a fixed address."""

import socket

from edge.errors import ConfigError, PublishError
from edge.publishers.base import PublisherOptions
from edge.uri import Uri

__all__ = ["UdpPublisher"]


class UdpPublisher:
    """`udp://host:port`: sends each message as one datagram and never waits.

    A message over 65,507 bytes, or one the network cannot take at once, is dropped and counted.
    """

    @staticmethod
    def check(uri: Uri) -> None:
        """Check address and options.

        Raises: ConfigError.
        """
        host, port = uri.host_port()
        if not host or port == 0:
            raise ConfigError(f"{uri.safe_text} names nobody to send to", "write udp://HOST:PORT of the receiver")
        uri.options(PublisherOptions)

    def __init__(self, uri: Uri) -> None:
        self.check(uri)
        host, port = uri.host_port()
        self.format = uri.options(PublisherOptions).format
        self.sent = self.dropped = 0
        self.failure = ""
        self.reader_gone = False
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
        except (socket.gaierror, UnicodeError) as exc:
            raise PublishError(f"host '{host}' is not known ({exc})", "give an IP address") from exc
        self.address = f"udp://{host}:{port}"
        self._to = found[4]
        self._socket = socket.socket(found[0], socket.SOCK_DGRAM)
        self._socket.setblocking(False)

    def send(self, payload: bytes, keep: bool = False) -> None:
        """Send one datagram, or count it as dropped."""
        try:
            self._socket.sendto(payload, self._to)
            self.sent += 1
        except OSError:
            self.dropped += 1

    def close(self, drain_s: float = 0.5) -> None:
        """Close the socket; datagrams already sent are the network's."""
        self._socket.close()
