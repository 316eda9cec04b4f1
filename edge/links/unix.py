"""`unix://path`: a publisher on this machine."""

import socket

from edge.errors import ConfigError, SourceTimeoutError
from edge.links.stream import StreamLink
from edge.uri import Uri

__all__ = ["UnixLink"]


class UnixLink(StreamLink):
    """`unix://path`, or `unix://@name` for Linux's abstract sockets.

    Raises: ConfigError without a path, or for an option.
    """

    def __init__(self, uri: Uri) -> None:
        if not uri.rest:
            raise ConfigError(f"{uri.safe_text} names no socket", "write unix://path/of/the.sock")
        if uri.query:
            raise ConfigError(f"{uri.safe_text}: there are no options", "leave out what follows the '?'")
        super().__init__(uri.safe_text)
        self._path = uri.rest
        self._address = "\0" + uri.rest[1:] if uri.rest.startswith("@") else uri.rest

    def open(self, timeout_s: float) -> None:
        """Connect.

        Raises: SourceTimeoutError when nobody answers, ConfigError for a path that is too long or not ours to open.
        """
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.settimeout(timeout_s)
        try:
            sock.connect(self._address)
        except PermissionError as exc:
            sock.close()
            raise ConfigError(f"{self._path} may not be opened", "join the group that owns the socket") from exc
        except OSError as exc:
            sock.close()
            if exc.errno is None:  # no system call said so: Python refused the address
                raise ConfigError(f"{self._path} cannot be a socket ({exc})", "choose a shorter path") from exc
            raise SourceTimeoutError(
                f"nobody answers at {self._path} ({exc.strerror or exc})", "start harrier run there first"
            ) from exc
        self.attach(sock)
