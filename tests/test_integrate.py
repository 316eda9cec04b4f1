"""The recipes of docs/integrate.md, each with a real `harrier run` at the other end."""

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "integrate.md").read_text(encoding="utf-8")
DEADLINE_S = 60.0


def recipe(heading: str, kind: str) -> str:
    """The block of a kind under a heading."""
    section = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    found = re.search(rf"^```{kind}\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    assert found, f"no {kind} under {heading}"
    return found[1]


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


class Child:
    """A process whose lines are read as they come."""

    def __init__(self, command: list[str], folder: Path) -> None:
        env = {**os.environ, "PYTHONUNBUFFERED": "1"}
        self.process = subprocess.Popen(
            command, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self.lines: list[str] = []
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        self.lines.extend(iter(self.process.stdout.readline, ""))

    def wait_for(self, condition: Callable[[str], bool], what: str) -> str:
        deadline, at = time.monotonic() + DEADLINE_S, 0
        while time.monotonic() < deadline:
            while at < len(self.lines):
                if condition(self.lines[at]):
                    return self.lines[at]
                at += 1
            assert self.process.poll() is None, f"ended before {what}:\n{''.join(self.lines[-20:])}"
            time.sleep(0.01)
        raise AssertionError(f"waited {DEADLINE_S:g} s for {what}:\n{''.join(self.lines[-20:])}")

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)
        self._thread.join(5)


@pytest.fixture
def start(tmp_path) -> Iterator[Callable[..., Child]]:
    children: list[Child] = []

    def begin(*command: str) -> Child:
        children.append(Child(list(command), tmp_path))
        return children[-1]

    yield begin
    for child in children:
        child.end()


@pytest.fixture
def harrier(start, catalogue, astronaut_video) -> Callable[..., Child]:
    """Run a page's `harrier run`, with a video for the camera and an address of the test's."""
    catalogue("face")

    def run(heading: str, old: str, new: str) -> Child:
        line = recipe(heading, "sh").strip()
        assert old in line
        words = [word.strip('"') for word in line.replace(old, new).split()][1:]
        words[words.index("--source") + 1] = f"file://{astronaut_video}?loop=yes"
        return start(sys.executable, "-m", "edge", *words)

    return run


@pytest.fixture(scope="module")
def astronaut_video(catalogue, tmp_path_factory) -> Path:
    """A second of a face, left of the middle."""
    picture = cv2.imread(str(next(catalogue("astronaut").glob("*.png"))))
    path = tmp_path_factory.mktemp("video") / "face.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 20, (640, 512))
    for _ in range(20):
        frame = np.zeros((512, 640, 3), np.uint8)
        frame[:, :512] = picture
        writer.write(frame)
    writer.release()
    return path


def test_a_program_steers_and_stops_when_harrier_is_killed(harrier, start, tmp_path):
    port = free_port()
    program = tmp_path / "robot.py"
    program.write_text(recipe("A program on a Raspberry Pi", "python").replace("7788", str(port)))
    robot = start(sys.executable, str(program))
    robot.wait_for(lambda line: line.startswith("stop"), "stop while nobody is there")
    vision = harrier("A program on a Raspberry Pi", "7788", str(port))
    steer = robot.wait_for(lambda line: line.startswith("steer"), "the face to be followed")
    assert -0.6 < float(steer.split()[1]) < -0.1  # left of the middle
    vision.end()
    count = len(robot.lines)
    deadline = time.monotonic() + DEADLINE_S
    while robot.lines[count:][-3:] != ["stop\n"] * 3:
        assert time.monotonic() < deadline, robot.lines[-5:]
        time.sleep(0.05)


def test_a_station_hears_where_the_target_is(harrier, start, tmp_path):
    pytest.importorskip("pymavlink", reason="the mavlink extra is not installed")
    port = free_port()
    program = tmp_path / "station.py"
    program.write_text(recipe("ArduPilot or PX4", "python").replace("14550", str(port)))
    station = start(sys.executable, str(program))
    harrier("ArduPilot or PX4", "14550", str(port))
    line = station.wait_for(lambda line: "IMAGE_STATUS" in line and "'tracking_status': 1" in line, "the target")
    assert "rec_top_x" in line
    landing = station.wait_for(lambda line: line.startswith("LANDING_TARGET"), "a landing target")
    assert float(re.search(r"'angle_x': ([-\d.]+)", landing)[1]) < 0  # left


def test_a_plc_reads_boxes_at_fixed_offsets(harrier, start, tmp_path):
    port = free_port()
    program = tmp_path / "plc.py"
    program.write_text(recipe("A PLC", "python").replace("7789", str(port)).replace("0.75", "30"))  # a slow start
    plc = start(sys.executable, str(program))
    harrier("A PLC", "7789", str(port))
    words = plc.wait_for(lambda line: "valid for" in line, "a face").split()
    class_id, score, x1, y1, x2, y2 = map(float, words[:6])
    assert class_id == 0
    assert 0.5 < score <= 1
    assert 0 < x1 < x2 < 400
    assert 0 < y1 < y2 < 300
    assert 0 < float(words[-2]) <= 500


def test_a_page_shows_what_is_seen_and_that_vision_is_dead(harrier, tmp_path):
    pytest.importorskip("aiohttp", reason="the web extra is not installed")
    from browsers import chromium, tab_of

    port = free_port()
    page = tmp_path / "own.html"
    page.write_text(recipe("A browser", "html").replace("8765", str(port)))

    async def look(address: str) -> None:
        async with tab_of(address) as tab:
            await tab.call("Page.navigate", url=f"http://127.0.0.1:{port}")
            await tab.until("document.title === '1 seen'")
            shown = await tab.value("document.getElementById('seen').textContent")
            vision.end()
            await tab.until("document.title === 'vision dead'")
            assert json.loads(shown)[0]["label"] == "face"

    with chromium(tmp_path) as address:
        vision = harrier("A browser", "8765?page=examples/browser/index.html", f"{port}?page={page}")
        vision.wait_for(lambda line: "publishing to" in line, "the server")
        asyncio.run(look(address))
