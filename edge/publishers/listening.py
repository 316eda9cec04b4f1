"""A TCP socket that listens, or the reason why not."""

import errno
import socket

from edge.errors import PublishError
from edge.uri import Uri

__all__ = ["listening_socket"]

_QUEUE = 128


def listening_socket(uri: Uri, host: str, port: int) -> socket.socket:
    """Return a non-blocking socket that listens there ("" for all IPv4 addresses; port 0 takes a free one).

    Raises: PublishError when the port is in use or the address is not this machine's.
    """
    server = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        server.bind((host, port))
        server.listen(_QUEUE)
    except (OSError, UnicodeError, TypeError) as exc:  # TypeError: a name that cannot be one
        server.close()
        if isinstance(exc, socket.gaierror | UnicodeError | TypeError):
            raise PublishError(f"host '{host}' is not known ({exc})", "give an IP address") from exc
        if exc.errno == errno.EADDRINUSE:
            raise PublishError(
                f"port {port} is in use", f"stop the other program, or choose another port in {uri.safe_text}"
            ) from exc
        raise PublishError(f"cannot listen on {uri.safe_text} ({exc.strerror})", "check host and port") from exc
    server.setblocking(False)
    return server
