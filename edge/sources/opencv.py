"""Cameras, video files and RTSP streams through OpenCV: `v4l2://`, `file://`, `rtsp://`."""

import os
import re
from pathlib import Path
from typing import Annotated, Literal

import cv2
import msgspec
import numpy as np

from edge.clock import monotonic_ns
from edge.errors import ConfigError, EndOfStreamError, SourceError, SourceOpenError
from edge.sources.capture import BadFrameError, Grabbed, SourceOptions
from edge.sources.rtsp import RtspOptions, RtspSource
from edge.sources.stamps import Pacer
from edge.sources.video import open_video, read_image
from edge.uri import Uri

__all__ = ["FileOptions", "FileSource", "RtspOptions", "RtspSource", "V4l2Options", "V4l2Source"]

_MAX_DRIVER_AGE_NS = 1_000_000_000  # an older stamp was made by another clock

_Positive = Annotated[int, msgspec.Meta(gt=0)]


class V4l2Options(SourceOptions, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """size: width x height in px. fps. fourcc: pixel format asked of the camera, such as MJPG or YUYV.

    All default to the camera's own choice, except that a size above 640x480 asks for MJPG, because raw pixels
    of that size at a useful rate do not fit USB 2.
    """

    size: tuple[_Positive, _Positive] | None = None
    fps: Annotated[float, msgspec.Meta(gt=0)] | None = None
    fourcc: Annotated[str, msgspec.Meta(pattern="^[A-Za-z0-9 ]{4}$")] | None = None


class V4l2Source:
    """A camera of the Linux kernel, `v4l2:///dev/video0`, stamped by its driver when that is plausible."""

    live = True

    def __init__(self, uri: Uri) -> None:
        self.options: V4l2Options = uri.options(V4l2Options)
        name = uri.rest.strip("/") if re.fullmatch(r"/?\d+/?", uri.rest) else ""
        self._device = f"/dev/video{name}" if name else uri.rest
        if not self._device.startswith("/dev/"):
            raise ConfigError(f"{uri.safe_text} names no camera", "write v4l2:///dev/video0")
        self._video: cv2.VideoCapture | None = None
        self._t_driver_ns = 0
        self.note = ""

    def open(self) -> None:
        """Open the camera and ask for size, rate and format.

        Raises: SourceError when it is not there, not allowed or busy.
        """
        if not os.path.exists(self._device):
            raise SourceError(
                f"{self._device} does not exist", "plug the camera in; `ls /dev/video*` shows what is there"
            )
        if not os.access(self._device, os.R_OK | os.W_OK):
            raise SourceError(f"no permission for {self._device}", "sudo usermod -aG video $USER, then log in again")
        index = re.fullmatch(r"/dev/video(\d+)", self._device)
        self._video = open_video(int(index[1]) if index else self._device, cv2.CAP_V4L2, [])
        if not self._video.isOpened():
            raise SourceError(
                f"{self._device} cannot be opened as a camera",
                f"`fuser {self._device}` shows who uses it; if it is a metadata node, try the next number",
            )
        self._ask(self._video)

    def _ask(self, video: cv2.VideoCapture) -> None:
        size, fourcc = self.options.size, self.options.fourcc
        if fourcc is None and size is not None and size[0] * size[1] > 640 * 480:
            fourcc = "MJPG"
        if fourcc is not None:  # first, because the sizes on offer depend on it
            video.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*fourcc))
        if size is not None:
            video.set(cv2.CAP_PROP_FRAME_WIDTH, size[0])
            video.set(cv2.CAP_PROP_FRAME_HEIGHT, size[1])
        if self.options.fps is not None:
            video.set(cv2.CAP_PROP_FPS, self.options.fps)
        # Two: with one the camera has nowhere to write while we convert, and every other frame is lost.
        video.set(cv2.CAP_PROP_BUFFERSIZE, 2)
        got = (int(video.get(cv2.CAP_PROP_FRAME_WIDTH)), int(video.get(cv2.CAP_PROP_FRAME_HEIGHT)))
        if size is not None and got != size:
            self.note = f"{self._device} gives {got[0]}x{got[1]} instead of {size[0]}x{size[1]}"

    def grab(self, into: np.ndarray | None) -> Grabbed:
        """Wait for the next frame.

        Raises: SourceError when the camera gives none, as after it was unplugged.
        """
        image = read_image(self._video, into)
        t_arrival_ns = monotonic_ns()
        if image is None:
            gone = "was unplugged" if not os.path.exists(self._device) else "gives no frame"
            raise SourceError(f"{self._device} {gone}", "check the plug, the cable and the power of the port")
        assert self._video is not None
        t_ns = int(self._video.get(cv2.CAP_PROP_POS_MSEC) * 1e6)
        if self._t_driver_ns < t_ns <= t_arrival_ns <= t_ns + _MAX_DRIVER_AGE_NS:
            self._t_driver_ns = t_ns
            return Grabbed(image, t_ns, "driver")
        return Grabbed(image, t_arrival_ns, "arrival")

    def close(self) -> None:
        """Release the camera."""
        if self._video is not None:
            self._video.release()

    def interrupt(self) -> None:
        """Do nothing: OpenCV offers no way; its own wait for a frame ends after 10 s."""


