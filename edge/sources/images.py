"""`images://`: the pictures of a directory, or one picture."""

import re
from pathlib import Path
from typing import Annotated

import cv2
import msgspec
import numpy as np

from edge.clock import monotonic_ns
from edge.errors import EndOfStreamError, SourceOpenError
from edge.sources.capture import PICTURE_SUFFIXES, BadFrameError, Grabbed, SourceOptions
from edge.sources.stamps import Pacer
from edge.uri import Uri

__all__ = ["ImagesOptions", "ImagesSource"]

_JPEG_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")  # after a scan; stuffing and restarts are part of it
_PNG_END = b"IEND\xaeB`\x82"


class ImagesOptions(SourceOptions, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """fps: 0 hands over every picture as fast as it is taken; more shows them like a camera of that rate.

    loop: begin again after the last.
    """

    fps: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    loop: bool = False


class ImagesSource:
    """Pictures in the order of their names; frame_ref is the file name. EXIF orientation is applied."""

    note = ""

    def __init__(self, uri: Uri) -> None:
        self.options: ImagesOptions = uri.options(ImagesOptions)
        self.live = self.options.fps > 0
        self._paths = _pictures(Path(uri.rest))
        self._where = uri.rest
        self._next = 0
        self._good = 0
        self._pacer = Pacer()

    def open(self) -> None:
        """Do nothing; each picture is opened when its turn comes."""

    def grab(self, into: np.ndarray | None) -> Grabbed:
        """Return the next picture; it is decoded into an array of its own.

        Raises: BadFrameError for one that cannot be decoded, EndOfStreamError after the last.
        """
        if self._next == len(self._paths):
            self._end_pass()
        path = self._paths[self._next]
        self._next += 1
        image = _decode(path)
        self._good += 1
        t_ns = self._pacer.due_ns(int(1e9 / self.options.fps)) if self.live else monotonic_ns()
        return Grabbed(image, t_ns, "generated", path.name)

    def _end_pass(self) -> None:
        if not self._good:
            raise SourceOpenError(f"no picture in {self._where} can be read", "check the files")
        if not self.options.loop:
            raise EndOfStreamError(f"all pictures of {self._where} were read", "add ?loop=on to repeat them")
        self._next = 0

    def close(self) -> None:
        """Do nothing; no file stays open."""

    def interrupt(self) -> None:
        """Do nothing; reading a file does not block for long."""


def _pictures(where: Path) -> list[Path]:
    if where.is_file():
        return [where]
    if not where.is_dir():
        raise SourceOpenError(f"{where} does not exist", "check the path")
    paths = sorted(p for p in where.iterdir() if p.suffix.lower() in PICTURE_SUFFIXES and p.is_file())
    if not paths:
        kinds = " ".join(sorted(PICTURE_SUFFIXES))
        raise SourceOpenError(f"there is no picture in {where}", f"put files of these kinds there: {kinds}")
    return paths


def _decode(path: Path) -> np.ndarray:
    try:
        data = path.read_bytes()
    except OSError as exc:
        raise BadFrameError(f"{path.name} cannot be read ({exc.strerror})", "check the file") from exc
    cure = "replace or delete the file"
    # libjpeg paints what is missing grey and calls that a success.
    if (data.startswith(b"\xff\xd8") and not _jpeg_is_complete(data)) or (
        data.startswith(b"\x89PNG") and _PNG_END not in data
    ):
        raise BadFrameError(f"{path.name} is truncated", cure)
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
    except cv2.error as exc:
        raise BadFrameError(f"{path.name} cannot be decoded ({exc.err})", cure) from exc
    if image is None:
        raise BadFrameError(f"{path.name} is not a picture OpenCV can decode", cure)
    return image


def _jpeg_is_complete(data: bytes) -> bool:
    """True when the segments lead to an end-of-image marker (ITU-T T.81, annex B), whatever follows it."""
    at = 2
    while at + 4 <= len(data) or data[at : at + 2] == b"\xff\xd9":
        marker = data[at + 1]
        if data[at] != 0xFF or marker == 0xFF:
            at += 1  # fill bytes
        elif marker == 0xD9:
            return True
        else:
            at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
            if marker == 0xDA:
                found = _JPEG_MARKER.search(data, at)
                if found is None:
                    return False
                at = found.start()
    return False
