"""One camera frame and what is known about when it was taken."""

from typing import Literal

import msgspec
import numpy as np

__all__ = ["Frame", "FrameInfo", "TimestampQuality"]

TimestampQuality = Literal["driver", "pts", "arrival", "generated"]
"""How `t_capture_ns` was obtained, best first.

driver: stamped by the camera driver. pts: the stream's presentation time stamps, anchored to the fastest arrival
seen. arrival: when the frame reached this process, so exposure and transport are missing from the age.
generated: a file or synthetic source, stamped when its frame was due.
"""


class FrameInfo(msgspec.Struct, frozen=True, gc=False):
    """What is known about one frame, without its pixels.

    seq counts captured frames of one source from 0, dropped ones included, so gaps show drops.
    t_capture_ns is CLOCK_MONOTONIC. frame_ref names the file or truth record a frame came from, "" for cameras.
    """

    seq: int
    source_id: str
    t_capture_ns: int
    width_px: int
    height_px: int
    pixel_format: str = "bgr8"
    timestamp_quality: TimestampQuality = "arrival"
    frame_ref: str = ""


class Frame(msgspec.Struct, frozen=True, gc=False):
    """Pixels and their stamp; `image` is (H, W, 3) uint8 in BGR order.

    The source owns `image` and refills it: it is valid until the next read of that source. Who keeps it copies it.
    """

    image: np.ndarray
    info: FrameInfo
