"""A labelled set of pictures in one plain structure, whatever format it was read from."""

import errno
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from edge.errors import ConfigError
from edge.progress import Progress

__all__ = [
    "PICTURE_SUFFIXES",
    "Dataset",
    "Sample",
    "check_pictures",
    "is_number",
    "is_there",
    "pictures_in",
    "read_picture",
    "read_text",
]

PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")  # of JPEG; restarts are part of a scan


def _no_boxes() -> np.ndarray:
    return np.zeros((0, 4))


@dataclass(slots=True)
class Sample:
    """One picture and its truth.

    xywh: (N, 4) float64, left, top, width and height in source px; fractions of the picture when the data set is
    `relative`. category: (N,) int64, positions in Dataset.categories; a classification has exactly one.
    ignore: (N,) bool, crowds and difficult objects, which count neither for nor against.
    area: (N,) float64 px^2, by which an object is small, medium or large; empty where the format has none.
    """

    name: str
    path: Path
    size_wh: tuple[int, int] | None = None
    xywh: np.ndarray = field(default_factory=_no_boxes)
    category: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    ignore: np.ndarray = field(default_factory=lambda: np.zeros(0, bool))
    area: np.ndarray = field(default_factory=lambda: np.zeros(0))


@dataclass(slots=True)
class Dataset:
    """Samples of one kind. categories: their names, in order; empty when the format names none (class numbers).

    split: which part of the set at `path` this is, "" for all of it. notes: what its user ought to know about it.
    """

    kind: str  # detection or classification
    form: str  # COCO JSON, YOLO txt, Pascal VOC, class folders or CSV
    path: Path
    categories: list[str]
    samples: list[Sample]
    relative: bool = False
    split: str = ""
    notes: list[str] = field(default_factory=list)


def pictures_in(folder: Path, deep: bool = False) -> list[Path]:
    """Return the pictures in a folder, sorted by path; hidden ones, as macOS leaves them, are none."""
    found = folder.rglob("*") if deep else folder.iterdir()
    own = (path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts))
    return sorted(path for path in own if path.suffix.lower() in PICTURE_SUFFIXES and path.is_file())


def is_number(name: str) -> bool:
    """Return whether a category's name is a class number."""
    return name.isdecimal() and len(name) < 10


def is_there(path: Path) -> bool:
    """Return whether there is such a file; no file has a name that is too long."""
    try:
        return path.is_file()
    except OSError as exc:
        if exc.errno != errno.ENAMETOOLONG:
            raise
        return False


def check_pictures(samples: Sequence[Sample]) -> None:
    """Find out, before hours of work, that a picture is missing or cut short; nothing is decoded.

    Raises: ConfigError naming the first of them, and how many there are.
    """
    gone = [sample.path for sample in samples if not is_there(sample.path)]
    cut = []
    progress = Progress("looking at the pictures", len(samples))
    for i, sample in enumerate([] if gone else samples):
        if not _is_complete(sample.path.read_bytes()):
            cut.append(sample.path)
        progress.update(i + 1, f"{i + 1} of {len(samples)}")
    progress.clear()
    for paths, said in ((gone, "are missing"), (cut, "are no pictures, or are truncated")):
        if paths:
            raise ConfigError(
                f"{len(paths)} of {len(samples)} pictures {said}, first {paths[0]}",
                "check the folder of pictures, or leave them out of the annotations",
            )


def read_text(path: Path) -> str:
    """Return the text of a UTF-8 file.

    Raises: ConfigError when it is missing or not text.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as exc:
        raise ConfigError(f"no file {path}", "check the path") from exc
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(f"cannot read {path} ({exc})", "give a UTF-8 text file") from exc


def read_picture(path: Path, size_wh: Sequence[int] | None = None) -> np.ndarray:
    """Return (H, W, 3) uint8 BGR; `size_wh` is what the annotations say.

    A picture is turned as its EXIF says unless the annotations are for the picture as stored.
    Raises: ConfigError when it is missing, no picture, or of another size than annotated.
    """
    if not is_there(path):
        raise ConfigError(f"no picture {path}", "check the folder of pictures, or leave it out of the annotations")
    data = path.read_bytes()
    encoded = np.frombuffer(data, np.uint8)
    image = cv2.imdecode(encoded, cv2.IMREAD_COLOR) if _is_complete(data) else None
    if image is not None and size_wh and (image.shape[1], image.shape[0]) != tuple(size_wh):
        image = cv2.imdecode(encoded, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    if image is None:
        raise ConfigError(f"{path} is no picture, or is truncated", "replace or remove the file")
    height, width = image.shape[:2]
    if size_wh and (width, height) != tuple(size_wh):
        raise ConfigError(
            f"{path} is {width}x{height}, but its annotations are for {size_wh[0]}x{size_wh[1]}",
            "give the pictures that were annotated",
        )
    return image


def _is_complete(data: bytes) -> bool:
    """False for empty and truncated files, and for text under a picture's name, such as a page that says 404.

    Decoders paint what is missing grey and call that a success.
    """
    if data.startswith(b"\xff\xd8"):
        return _has_jpeg_end(data)
    if data.startswith(b"\x89PNG"):
        return b"IEND" in data[-64:]
    if data.startswith(b"RIFF"):  # WebP
        return len(data) >= 8 + int.from_bytes(data[4:8], "little")
    if data.startswith(b"BM"):
        return len(data) >= int.from_bytes(data[2:6], "little")
    start = data[:256]
    return bool(data) and (not start.isascii() or b"\0" in start or start.startswith((b"P", b"#?RADIANCE")))


def _has_jpeg_end(data: bytes) -> bool:
    """Whether an end of image follows the scans; phones append films to a picture, in which any bytes may stand."""
    at = 2
    while (found := _MARKER.search(data, at)) and data[found.start() + 1] != 0xD9:
        at = found.end() + int.from_bytes(data[found.end() : found.end() + 2], "big")  # behind the segment
    return found is not None
