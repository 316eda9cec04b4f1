"""rtsp:// against a real server, Debian's GStreamer RTSP server, that is stopped, continued and killed."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge.clock import monotonic_ns
from edge.errors import ConfigError, SourceTimeoutError
from edge.sources.base import open_source
from edge.sources.opencv import RtspSource
from edge.uri import parse_uri

SERVER = Path(__file__).with_name("rtsp_server.py")
PYTHON = "/usr/bin/python3"
QUICK = "read_timeout_s=0.7&open_timeout_s=3&backoff_s=0.1"


def has_server() -> bool:
    probe = "import gi; gi.require_version('GstRtspServer', '1.0'); from gi.repository import GstRtspServer"
    return Path(PYTHON).exists() and subprocess.run([PYTHON, "-c", probe], capture_output=True).returncode == 0


needs_server = pytest.mark.skipif(not has_server(), reason="gir1.2-gst-rtsp-server-1.0 is not installed")


class Server:
    """A server process on 127.0.0.1."""

    def __init__(self, port: int = 0) -> None:
        self.process = subprocess.Popen([PYTHON, str(SERVER), str(port)], stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline())

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server()
    yield running
    running.kill()


@needs_server
@pytest.mark.gstreamer
def test_a_slow_reader_gets_fresh_frames_with_stamps_of_the_stream(server: Server) -> None:
    ages_ms, seqs = [], []
    with open_source(f"rtsp://127.0.0.1:{server.port}/cam") as source:
        for _ in range(8):
            info = source.read(15).info
            ages_ms.append((monotonic_ns() - info.t_capture_ns) / 1e6)
            seqs.append(info.seq)
            time.sleep(0.2)
        stats = source.stats
    assert info.timestamp_quality == "pts"
    assert (info.width_px, info.height_px) == (320, 240)
    assert sorted(ages_ms)[4] < 200  # a plain cv2 read would be more than a second behind by now
    assert seqs[-1] - seqs[0] > 20
    assert stats.dropped > 10


@needs_server
@pytest.mark.gstreamer
def test_a_stalled_server_is_lost_and_comes_back(server: Server, events_until: Callable) -> None:
    with open_source(f"rtsp://127.0.0.1:{server.port}/cam?{QUICK}") as source:
        events_until(source, "streaming", 15)
        server.send(signal.SIGSTOP)
        try:
            states = [event.state for event in events_until(source, "lost")]
            assert states == ["stalled", "lost"]
            with pytest.raises(SourceTimeoutError, match="sent no frame for"):
                source.read(0.3)
        finally:
            server.send(signal.SIGCONT)
        events_until(source, "streaming", 20)
        assert source.stats.reconnects == 1
        assert source.stats.abandoned == 0


@needs_server
@pytest.mark.gstreamer
@pytest.mark.parametrize("when", ["streaming", "connecting"])
def test_close_takes_less_than_a_second_while_the_server_hangs(
    server: Server, events_until: Callable, when: str
) -> None:
    source = open_source(f"rtsp://127.0.0.1:{server.port}/cam?read_timeout_s=20&open_timeout_s=20")
    if when == "connecting":
        server.send(signal.SIGSTOP)
    source.start()
    events_until(source, when, 15)
    server.send(signal.SIGSTOP)
    time.sleep(0.3)  # until the capture thread is inside FFmpeg again
    t_s = time.monotonic()
    source.close()
    assert time.monotonic() - t_s < 1.0
    assert source.stats.abandoned == 0


@needs_server
@pytest.mark.gstreamer
def test_a_restarted_server_is_found_again(events_until: Callable) -> None:
    first = Server()
    try:
        with open_source(f"rtsp://127.0.0.1:{first.port}/cam?{QUICK}") as source:
            events_until(source, "streaming", 15)
            first.kill()
            events_until(source, "lost")
            second = Server(first.port)
            try:
                events_until(source, "streaming", 20)
                assert source.stats.reconnects == 1
            finally:
                second.kill()
    finally:
        first.kill()


@needs_server
@pytest.mark.gstreamer
def test_hanging_up_one_source_leaves_another_of_the_same_server_alone(server: Server, events_until: Callable) -> None:
    url = f"rtsp://127.0.0.1:{server.port}/cam"
    stays = open_source(url)
    stays.start()
    events_until(stays, "streaming", 15)
    goes = RtspSource(parse_uri(url))
    goes.open()
    goes.interrupt()
    assert not all(goes_on(goes) for _ in range(300))
    goes.close()
    seq = stays.read(10).info.seq
    while stays.read(10).info.seq < seq + 30:
        pass
    assert [event.state for event in stays.poll_events()] == []
    stays.close()


def goes_on(capture: RtspSource) -> bool:
    try:
        capture.grab(None)
    except Exception:
        return False
    return True


@needs_server
@pytest.mark.gstreamer
def test_a_program_that_never_closes_ends_without_an_abort(server: Server) -> None:
    """Its capture thread leaves FFmpeg while the interpreter is being taken down, which takes 2 s here."""
    program = (
        "import os, signal, time\n"
        "from edge.sources.base import open_source\n"
        "class SlowToDie:\n"
        "    def __del__(self, sleep=time.sleep): sleep(2)\n"
        f"s = open_source('rtsp://127.0.0.1:{server.port}/cam?read_timeout_s=0.5')\n"
        "s.start()\n"
        "s.read(15)\n"
        "keep = SlowToDie()\n"
        f"os.kill({server.process.pid}, signal.SIGSTOP)\n"
        "time.sleep(0.2)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=40)
    assert done.returncode == 0, done.stderr


def test_a_server_that_is_not_there_is_tried_again_and_no_password_is_shown(until: Callable) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound but not listening: refused
        port = taken.getsockname()[1]
        with open_source(f"rtsp://joe:secret@127.0.0.1:{port}/cam?backoff_s=0.02") as source:
            until(lambda: source.state == "lost")
            with pytest.raises(SourceTimeoutError, match="Connection refused") as caught:
                source.read(0.1)
            until(lambda: len([e for e in source.poll_events() if e.state == "connecting"]) >= 1)
            told = str(caught.value) + str(caught.value.__cause__) + source.source_id
            assert "secret" not in told
            assert "joe:***@" in told


def test_a_port_that_accepts_and_never_speaks_is_closed_in_less_than_a_second(until: Callable) -> None:
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        mute.settimeout(10)
        other = socket.create_connection(mute.getsockname())  # of the same process to the same camera
        accepted = [mute.accept()[0]]
        source = open_source(f"rtsp://127.0.0.1:{mute.getsockname()[1]}/cam?open_timeout_s=30")
        source.start()
        accepted += [mute.accept()[0], mute.accept()[0]]  # our trial and FFmpeg's
        t_s = time.monotonic()
        source.close()
        assert time.monotonic() - t_s < 1.0
        assert source.stats.abandoned == 0
        accepted[0].sendall(b"still here")
        assert other.recv(10) == b"still here"
        for connection in [other, *accepted]:
            connection.close()


def test_parameters_of_the_camera_stay_in_its_address_and_ours_do_not() -> None:
    capture = RtspSource(parse_uri("rtsp://joe:p%40ss@10.0.0.9/live?channel=1&read_timeout_s=3&subtype=0"))
    assert capture._url == "rtsp://joe:p%40ss@10.0.0.9/live?channel=1&subtype=0"
    assert capture.options.read_timeout_s == 3


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("rtsp://10.0.0.9/live?trnsport=udp", "did you mean 'transport'"),
        ("rtsp://10.0.0.9/live?transport=quic", "transport"),
        ("rtsp://10.0.0.9:notaport/live", "is no address"),
        ("rtsp:///live", "names no host"),
    ],
)
def test_wrong_addresses_and_options(uri: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        open_source(uri)


def test_udp_and_tcp_do_not_mix_in_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    from edge.errors import SourceOpenError
    from edge.sources.rtsp import _use_transport

    monkeypatch.delenv("OPENCV_FFMPEG_CAPTURE_OPTIONS", raising=False)
    _use_transport("tcp")
    assert "OPENCV_FFMPEG_CAPTURE_OPTIONS" not in os.environ
    monkeypatch.setenv("OPENCV_FFMPEG_CAPTURE_OPTIONS", "")
    monkeypatch.delenv("OPENCV_FFMPEG_CAPTURE_OPTIONS")
    _use_transport("udp")
    assert os.environ.pop("OPENCV_FFMPEG_CAPTURE_OPTIONS") == "rtsp_transport;udp"
    monkeypatch.setenv("OPENCV_FFMPEG_CAPTURE_OPTIONS", "rtsp_transport;udp")
    with pytest.raises(SourceOpenError, match="udp"):
        _use_transport("tcp")
