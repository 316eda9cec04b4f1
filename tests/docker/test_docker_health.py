"""The health check of the images, against the signs that a run really gives."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from docker_files import FOLDER, script

health = script("health")

RUN = ["-m", "edge", "run", "--model", "face", "--source", "synthetic://?fps=30"]


@pytest.fixture
def address(tmp_path, monkeypatch):
    path = str(tmp_path / "health")
    monkeypatch.setenv("NOTIFY_SOCKET", path)
    return path


def say(address: str, *messages: str) -> threading.Thread:
    """Send each message as soon as somebody listens, from a thread of its own."""

    def send() -> None:
        deadline = time.monotonic() + 10
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
            while out.connect_ex(address) and time.monotonic() < deadline:
                time.sleep(0.005)
            for message in messages:
                out.send(message.encode())

    thread = threading.Thread(target=send)
    thread.start()
    return thread


def test_a_sign_of_life_is_enough(address):
    thread = say(address, "STATUS=30.0 results/s, age 4 ms", "WATCHDOG=1")
    assert health.listen(address, 10) == (True, "30.0 results/s, age 4 ms")
    thread.join()
    assert not Path(address).exists()


def test_a_first_or_an_old_result_is_none(address):
    thread = say(address, "READY=1\nSTATUS=first result, age 900 ms", "STATUS=no result for 3 s, stalled: v4l2")
    assert health.listen(address, 0.3) == (False, "no result for 3 s, stalled: v4l2")
    thread.join()


def test_what_an_earlier_check_left_is_replaced(address):
    Path(address).touch()
    thread = say(address, "WATCHDOG=1")
    assert health.listen(address, 10)[0]
    thread.join()


def test_the_main_program_is_the_first_ones_child(tmp_path):
    for process, parent, state in ((1, 0, "S"), (7, 1, "S"), (9, 1, "S"), (12, 7, "S"), (5, 1, "Z")):
        (tmp_path / str(process)).mkdir()
        rest = " ".join(["0"] * 17)
        (tmp_path / str(process) / "stat").write_text(f"{process} (a (b) c) {state} {parent} {rest} 44{process} 0 0")
    (tmp_path / "self").mkdir()
    assert health.running(tmp_path) == "7-447"


def test_nothing_runs(tmp_path):
    assert health.running(tmp_path) == ""


@pytest.fixture
def sleeper():
    process = subprocess.Popen([sys.executable, "-c", "import time; print(flush=True); time.sleep(60)"], stdout=-1)
    process.stdout.readline()
    yield process
    process.kill()
    process.communicate()


@pytest.mark.parametrize("stopped", [False, True])
def test_a_run_that_fell_silent_is_ended(stopped, sleeper, tmp_path):
    well = tmp_path / "well"
    well.write_text(f"{sleeper.pid}-1")
    os.utime(well, (time.time() - 90, time.time() - 90))
    if stopped:
        sleeper.send_signal(signal.SIGSTOP)
    assert "silent for 9" in health.restart_if_silent(f"{sleeper.pid}-1", well, 60)
    assert sleeper.wait(10) in (-signal.SIGABRT, -signal.SIGKILL)


@pytest.mark.parametrize(
    ("silent_s", "text", "limit_s"),
    [(90, "same", 0), (30, "same", 60), (90, "7-1", 60)],
    ids=["not wanted", "not yet", "another run was well"],
)
def test_others_go_on(silent_s, text, limit_s, sleeper, tmp_path):
    well, name = tmp_path / "well", f"{sleeper.pid}-1"
    well.write_text(name if text == "same" else text)
    os.utime(well, (time.time() - silent_s, time.time() - silent_s))
    assert health.restart_if_silent(name, well, limit_s) == ""
    assert sleeper.poll() is None


def test_a_run_that_was_never_well_is_left_alone(sleeper, tmp_path):
    assert health.restart_if_silent(f"{sleeper.pid}-1", tmp_path / "none", 60) == ""


def test_a_real_run_is_well_and_without_frames_is_not(catalogue, tmp_path):
    catalogue("face")
    address = str(tmp_path / "health")
    environ = {**os.environ, "NOTIFY_SOCKET": address, "WATCHDOG_USEC": "800000"}
    command = [sys.executable, *RUN, "--publish", f"unix://{tmp_path}/eyes"]
    process = subprocess.Popen(command, env=environ, stderr=subprocess.PIPE, cwd=FOLDER.parent)
    try:
        is_well, status = health.listen(address, 40)
        assert is_well
        assert "age" in status
        process.send_signal(signal.SIGSTOP)
        time.sleep(0.1)
        assert health.listen(address, 1)[0] is False
    finally:
        process.kill()
        process.communicate()


def test_the_program_tells_in_one_line(address, monkeypatch, capsys):
    monkeypatch.setattr(health, "running", lambda: "7-1")
    monkeypatch.setenv("HARRIER_HEALTH_S", "10")
    thread = say(address, "STATUS=15.0 results/s, age 3 ms\nWATCHDOG=1")
    assert health.main() == 0
    thread.join()
    assert capsys.readouterr().out == "15.0 results/s, age 3 ms\n"
    assert Path(f"{address}.well").read_text() == "7-1"
    monkeypatch.setenv("HARRIER_HEALTH_S", "0.05")
    assert health.main() == 1
    assert capsys.readouterr().out == "no sign of life\n"
    monkeypatch.setattr(health, "running", lambda: "")
    assert health.main() == 1
