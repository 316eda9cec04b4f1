"""`tcp://host:port`: a publisher that listens there, with or without TLS."""

import socket
import ssl

import msgspec

from edge.errors import ConfigError, SourceTimeoutError
from edge.links.stream import StreamLink
from edge.uri import Uri

__all__ = ["TcpLink", "TcpLinkOptions"]

_TRUST = "give the certificate it was signed with: ?tls=yes&ca=FILE"
_NAMED = "connect by a name or address that stands in the certificate"
_OTHER_HOST = (62, 64)  # OpenSSL: X509_V_ERR_HOSTNAME_MISMATCH, _IP_ADDRESS_MISMATCH


class TcpLinkOptions(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """tls: encrypt, and check the publisher's certificate. ca: whose signature is trusted, instead of the system's."""

    tls: bool = False
    ca: str = ""


class TcpLink(StreamLink):
    """`tcp://host:port`, `tcp://host:port?tls=yes&ca=FILE`.

    Raises: ConfigError for a wrong address or option, or a file that holds no certificate.
    """

    def __init__(self, uri: Uri) -> None:
        host, self._port = uri.host_port()
        self._host = host or "127.0.0.1"
        options = uri.options(TcpLinkOptions)
        if options.ca and not options.tls:
            raise ConfigError(f"{uri.safe_text} has ca= without TLS", "add tls=yes")
        self._tls = _context(options.ca) if options.tls else None
        super().__init__(uri.safe_text)

    def open(self, timeout_s: float) -> None:
        """Connect, and with TLS check who answers.

        Raises: SourceTimeoutError when nobody answers, ConfigError for an impossible host or a wrong certificate.
        """
        where = f"{self._host}:{self._port}"
        try:
            sock = socket.create_connection((self._host, self._port), timeout=timeout_s)
        except UnicodeError as exc:
            raise ConfigError(f"host '{self._host}' cannot be ({exc})", "correct the name") from exc
        except OSError as exc:
            cure = "check the name" if isinstance(exc, socket.gaierror) else "start harrier run there first"
            raise SourceTimeoutError(f"nobody answers at {where} ({exc.strerror or exc})", cure) from exc
        if sock.getsockname() == sock.getpeername():  # where nobody listens the kernel may give us the same port
            sock.close()
            raise SourceTimeoutError(f"nobody answers at {where}", "start harrier run there first")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._tls is not None:
            sock = self._encrypted(self._tls, sock, where)
        self.attach(sock)

    def _encrypted(self, context: ssl.SSLContext, sock: socket.socket, where: str) -> ssl.SSLSocket:
        try:
            return context.wrap_socket(sock, server_hostname=self._host)
        except ssl.SSLCertVerificationError as exc:
            sock.close()
            cure = _NAMED if exc.verify_code in _OTHER_HOST else _TRUST
            raise ConfigError(f"the certificate of {where} is not trusted ({exc.verify_message})", cure) from exc
        except OSError as exc:  # ssl.SSLError is one
            sock.close()
            raise SourceTimeoutError(f"{where} does not speak TLS ({exc})", "leave out tls=yes, or try again") from exc


def _context(ca: str) -> ssl.SSLContext:
    """Of a client that trusts the system's authorities, or those in the file only."""
    try:
        return ssl.create_default_context(cafile=ca or None)
    except OSError as exc:  # no such file, or no certificate in it
        raise ConfigError(f"{ca} holds no certificate ({exc})", "give a PEM file") from exc
