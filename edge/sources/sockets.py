"""TCP connections of a library that cannot be interrupted: try first whether they work, and hang them up.

FFmpeg inside OpenCV returns from a silent server only at its timeout. Its sockets are this process's own, so
shutting one down makes it return at once.
"""

import contextlib
import os
import select
import socket
import stat
import threading
import time

__all__ = ["connected_sockets", "hang_up", "try_connect"]

_SLICE_S = 0.1


def try_connect(host: str, port: int, timeout_s: float, interrupted: threading.Event) -> set[str]:
    """Return the addresses of a host, one of which accepted a connection, which is closed again.

    Raises: OSError with the reason when none did in time, or when `interrupted` was set.
    """
    deadline_s = time.monotonic() + timeout_s
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    error = OSError("no address")
    for family, kind, protocol, _, address in found:
        with socket.socket(family, kind, protocol) as tried:
            tried.setblocking(False)
            tried.connect_ex(address)
            while not select.select([], [tried], [], _SLICE_S)[1]:
                if interrupted.is_set() or time.monotonic() > deadline_s:
                    raise TimeoutError("it does not answer")
            code = tried.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code == 0:
                return {str(entry[4][0]) for entry in found}
            error = OSError(code, os.strerror(code))
    raise error


def connected_sockets(addresses: set[str], port: int) -> dict[int, int]:
    """Return inode -> file descriptor of our TCP sockets connected to one of the addresses."""
    sockets = {}
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # another thread closed it meanwhile
            fd = int(name)
            if not stat.S_ISSOCK(os.fstat(fd).st_mode):
                continue
            with socket.socket(fileno=os.dup(fd)) as twin:
                if twin.type == socket.SOCK_STREAM and twin.family in (socket.AF_INET, socket.AF_INET6):
                    peer = twin.getpeername()
                    if peer[0] in addresses and peer[1] == port:
                        sockets[os.fstat(twin.fileno()).st_ino] = fd
    return sockets


def hang_up(inode: int, fd: int) -> None:
    """Shut a socket down if the descriptor is still that socket, so that whoever waits for it returns."""
    with contextlib.suppress(OSError), socket.socket(fileno=os.dup(fd)) as twin:
        if os.fstat(twin.fileno()).st_ino == inode:
            twin.shutdown(socket.SHUT_RDWR)
