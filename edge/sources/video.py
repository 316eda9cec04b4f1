"""OpenCV's VideoCapture at our border: frames as (H, W, 3) uint8 BGR, its exceptions as ours."""

import cv2
import numpy as np

from edge.errors import SourceError, SourceOpenError

__all__ = ["open_video", "read_image"]


def open_video(target: str | int, backend: int, params: list[int]) -> cv2.VideoCapture:
    """Return OpenCV's capture of a device number, path or address; `isOpened` says whether it worked.

    Raises: SourceOpenError for a name that is no UTF-8, with which OpenCV would end the process.
    """
    if isinstance(target, str) and not target.isascii():
        try:
            target.encode()
        except UnicodeEncodeError as exc:
            raise SourceOpenError(f"OpenCV cannot open {target!a} (its name is not UTF-8)", "rename it") from exc
    return cv2.VideoCapture(target, backend, params)


def read_image(video: cv2.VideoCapture | None, into: np.ndarray | None) -> np.ndarray | None:
    """Return the next frame, in `into` when its shape fits, or None when there is none.

    Raises: SourceError when OpenCV fails.
    """
    assert video is not None
    try:
        ok, image = video.read(into)
    except cv2.error as exc:
        raise SourceError(f"OpenCV failed to read a frame ({exc.err})", "check the device or the file") from exc
    if not ok or image is None:
        return None
    return cv2.cvtColor(image, cv2.COLOR_GRAY2BGR) if image.ndim == 2 or image.shape[2] == 1 else image
