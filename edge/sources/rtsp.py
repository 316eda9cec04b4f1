"""Network cameras through OpenCV's FFmpeg: `rtsp://`."""

import difflib
import os
import threading
from typing import ClassVar, Literal
from urllib.parse import urlsplit

import cv2
import numpy as np

from edge.clock import monotonic_ns
from edge.errors import ConfigError, SourceError, SourceOpenError
from edge.frame import TimestampQuality
from edge.sources.capture import LOST_AFTER_TIMEOUTS, Grabbed, SourceOptions
from edge.sources.sockets import connected_sockets, hang_up, try_connect
from edge.sources.stamps import PtsClock
from edge.sources.video import open_video, read_image
from edge.structs import did_you_mean
from edge.uri import Uri, mask_secrets

__all__ = ["RtspOptions", "RtspSource"]

_ENVIRONMENT = "OPENCV_FFMPEG_CAPTURE_OPTIONS"
_UDP = "rtsp_transport;udp"


class RtspOptions(SourceOptions, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """transport: tcp, or udp. FFmpeg takes udp from the environment, so it holds for the whole process."""

    transport: Literal["tcp", "udp"] = "tcp"


class RtspSource:
    """A network camera, `rtsp://user:password@host:554/path`, stamped by the stream when its stamps run.

    Query parameters that are not options of ours belong to the camera and stay in its address.
    """

    live = True
    note = ""
    _taken: ClassVar[set[int]] = set()  # inodes of sockets that belong to one open source
    _lock: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self, uri: Uri) -> None:
        self._url, ours = _split_query(uri, list(RtspOptions.__struct_fields__))
        self._name = mask_secrets(self._url)
        self.options: RtspOptions = Uri(uri.text, uri.scheme, uri.rest, ours).options(RtspOptions)
        try:
            address = urlsplit(self._url)
            self._host, self._port = address.hostname or "", address.port or 554
        except ValueError as exc:
            cure = "write rtsp://HOST:554/PATH, with %2F for / in a password"
            raise ConfigError(f"{self._name} is no address", cure) from exc
        if not self._host:
            raise ConfigError(f"{self._name} names no host", "write rtsp://HOST:554/PATH")
        self._video: cv2.VideoCapture | None = None
        self._clock = PtsClock()
        self._position_ms = 0.0
        self._interrupted = threading.Event()
        self._addresses: set[str] = set()
        self._before: set[int] = set()  # inodes of sockets to the same server that others have
        self._mine: set[int] = set()

    def open(self) -> None:
        """Connect to the server.

        Raises: SourceError naming why it did not work.
        """
        _use_transport(self.options.transport)
        timeout_s = self.options.open_timeout_s
        try:  # OpenCV would not say why, and could not be interrupted while nothing answers
            addresses = try_connect(self._host, self._port, timeout_s, self._interrupted)
        except OSError as exc:
            reason = exc.strerror or str(exc)
            cure = "check address, network and camera power"
            raise SourceError(f"{self._name} cannot be reached ({reason})", cure) from exc
        self._before = set(connected_sockets(addresses, self._port))
        self._addresses = addresses
        silence_ms = int(self.options.read_timeout_s * LOST_AFTER_TIMEOUTS * 1e3)
        params = [
            cv2.CAP_PROP_OPEN_TIMEOUT_MSEC,
            int(timeout_s * 1e3),
            cv2.CAP_PROP_READ_TIMEOUT_MSEC,
            silence_ms,
        ]
        self._video = open_video(self._url, cv2.CAP_FFMPEG, params)
        if not self._video.isOpened():
            raise SourceError(
                f"{self._name} answers but gives no video",
                "check path, user, password and codec with `ffprobe URL`",
            )
        with self._lock:
            self._mine = set(connected_sockets(addresses, self._port)) - self._before - self._taken
            self._taken.update(self._mine)

    def grab(self, into: np.ndarray | None) -> Grabbed:
        """Wait for the next frame.

        Raises: SourceError when the server ends the stream or falls silent.
        """
        image = read_image(self._video, into)
        t_arrival_ns = monotonic_ns()
        if image is None:
            raise SourceError(f"{self._name} gives no more frames", "check the camera and the network")
        assert self._video is not None
        position_ms = self._video.get(cv2.CAP_PROP_POS_MSEC)
        runs, self._position_ms = position_ms > self._position_ms, position_ms
        quality: TimestampQuality = "pts" if runs else "arrival"
        t_ns = self._clock.capture_ns(int(position_ms * 1e6), t_arrival_ns) if runs else t_arrival_ns
        return Grabbed(image, t_ns, quality)

    def close(self) -> None:
        """Disconnect."""
        if self._video is not None:
            self._video.release()
        with self._lock:
            self._taken.difference_update(self._mine)

    def interrupt(self) -> None:
        """Hang up the connection, for FFmpeg itself returns only at its timeouts."""
        self._interrupted.set()
        sockets = connected_sockets(self._addresses, self._port)
        with self._lock:
            ours = self._mine or set(sockets) - self._before - self._taken
        for inode in ours & set(sockets):
            hang_up(inode, sockets[inode])


def _split_query(uri: Uri, known: list[str]) -> tuple[str, dict[str, str]]:
    """The camera's address with the query parameters that are its own, and our options."""
    base, _, query = uri.text.partition("?")
    theirs = []
    for part in query.split("&"):
        name = part.partition("=")[0]
        if name in known or not part:
            continue
        if difflib.get_close_matches(name, known, n=1, cutoff=0.8):
            raise ConfigError(f"{uri.safe_text}: unknown option '{name}'", did_you_mean(name, known))
        theirs.append(part)
    ours = {name: value for name, value in uri.query.items() if name in known}
    return base + ("?" + "&".join(theirs) if theirs else ""), ours


def _use_transport(transport: str) -> None:
    """FFmpeg prefers tcp here and takes udp only from the environment; a user's own setting stays."""
    if transport == "udp":
        os.environ.setdefault(_ENVIRONMENT, _UDP)
    elif os.environ.get(_ENVIRONMENT) == _UDP:
        raise SourceOpenError(
            "another source of this process reads RTSP over udp, and that holds for all",
            "use one transport for all, or one process per source",
        )
