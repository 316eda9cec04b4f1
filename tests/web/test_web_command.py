"""The live page as its user has it: `harrier run --web`, the configuration, and the end of a run."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from live_runs import detector

from edge.cli import main

pytest.importorskip("aiohttp", reason="the extra 'web' is not installed")

WITHIN_S = 30.0


class Command:
    """`harrier run` in a process of its own; address: of its page."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.log = folder / "log"
        self._out = self.log.open("wb")
        command = [sys.executable, "-m", "edge", "run", *arguments]
        env = {**os.environ, "HARRIER_HOME": str(folder / "home")}
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self._out, env=env, cwd=folder)
        self.address = self._found(r"live page at (http\S+)")

    def _found(self, pattern: str) -> str:
        deadline = time.monotonic() + WITHIN_S
        while not (match := re.search(pattern, self.log.read_text())):
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.05)
        return match[1]

    def get(self, path: str) -> dict:
        with urllib.request.urlopen(self.address + path, timeout=10) as answer:
            return json.load(answer)

    def post(self, path: str, body: object) -> dict:
        headers = {"X-Harrier": "1", "Content-Type": "application/json"}
        request = urllib.request.Request(self.address + path, json.dumps(body).encode(), headers)
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)

    def until(self, state: str) -> dict:
        """The health report once it says this state, whatever the HTTP status."""
        deadline = time.monotonic() + WITHIN_S
        while True:
            told = self.get("/api/state")["health"]
            if told["state"] == state:
                return told
            assert time.monotonic() < deadline, told
            time.sleep(0.05)

    def end(self) -> tuple[int, bytes]:
        """End it as systemd does; the exit code and what it printed."""
        self.process.send_signal(signal.SIGTERM)
        printed, _ = self.process.communicate(timeout=WITHIN_S)
        return self.process.returncode, printed

    def kill(self) -> None:
        self._out.close()
        if self.process.poll() is None:
            self.process.kill()
            self.process.communicate()


@pytest.fixture
def command(tmp_path):
    made = []

    def start(*arguments: str) -> Command:
        made.append(Command(tmp_path, *arguments))
        return made[-1]

    yield start
    for one in made:
        one.kill()


def test_one_option_opens_it_and_sigterm_ends_it(command, tmp_path):
    bundle = detector(tmp_path / "pets", "first", "second")
    run = command("--model", str(bundle), "--source", "synthetic://?fps=60", "--web", "127.0.0.1:0", "--track")
    told = run.until("ok")
    assert told["source"]["id"].startswith("synthetic://")
    assert told["publishers"] == [], "with a page nothing is printed unless it is asked for"
    assert run.get("/healthz")["state"] in ("ok", "degraded")
    assert run.post("/api/pause", {}) == {"state": "paused"}
    assert run.until("stale")["source"]["state"] == "paused"
    assert run.post("/api/thresholds", {"score": 0.4})["changed"]["score"]["to"] == 0.4
    assert run.post("/api/resume", {}) == {"state": "streaming"}
    assert run.post("/api/model", {"target": "second"})["state"] == "opening"
    deadline = time.monotonic() + WITHIN_S
    while (state := run.get("/api/state"))["target"] != "second":
        assert time.monotonic() < deadline, state["switching"]
        time.sleep(0.05)
    assert state["thresholds"]["score"] == 0.4
    assert run.until("ok")["model"] == "pets"
    assert run.end() == (0, b"")
    assert "Traceback" not in run.log.read_text()


def test_sighup_opens_the_page_elsewhere_when_web_has_changed(command, tmp_path):
    bundle, path = detector(tmp_path / "pets", "first"), tmp_path / "robot.toml"
    text = f'model = "{bundle}"\nsource = "synthetic://?fps=60"\n[web]\nlisten = "127.0.0.1:0"\n'
    path.write_text(text)
    run = command("robot.toml")
    run.until("ok")
    path.write_text(text + "control = false\n")
    run.process.send_signal(signal.SIGHUP)
    deadline = time.monotonic() + WITHIN_S
    while len(addresses := re.findall(r"live page at (http\S+)", run.log.read_text())) < 2:
        assert time.monotonic() < deadline, run.log.read_text()
        time.sleep(0.05)
    run.address = addresses[-1]
    run.until("ok")
    with pytest.raises(urllib.error.HTTPError, match="403"):
        run.post("/api/pause", {})
    assert run.end()[0] == 0


def test_check_looks_at_the_section(tmp_path, capsys):
    bundle, path = detector(tmp_path / "pets", "first"), tmp_path / "robot.toml"
    path.write_text(f'model = "{bundle}"\nsource = "synthetic://"\n[web]\nlisten = "0.0.0.0:8080"\n')
    assert main(["check", str(path)]) == 2
    assert "anybody who can reach 0.0.0.0" in capsys.readouterr().err
    path.write_text(path.read_text() + 'token = "sesame"\n')
    assert main(["check", str(path)]) == 0
    out = capsys.readouterr().out
    assert "page    0.0.0.0:8080" in out
    assert "sesame" not in out


def test_a_missing_extra_is_named(tmp_path, monkeypatch, capsys):
    bundle = detector(tmp_path / "pets", "first")
    for name in [name for name in sys.modules if name.startswith(("aiohttp", "edge.web"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "aiohttp", None)
    assert main(["run", "--model", str(bundle), "--source", "synthetic://", "--web", "127.0.0.1:0"]) == 2
    assert "pip install 'harrier-edge[web]'" in capsys.readouterr().err
