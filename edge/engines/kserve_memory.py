"""Tensors in system shared memory, which a server on the same machine reads and writes in place.

A file of this name in /dev/shm is what `shm_open` makes and finds on Linux. Its owner holds a lock on it, so that
whoever comes later can tell, and clear away, what a killed process left there.
"""

import fcntl
import ipaddress
import mmap
import os
import secrets
import socket
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edge.tensor import TensorSpec

__all__ = ["Region", "is_this_machine", "left_behind"]

_FOLDER = Path("/dev/shm")
_PREFIX = "harrier-kserve-"
_ALIGNMENT_BYTES = 64


class Region:
    """Shared memory for some tensors, one behind the other, each at a multiple of 64 bytes.

    name: in /dev/shm, and on the server. arrays: views of it, one a spec, offsets (in bytes) where each begins.
    The memory lasts as long as a view of it; `close` takes its name away.
    Raises: OSError when there is none or not enough.
    """

    def __init__(self, specs: Sequence[TensorSpec]) -> None:
        self.offsets: list[int] = []
        self.nbytes = 0
        for spec in specs:
            self.offsets.append(self.nbytes)
            size = spec.dtype.itemsize * int(np.prod(spec.shape))
            self.nbytes += -(-size // _ALIGNMENT_BYTES) * _ALIGNMENT_BYTES
        self.name = f"{_PREFIX}{os.getpid()}-{secrets.token_hex(8)}"
        self._path = _FOLDER / self.name
        self._fd = os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.posix_fallocate(self._fd, 0, self.nbytes)  # too little memory is an error now, not a SIGBUS later
            memory = mmap.mmap(self._fd, self.nbytes)
        except OSError:
            self.close()
            raise
        self.arrays = [
            np.frombuffer(memory, spec.dtype, int(np.prod(spec.shape)), offset).reshape(spec.shape)
            for spec, offset in zip(specs, self.offsets, strict=True)
        ]

    def close(self) -> None:
        """Take the name away; calling it twice is allowed."""
        if self._fd >= 0:
            self._path.unlink(missing_ok=True)
            os.close(self._fd)
            self._fd = -1


def left_behind() -> list[str]:
    """Return the names of regions whose owners ended without a word, and take them away."""
    names = []
    for path in _FOLDER.glob(f"{_PREFIX}*"):
        try:
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            continue  # somebody else's, or just gone
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(fd).st_size:  # else its owner is about to lock it
                path.unlink(missing_ok=True)
                names.append(path.name)
        except OSError:
            pass  # its owner lives
        finally:
            os.close(fd)
    return names


def is_this_machine(host: str) -> bool:
    """Whether a host name or address is one of this machine's own."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        return False
    for family, _, _, _, address in found:
        if ipaddress.ip_address(str(address[0]).partition("%")[0]).is_loopback:
            return True
        try:
            with socket.socket(family) as probe:
                probe.bind((address[0], 0))  # works for own addresses alone
                return True
        except OSError:
            continue
    return False
