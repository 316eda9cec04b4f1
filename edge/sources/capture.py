"""The contract every kind of source keeps, and what they share: options and time stamps."""

from dataclasses import dataclass
from typing import Annotated, Protocol

import msgspec
import numpy as np

from edge.errors import SourceError
from edge.frame import TimestampQuality

__all__ = [
    "LOST_AFTER_TIMEOUTS",
    "PICTURE_SUFFIXES",
    "BadFrameError",
    "Capture",
    "Grabbed",
    "Seconds",
    "SourceOptions",
]

Seconds = Annotated[float, msgspec.Meta(gt=0)]
_SecondsOrOff = Annotated[float, msgspec.Meta(ge=0)]

LOST_AFTER_TIMEOUTS = 2
"""A silent device is `stalled` after one read_timeout_s, lost after this many; a hiccup is no reconnect."""

PICTURE_SUFFIXES = frozenset((".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"))


class SourceOptions(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """Options every source takes in its URI.

    open_timeout_s: from opening to the first frame. read_timeout_s: silence until the source is `stalled`;
    after twice that it is `lost`. reconnect: try again after a loss, waiting backoff_s, then twice as long
    each time, at most backoff_max_s. frozen_s, blank_s: for how long a camera's picture may stay exactly the same, and
    black or of one colour, before results are `degraded`; 0 for ever (`edge.sources.picture_watch`).
    """

    open_timeout_s: Seconds = 10.0
    read_timeout_s: Seconds = 2.0
    reconnect: bool = True
    backoff_s: Seconds = 0.5
    backoff_max_s: Seconds = 10.0
    frozen_s: _SecondsOrOff = 10.0
    blank_s: _SecondsOrOff = 3.0

    def wait_s(self, attempt: int) -> float:
        """Return the wait after failed attempt number `attempt`, from 0."""
        return min(self.backoff_s * 2.0 ** min(attempt, 32), self.backoff_max_s)


@dataclass(frozen=True, slots=True)
class Grabbed:
    """One frame as a capture hands it over; `image` is (H, W, 3) uint8, BGR, and belongs to the receiver.

    t_capture_ns is CLOCK_MONOTONIC. A stamp in the future means "not before then": the source waits for it,
    which is how files and synthetic scenes are paced. seq: the frame's number where the capture knows it, rising;
    numbers left out are frames that were dropped before. None counts on.
    """

    image: np.ndarray
    t_capture_ns: int
    timestamp_quality: TimestampQuality
    frame_ref: str = ""
    seq: int | None = None


class BadFrameError(SourceError):
    """One frame could not be read; it is counted and the next `grab` goes on after it."""


class Capture(Protocol):
    """One connection to one device, file or stream; built from a `Uri`, opened once, never reused.

    All methods but `interrupt` run on the capture thread. The constructor acquires nothing; it raises
    ConfigError for bad options and SourceOpenError for what waiting will not bring, such as a missing file.

    live: True when the world does not wait: the newest frame wins, older ones are dropped, a loss is retried.
    False: every frame is handed over once, and a failure is final.
    note: what a user should know about the opened stream, "" for nothing; it becomes a reason in the events.
    """

    live: bool
    options: SourceOptions
    note: str

    def open(self) -> None:
        """Open the device.

        Raises: SourceOpenError when no waiting cures it, another SourceError or OSError if it may work later.
        """

    def grab(self, into: np.ndarray | None) -> Grabbed:
        """Wait for the next frame; refill `into`, (H, W, 3) uint8, when its shape fits, else allocate.

        Raises: EndOfStreamError at the end, BadFrameError for one bad frame, another SourceError for a loss.
        """

    def close(self) -> None:
        """Release the device. Called once, also when `open` failed."""

    def interrupt(self) -> None:
        """Make a blocked `open` or `grab` return soon if that is possible; any thread; must not block."""
