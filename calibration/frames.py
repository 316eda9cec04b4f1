"""Pictures and video frames by number, whatever they come from: a folder, a list, a COCO JSON or a video."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Protocol

import numpy as np

from edge.errors import ConfigError, EndOfStreamError, MissingBackendError, SourceError
from edge.sources.capture import PICTURE_SUFFIXES, BadFrameError
from edge.sources.images import ImagesSource
from edge.sources.opencv import FileSource
from edge.uri import Uri

__all__ = ["Frames", "Listing", "VideoFrames", "frames_of", "list_pictures", "read_picture_file"]

_VIDEO_SUFFIXES = frozenset((".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ts", ".webm", ".wmv"))
_OTHER_RECORDINGS = frozenset((".bag", ".db3"))
_RECORDING_SUFFIX = ".mcap"
_KINDS = "give a folder of pictures, a video or MCAP recording, a .txt with one path a line, or a COCO JSON"


@dataclass(frozen=True, slots=True)
class Listing:
    """What a reference names: picture files with their names, or one video or recording."""

    names: tuple[str, ...] = ()
    paths: tuple[Path, ...] = ()
    video: Path | None = None


class Frames(Protocol):
    """Pictures by number, and all of them in order."""

    def frame(self, number: int) -> np.ndarray:
        """Return picture `number`, counted from 0, (H, W, 3) uint8 BGR."""

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield all from the first on."""

    def close(self) -> None:
        """Close the file; the next picture opens it again."""


class VideoFrames:
    """Frames of a video by number. Going forwards decodes on; going back begins again: no inexact seeking."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._source: FileSource | None = None
        self._next = 0

    def frame(self, number: int) -> np.ndarray:
        """Return frame `number`, counted from 0, as (H, W, 3) uint8 BGR, a new array.

        Raises: ConfigError when the video has no such frame, SourceError when it cannot be read.
        """
        if self._source is None or number < self._next:
            self.close()
            self._source = FileSource(Uri(f"file://{self._path}", "file", str(self._path), {"pace": "fast"}))
            self._source.open()
        while True:
            image = self._grab()
            if image is None:
                raise ConfigError(f"{self._path} has no frame {number}", "the file changed while it was read")
            if self._next > number:
                return image

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield all frames from the first on."""
        self.close()
        try:
            yield self.frame(0)
            while (image := self._grab()) is not None:
                yield image
        finally:
            self.close()

    def close(self) -> None:
        """Close the file; the next frame opens it again."""
        if self._source is not None:
            self._source.close()
        self._source, self._next = None, 0

    def _grab(self) -> np.ndarray | None:
        assert self._source is not None
        while True:
            try:
                image = self._source.grab(None).image
            except BadFrameError:  # said once, where a file was cut short: the end comes next
                continue
            except EndOfStreamError:
                return None
            self._next += 1
            return image


def frames_of(path: Path) -> Frames:
    """Return the frames of a video or a recording.

    Raises: MissingBackendError when the package that reads recordings is not installed.
    """
    if path.suffix.lower() != _RECORDING_SUFFIX:
        return VideoFrames(path)
    try:
        return import_module("calibration.recordings").RecordingFrames(path)
    except ModuleNotFoundError as exc:
        if exc.name != "mcap":
            raise
        raise MissingBackendError(
            f"{path.name} needs mcap, which is not installed", "pip install 'harrier-edge[record]'"
        ) from exc


def list_pictures(reference: str) -> Listing:
    """Return what a reference names; missing files of a list are kept, whoever reads them says so.

    Raises: ConfigError when it names nothing that holds pictures.
    """
    path = Path(reference)
    suffix = path.suffix.lower()
    if suffix in _OTHER_RECORDINGS:
        raise ConfigError(f"{path}: of recordings only MCAP is read", "convert it with rosbags-convert")
    if path.is_dir():
        paths = sorted(p for p in path.rglob("*") if p.suffix.lower() in PICTURE_SUFFIXES and p.is_file())
        names = [p.relative_to(path).as_posix() for p in paths]
    elif not path.is_file():
        raise ConfigError(f"there is no {path}", _KINDS)
    elif suffix in _VIDEO_SUFFIXES or suffix == _RECORDING_SUFFIX:
        return Listing(video=path)
    elif suffix == ".txt":
        names = [line.strip() for line in _text(path).splitlines() if line.strip()]
        paths = [path.parent / name for name in names]
    elif suffix == ".json":
        names = _coco_names(path)
        folder = path.parent / "images" if (path.parent / "images").is_dir() else path.parent
        paths = [folder / name for name in names]
    else:
        raise ConfigError(f"{path} is nothing that calibration reads", _KINDS)
    if not paths:
        raise ConfigError(f"there are no pictures in {path}", _KINDS)
    return Listing(tuple(names), tuple(paths))


def read_picture_file(path: Path) -> np.ndarray:
    """Return the picture, (H, W, 3) uint8 BGR, turned as its EXIF data say.

    Raises: SourceError when it is missing, truncated or no picture.
    """
    if not path.is_file():
        raise SourceError(f"{path.name} does not exist", "check the path")
    return ImagesSource(Uri(f"images://{path}", "images", str(path), {})).grab(None).image


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(f"cannot read {path} ({exc})", "give a UTF-8 text file") from exc


def _coco_names(path: Path) -> list[str]:
    try:
        entries = json.loads(_text(path))["images"]
        return [str(entry["file_name"]) for entry in entries]
    except json.JSONDecodeError as exc:
        raise ConfigError(f"{path}:{exc.lineno} is not valid JSON ({exc.msg})", "correct that line") from exc
    except (KeyError, TypeError) as exc:
        raise ConfigError(f"{path} is no COCO JSON: it lists no images with file_name", _KINDS) from exc
