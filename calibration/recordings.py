"""Pictures of a recording: an MCAP file with CompressedImage messages, of Foxglove or of ROS.

What encodes the messages (protobuf, CDR) does not matter: a JPEG or PNG is found in one by its signature, and OpenCV
passes over what follows it. Format: https://mcap.dev/spec.
"""

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from mcap.exceptions import McapError
from mcap.reader import NonSeekingReader

from edge.errors import ConfigError

__all__ = ["RecordingFrames"]

_SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")


class RecordingFrames:
    """Pictures of the first topic that has any, by number. A file cut short gives what is whole in it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._pictures: Iterator[np.ndarray] | None = None
        self._next = 0

    def frame(self, number: int) -> np.ndarray:
        """Return picture `number`, counted from 0, as (H, W, 3) uint8 BGR, a new array; going back begins again.

        Raises: ConfigError when the recording has no such picture, or cannot be read.
        """
        if self._pictures is None or number < self._next:
            self._pictures, self._next = iter(self), 0
        for picture in self._pictures:
            self._next += 1
            if self._next > number:
                return picture
        raise ConfigError(f"{self._path} has no picture {number}", "the file changed while it was read")

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield all pictures from the first on.

        Raises: ConfigError when there is none.
        """
        topic, count = "", 0
        with self._path.open("rb") as file:
            try:
                for schema, channel, message in NonSeekingReader(file).iter_messages(log_time_order=False):
                    pictures = schema is not None and schema.name.endswith("CompressedImage")
                    if not pictures or topic not in ("", channel.topic):
                        continue
                    picture = _picture_in(message.data)
                    if picture is not None:
                        topic, count = channel.topic, count + 1
                        yield picture
            except (McapError, EOFError, ValueError) as exc:
                if not count:
                    raise ConfigError(f"{self._path} is no whole recording ({exc})", "record it again") from exc
        if not count:
            raise ConfigError(f"{self._path} has no CompressedImage with a JPEG or PNG", "record the camera's pictures")

    def close(self) -> None:
        """Close the file; the next picture opens it again."""
        self._pictures, self._next = None, 0


def _picture_in(data: bytes) -> np.ndarray | None:
    """(H, W, 3) uint8 BGR, or None where a message holds none that can be decoded."""
    starts = [at for at in (data.find(signature) for signature in _SIGNATURES) if at >= 0]
    if not starts:
        return None
    return cv2.imdecode(np.frombuffer(data, np.uint8)[min(starts) :], cv2.IMREAD_COLOR)
