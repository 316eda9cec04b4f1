"""From memory to the disk: what waits, the ring that a trigger keeps, and the thread that writes files."""

import logging
import os
import threading
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from edge.clock import monotonic_ns
from edge.errors import PublishError
from edge.publishers.mcap_file import RecordingFile
from edge.publishers.mcap_folder import RecordingFolder
from edge.publishers.mcap_schemas import SETTINGS, Entry

__all__ = ["DiskWriter", "WritingOptions"]

log = logging.getLogger("harrier")

_ENTRY_BYTES = 300  # what one takes beside its data
_AT_ONCE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class WritingOptions:
    """How files are written. max_bytes, max_s: of one file, 0 for any; flush_s: at most this much is lost in a crash.

    memory_bytes: what may wait. ring_s: how far back a file reaches that a trigger began.
    """

    max_bytes: int
    max_s: float
    flush_s: float
    sync: bool
    compression: str
    memory_bytes: int
    ring_s: float


class DiskWriter:
    """Takes entries from any thread and never blocks it; writes them in a thread of its own while it is told to.

    place: a folder that rotates, or one file. While the disk does not take anything, entries wait in memory, the oldest
    give way (dropped), and every flush_s it is tried again. written: messages that are on the disk. failure: why
    nothing can be written just now, "" while it can. file: the one that grows now, or None.
    """

    def __init__(self, place: RecordingFolder | Path, options: WritingOptions, on: bool) -> None:
        self.written = 0
        self.dropped = 0
        self.failure = ""
        self._place = place
        self._options = options
        self._lock = threading.Lock()  # of what follows, up to the empty line
        self._waiting: deque[Entry] = deque()
        self._waiting_bytes = 0
        self._kept: dict[str, Entry] = {}
        self._settings: Entry | None = None  # in force for what waits first
        self._on = on
        self._until_ns = 0
        self._asked = ""
        self._crowded = False
        self._file: RecordingFile | None = None

        self._t_begun_ns = 0
        self._in_file: Entry | None = None  # the settings its newest messages have
        self._wake = threading.Event()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name=f"record {place}", daemon=True)
        self._thread.start()

    @property
    def file(self) -> Path | None:
        """The file that is being written."""
        file = self._file
        return file.path if file else None

    @property
    def active(self) -> bool:
        """Whether what comes now will be on the disk."""
        return self._on or bool(self._asked) or monotonic_ns() < self._until_ns

    def put(self, entry: Entry) -> None:
        """Take a message."""
        with self._lock:
            self._append(entry)

    def keep(self, key: str, entry: Entry) -> None:
        """Take what every file begins with, in place of what was kept under this key."""
        with self._lock:
            self._kept[key] = entry
            if self._file:
                self._append(entry)

    def forget(self, prefix: str) -> None:
        """Keep what begins with this no longer."""
        with self._lock:
            self._kept = {key: entry for key, entry in self._kept.items() if not key.startswith(prefix)}

    def extend(self, after_s: float) -> bool:
        """Write what comes within after_s, too, where something is being written; return whether it is."""
        with self._lock:
            if not self.active:
                return False
            self._until_ns = max(self._until_ns, monotonic_ns() + int(after_s * 1e9))
        return True

    def save(self, reason: str, after_s: float) -> None:
        """Write what is in memory, and what comes within after_s."""
        with self._lock:
            if not self.active:
                self._asked = reason
            self._until_ns = max(self._until_ns, monotonic_ns() + int(after_s * 1e9))
        self._wake.set()

    def record(self, on: bool) -> None:
        """Begin to write all that comes, or end that."""
        with self._lock:
            self._on = on
            if on and not self._file:
                self._asked = self._asked or "asked"
            if not on:
                self._until_ns = min(self._until_ns, monotonic_ns())
        self._wake.set()

    def close(self, timeout_s: float) -> None:
        """Write what waits and end the file, as far as the disk takes it within timeout_s."""
        self._closing = True
        self._wake.set()
        self._thread.join(timeout_s)

    def _append(self, entry: Entry) -> None:
        """Needs the lock."""
        self._waiting.append(entry)
        self._waiting_bytes += len(entry.data) + _ENTRY_BYTES
        held = self.active or self._file is not None
        ring_ns = int(self._options.ring_s * 1e9)
        oldest_ns = entry.t_log_ns - ring_ns if ring_ns else entry.t_log_ns + 1
        while self._waiting and (
            self._waiting_bytes > self._options.memory_bytes or (not held and self._waiting[0].t_log_ns < oldest_ns)
        ):
            if self._waiting[0].t_log_ns >= oldest_ns and not held and not self._crowded:
                self._crowded = True
                held_s = (entry.t_log_ns - self._waiting[0].t_log_ns) / 1e9
                log.warning("the ring holds only %.1f s: raise memory_mb, or lower quality or max_hz", held_s)
            self.dropped += held and self._waiting[0].topic != SETTINGS
            self._pop()

    def _pop(self) -> Entry:
        entry = self._waiting.popleft()
        self._waiting_bytes -= len(entry.data) + _ENTRY_BYTES
        if entry.topic == SETTINGS:
            self._settings = entry
        return entry

    # On the thread.

    def _run(self) -> None:
        if isinstance(self._place, RecordingFolder):
            for path in self._place.finish_cut():
                log.info("recording %s had been cut short: finished", path)
        while not self._closing:
            self._wake.wait(self._options.flush_s)
            self._wake.clear()
            self._try()
        self._try()
        if self._file:  # the disk does not take the rest: the file stays readable up to its last chunk
            self._file.leave()

    def _try(self) -> None:
        try:
            self._work()
            self.failure = ""
        except PublishError as exc:
            self.failure = exc.cause
        except OSError as exc:
            self.failure = f"cannot write the recording ({exc.strerror or exc})"
        except Exception as exc:  # a defect: the loop goes on, and the run says that nothing is recorded
            self.failure = f"stopped recording ({exc!r}): report this as a defect"

    def _work(self) -> None:
        """Raises: OSError, PublishError; what could not be written goes on waiting."""
        if self._file and self._file.ended:  # the disk did not take its end
            self._finish()
        if self._file and self._file.pending_bytes:
            self._commit(self._file)
        with self._lock:
            going_on = (self._on or monotonic_ns() < self._until_ns) and not self._closing
            if going_on and self._file:
                self._asked = ""  # it came while a file was about to end: that one goes on
            wanted = going_on or bool(self._asked) or (self._on and bool(self._waiting))
            end_ns = None if self._on else self._until_ns
        if self._file is None:
            if not wanted:
                return
            self._open()
        elif isinstance(self._place, RecordingFolder):
            self._place.make_room()
        self._drain(end_ns)
        if going_on:
            self._commit(self._file)
        else:
            self._finish()

    def _drain(self, end_ns: int | None) -> None:
        """Add what waits, up to end_ns, to the file, and to new ones as each is full."""
        most, longest_ns = self._options.max_bytes, int(self._options.max_s * 1e9)
        while True:
            with self._lock:
                if not self._waiting or (end_ns is not None and self._waiting[0].t_log_ns > end_ns):
                    return
                entry, settings = self._pop(), self._settings
            try:
                file = self._file
                assert file is not None
                full = most and file.size_bytes + len(entry.data) > most - _AT_ONCE_BYTES // 16
                if full or (longest_ns and entry.t_log_ns - self._t_begun_ns > longest_ns):
                    self._finish()
                    self._open(entry.t_log_ns)
                    file = self._file
                    assert file is not None
                if file.pending_bytes >= _AT_ONCE_BYTES:
                    self._commit(file)
            except (OSError, PublishError):
                with self._lock:
                    self._waiting.appendleft(entry)
                    self._waiting_bytes += len(entry.data) + _ENTRY_BYTES
                raise
            self._tell(file, settings)
            if entry.topic != SETTINGS:
                file.add(entry)

    def _tell(self, file: RecordingFile, settings: Entry | None) -> None:
        """Have the file say what the messages that come now were made with."""
        if settings and settings is not self._in_file:
            file.add(settings)
            self._in_file = settings

    def _open(self, t_begin_ns: int | None = None) -> None:
        with self._lock:
            reason = "" if self._asked == "asked" else self._asked
            if t_begin_ns is None:
                t_begin_ns = self._waiting[0].t_log_ns if self._waiting else monotonic_ns()
                while self._waiting and self._waiting[0].topic == SETTINGS:
                    self._pop()  # so that the file begins with them
        if isinstance(self._place, RecordingFolder):
            self._place.make_room(self._options.max_bytes)
            path = self._place.next_path(reason)
        else:
            path = _free_name(self._place)
        file = RecordingFile(path, self._options.compression, self._options.sync)
        if self._options.sync:
            _sync_folder(path.parent)
        with self._lock:
            self._t_begun_ns = t_begin_ns
            self._in_file = None
            self._tell(file, self._settings)
            for entry in self._kept.values():
                file.add(entry._replace(t_log_ns=t_begin_ns, t_publish_ns=t_begin_ns))
            self._file, self._asked = file, ""
        log.info("recording to %s", path)

    def _commit(self, file: RecordingFile | None) -> None:
        if file:
            self.written += file.commit()

    def _finish(self) -> None:
        if self._file:
            self.written += self._file.finish()
            self._file = None


def _free_name(path: Path) -> Path:
    number = 1
    name = path
    while name.exists():
        number += 1
        name = path.with_name(f"{path.stem}-{number}{path.suffix}")
    if name != path:
        log.warning("%s is there already: recording to %s", path, name)
    return name


def _sync_folder(folder: Path) -> None:
    """The name of a new file survives a power cut, too."""
    with suppress(OSError):
        fd = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