class FileOptions(SourceOptions, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """pace: realtime (frames come when they are due, slow readers miss some) or fast (every frame at once).

    loop: begin again at the end. start_s: where to begin, in seconds of video.
    """

    pace: Literal["realtime", "fast"] = "realtime"
    loop: bool = False
    start_s: Annotated[float, msgspec.Meta(ge=0)] = 0.0


class FileSource:
    """A video file, `file:///path/clip.mp4`; frames are stamped with when they were due."""

    note = ""

    def __init__(self, uri: Uri) -> None:
        self.options: FileOptions = uri.options(FileOptions)
        self.live = self.options.pace == "realtime"
        self._path = Path(uri.rest)
        if not self._path.is_file():
            what = "is a directory" if self._path.is_dir() else "does not exist"
            cure = "write images://DIRECTORY" if self._path.is_dir() else "check the path"
            raise SourceOpenError(f"{self._path} {what}", cure)
        self._video: cv2.VideoCapture | None = None
        self._pacer = Pacer()
        self._frames = 0  # of this pass
        self._position_ms = 0.0
        self._told = False

    def open(self) -> None:
        """Open the file at its start.

        Raises: SourceOpenError when it is no video that OpenCV's FFmpeg can read.
        """
        self._video = open_video(str(self._path), cv2.CAP_FFMPEG, [])
        if not self._video.isOpened():
            raise SourceOpenError(
                f"{self._path} is not a video that OpenCV's FFmpeg can read",
                f"see what `ffprobe {self._path}` says; an MP4 cut short has lost its index",
            )
        rate_hz = self._video.get(cv2.CAP_PROP_FPS)
        self._rate_hz = rate_hz if 0.1 <= rate_hz <= 1000 else 30.0
        if self.options.start_s:
            self._video.set(cv2.CAP_PROP_POS_MSEC, self.options.start_s * 1e3)
        self._frames = 0

    def grab(self, into: np.ndarray | None) -> Grabbed:
        """Return the next frame, stamped with when it is due.

        Raises: EndOfStreamError at the end, BadFrameError once when the file ends early.
        """
        image = read_image(self._video, into)
        if image is None:
            self._end_pass()
            image = read_image(self._video, into)
            if image is None:
                raise SourceOpenError(f"{self._path} cannot be read again", "check the disk")
        assert self._video is not None
        position_ms = self._video.get(cv2.CAP_PROP_POS_MSEC)
        gap_ms = position_ms - self._position_ms if self._frames else 0.0
        self._position_ms = position_ms
        self._frames += 1
        if gap_ms <= 0:
            gap_ms = 1e3 / self._rate_hz
        t_ns = self._pacer.due_ns(int(gap_ms * 1e6)) if self.live else monotonic_ns()
        return Grabbed(image, t_ns, "generated")

    def _end_pass(self) -> None:
        assert self._video is not None
        if not self._frames:
            raise SourceOpenError(
                f"no frame of {self._path} can be decoded", "check start_s, and the file with ffprobe"
            )
        expected = self._video.get(cv2.CAP_PROP_FRAME_COUNT) - self.options.start_s * self._rate_hz
        if not self._told and self._frames < expected * 0.98 - 2:  # containers estimate the count
            self._told = True
            raise BadFrameError(
                f"{self._path} ends after {self._frames} of {expected:.0f} frames",
                "it was cut: copy it again",
            )
        if not self.options.loop:
            raise EndOfStreamError(f"{self._path} ended after {self._frames} frames", "loop=on repeats it")
        self._video.release()
        self.open()

    def close(self) -> None:
        """Close the file."""
        if self._video is not None:
            self._video.release()

    def interrupt(self) -> None:
        """Do nothing: reading a file does not block for long."""
