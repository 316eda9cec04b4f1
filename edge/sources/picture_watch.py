"""Does the camera still show the world? A picture that never changes, or shows nothing, is told."""

import zlib
from collections import deque

import cv2
import numpy as np

__all__ = ["PictureWatch"]

_SAMPLED_PX = 1200
_REMEMBERED = 8  # a driver that stands still may go round in its buffers
_LEAST_FRAMES = 5  # a camera of one frame in ten seconds is not frozen yet
_DARK = 16.0  # mean, of 255: a covered lens is noise around the sensor's black level
_DARK_SPREAD = 8.0  # a lamp or a star is more
_ONE_COLOUR_SPREAD = 1.5  # green of a buffer full of zeros, grey of a decoder without a picture


class PictureWatch:
    """Looks at about 1200 pixels of each frame, on a grid.

    frozen_s: a picture that stayed the same for so long, bit by bit, comes from no sensor: those have noise.
    blank_s: for how long it may be black or of one colour. 0 for either: not looked for.
    fault: what is wrong now, "" for nothing.
    """

    def __init__(self, frozen_s: float, blank_s: float) -> None:
        self.fault = ""
        self._frozen_s = frozen_s
        self._blank_s = blank_s
        self._seen: deque[int] = deque(maxlen=_REMEMBERED)
        self._same = self._blank = 0
        self._t_changed_ns = self._t_shown_ns = 0

    def look(self, image: np.ndarray, t_capture_ns: int) -> None:
        """Look at a frame, (H, W, 3) uint8 BGR, taken at t_capture_ns (CLOCK_MONOTONIC); keep none of it."""
        height_px, width_px = image.shape[:2]
        step = max(1, int((height_px * width_px / _SAMPLED_PX) ** 0.5))
        sample = np.ascontiguousarray(image[step // 2 :: step, step // 2 :: step])
        if not self._seen:
            self._t_changed_ns = self._t_shown_ns = t_capture_ns
        if self._blank_s and (what := _nothing(sample)):
            self._blank += 1
            if self._lasts(self._blank, t_capture_ns - self._t_shown_ns, self._blank_s):
                self.fault = f"the picture is {what}"
                return
        else:
            self._blank, self._t_shown_ns = 0, t_capture_ns
        number = zlib.crc32(sample.data)
        if self._frozen_s and number in self._seen:
            self._same += 1
            if self._lasts(self._same, t_capture_ns - self._t_changed_ns, self._frozen_s):
                self.fault = f"the picture has not changed for {self._frozen_s:g} s"
                return
        else:
            self._seen.append(number)
            self._same, self._t_changed_ns = 0, t_capture_ns
        self.fault = ""

    @staticmethod
    def _lasts(frames: int, since_ns: int, limit_s: float) -> bool:
        return frames >= _LEAST_FRAMES and since_ns >= limit_s * 1e9


def _nothing(sample: np.ndarray) -> str:
    mean, spread = cv2.meanStdDev(sample)
    if mean.max() < _DARK and spread.max() < _DARK_SPREAD:
        return "black"
    return "of one colour" if spread.max() < _ONE_COLOUR_SPREAD else ""
