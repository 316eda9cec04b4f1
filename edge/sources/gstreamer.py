"""Any GStreamer pipeline, `gst://`, and its Jetson shorthand `csi://`, through a gst-launch-1.0 subprocess.

The pipeline's frames come through a pipe in the GStreamer Data Protocol (`gdppay`), so with caps and time
stamps and without a binding. GDP 1.0 is a 62-byte big-endian header, then the payload.
"""

import contextlib
import fcntl
import os
import re
import select
import shlex
import shutil
import struct
import subprocess
import threading
from typing import Annotated

import msgspec
import numpy as np

from edge.clock import monotonic_ns
from edge.errors import ConfigError, EndOfStreamError, SourceError, SourceOpenError
from edge.sources.capture import BadFrameError, Grabbed, SourceOptions
from edge.sources.stamps import PtsClock
from edge.uri import Uri, mask_secrets

__all__ = ["CsiOptions", "CsiSource", "GstOptions", "GstSource", "csi_pipeline"]

_HEADER = struct.Struct(">BBBxHIQ44x")  # major, minor, flags, type, payload length, pts, what is not used
_BUFFER, _CAPS = 1, 2
_NO_PTS = 2**64 - 1
_MAX_PAYLOAD_BYTES = 1 << 28
_MAX_STDERR_BYTES = 4096
_POLL_MS = 200
_TOOL = "gst-launch-1.0"

_Positive = Annotated[int, msgspec.Meta(gt=0)]


