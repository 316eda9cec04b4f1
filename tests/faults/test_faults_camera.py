"""Cameras that go, come back, stand still, see nothing, change their size or send damaged frames."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from broken_runs import PATIENCE_S, Camera, Reader, Run, null_bundle, running, wait_for

RTSP_SERVER = Path(__file__).resolve().parents[1] / "sources/rtsp_server.py"
PYTHON = "/usr/bin/python3"
CONFIG = 'model = "{model}"\nsource = "{source}"\npublish = ["tcp://127.0.0.1:0"]\n'


@pytest.fixture
def camera(tmp_path) -> Camera:
    return Camera(tmp_path)


def config_of(folder: Path, source: str, extra: str = "") -> str:
    return CONFIG.format(model=null_bundle(folder / "bundle"), source=source) + extra


def recovered(reader: Reader, condition=lambda message: not message.flags) -> float:
    """Seconds until the next healthy result."""
    begin = time.monotonic()
    reader.result(lambda message: message.t_capture_local_ns > begin * 1e9 and condition(message))
    return time.monotonic() - begin


@pytest.mark.parametrize(
    ("order", "told"), [("gone", "lost the camera was unplugged"), ("hang", "stalled no frame for")]
)
def test_a_camera_that_was_away_is_taken_up_again(tmp_path, camera, measured, order, told):
    """Promise: readers are told within read_timeout_s, and results go on within backoff_max_s after it is back."""
    with running(tmp_path, config_of(tmp_path, camera.uri())) as run, Reader(run.address) as reader:
        before = reader.result()
        camera.tell(order)
        begin = time.monotonic()
        while not any(state.startswith(told) for state in reader.status):
            assert time.monotonic() < begin + PATIENCE_S, reader.status
            message = reader.connection.read(0.1)
            if message is not None and message.kind == "status":
                reader.status.append(f"{message.state} {message.reason}".strip())
        told_s = time.monotonic() - begin
        assert reader.connection.alive  # the loop is, and says so
        if order == "hang":
            run.says("lost (")
        wait_for(lambda: reader.connection.latest() is None, "nothing old is taken for new")
        camera.tell("ok")
        measured(told_s=told_s, recovery_s=recovered(reader))
        after = reader.result()
        assert after.seq > before.seq
        assert after.age_ms < 500


def rtsp_is_missing() -> bool:
    probe = "import gi; gi.require_version('GstRtspServer', '1.0'); from gi.repository import GstRtspServer"
    return not Path(PYTHON).exists() or subprocess.run([PYTHON, "-c", probe], capture_output=True).returncode != 0


@pytest.mark.gstreamer
@pytest.mark.skipif(rtsp_is_missing(), reason="gir1.2-gst-rtsp-server-1.0 is not installed")
def test_a_network_camera_that_was_switched_off_and_on(tmp_path, measured):
    """Promise: a killed and a stopped RTSP server are told, and taken up again within backoff_max_s and its start."""

    def serve(port: int = 0) -> tuple[subprocess.Popen, int]:
        server = subprocess.Popen([PYTHON, str(RTSP_SERVER), str(port)], stdout=subprocess.PIPE, text=True)
        assert server.stdout is not None
        return server, int(server.stdout.readline())

    server, port = serve()
    quick = "read_timeout_s=0.7&open_timeout_s=3&backoff_s=0.1&backoff_max_s=0.5"
    try:
        config = config_of(tmp_path, f"rtsp://127.0.0.1:{port}/cam?{quick}")
        with running(tmp_path, config) as run, Reader(run.address) as reader:
            reader.result()
            server.kill()
            server.wait()
            killed = time.monotonic()
            run.says("lost (")
            told_s = time.monotonic() - killed
            server, _ = serve(port)
            killed_s = recovered(reader)
            server.send_signal(signal.SIGSTOP)
            run.says("stalled")
            server.send_signal(signal.SIGCONT)
            measured(told_s=told_s, killed_recovery_s=killed_s, stopped_recovery_s=recovered(reader))
    finally:
        server.kill()
        server.wait()


@pytest.mark.parametrize(
    ("order", "reason"), [("freeze", "the picture has not changed for 0.5 s"), ("black", "the picture is black")]
)
def test_a_picture_that_shows_nothing_new_is_told(tmp_path, camera, measured, order, reason):
    """Promise: degraded, with the reason, after frozen_s or blank_s and five frames, until the first that lives."""
    source = camera.uri("fps=100&frozen_s=0.5&blank_s=0.5")
    with running(tmp_path, config_of(tmp_path, source)) as run, Reader(run.address) as reader:
        reader.result(lambda message: not message.flags)
        camera.tell(order)
        begin = time.monotonic()
        reader.result(lambda message: "degraded" in message.flags)
        told_s = time.monotonic() - begin
        assert told_s >= 0.4
        assert f"streaming degraded: {reason}" in reader.status
        camera.tell("ok")
        measured(told_s=told_s, recovery_s=recovered(reader))
        run.says("no longer degraded")


def test_frames_that_change_their_size_and_damaged_ones_cost_themselves_only(tmp_path, camera, measured):
    """Promise: each result says the size of its frame; every size is run; readers, recordings and tracks go on."""
    sizes = [(160, 120), (32, 48), (641, 479), (64, 48)]
    recordings = tmp_path / "recordings"
    config = config_of(tmp_path, camera.uri())
    if has_mcap():
        config = config.replace('"]', f'", "mcap://{recordings}?min_free_mb=0&pictures=png"]')
    with running(tmp_path, config) as run, Reader(run.address) as reader:
        reader.result()
        gaps = []
        for width, height in sizes:
            camera.tell(f"resize {width} {height}")
            gaps.append(recovered(reader, lambda message: tuple(message.frame) == (width, height)))  # noqa: B023
        camera.tell("bad")
        run.says("a frame was damaged")
        time.sleep(0.2)
        camera.tell("ok")
        measured(longest_s=max(gaps), bad_frames_recovery_s=recovered(reader))
        assert not [state for state in reader.status if state.startswith(("lost", "stalled"))]
    if has_mcap():
        from edge.recording import Recording, has_pictures, picture_in

        seen = {
            picture_in(one.data).shape[1::-1]
            for path in recordings.glob("*.mcap")
            for one in Recording(path)
            if has_pictures(one)
        }
        assert seen == set(sizes)


CALIBRATED = """
frame_id = "front"
width_px = 512
height_px = 512
[intrinsics]
fx_px = 400.0
fy_px = 400.0
cx_px = 255.5
cy_px = 255.5
"""


def test_tracks_and_positions_when_the_frames_change_their_size(tmp_path, camera, catalogue, measured):
    """Promise: tracking and regions go on with every size, positions with every size of the calibration's shape; frames

    of another shape have none, and say that they are degraded: no position is better than a wrong one.
    """
    catalogue("face")
    home = os.environ.get("HARRIER_HOME", "")
    (tmp_path / "camera.toml").write_text(CALIBRATED)
    source = camera.uri(f"fps=30&size=512x512&picture={catalogue('astronaut')}/astronaut.png")
    config = CONFIG.format(model="face", source=source) + EVERYTHING.format(camera=tmp_path / "camera.toml")
    run = Run(tmp_path, config, HARRIER_HOME=home)
    try:
        with Reader(run.address) as reader:
            bearings = []
            for order, size in (("ok", 512), ("resize 320 320", 320), ("resize 700 700", 700)):
                camera.tell(order)
                found = reader.result(lambda m: m.frame == (size, size) and m.detections).detections[0]  # noqa: B023
                bearings.append(found.bearing_rad[0])
            assert max(bearings) - min(bearings) < 0.02
            camera.tell("resize 320 240")
            cut = reader.result(lambda m: m.frame == (320, 240) and m.detections and "degraded" in m.flags)
            assert cut.detections[0].bearing_rad is None
            assert cut.detections[0].track_id is not None
            camera.tell("resize 320 320")
            whole = reader.result(lambda m: m.frame == (320, 320) and m.detections and "degraded" not in m.flags)
            assert whole.detections[0].bearing_rad is not None
        assert run.stop() == 0
    finally:
        run.process.kill()
        run.process.wait()
    assert "Traceback" not in run.log
    assert "frames of 320x240 have another shape than the 512x512 of the calibration of 'front'" in run.log


EVERYTHING = """
[tracking]
min_hits = 1
[geometry]
camera = "{camera}"
[[region]]
name = "left"
kind = "zone"
points = [[0.0, 0.0], [0.5, 0.0], [0.5, 1.0], [0.0, 1.0]]
"""


def has_mcap() -> bool:
    try:
        import foxglove_schemas_protobuf  # noqa: F401
        import mcap  # noqa: F401
    except ImportError:
        return False
    return True
