"""Messages to standard output or appended to a file, written by a thread so that a slow disk never blocks the loop."""

import contextlib
import os
import queue
import sys
import threading
import time
from pathlib import Path
from typing import BinaryIO

from edge.errors import ConfigError, PublishError
from edge.publishers.base import PublisherOptions
from edge.uri import Uri

__all__ = ["FilePublisher", "StdoutPublisher"]

_QUEUE_LENGTH = 1024


class _Writer:
    """A bounded queue and the thread that empties it into a stream; a full queue drops the oldest, counted."""

    def __init__(self, stream: BinaryIO, address: str, options: PublisherOptions) -> None:
        self.address = address
        self.format = options.format
        self.sent = self.dropped = 0
        self.failure = ""
        self.reader_gone = False
        self._stream = stream
        self._queue: queue.Queue[bytes | None] = queue.Queue(_QUEUE_LENGTH)
        self._thread = threading.Thread(target=self._write, name=f"publish {address}", daemon=True)
        self._thread.start()

    def send(self, payload: bytes, keep: bool = False) -> None:
        """Queue one message."""
        while True:
            try:
                self._queue.put_nowait(payload)
                return
            except queue.Full:
                self._discard()

    def close(self, drain_s: float = 0.5) -> None:
        """Write what is queued, for at most `drain_s`; what is left then is counted as dropped."""
        deadline = time.monotonic() + drain_s
        while self._thread.is_alive() and not self._queue.empty() and time.monotonic() < deadline:
            time.sleep(0.005)
        while not self._queue.empty():
            self._discard()
        self._queue.put(None)
        self._thread.join(max(0.05, deadline - time.monotonic()))

    def _discard(self) -> None:
        try:
            self.dropped += self._queue.get_nowait() is not None
        except queue.Empty:
            pass

    def _write(self) -> None:
        torn = False
        while (payload := self._queue.get()) is not None:
            if self.reader_gone:
                self.dropped += 1
                continue
            view = memoryview(b"\n" + payload if torn else payload)  # a torn line ends before the next begins
            try:
                while view:
                    view, torn = view[self._stream.write(view) or 0 :], True
                self._stream.flush()
                self.sent += 1
                self.failure, torn = "", False
            except BrokenPipeError:
                self.failure, self.reader_gone = "the reader closed it", True
                self.dropped += 1
            except (OSError, ValueError) as exc:
                self.failure = str(exc)
                self.dropped += 1


class StdoutPublisher(_Writer):
    """`stdout://`: one message a line on standard output, for pipes."""

    @staticmethod
    def check(uri: Uri) -> None:
        """Check the options.

        Raises: ConfigError.
        """
        uri.options(PublisherOptions)
        if uri.rest:
            raise ConfigError(f"stdout:// takes no name, but got '{uri.rest}'", "write stdout://")

    def __init__(self, uri: Uri) -> None:
        self.check(uri)
        sys.stdout.flush()
        # a descriptor of its own: what is left in sys.stdout when the reader is gone would fail at exit
        stream = open(os.dup(sys.stdout.fileno()), "wb", buffering=0)  # noqa: SIM115
        super().__init__(stream, "standard output", uri.options(PublisherOptions))


class FilePublisher(_Writer):
    """`file://x.jsonl`: every message appended to a file; nothing is dropped while the disk keeps up."""

    @staticmethod
    def check(uri: Uri) -> None:
        """Check name, folder and options.

        Raises: ConfigError, or PublishError when the folder is not there.
        """
        uri.options(PublisherOptions)
        if not uri.rest:
            raise ConfigError("file:// names no file", "write file://detections.jsonl")
        folder = Path(uri.rest).expanduser().parent
        if not folder.is_dir():
            raise PublishError(f"cannot write {uri.rest} (there is no folder {folder})", f"mkdir -p {folder}")

    def __init__(self, uri: Uri) -> None:
        self.check(uri)
        path = Path(uri.rest).expanduser()
        options = uri.options(PublisherOptions)
        if path.is_fifo():
            raise PublishError(f"{path} is a named pipe", f"write --publish stdout:// > {path}")
        try:
            stream = path.open("ab", buffering=0)
        except (OSError, ValueError) as exc:
            raise PublishError(f"cannot write {path} ({exc})", "check that the folder exists and is writable") from exc
        super().__init__(stream, str(path), options)

    def close(self, drain_s: float = 0.5) -> None:
        """Write what is queued and close the file."""
        super().close(drain_s)
        if not self._thread.is_alive():
            with contextlib.suppress(OSError):  # a full disk was told when it was met
                self._stream.close()
