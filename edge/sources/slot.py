"""The one-frame slot between a capture thread and its reader."""

import numpy as np

from edge.frame import Frame

__all__ = ["LatestFrame"]


class LatestFrame:
    """Three buffers: one being written, the latest, one being read. Nothing is copied, the newest wins.

    Not locked: the owner calls `publish`, `take` and `forfeit` under its own lock. Filling `writing` needs
    none, because no other method touches that buffer.
    """

    def __init__(self) -> None:
        self._frames: list[Frame | None] = [None, None, None]
        self._write, self._latest, self._read = 0, 1, 2
        self.fresh = False
        self.dropped = 0

    @property
    def writing(self) -> np.ndarray | None:
        """The buffer to refill, (H, W, 3) uint8 of the size it last had, or None before its first use."""
        frame = self._frames[self._write]
        return None if frame is None else frame.image

    def publish(self, frame: Frame) -> None:
        """Make `frame`, usually in the writing buffer, the latest; an unread one before it is dropped."""
        self._frames[self._write] = frame
        self._write, self._latest = self._latest, self._write
        self.dropped += self.fresh
        self.fresh = True

    def take(self) -> Frame | None:
        """Return the latest frame, valid until the next take, or None when it was taken before."""
        if not self.fresh:
            return None
        self._latest, self._read = self._read, self._latest
        self.fresh = False
        return self._frames[self._read]

    def forfeit(self) -> None:
        """Leave the writing buffer to whoever still holds it, for a capture thread that never came back."""
        self._frames[self._write] = None
