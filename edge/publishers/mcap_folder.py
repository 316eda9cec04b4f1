"""The folder of a recording that rotates: the names of its files, what may be deleted, and the room that is left."""

import fcntl
import os
import re
import time
from pathlib import Path

from edge.errors import PublishError
from edge.publishers.mcap_repair import MAGIC, finish_cut

__all__ = ["RecordingFolder"]

_MB = 1_000_000
_OURS = b"harrier "


class RecordingFolder:
    """Files NAME-000123-20260701T120000Z[-why].mcap, oldest first by number: a clock that was wrong changes no order.

    total_mb: what all files of this name together may take, 0 for any; min_free_mb: what stays free on the disk. The
    oldest are deleted for that, of this name and begun by Harrier, and none that is being written.
    """

    def __init__(self, folder: Path, name: str, total_mb: int, min_free_mb: int) -> None:
        self._folder = folder
        self._name = name
        self._total_bytes = total_mb * _MB
        self._min_free_bytes = min_free_mb * _MB
        self._pattern = re.compile(rf"{re.escape(name)}-(\d{{6,}})-\d{{8}}T\d{{6}}Z(-[\w.-]+)?\.mcap")

    def files(self) -> list[Path]:
        """Return the files of this name, the oldest first.

        Raises: OSError.
        """
        found = [(match, path) for path in self._folder.iterdir() if (match := self._pattern.fullmatch(path.name))]
        return [path for match, path in sorted(found, key=lambda pair: int(pair[0][1]))]

    def next_path(self, reason: str) -> Path:
        """Return the name of the next file.

        Raises: OSError.
        """
        files = self.files()
        match = self._pattern.fullmatch(files[-1].name) if files else None
        number = int(match[1]) + 1 if match else 1
        why = re.sub(r"[^A-Za-z0-9]+", "-", reason).strip("-")[:40]
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        return self._folder / f"{self._name}-{number:06d}-{stamp}{'-' if why else ''}{why}.mcap"

    def finish_cut(self) -> list[Path]:
        """Finish what a crash left unfinished, and return those files; what cannot be finished stays as it is.

        A file that a crash left without a single byte goes.
        """
        done = []
        try:
            for path in self.files():
                try:
                    if not path.lstat().st_size and _may_go(path):
                        path.unlink()
                    elif _begun_by_us(path) and finish_cut(path):
                        done.append(path)
                except OSError:
                    continue
        except OSError:
            pass
        return done

    def make_room(self, bytes_wanted: int = 0) -> None:
        """Delete the oldest files until `bytes_wanted` more fit under total_mb and min_free_mb stay free.

        Raises: PublishError when too little is free and nothing may be deleted, OSError.
        """
        short = self._short(bytes_wanted)
        if not short:
            return
        if self._total_bytes:
            for path in self.files():
                if _may_go(path):
                    path.unlink()
                    short = self._short(bytes_wanted)
                    if not short:
                        return
        if self._free() < self._min_free_bytes:
            raise PublishError(
                f"less than {self._min_free_bytes // _MB} MB are free in {self._folder} (min_free_mb)",
                "free some space, or set min_free_mb",
            )

    def _short(self, bytes_wanted: int) -> bool:
        if self._free() < self._min_free_bytes:
            return True
        if not (self._total_bytes and bytes_wanted):
            return False
        return sum(path.stat().st_size for path in self.files()) + bytes_wanted > self._total_bytes

    def _free(self) -> int:
        room = os.statvfs(self._folder)
        return room.f_bavail * room.f_frsize


def _begun_by_us(path: Path) -> bool:
    """Whether a file of our name has our header, or nothing at all, as where a crash came before its first byte."""
    with path.open("rb") as file:
        head = file.read(64)
    return not head.strip(b"\0") or (head.startswith(MAGIC) and _OURS in head)


def _may_go(path: Path) -> bool:
    """Whether a file is ours and nobody writes it."""
    if path.is_symlink() or not path.is_file() or not _begun_by_us(path):
        return False
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
    return True
