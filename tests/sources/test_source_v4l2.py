"""v4l2:// without a camera: a device that is not there, and OpenCV's capture replaced by one that behaves."""

from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.clock import monotonic_ns
from edge.errors import ConfigError, SourceOpenError, SourceTimeoutError
from edge.sources import opencv
from edge.sources.base import open_source
from edge.sources.opencv import V4l2Source
from edge.uri import parse_uri


class FakeCamera:
    """cv2.VideoCapture as a camera that gives only 640x480 and stamps with `clock`."""

    opened: list["FakeCamera"]
    clock: Callable[[], float]

    def __init__(self, target: str | int, backend: int, params: list[int]) -> None:
        self.target, self.backend = target, backend
        self.was_set: list[tuple[int, float]] = []
        self.released = False
        self.present = True
        FakeCamera.opened.append(self)

    def isOpened(self) -> bool:
        return self.present

    def set(self, what: int, value: float) -> bool:
        self.was_set.append((what, value))
        return True

    def get(self, what: int) -> float:
        sizes = {cv2.CAP_PROP_FRAME_WIDTH: 640.0, cv2.CAP_PROP_FRAME_HEIGHT: 480.0}
        return FakeCamera.clock() if what == cv2.CAP_PROP_POS_MSEC else sizes[what]

    def read(self, into: np.ndarray | None) -> tuple[bool, np.ndarray | None]:
        if not self.present:
            return False, None
        image = into if into is not None and into.shape == (480, 640, 3) else np.zeros((480, 640, 3), np.uint8)
        return True, image

    def release(self) -> None:
        self.released = True


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[FakeCamera]]:
    """A device node /dev/video97 that exists and opens as a FakeCamera stamped 20 ms ago."""
    FakeCamera.opened = []
    FakeCamera.clock = lambda: monotonic_ns() / 1e6 - 20
    exists = {"/dev/video97"}
    monkeypatch.setattr(opencv, "open_video", FakeCamera)
    monkeypatch.setattr(opencv.os.path, "exists", lambda path: str(path) in exists or Path(path).is_file())
    monkeypatch.setattr(opencv.os, "access", lambda path, mode: True)
    yield FakeCamera.opened
    monkeypatch.undo()


def test_a_camera_that_is_not_there_is_waited_for_and_named() -> None:
    with open_source("/dev/video98") as source:
        with pytest.raises(SourceTimeoutError, match="/dev/video98 does not exist") as caught:
            source.read(0.3)
        assert "plug the camera in" in caught.value.cure
        assert source.state in ("lost", "connecting")


def test_with_reconnect_off_it_is_an_error_with_its_cure() -> None:
    with (
        open_source("v4l2:///dev/video98?reconnect=off") as source,
        pytest.raises(SourceOpenError, match=r"/dev/video98 does not exist: plug the camera in"),
    ):
        source.read(5)


@pytest.mark.parametrize(
    ("text", "device_path"),
    [
        ("0", "/dev/video0"),
        ("2?fps=15", "/dev/video2"),
        ("/dev/video3", "/dev/video3"),
        ("v4l2://1", "/dev/video1"),
        ("v4l2:///dev/v4l/by-id/usb-cam-index0", "/dev/v4l/by-id/usb-cam-index0"),
    ],
)
def test_a_number_a_device_and_a_uri_name_a_camera(text: str, device_path: str) -> None:
    with (
        open_source(text) as source,
        pytest.raises(SourceTimeoutError, match=f"{device_path} does not exist"),
    ):
        source.read(0.3)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("0?sise=640x480", "did you mean 'size'"),
        ("0?size=640", "size"),
        ("0?fourcc=MJPEG", "fourcc"),
        ("v4l2://front", "names no camera"),
    ],
)
def test_wrong_options(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        open_source(text)


def test_a_plausible_driver_stamp_is_used(device: list[FakeCamera]) -> None:
    with open_source("97") as source:
        info = source.read(5).info
        assert info.timestamp_quality == "driver"
        assert monotonic_ns() - info.t_capture_ns >= 20_000_000
    assert device[0].target == 97
    assert device[0].backend == cv2.CAP_V4L2
    assert device[0].released


@pytest.mark.parametrize("stamp_ms", [0.0, -1.0, 1.7e12])
def test_an_implausible_stamp_is_not(device: list[FakeCamera], stamp_ms: float) -> None:
    FakeCamera.clock = lambda: stamp_ms
    with open_source("97") as source:
        t_before_ns = monotonic_ns()
        info = source.read(5).info
        assert info.timestamp_quality == "arrival"
        assert info.t_capture_ns <= monotonic_ns()
        assert info.t_capture_ns > t_before_ns - 1_000_000_000


def test_a_repeated_stamp_is_not_used_twice(device: list[FakeCamera]) -> None:
    stamp_ms = monotonic_ns() / 1e6
    FakeCamera.clock = lambda: stamp_ms
    capture = V4l2Source(parse_uri("v4l2:///dev/video97"))
    capture.open()
    assert [capture.grab(None).timestamp_quality for _ in range(2)] == ["driver", "arrival"]


def test_size_rate_and_format_are_asked_for_in_the_order_drivers_need(device: list[FakeCamera]) -> None:
    with open_source("97?size=1280x720&fps=30") as source:
        source.read(5)
        notes = [event.reason for event in source.poll_events() if event.state == "streaming"]
    asked = dict(device[0].was_set)
    assert device[0].was_set[0] == (cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*"MJPG"))
    assert (asked[cv2.CAP_PROP_FRAME_WIDTH], asked[cv2.CAP_PROP_FRAME_HEIGHT]) == (1280, 720)
    assert asked[cv2.CAP_PROP_FPS] == 30
    assert notes == ["/dev/video97 gives 640x480 instead of 1280x720"]


def test_a_small_size_leaves_the_format_to_the_camera(device: list[FakeCamera]) -> None:
    with open_source("97?size=640x480") as source:
        source.read(5)
    assert cv2.CAP_PROP_FOURCC not in dict(device[0].was_set)


def test_an_unplugged_camera_is_lost_and_comes_back(device: list[FakeCamera], events_until: Callable) -> None:
    with open_source("97?backoff_s=0.02") as source:
        events_until(source, "streaming")
        device[0].present = False
        events = events_until(source, "lost")
        assert events[-1].reason == "/dev/video97 gives no frame"
        events_until(source, "streaming")
        assert source.stats.reconnects == 1
        assert device[0].released


def test_no_permission_names_the_group(device: list[FakeCamera], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opencv.os, "access", lambda path, mode: False)
    with open_source("97?reconnect=off") as source, pytest.raises(SourceOpenError, match="usermod -aG video"):
        source.read(5)


def test_a_file_that_is_no_camera_is_refused_by_the_real_opencv(monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        open_source("v4l2:///dev/null?reconnect=off") as source,
        pytest.raises(SourceOpenError, match=r"/dev/null cannot be opened as a camera: .*fuser"),
    ):
        source.read(10)
