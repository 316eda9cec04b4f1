"""Messages to standard output or appended to a file, written by a thread so that a slow disk never blocks the loop."""

import contextlib
import os
import queue
import sys
import threading
import time
from pathlib import Path
from typing import BinaryIO

from edge.errors import ConfigError, PublishError, WireError
from edge.publishers.base import PublisherBase, PublisherOptions, options_of
from edge.uri import Uri
from edge.wire.building import restamped
from edge.wire.framing import framed
from edge.wire.messages import EVENT_KINDS, KEPT_KINDS, RESULT_KINDS, Message

__all__ = ["FilePublisher", "StdoutPublisher"]

_QUEUE_LENGTH = 1024
_ALL = RESULT_KINDS | EVENT_KINDS | KEPT_KINDS
_WRITTEN = {"json": RESULT_KINDS | EVENT_KINDS | {"status"}}  # a line says its names itself


class _Writer(PublisherBase):
    """A bounded queue and the thread that empties it into a stream; a full queue drops the oldest, counted.

    Heartbeats are not written, nor, as lines, greetings and labels: every line says its labels itself.
    """

    def __init__(self, stream: BinaryIO, address: str, options: PublisherOptions, torn: bool = False) -> None:
        super().__init__(address, options.format or "json")
        self._stream = stream
        self._torn = torn and self.format == "json"  # the line before has no end yet
        self._written = _WRITTEN.get(self.format, _ALL)
        self._queue: queue.Queue[Message | None] = queue.Queue(_QUEUE_LENGTH)
        self._thread = threading.Thread(target=self._run, name=f"publish {address}", daemon=True)
        self._thread.start()

    def send(self, message: Message) -> None:
        """Queue one message."""
        while message.kind in self._written:
            try:
                self._queue.put_nowait(message)
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

    def _run(self) -> None:
        try:
            self._write()
        except Exception as exc:  # a defect: the loop goes on, and the run says that nothing is written
            self.failure = f"stopped writing ({exc!r}): report this as a defect"

    def _write(self) -> None:
        while (message := self._queue.get()) is not None:
            if self.reader_gone:
                self.dropped += 1
                continue
            try:
                payload = framed(self.encode(restamped(message)), self.format == "binary", serial=False)
            except WireError as exc:
                self.failure = str(exc)
                self.dropped += 1
                continue
            view = memoryview(b"\n" + payload if self._torn else payload)
            try:
                while view:
                    view, self._torn = view[self._stream.write(view) or 0 :], self.format == "json"
                self._stream.flush()
                self.sent += 1
                self.failure, self._torn = "", False
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
        options_of(uri, PublisherOptions)
        if uri.rest:
            raise ConfigError(f"stdout:// takes no name, but got '{uri.rest}'", "write stdout://")

    def __init__(self, uri: Uri) -> None:
        self.check(uri)
        sys.stdout.flush()
        # a descriptor of its own: what is left in sys.stdout when the reader is gone would fail at exit
        stream = open(os.dup(sys.stdout.fileno()), "wb", buffering=0)  # noqa: SIM115
        super().__init__(stream, "standard output", options_of(uri, PublisherOptions))


class FilePublisher(_Writer):
    """`file://x.jsonl`: every message appended to a file; nothing is dropped while the disk keeps up."""

    @staticmethod
    def check(uri: Uri) -> None:
        """Check name, folder and options.

        Raises: ConfigError, or PublishError when the folder is not there.
        """
        options_of(uri, PublisherOptions)
        if not uri.rest:
            raise ConfigError("file:// names no file", "write file://detections.jsonl")
        folder = Path(uri.rest).expanduser().parent
        if not folder.is_dir():
            raise PublishError(f"cannot write {uri.rest} (there is no folder {folder})", f"mkdir -p {folder}")

    def __init__(self, uri: Uri) -> None:
        self.check(uri)
        path = Path(uri.rest).expanduser()
        options = options_of(uri, PublisherOptions)
        if path.is_fifo():
            raise PublishError(f"{path} is a named pipe", f"write --publish stdout:// > {path}")
        try:
            stream = path.open("ab", buffering=0)
        except (OSError, ValueError) as exc:
            raise PublishError(f"cannot write {path} ({exc})", "check that the folder exists and is writable") from exc
        super().__init__(stream, str(path), options, torn=_ends_amid_a_line(path))

    def close(self, drain_s: float = 0.5) -> None:
        """Write what is queued and close the file."""
        super().close(drain_s)
        if not self._thread.is_alive():
            with contextlib.suppress(OSError):  # a full disk was told when it was met
                self._stream.close()


def _ends_amid_a_line(path: Path) -> bool:
    """Whether a file was cut where somebody wrote it, as by a power cut; also where it cannot be read."""
    try:
        if not path.is_file() or not path.stat().st_size:
            return False
        with path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) != b"\n"
    except OSError:
        return True
