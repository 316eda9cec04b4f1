"""A real controller, emulated to the register: it steers by what `harrier run` says, and stops when that is killed."""

import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from bench_robot import Robot, build_firmware, bursts, clean, noise, start_harrier

pytest.importorskip("serial", reason="pyserial is not installed: pip install 'harrier-edge[serial]'")

TTL_MS = 400


@pytest.fixture
def robot(tmp_path) -> Iterator[Robot]:
    with Robot(build_firmware(tmp_path)) as robot:
        yield robot


@pytest.fixture
def harrier(robot: Robot, catalogue: Callable[[str], Path], tmp_path) -> Iterator[subprocess.Popen]:
    catalogue("face")
    process = start_harrier(robot.port, catalogue("astronaut") / "astronaut.png", TTL_MS, tmp_path)
    try:
        robot.wait_for(lambda: process.poll() is None and len(robot.lines("STEER")) >= 5, "nothing was steered by")
        yield process
    finally:
        process.kill()
        process.wait(10)


def check_that_it_did_what_it_was_told(robot: Robot) -> int:
    """Every line about a result is right about one that was sent; return how many there are."""
    lines = robot.lines("STEER") + robot.lines("CLEAR")
    for word, *numbers in lines:
        seq, *offset, age_ms = map(int, numbers[:-1] if word == "STEER" else numbers)
        message = robot.sent[seq]
        assert age_ms <= TTL_MS, f"{word} {numbers} on a result that was too old"
        assert age_ms >= int(message.age_ms) - 1
        assert (word == "STEER") == bool(message.detections)
        if word == "STEER":
            assert int(numbers[-1]) == len(message.detections)
            x1, _, x2, _ = max(message.detections, key=lambda record: record.score).box
            half = message.frame[0] / 2
            assert abs(offset[0] - 1000 * ((x1 + x2) / 2 - half) / half) < 1
    return len(lines)


def test_it_steers_and_stops_when_harrier_is_killed(robot, harrier):
    robot.wait_for(lambda: robot.lines("CLOCK"), "the clocks were never compared")
    robot.wait_for(lambda: len(robot.lines("STEER")) >= 30, "it steered less than 30 times")
    assert check_that_it_did_what_it_was_told(robot) >= 30
    before = len(robot.lines("STOP"))
    harrier.send_signal(signal.SIGKILL)
    harrier.wait(10)
    robot.wait_for(lambda: robot.lines("STOP")[before:][-1:] and robot.lines("STOP")[-1][1] == "dead", "it went on")
    check_that_it_did_what_it_was_told(robot)
    stale, dead = robot.lines("STOP")[-2:]
    assert (stale[1], dead[1]) == ("stale", "dead")
    at_ms, arrived_ms, age_ms, ttl_ms, gap_ms = map(int, stale[2:])
    assert ttl_ms == TTL_MS
    # on the controller's own clock: not before the time to live is over, and the first time that it looked after that
    assert ttl_ms <= age_ms + at_ms - arrived_ms <= ttl_ms + gap_ms + 1
    # three heartbeats of 250 ms and a half after the last sign of life, which came with or after the last result
    assert 875 <= int(dead[2]) - arrived_ms <= 875 + 250 + int(dead[6]) + 250
    last = [line[0] for line in robot.lines() if line[0] in ("STEER", "CLEAR", "STOP")][-3:]
    assert last[1:] == ["STOP", "STOP"]


def test_it_goes_on_when_harrier_comes_back(robot, harrier, catalogue, tmp_path):
    harrier.send_signal(signal.SIGKILL)
    harrier.wait(10)
    robot.wait_for(lambda: robot.lines("STOP")[-1][1] == "dead", "it went on")
    before = len(robot.lines("STEER"))
    again = start_harrier(robot.port, catalogue("astronaut") / "astronaut.png", TTL_MS, tmp_path)
    try:
        robot.wait_for(lambda: len(robot.lines("STEER")) > before + 5, "it did not steer again")
    finally:
        again.kill()
        again.wait(10)


def test_it_survives_a_tenth_of_its_bytes_damaged(robot, harrier):
    """With one byte in ten wrong hardly a message is whole: it stands still rather than believe the others."""
    robot.damage = noise(0.1, seed=1)
    stops = len(robot.lines("STOP"))
    robot.wait_for(lambda: robot.counted("bad") >= 100, "no damage was noticed")
    robot.wait_for(lambda: len(robot.lines("STOP")) > stops, "it went on driving on noise")
    check_that_it_did_what_it_was_told(robot)
    robot.damage = clean
    before = len(robot.lines("STEER"))
    robot.wait_for(lambda: len(robot.lines("STEER")) > before + 10, "it did not recover")
    check_that_it_did_what_it_was_told(robot)


def test_damage_in_bursts_costs_what_it_hits(robot, harrier):
    """A tenth of all bytes again, thirty in a row as motors do it: most messages are whole."""
    robot.damage = bursts(0.1, 30, seed=2)
    robot.wait_for(lambda: robot.counted("bad") >= 20, "no damage was noticed")
    assert robot.counted("messages") > robot.counted("bad")
    check_that_it_did_what_it_was_told(robot)
