"""What a model said about each picture, kept as JSON lines so that an interrupted evaluation goes on."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from edge.errors import ConfigError
from edge.evaluation.datasets import Sample

__all__ = ["ResultStore", "Seen"]


@dataclass(slots=True)
class Seen:
    """One picture's result: size_wh in px; xyxy (N, 4) float64 source px (empty for classifiers), best first."""

    size_wh: tuple[int, int]
    xyxy: np.ndarray
    class_ids: np.ndarray
    scores: np.ndarray


class ResultStore:
    """Results by picture name, appended to a file named after everything but the pictures that could change them.

    A picture's own result stands as long as its file has the same size in bytes and time of change, and its
    annotations say the same size in px.

    folder None keeps them in memory only. A line that an interruption cut off or someone damaged is dropped, and
    all after it.
    Raises: ConfigError when the folder cannot be written.
    """

    def __init__(self, folder: Path | None, settings: dict[str, Any]) -> None:
        self.results: dict[str, Seen] = {}
        self.reused = 0
        self._states: dict[str, list[Any]] = {}
        self._file = None
        if folder is None:
            return
        text = json.dumps(settings, sort_keys=True)
        self._path = path = folder / f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.jsonl"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            good = self._load(path) if path.is_file() else 0
            self._file = path.open("r+b" if path.is_file() else "w+b")
            self._file.truncate(good)
            self._file.seek(good)
            if good == 0:
                self._file.write(json.dumps({"settings": settings}).encode() + b"\n")
        except OSError as exc:
            raise ConfigError(f"cannot write {path} ({exc.strerror})", "give another --resume folder") from exc

    def __enter__(self) -> "ResultStore":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            if self._file:
                self._file.close()
        except OSError as exc:  # what was not flushed meets the full disk here
            if error is None:
                raise self._full(exc) from exc

    def known(self, sample: Sample) -> bool:
        """Return whether this picture, still the same, has a result."""
        if sample.name not in self.results or not sample.path.is_file():
            return False
        if self._states.get(sample.name) != _state_of(sample):
            return False
        self.reused += 1
        return True

    def add(self, sample: Sample, seen: Seen) -> None:
        """Keep one result and write it at once."""
        name = sample.name
        self.results[name] = seen
        self._states[name] = _state_of(sample)
        if self._file:
            record = {
                "image": name,
                "state": self._states[name],
                "size_wh": seen.size_wh,
                "xyxy": seen.xyxy.tolist(),
                "class_ids": seen.class_ids.tolist(),
                "scores": seen.scores.tolist(),
            }
            try:
                self._file.write(json.dumps(record).encode() + b"\n")
                self._file.flush()
            except OSError as exc:
                raise self._full(exc) from exc

    def _full(self, exc: OSError) -> ConfigError:
        return ConfigError(
            f"cannot write {self._path} ({exc.strerror})", "free space, or give another folder; what is in it is kept"
        )

    def _load(self, path: Path) -> int:
        """Read the whole lines and return where the last of them ends."""
        good = 0
        for line in path.read_bytes().splitlines(keepends=True):
            try:
                record = json.loads(line)
                if not line.endswith(b"\n") or not isinstance(record, dict):
                    break
                if "image" in record:
                    self.results[record["image"]] = _seen_of(record)
                    self._states[record["image"]] = list(record["state"])
            except (ValueError, KeyError, TypeError, IndexError, RecursionError):
                break
            good += len(line)
        return good


def _state_of(sample: Sample) -> list[Any]:
    """Bytes, time of change in ns, and the annotated size, which decides how a picture with EXIF data is turned."""
    found = sample.path.stat()
    return [found.st_size, found.st_mtime_ns, list(sample.size_wh) if sample.size_wh else None]


def _seen_of(record: dict[str, Any]) -> Seen:
    return Seen(
        (record["size_wh"][0], record["size_wh"][1]),
        np.array(record["xyxy"], np.float64).reshape(-1, 4),
        np.array(record["class_ids"], np.int64),
        np.array(record["scores"], np.float64),
    )
