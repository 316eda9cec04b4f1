"""Start-up time, age at a subscriber, light to message, and the options."""

import argparse
import subprocess
import sys
import threading
import time
from array import array
from pathlib import Path

import numpy as np
import pytest
from bench_engines import CLASSIFIER

from edge.bench import startup
from edge.bench.command import duration_s
from edge.bench.photon import LedLight, match_flashes, measure_photon, open_light
from edge.bench.startup import measure_startup, time_first_message
from edge.bench.subscriber import Subscriber, ages_at_ticks_ms
from edge.clock import monotonic_ns
from edge.config import EngineSection, RunConfig, Thresholds, read_config
from edge.errors import ConfigError, DeviceError
from edge.frame import Frame, FrameInfo
from edge.model import open_model
from edge.pipeline import Pipeline
from edge.registry import resolve
from edge.testing import MemoryPublisher, MemorySource
from edge.uri import parse_uri
from edge.wire.messages import DetectionsMessage, StatusMessage

MS = 1_000_000


def test_the_options_load_nothing_heavy():
    script = "import edge.bench.command, sys; print({'numpy', 'cv2', 'msgspec'} & set(sys.modules))"
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=30)
    assert out.stdout.strip() == "set()"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("8h", 28800),
        ("30m", 1800),
        ("10s", 10),
        ("1h30m", 5400),
        ("0.5s", 0.5),
        ("1min", 60),
        ("90", 90),
        ("2h5min30sec", 7530),
    ],
)
def test_durations(text, seconds):
    assert duration_s(text) == seconds


@pytest.mark.parametrize("text", ["1h30", "min", "h", "8 hours", "-3s", "0s", ""])
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(argparse.ArgumentTypeError, match="not a duration"):
        duration_s(text)


def test_start_up_counts_from_the_start_to_the_first_result():
    script = (
        'import time; print(\'{"kind": "status"}\', flush=True); time.sleep(0.4); print(\'{"kind": "detections"}\')'
    )
    assert 0.4 <= time_first_message([sys.executable, "-c", script]) < 20


def test_start_up_of_something_that_fails_says_what_it_said():
    with pytest.raises(DeviceError, match="gave no message .*no camera"):
        time_first_message([sys.executable, "-c", "import sys; sys.exit('no camera')"])


def test_start_up_of_the_real_command(catalogue):
    catalogue("face")
    found = measure_startup(RunConfig(model="face", source="synthetic://?size=64x48"), repeats=2)
    assert len(found.seconds) == 2
    assert 0.02 < found.median_s < 30


def test_start_up_is_that_of_the_set_up_that_was_measured(tmp_path, monkeypatch):
    """What --target, a file of --compare and other options change must reach the process that is timed."""
    config = RunConfig(model='a "b"', source="synthetic://", labels="l.txt", publish=["tcp://127.0.0.1:0"])
    config.engine = EngineSection(target="second", threads=3)
    config.thresholds = Thresholds(score=0.25)
    seen = []

    def timed(command):
        words = command[command.index("run") + 1 :]
        seen.append((read_config(Path(words[0])), words[1:]))
        return 0.5

    monkeypatch.setattr(startup, "time_first_message", timed)
    assert measure_startup(config, repeats=2).median_s == 0.5
    assert seen == [(config, ["--publish", "stdout://", "--frames", "1"])] * 2


def test_a_start_up_that_never_speaks_is_ended():
    t_start = time.monotonic()
    with pytest.raises(DeviceError, match="gave no message within 0.5 s"):
        time_first_message([sys.executable, "-c", "import time; time.sleep(60)"], deadline_s=0.5)
    assert time.monotonic() - t_start < 20


def test_a_start_up_that_says_much_on_the_side_is_not_blocked():
    script = "import sys; sys.stderr.write('x' * 1_000_000); print('{\"kind\": \"detections\"}')"
    assert time_first_message([sys.executable, "-c", script], deadline_s=30) < 25


def test_the_age_grows_between_messages():
    stamps = array("q", [0, 10 * MS, 20 * MS, 30 * MS])  # captured at 0 and 20 ms, received at 10 and 30 ms
    assert ages_at_ticks_ms(stamps, [(0, 45 * MS)], 5 * MS) == [10, 15, 20, 25, 10, 15, 20]
    assert ages_at_ticks_ms(stamps, [(25 * MS, 45 * MS)], 5 * MS) == [10, 15, 20]  # not what came before the block
    assert ages_at_ticks_ms(array("q"), [(0, 45 * MS)], 5 * MS) == []


