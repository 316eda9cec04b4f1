"""Messages to standard output or appended to a file, written by a thread so that a slow disk never blocks the loop."""

import queue
import sys
import threading
from pathlib import Path
from typing import BinaryIO

from edge.errors import ConfigError, PublishError
from edge.publishers.base import PublisherOptions
from edge.uri import Uri

__all__ = ["FilePublisher", "StdoutPublisher"]

_QUEUE_LENGTH = 1024


class _Writer:
    """A bounded queue and the thread that empties it into a stream; a full queue drops the newest, counted."""

    def __init__(self, stream: BinaryIO, address: str, options: PublisherOptions) -> None:
        self.address = address
        self.format = options.format
        self.sent = self.dropped = 0
        self.failure = ""
        self._stream = stream
        self._queue: queue.Queue[bytes | None] = queue.Queue(_QUEUE_LENGTH)
        self._thread = threading.Thread(target=self._write, name=f"publish {address}", daemon=True)
        self._thread.start()

    def send(self, payload: bytes) -> None:
        """Queue one message."""
        try:
            self._queue.put_nowait(payload)
        except queue.Full:
            self.dropped += 1

    def close(self, drain_s: float = 0.5) -> None:
        """Write what is queued, for at most `drain_s`."""
        try:
            self._queue.put(None, timeout=drain_s)
        except queue.Full:
            return
        self._thread.join(drain_s)

    def _write(self) -> None:
        while (payload := self._queue.get()) is not None:
            if self.failure:
                self.dropped += 1
                continue
            try:
                self._stream.write(payload)
                if self._queue.empty():
                    self._stream.flush()
                self.sent += 1
            except (OSError, ValueError) as exc:
                self.failure = "the reader closed it" if isinstance(exc, BrokenPipeError) else str(exc)
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
        super().__init__(sys.stdout.buffer, "standard output", uri.options(PublisherOptions))


class FilePublisher(_Writer):
    """`file://x.jsonl`: every message appended to a file; nothing is dropped while the disk keeps up."""

    @staticmethod
    def check(uri: Uri) -> None:
        """Check name and options.

        Raises: ConfigError.
        """
        uri.options(PublisherOptions)
        if not uri.rest:
            raise ConfigError("file:// names no file", "write file://detections.jsonl")

    def __init__(self, uri: Uri) -> None:
        self.check(uri)
        path = Path(uri.rest).expanduser()
        options = uri.options(PublisherOptions)
        try:
            stream = path.open("ab")
        except OSError as exc:
            raise PublishError(
                f"cannot write {path} ({exc.strerror})", "check that the folder exists and is writable"
            ) from exc
        super().__init__(stream, str(path), options)

    def close(self, drain_s: float = 0.5) -> None:
        """Write what is queued and close the file."""
        super().close(drain_s)
        if not self._thread.is_alive():
            self._stream.close()
