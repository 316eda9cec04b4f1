"""Silence for libraries that write to the terminal past Python, TensorFlow's and torch's above all."""

import io
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress

__all__ = ["quiet"]


@contextmanager
def quiet() -> Iterator[None]:
    """Send standard output and error to nowhere for the block, those of C++ libraries and warnings included.

    Exceptions pass through; what the block wrote is lost.
    """
    for stream in (sys.stdout, sys.stderr):
        with suppress(ValueError, OSError):
            stream.flush()
    kept = [(fd, os.dup(fd)) for fd in (1, 2)]
    with tempfile.TemporaryFile() as nowhere, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            for fd, _ in kept:
                os.dup2(nowhere.fileno(), fd)
            with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
                yield
        finally:
            for fd, copy in kept:
                os.dup2(copy, fd)
                os.close(copy)