@pytest.mark.parametrize("query", ["", "?format=json", "?format=binary"])
def test_a_subscriber_notes_when_messages_come(query):
    publisher = resolve("publishers", "tcp")(parse_uri(f"tcp://127.0.0.1:0{query}"))
    subscriber = Subscriber(publisher.address)
    assert subscriber.connected
    deadline = time.monotonic() + 5
    while not publisher.client_count and time.monotonic() < deadline:
        time.sleep(0.01)
    t_ns = time.time_ns() - 50 * MS
    publisher.send(DetectionsMessage(t_publish_ns=t_ns, t_capture_ns=t_ns, age_ms=0.0, detections=[]))
    time.sleep(0.05)
    publisher.send(StatusMessage(t_publish_ns=t_ns, t_event_ns=t_ns, state="closed"))
    publisher.close()
    stamps = subscriber.stamps_ns()
    assert len(stamps) == 2
    assert 45 < (stamps[1] - stamps[0]) / MS < 5000


def steps(rows: list[tuple[float, float]]) -> np.ndarray:
    """(t_message ms, brightness) -> what match_flashes takes; captured 5 ms before."""
    return np.array([(int(t * MS), int((t - 5) * MS), int(b * 1000)) for t, b in rows], np.int64)


def test_flashes_are_matched_with_the_first_bright_frame():
    rows = [(t, 200.0 if 130 <= t < 180 or 330 <= t < 380 else 20.0) for t in range(0, 600, 10)]
    found = match_flashes([100 * MS, 200 * MS, 300 * MS], steps(rows))
    assert [(f.t_light_ns // MS, f.t_message_ns // MS, f.t_capture_ns // MS) for f in found] == [
        (100, 130, 125),
        (300, 330, 325),
    ]


def test_a_light_that_the_camera_does_not_see_is_an_error():
    with pytest.raises(DeviceError, match="sees no flash: the frames differ by 2.0 of 255"):
        match_flashes([0], steps([(t, 100.0 + 2 * (t % 20 == 0)) for t in range(0, 200, 10)]))


class SimulatedLight:
    """Remembers when it was switched."""

    name = "simulated"

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._changes: list[tuple[int, bool]] = [(0, False)]
        self.closed = False

    def switch(self, on: bool) -> None:
        with self._lock:
            self._changes.append((monotonic_ns(), on))

    def was_on(self, t_ns: int) -> bool:
        with self._lock:
            return [on for t, on in self._changes if t <= t_ns][-1]

    def close(self) -> None:
        self.closed = True


class SimulatedCamera(MemorySource):
    """A picture every 10 ms, handed over `delay_ms` after its light fell in, stamped on arrival."""

    def __init__(self, light: SimulatedLight, delay_ms: float) -> None:
        super().__init__([np.full((48, 64, 3), grey, np.uint8) for grey in (30, 220)])
        self._light, self._delay_ns, self._next_ns = light, int(delay_ms * MS), monotonic_ns()

    def read(self, timeout_s: float) -> Frame:
        self._next_ns = max(self._next_ns + 10 * MS, monotonic_ns() - self._delay_ns)
        time.sleep(max(0, self._next_ns + self._delay_ns - monotonic_ns()) / 1e9)
        image = self._images[self._light.was_on(self._next_ns)]
        self._seq += 1
        return Frame(image, FrameInfo(self._seq, "simulated", monotonic_ns(), 64, 48))


def light_to_message_ms(tmp_path, delay_ms: float) -> tuple[float, float, float]:
    (tmp_path / "m.null").write_text(CLASSIFIER)
    config, light = RunConfig(), SimulatedLight()
    model = open_model(str(tmp_path / "m.null"), config.engine)
    pipeline = Pipeline(SimulatedCamera(light, delay_ms), model, [MemoryPublisher()], config)
    found = measure_photon(pipeline, light, flashes=10, on_s=0.1, off_s=0.08)
    assert light.closed
    assert found.flashes == 10
    assert found.missed <= 2
    return found.light_to_message.cdf_ms[0], found.light_to_message.p50.value, found.light_to_capture_stamp_p50_ms


def test_light_to_message_is_the_cameras_delay_and_half_a_frame(tmp_path):
    short_least, short, stamp = light_to_message_ms(tmp_path, 20)
    long_least, long, _ = light_to_message_ms(tmp_path, 60)
    assert short_least >= 20
    assert long_least >= 60
    assert 25 < long - short < 55  # 40 ms, give or take half a frame and a busy machine
    assert 20 <= stamp <= short  # the arrival stamp leaves the camera's delay out of the age


def test_an_led_is_switched_and_left_as_it_was(tmp_path):
    (tmp_path / "brightness").write_text("7\n")
    (tmp_path / "max_brightness").write_text("255\n")
    light = open_light(str(tmp_path))
    assert isinstance(light, LedLight)
    assert (tmp_path / "brightness").read_text() == "7"  # opening it switches nothing: what fails later leaves it on
    light.switch(True)
    assert (tmp_path / "brightness").read_text() == "255"
    light.switch(False)
    assert (tmp_path / "brightness").read_text() == "0"
    light.close()
    assert (tmp_path / "brightness").read_text() == "7"
    with pytest.raises(ConfigError, match="cannot switch the light"):
        open_light(str(tmp_path / "none"))
