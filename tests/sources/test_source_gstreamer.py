"""gst:// and csi:// with real gst-launch-1.0 processes: streaming, killed, stopped, wrong."""

import os
import shutil
import signal
import threading
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from edge.clock import monotonic_ns
from edge.errors import ConfigError, EndOfStreamError, SourceError, SourceOpenError
from edge.sources.base import FrameSource, open_source
from edge.sources.gstreamer import CsiSource, GstSource, csi_pipeline
from edge.uri import parse_uri

pytestmark = [
    pytest.mark.gstreamer,
    pytest.mark.skipif(shutil.which("gst-launch-1.0") is None, reason="gst-launch-1.0 is not installed"),
]

LIVE = "videotestsrc is-live=true ! video/x-raw,width=160,height=120,framerate=30/1"
QUICK = "read_timeout_s=0.4 backoff_s=0.05"


def children() -> list[int]:
    """Process ids of the gst-launch processes that this process started."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                name, fields = (entry / "stat").read_text().rpartition(")")[::2]
            except OSError:
                continue
            if int(fields.split()[1]) == os.getpid() and "gst-launch" in name and fields.split()[0] != "Z":
                found.append(int(entry.name))
    return found


def read_all(source: FrameSource) -> list[np.ndarray]:
    images = []
    try:
        while True:
            images.append(source.read(10).image.copy())
    except EndOfStreamError:
        return images


@pytest.mark.parametrize("width", [160, 161, 162, 163])
def test_every_frame_arrives_with_rows_of_any_width(width: int) -> None:
    pipeline = f"videotestsrc num-buffers=20 pattern=green ! video/x-raw,width={width},height=48"
    with open_source(f"gst://live=off {pipeline}") as source:
        images = read_all(source)
        assert source.stats.dropped == 0
    assert len(images) == 20
    for image in images:
        assert image.shape == (48, width, 3)
        assert (abs(image.astype(int) - (0, 255, 0)) < 8).all()


def test_a_live_pipeline_is_stamped_by_its_own_clock() -> None:
    stamps_ns = []
    with open_source(f"gst://{LIVE}") as source:
        for _ in range(20):
            info = source.read(10).info
            assert info.timestamp_quality == "pts"
            assert info.t_capture_ns <= monotonic_ns()
            stamps_ns.append((info.seq, info.t_capture_ns))
    for (seq0, t0_ns), (seq1, t1_ns) in pairwise(stamps_ns):
        assert t1_ns - t0_ns == pytest.approx((seq1 - seq0) * 33.3e6, abs=60e6)
    assert children() == []


def test_a_killed_process_is_lost_and_comes_back(events_until: Callable, until: Callable) -> None:
    with open_source(f"gst://{QUICK} {LIVE}") as source:
        events_until(source, "streaming")
        (pid,) = children()
        os.kill(pid, signal.SIGKILL)
        events = events_until(source, "lost")
        assert "killed by signal 9" in events[-1].reason
        assert [event.state for event in events_until(source, "streaming")] == ["connecting", "streaming"]
        assert source.read(10).info.seq > 0
        assert source.stats.reconnects == 1
        assert children() != [pid]
    until(lambda: children() == [])


def test_a_stopped_process_stalls_and_goes_on(events_until: Callable) -> None:
    with open_source(f"gst://read_timeout_s=1.5 {LIVE}") as source:
        events_until(source, "streaming")
        (pid,) = children()
        os.kill(pid, signal.SIGSTOP)
        try:
            assert "no frame for 1.5 s" in events_until(source, "stalled")[-1].reason
        finally:
            os.kill(pid, signal.SIGCONT)
        assert [event.state for event in events_until(source, "streaming")] == ["streaming"]
        assert source.stats.reconnects == 0


def test_a_process_stopped_for_good_is_replaced(events_until: Callable, until: Callable) -> None:
    with open_source(f"gst://{QUICK} {LIVE}") as source:
        events_until(source, "streaming")
        (pid,) = children()
        os.kill(pid, signal.SIGSTOP)
        events = events_until(source, "lost")
        assert [event.state for event in events] == ["stalled", "lost"]
        events_until(source, "streaming")
        assert source.stats.abandoned == 0
        assert pid not in children()


def test_close_takes_less_than_a_second_while_the_process_is_stopped(events_until: Callable) -> None:
    source = open_source(f"gst://read_timeout_s=30 {LIVE}")
    source.start()
    events_until(source, "streaming")
    (pid,) = children()
    os.kill(pid, signal.SIGSTOP)
    t_s = time.monotonic()
    source.close()
    assert time.monotonic() - t_s < 1.0
    assert source.stats.abandoned == 0
    assert children() == []


@pytest.mark.parametrize(
    ("pipeline", "said"),
    [
        ("nosuchelement ! queue", 'no element "nosuchelement"'),
        ("videotestsrc nosuchproperty=1", 'no property "nosuchproperty"'),
        ("videotestsrc ! ! queue", "syntax error"),
    ],
)
def test_a_wrong_pipeline_ends_at_once_with_what_gst_says(pipeline: str, said: str) -> None:
    with open_source(f"gst://{pipeline}") as source:
        with pytest.raises(SourceOpenError, match=said) as caught:
            source.read(10)
        assert "gst-inspect-1.0" in caught.value.cure


def test_a_device_that_is_not_there_is_tried_again(until: Callable) -> None:
    with open_source("gst://backoff_s=0.05 v4l2src device=/dev/video98") as source:
        until(lambda: source.state == "lost")
        until(lambda: source.state == "connecting")
        reasons = [event.reason for event in source.poll_events() if event.state == "lost"]
        assert "Cannot identify device '/dev/video98'" in reasons[0]
        with pytest.raises(SourceError, match="Cannot identify device"):
            source.read(0.05)


def test_a_lossless_pipeline_that_fails_is_final() -> None:
    with (
        open_source("gst://live=off filesrc location=/nonexistent.mp4 ! decodebin") as source,
        pytest.raises(SourceOpenError, match="Resource not found"),
    ):
        source.read(10)


def test_the_size_may_change_in_mid_stream(tmp_path: Path) -> None:
    """Recorded GDP streams, one after the other, replayed by a stand-in for gst-launch-1.0."""
    sizes = [(32, 16), (50, 20), (32, 16)]
    parts = []
    for width, height in sizes:
        part = tmp_path / "part.gdp"
        os.system(
            f"gst-launch-1.0 -q videotestsrc num-buffers=3 "
            f"! video/x-raw,format=BGR,width={width},height={height} ! gdppay ! filesink location={part}"
        )
        parts.append(part.read_bytes())
    replay(tmp_path, b"".join(parts))
    with open_source("gst://live=off anything") as source:
        shapes = [image.shape[1::-1] for image in read_all(source)]
    assert shapes == [size for size in sizes for _ in range(3)]


def replay(folder: Path, data: bytes) -> None:
    """Put a gst-launch-1.0 that writes `data` to its fdsink first in PATH."""
    (folder / "data").write_bytes(data)
    tool = folder / "gst-launch-1.0"
    tool.write_text('#!/bin/sh\nfor last; do :; done\nexec cat "$(dirname "$0")/data" >"/dev/fd/${last#fd=}"\n')
    tool.chmod(0o755)


@pytest.fixture(autouse=True)
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)


def test_what_is_not_gdp_is_an_error(tmp_path: Path) -> None:
    replay(tmp_path, b"\x09" * 200)
    with (
        open_source("gst://reconnect=off anything") as source,
        pytest.raises(SourceOpenError, match=r"not GDP 1\.0"),
    ):
        source.read(10)


def test_a_stream_cut_in_a_frame_ends_without_that_frame(tmp_path: Path) -> None:
    part = tmp_path / "part.gdp"
    os.system(
        "gst-launch-1.0 -q videotestsrc num-buffers=3 ! video/x-raw,format=BGR,width=32,height=16 "
        f"! gdppay ! filesink location={part}"
    )
    replay(tmp_path, part.read_bytes()[:-100])
    with open_source("gst://live=off anything") as source:
        assert len(read_all(source)) == 2


def test_much_on_stderr_does_not_block_the_pipeline() -> None:
    pipeline = "videotestsrc num-buffers=30 ! video/x-raw,width=64,height=48 ! identity silent=false"
    chatty = GstSource(parse_uri(f"gst://live=off {pipeline}"))
    os.environ["GST_DEBUG"] = "6"  # hundreds of kilobytes
    try:
        with FrameSource(lambda: chatty, "chatty") as source:
            assert len(read_all(source)) == 30
    finally:
        del os.environ["GST_DEBUG"]


def test_options_stand_before_the_pipeline() -> None:
    capture = GstSource(parse_uri("gst://live=off read_timeout_s=5 videotestsrc pattern=ball ! video/x-raw,width=64"))
    assert capture.live is False
    assert capture.options.read_timeout_s == 5
    with pytest.raises(ConfigError, match=r"unknown key 'liv'.*live"):
        GstSource(parse_uri("gst://liv=off videotestsrc"))
    with pytest.raises(ConfigError, match="names no pipeline"):
        GstSource(parse_uri("gst://"))
    with pytest.raises(ConfigError, match="quotation"):
        GstSource(parse_uri("gst://videotestsrc name='x"))


def test_without_gst_launch_it_fails_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SourceOpenError, match=r"gst-launch-1\.0 is not installed.*apt install"):
        open_source(f"gst://{LIVE}")


def grab_on(capture: GstSource) -> None:
    while True:
        capture.grab(None)


def test_an_interrupt_before_the_start_still_ends_the_grab() -> None:
    capture = GstSource(parse_uri(f"gst://{LIVE}"))
    capture.interrupt()
    capture.open()
    timer = threading.Timer(20, capture.interrupt)
    timer.start()
    try:
        with pytest.raises(SourceError, match="interrupted"):
            grab_on(capture)
    finally:
        timer.cancel()
        capture.close()


def test_the_csi_pipeline_is_the_documented_one() -> None:
    assert csi_pipeline(1, (1280, 720), 30, 2) == (
        "nvarguscamerasrc sensor-id=1 ! "
        "video/x-raw(memory:NVMM),width=1280,height=720,format=NV12,framerate=30/1 ! "
        "nvvidconv flip-method=2 ! video/x-raw,format=BGRx ! queue max-size-buffers=1 leaky=downstream"
    )


def test_csi_takes_its_options_and_needs_a_sensor_number() -> None:
    options = CsiSource(parse_uri("csi://0?size=1920x1080&fps=60&flip=2")).options
    assert (options.size, options.fps, options.flip) == ((1920, 1080), 60, 2)  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match="csi://0"):
        CsiSource(parse_uri("csi://front"))
    with pytest.raises(ConfigError, match="flip"):
        CsiSource(parse_uri("csi://0?flip=8"))


@pytest.mark.skipif(
    os.system("gst-inspect-1.0 --exists nvarguscamerasrc") == 0,
    reason="this is a Jetson, where it would work",
)
def test_csi_beside_a_jetson_says_that_the_element_is_missing() -> None:
    with open_source("csi://0") as source, pytest.raises(SourceOpenError, match="nvarguscamerasrc"):
        source.read(10)
