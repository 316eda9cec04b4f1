"""A server on a Unix socket: as tcp://, for programs on the same machine, guarded by the permissions of a file."""

import contextlib
import os
import socket
import stat
from pathlib import Path

from edge.errors import ConfigError, PublishError
from edge.publishers.access import listen_options
from edge.publishers.stream_server import StreamServer
from edge.uri import Uri

__all__ = ["UnixPublisher"]

_QUEUE = 1024
_MODE = 0o660
_MOST_PATH_BYTES = 107


class UnixPublisher(StreamServer):
    """`unix:///run/harrier.sock`: owner and group of the file may connect; the file is removed at close.

    A socket that an earlier run left behind is replaced, but not one on which somebody listens.
    """

    @staticmethod
    def check(uri: Uri) -> None:
        """Check path and options.

        Raises: ConfigError, or PublishError when the folder is not there.
        """
        options = listen_options(uri)
        if not uri.rest:
            raise ConfigError("unix:// names no socket", "write unix:///run/harrier.sock")
        if options.cert:
            raise ConfigError(f"{uri.safe_text} asks for TLS", "leave cert and key out: no network is involved")
        path = Path(uri.rest).expanduser()
        if len(os.fsencode(path)) > _MOST_PATH_BYTES:
            raise ConfigError(f"{path} is longer than the {_MOST_PATH_BYTES} bytes of a socket's name", "shorten it")
        if not path.parent.is_dir():
            raise PublishError(f"cannot listen on {path} (there is no folder {path.parent})", f"mkdir -p {path.parent}")

    def __init__(self, uri: Uri) -> None:
        self.check(uri)
        self._path = Path(uri.rest).expanduser()
        server = _listen(self._path)
        self._inode = self._path.stat().st_ino
        super().__init__(server, f"unix://{self._path}", listen_options(uri))

    def close(self, drain_s: float = 0.5) -> None:
        """Let readers take what is pending for at most `drain_s`, hang up and remove the socket's file."""
        super().close(drain_s)
        with contextlib.suppress(OSError):
            if self._path.stat().st_ino == self._inode:  # else another run has put its own there
                self._path.unlink()


def _listen(path: Path) -> socket.socket:
    """Raises: PublishError."""
    _make_room(path)
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o777 & ~_MODE)  # so that it is never open to others, not even for a moment
    try:
        server.bind(str(path))
        server.listen(_QUEUE)
    except OSError as exc:
        server.close()
        raise PublishError(
            f"cannot listen on {path} ({exc.strerror})", "choose a folder this user may write to"
        ) from exc
    finally:
        os.umask(mask)
    server.setblocking(False)
    return server


def _make_room(path: Path) -> None:
    """Remove a socket on which nobody listens. Raises: PublishError for whatever else has that name."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    except OSError as exc:
        raise PublishError(f"cannot listen on {path} ({exc.strerror})", "check the folder's permissions") from exc
    if not stat.S_ISSOCK(mode):
        raise PublishError(f"{path} is there and is no socket", "choose another name, or move that file away")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            with contextlib.suppress(FileNotFoundError):
                path.unlink()
            return
        except OSError:
            pass  # somebody is there, busy or not ours
    raise PublishError(f"{path} is in use", "stop the other program, or choose another name")