class GstOptions(SourceOptions, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """Written before the pipeline: `gst://live=off read_timeout_s=5 filesrc location=a.mp4 ! decodebin`.

    live: off hands over every frame and makes the pipeline wait for the reader.
    """

    live: bool = True


class GstSource:
    """The frames of a pipeline, `gst://videotestsrc is-live=true ! video/x-raw,width=640`, converted to BGR.

    The text is split as a shell would split it and goes to gst-launch-1.0 without a shell.
    """

    note = ""

    def __init__(self, uri: Uri) -> None:
        try:
            tokens = shlex.split(uri.rest)
        except ValueError as exc:
            raise ConfigError(f"{mask_secrets(uri.text)}: {exc}", "close the quotation") from exc
        query: dict[str, str] = {}
        while tokens and (option := re.fullmatch(r"([a-z_]+)=(.*)", tokens[0])):
            query[option[1]] = option[2]
            tokens.pop(0)
        options = Uri(uri.text, uri.scheme, uri.rest, query).options(GstOptions)
        self._setup(tokens, options, options.live)

    def _setup(self, pipeline: list[str], options: SourceOptions, live: bool) -> None:
        if not pipeline:
            raise ConfigError("gst:// names no pipeline", "write gst://videotestsrc is-live=true")
        if shutil.which(_TOOL) is None:
            raise SourceOpenError(
                f"{_TOOL} is not installed", "sudo apt install gstreamer1.0-tools gstreamer1.0-plugins-bad"
            )
        self.options = options
        self.live = live
        self._pipeline = pipeline
        self._process: subprocess.Popen | None = None
        self._fd = -1
        self._poller = select.poll()
        self._interrupted = threading.Event()
        self._stderr = bytearray()
        self._header = bytearray(_HEADER.size)
        self._scratch = bytearray()
        self._shape: tuple[int, int, int] | None = None
        self._clock = PtsClock()

    def open(self) -> None:
        """Start gst-launch-1.0; that the pipeline is wrong shows at the first grab.

        Raises: OSError when there are no more processes or file descriptors.
        """
        self._fd, write_fd = os.pipe()
        tail = f"! videoconvert ! video/x-raw,format=BGR ! gdppay ! fdsink fd={write_fd}"
        try:
            os.set_blocking(self._fd, False)
            with contextlib.suppress(OSError):  # fewer turns per frame; some kernels allow less
                fcntl.fcntl(self._fd, fcntl.F_SETPIPE_SZ, 1 << 20)
            self._process = subprocess.Popen(
                [_TOOL, "-q", *self._pipeline, *tail.split()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                pass_fds=(write_fd,),
                start_new_session=True,  # Ctrl-C in a terminal is for Harrier, which then stops this
            )
        finally:
            os.close(write_fd)
        assert self._process.stderr is not None
        self._stderr_fd = self._process.stderr.fileno()
        os.set_blocking(self._stderr_fd, False)
        self._poller.register(self._fd, select.POLLIN)
        self._poller.register(self._stderr_fd, select.POLLIN)

    def grab(self, into: np.ndarray | None) -> Grabbed:
        """Wait for the next frame and read it straight into `into` when its shape fits.

        Raises: EndOfStreamError when the pipeline ended, SourceOpenError when it can never run, SourceError
        when it failed or was killed, BadFrameError for a buffer of the wrong length.
        """
        while True:
            self._fill(memoryview(self._header))
            major, _, _, kind, length, pts_ns = _HEADER.unpack(self._header)
            t_arrival_ns = monotonic_ns()
            if major != 1 or length > _MAX_PAYLOAD_BYTES:
                raise SourceError("the pipeline's output is not GDP 1.0", "check the version of GStreamer")
            if kind == _BUFFER:
                image = self._image(into, length)
                if pts_ns == _NO_PTS or not self.live:
                    return Grabbed(image, t_arrival_ns, "arrival")
                return Grabbed(image, self._clock.capture_ns(pts_ns, t_arrival_ns), "pts")
            payload = self._payload(length)
            if kind == _CAPS:
                self._shape = _shape_of(bytes(payload).decode("utf-8", "replace"))

    def _image(self, into: np.ndarray | None, length: int) -> np.ndarray:
        if self._shape is None:
            raise SourceError("the pipeline sent a frame before its caps", "check the version of GStreamer")
        height_px, width_px, _ = self._shape
        stride = (3 * width_px + 3) // 4 * 4  # GStreamer pads rows to 4 bytes
        if length != stride * height_px:
            self._payload(length)
            raise BadFrameError(
                f"a buffer of {length} bytes is no {width_px}x{height_px} BGR frame", "check the pipeline"
            )
        image = into if into is not None and into.shape == self._shape else np.empty(self._shape, np.uint8)
        if stride == 3 * width_px:
            self._fill(image.reshape(-1).data)
        else:
            rows = np.frombuffer(self._payload(length), np.uint8).reshape(height_px, stride)
            np.copyto(image.reshape(height_px, 3 * width_px), rows[:, : 3 * width_px])
        return image

    def _payload(self, length: int) -> memoryview:
        """The next bytes, in a buffer that the next call refills."""
        if len(self._scratch) < length:
            self._scratch = bytearray(length)
        view = memoryview(self._scratch)[:length]
        self._fill(view)
        return view

    def _fill(self, view: memoryview) -> None:
        done = 0
        while done < len(view):
            try:
                count = os.readv(self._fd, [view[done:]])
            except BlockingIOError:
                self._wait()
                continue
            if count == 0:
                raise self._ended()
            done += count

    def _wait(self) -> None:
        """Sleep until there is something to read; empty stderr, which would block the pipeline when full."""
        for fd, _ in self._poller.poll(_POLL_MS):
            if fd == self._stderr_fd and not self._drain_stderr():
                self._poller.unregister(fd)
        if self._interrupted.is_set():
            raise SourceError("the pipeline was interrupted", "start it again")

    def _drain_stderr(self) -> bool:
        with contextlib.suppress(BlockingIOError):
            chunk = os.read(self._stderr_fd, _MAX_STDERR_BYTES)
            self._stderr += chunk
            del self._stderr[:-_MAX_STDERR_BYTES]
            return bool(chunk)
        return True

    def _ended(self) -> SourceError:
        assert self._process is not None
        try:
            code = self._process.wait(0.5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        while len(self._stderr) < _MAX_STDERR_BYTES and select.select([self._stderr_fd], [], [], 0)[0]:
            if not self._drain_stderr():
                break
        said = mask_secrets(_first_error(self._stderr.decode("utf-8", "replace")))
        if "erroneous pipeline" in said:
            return SourceOpenError(
                f"{_TOOL}: {said.partition('erroneous pipeline: ')[2]}",
                "correct the pipeline; gst-inspect-1.0 lists the elements that are installed",
            )
        if code == 0:
            return EndOfStreamError("the pipeline reached its end", "restart it, or make its source endless")
        how = f"was killed by signal {-code}" if code < 0 else f"failed with status {code}"
        return SourceError(f"{_TOOL} {how}{': ' if said else ''}{said}", "check the camera and the pipeline")

    def close(self) -> None:
        """End gst-launch-1.0 and close the pipe."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            if self._process.stderr is not None:
                self._process.stderr.close()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def interrupt(self) -> None:
        """Kill gst-launch-1.0, which ends a blocked grab."""
        self._interrupted.set()
        if self._process is not None:
            self._process.kill()


class CsiOptions(SourceOptions, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """size (width x height in px) and fps: a mode of the sensor. flip: nvvidconv's flip-method, 2 is 180°."""

    size: tuple[_Positive, _Positive] = (1280, 720)
    fps: _Positive = 30
    flip: Annotated[int, msgspec.Meta(ge=0, le=7)] = 0


class CsiSource(GstSource):
    """A CSI camera of a Jetson, `csi://0?size=1280x720&fps=30&flip=2`."""

    def __init__(self, uri: Uri) -> None:
        if not re.fullmatch(r"/?\d+/?", uri.rest):
            raise ConfigError(f"{uri.safe_text} names no sensor", "write csi://0")
        options = uri.options(CsiOptions)
        pipeline = csi_pipeline(int(uri.rest.strip("/")), options.size, options.fps, options.flip)
        self._setup(shlex.split(pipeline), options, live=True)


def csi_pipeline(sensor_id: int, size_wh: tuple[int, int], fps: int, flip: int) -> str:
    """Return the pipeline that NVIDIA documents for a CSI camera, up to BGRx in ordinary memory.

    The one-frame leaky queue drops old frames here, so that the camera never waits for the reader.
    """
    width_px, height_px = size_wh
    return (
        f"nvarguscamerasrc sensor-id={sensor_id} ! "
        f"video/x-raw(memory:NVMM),width={width_px},height={height_px},format=NV12,framerate={fps}/1 ! "
        f"nvvidconv flip-method={flip} ! video/x-raw,format=BGRx ! "
        "queue max-size-buffers=1 leaky=downstream"
    )


def _shape_of(caps: str) -> tuple[int, int, int] | None:
    width, height = re.search(r"width=\(int\)(\d+)", caps), re.search(r"height=\(int\)(\d+)", caps)
    return (int(height[1]), int(width[1]), 3) if width and height else None


def _first_error(text: str) -> str:
    """The line of gst-launch's stderr that says why, or its first line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR") or "erroneous pipeline" in line]
    return (errors or lines or [""])[0]
