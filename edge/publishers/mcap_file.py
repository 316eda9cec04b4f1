"""One recording on its way to the disk: chunks are made in memory and written whole, again and again until they are."""

import errno
import fcntl
import os
from contextlib import suppress
from pathlib import Path

import msgspec
from mcap.writer import CompressionType, Writer

from edge import __version__
from edge.clock import unix_ns_from_monotonic_ns
from edge.publishers.mcap_schemas import SETTINGS, Entry, schema_of

__all__ = ["LIBRARY", "RecordingFile"]

LIBRARY = f"harrier {__version__}"

_CHUNK_BYTES = 1 << 20
_RECORD_BYTES = 64  # of a message's own record and its indexes


class RecordingFile:
    """An MCAP file that grows by whole chunks; what `commit` has returned for is on the disk.

    The file is locked while it is written. written: messages that are on the disk. size_bytes: of the file as it would
    be with all that was added. t_end_ns, t_begin_ns: of the entries (CLOCK_MONOTONIC). Times become Unix times with the
    wall clock as it was when the file was begun: it may be set, what is in a file goes on evenly.
    Raises: OSError, FileExistsError for a name that is taken.
    """

    def __init__(self, path: Path, compression: str, sync: bool) -> None:
        self.path = path
        self.written = 0
        self.size_bytes = 0
        self._sync = sync
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not os.fstat(self._fd).st_nlink:  # another process made room before it was locked
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
        except OSError:
            os.close(self._fd)
            raise
        self._sink = _Sink()
        kind = {"none": CompressionType.NONE, "lz4": CompressionType.LZ4, "zstd": CompressionType.ZSTD}[compression]
        self._writer = Writer(self._sink, _CHUNK_BYTES, kind)
        self._writer.start(library=LIBRARY)
        self._unix_ns = unix_ns_from_monotonic_ns(0)
        self._channels: dict[str, int] = {}
        self._schemas: dict[str, int] = {}
        self._added = 0
        self.ended = False  # it has its end, on the disk or about to be written: nothing may be added

    @property
    def pending_bytes(self) -> int:
        """How many bytes of whole chunks wait to be written."""
        return len(self._sink.pending)

    def add(self, entry: Entry) -> None:
        """Add a message to the chunk in memory; settings end that chunk, for they hold from here on."""
        if entry.topic == SETTINGS:
            self._writer.flush()
            self._writer.add_metadata(SETTINGS, msgspec.json.decode(entry.data, type=dict[str, str]))
            self.size_bytes += len(entry.data) + _RECORD_BYTES
            return
        channel = self._channels.get(entry.topic) or self._open_channel(entry.topic)
        self._writer.add_message(
            channel,
            entry.t_log_ns + self._unix_ns,
            entry.data,
            entry.t_publish_ns + self._unix_ns,
            entry.sequence & 0xFFFFFFFF,
        )
        self._added += 1
        self.size_bytes += len(entry.data) + _RECORD_BYTES

    def commit(self) -> int:
        """Write all that was added, as a chunk, and return how many messages this has brought to the disk.

        Raises: OSError when that failed; nothing is lost, the next call tries again.
        """
        self._writer.flush()
        self._write()
        done, self.written = self._added - self.written, self._added
        return done

    def finish(self) -> int:
        """Write what is left and the index, close the file, and return as `commit`.

        Raises: OSError when that failed; the next call tries again.
        """
        if not self.ended:
            self._writer.finish()
            self.ended = True
        self._write()
        done, self.written = self._added - self.written, self._added
        self.leave()
        return done

    def leave(self) -> None:
        """Close the file as it is: without an index, readable up to its last chunk."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            with suppress(OSError):
                os.close(fd)

    def _open_channel(self, topic: str) -> int:
        message_encoding, name, encoding, text = schema_of(topic)
        if name not in self._schemas:
            self._schemas[name] = self._writer.register_schema(name, encoding, text)
            self.size_bytes += len(text) * 2  # at the end once more
        self._channels[topic] = self._writer.register_channel(topic, message_encoding, self._schemas[name])
        return self._channels[topic]

    def _write(self) -> None:
        """Raises: OSError; what was written of the bytes that wait is cut off again."""
        sink = self._sink
        view = memoryview(sink.pending)
        try:
            at = 0
            while at < len(view):
                at += os.pwrite(self._fd, view[at:], sink.on_disk + at)
            if at and self._sync:
                os.fdatasync(self._fd)
        except OSError:
            with suppress(OSError):  # a half chunk is of no use to anybody, and takes room
                os.ftruncate(self._fd, sink.on_disk)
            raise
        finally:
            view.release()
        sink.on_disk += at
        sink.pending.clear()


class _Sink:
    """What the writer takes for a file: bytes that wait, behind those on the disk."""

    def __init__(self) -> None:
        self.pending = bytearray()
        self.on_disk = 0

    def write(self, data: bytes) -> int:
        self.pending += data
        return len(data)

    def tell(self) -> int:
        return self.on_disk + len(self.pending)

    def flush(self) -> None:
        """Nothing: `RecordingFile.commit` writes."""
