"""Pictures of a recording: an MCAP file with CompressedImage messages, of Foxglove or of ROS."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from edge.errors import ConfigError
from edge.recording import Recording, has_pictures, picture_in

__all__ = ["RecordingFrames"]


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
        recording = Recording(self._path)
        for recorded in recording:
            if not has_pictures(recorded) or topic not in ("", recorded.topic):
                continue
            picture = picture_in(recorded.data)
            if picture is not None:
                topic, count = recorded.topic, count + 1
                yield picture
        if not count and (recording.cut or recording.damaged):
            why = recording.cut or "its chunks are damaged"
            raise ConfigError(f"{self._path} is no whole recording ({why})", "record it again")
        if not count:
            raise ConfigError(f"{self._path} has no CompressedImage with a JPEG or PNG", "record the camera's pictures")

    def close(self) -> None:
        """Close the file; the next picture opens it again."""
        self._pictures, self._next = None, 0
