"""The wall clock is set by hours, on the robot's side and on the reader's: ages stay what they are."""

import time
from pathlib import Path

import pytest
from broken_runs import Camera, Reader, null_bundle, running, wait_for

HOUR_S = 3600
CONFIG = """
model = "{model}"
source = "{source}"
publish = ["tcp://127.0.0.1:0?format=json", "file://{lines}"]
[wire]
ttl_ms = 500
"""
# of the run's process only: this machine's clock is left alone
SET_CLOCK = """
import time
real_ns, real_s = time.time_ns, time.time
def shift_s():
    with open({path!r}) as file:
        return int(file.read() or 0)
time.time_ns = lambda: real_ns() + shift_s() * 1_000_000_000
time.time = lambda: real_s() + shift_s()
"""
# a step of the loop may be interrupted between two readings; nothing else may make a result look younger
YOUNGER_MS = 5.0


class SetClock:
    """The wall clock of a process that has this folder on its PYTHONPATH."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "shift"
        (folder / "sitecustomize.py").write_text(SET_CLOCK.format(path=str(self._path)))
        self.by(0)

    def by(self, seconds: int) -> None:
        partial = self._path.with_suffix(".partial")
        partial.write_text(str(seconds))
        partial.replace(self._path)


def errors_ms(reader: Reader, seconds: float) -> list[tuple[float, float, bool]]:
    """Of the results of this time: how much older than the truth each looks, its true age, whether it is expired."""
    found, end = [], time.monotonic() + seconds
    while time.monotonic() < end:
        message = reader.connection.read(0.05)
        if message is None or message.kind == "status":
            continue
        expired, now_ns = message.expired(), time.monotonic_ns()
        true_ms = (now_ns - int(message.ref)) / 1e6
        found.append((message.age_now_ms() - true_ms, true_ms, expired))
    return found


@pytest.mark.parametrize("hours", [5, -5])
def test_the_robots_clock_is_set(tmp_path, measured, hours):
    """Promise: a result never looks younger than it is. For a second after the clock was set back it may look older,

    and expired, until the clocks were compared again. Rates, times to live and reconnecting are not touched.
    """
    clock = SetClock(tmp_path)
    config = CONFIG.format(
        model=null_bundle(tmp_path / "bundle"), source=Camera(tmp_path).uri(), lines=tmp_path / "lines.jsonl"
    )
    with running(tmp_path, config) as run, Reader(run.address) as reader:
        reader.result()
        before = errors_ms(reader, 1.0)
        assert before
        clock.by(hours * HOUR_S)
        begin = time.monotonic()
        wait_for(lambda: reader.connection.latest() is not None and time.monotonic() > begin + 0.1, "fresh results")
        recovery_s = wait_for(lambda: errors_ms(reader, 0.1)[-1][0] < 50, "ages that are true")
        during = errors_ms(reader, 0.5)
        clock.by(0)
        after = errors_ms(reader, 1.5)
        young = min(error for error, _, _ in before + during + after)
        assert young > -YOUNGER_MS, "a result looked younger than it is"
        settled = during + after[-20:]
        assert max(error for error, true, _ in settled if true < 250) < 250
        assert not any(expired for _, true, expired in settled if true < 250)
        wrongly = [true for _, true, expired in before + during + after if expired and true < 250]
        measured(recovery_s=recovery_s, wrongly_expired=len(wrongly), youngest_ms=young)
        assert not [state for state in reader.status if "stalled" in state or "lost" in state]


@pytest.mark.parametrize("hours", [5, -5])
def test_the_readers_clock_is_set(tmp_path, monkeypatch, measured, hours):
    """Promise: a reader reckons by its own monotonic clock only."""
    config = CONFIG.format(
        model=null_bundle(tmp_path / "bundle"), source=Camera(tmp_path).uri(), lines=tmp_path / "lines.jsonl"
    )
    with running(tmp_path, config) as run, Reader(run.address) as reader:
        reader.result()
        before = errors_ms(reader, 0.7)
        real_ns = time.time_ns
        monkeypatch.setattr(time, "time_ns", lambda: real_ns() + hours * HOUR_S * 1_000_000_000)
        after = errors_ms(reader, 0.7)
        assert min(error for error, _, _ in before + after) > -YOUNGER_MS
        assert max(error for error, true, _ in after if true < 250) < 250
        assert not any(expired for _, true, expired in after if true < 250)
        measured(largest_error_ms=max(abs(error) for error, true, _ in after if true < 250))
