"""`harrier service status` and `logs`, with stand-ins for systemctl and journalctl."""

import subprocess
import sys
import time

import pytest

from edge.cli import main
from edge.errors import ConfigError, DeviceError
from edge.service import status as status_module
from edge.service.status import status_lines
from edge.service.systemd import wait_until_ready


@pytest.fixture
def front(machine, monkeypatch):
    """A machine with the instance front."""
    monkeypatch.setattr(status_module, "instances", lambda: ["front"])
    monkeypatch.setattr("edge.service.install.instances", lambda: ["front"])
    return machine


def ago_us(seconds: float) -> str:
    return str(int((time.clock_gettime(time.CLOCK_MONOTONIC) - seconds) * 1e6))


def test_status_of_one_that_runs(front, capsys):
    front.show(
        LoadState="loaded",
        ActiveState="active",
        SubState="running",
        StatusText="29.8 results/s, age 35 ms",
        NRestarts="2",
        MainPID="4711",
        Result="success",
        ActiveEnterTimestampMonotonic=ago_us(3 * 3600 + 125),
        WatchdogTimestampMonotonic=ago_us(1.2),
        WatchdogUSec="1min 30s",
        MemoryCurrent="88000000",
        UnitFileState="enabled",
    )
    assert main(["service", "status", "front"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first == "front: running for 3 h 2 min, 29.8 results/s, age 35 ms"
    assert second.startswith("  last sign of fresh results 1.")
    assert second.endswith("s ago of 90 s, restarts 2, process 4711, memory 88 MB")


def test_status_of_one_that_fails_says_how_and_exits_with_4(front, capsys):
    front.show(
        LoadState="loaded",
        ActiveState="activating",
        SubState="auto-restart",
        StatusText="no camera",
        NRestarts="7",
        MainPID="0",
        Result="exit-code",
        ExecMainStatus="4",
        MemoryCurrent="[not set]",
        WatchdogUSec="10s",
        UnitFileState="enabled",
    )
    assert main(["service", "status"]) == 4
    out = capsys.readouterr().out.splitlines()
    assert out == ["front: activating (auto-restart), no camera", "  restarts 7, last end: exit-code, exit code 4"]


def test_status_of_what_is_not_there(front):
    front.show(LoadState="not-found", ActiveState="inactive")
    with pytest.raises(ConfigError, match="there is no instance 'rear': installed: front"):
        status_lines("rear")


def test_status_without_instances(machine, monkeypatch, capsys):
    monkeypatch.setattr("edge.service.install.instances", list)
    assert main(["service", "status"]) == 2
    assert "no instance is installed: harrier service install CONFIG.toml" in capsys.readouterr().err


def test_logs_become_journalctl(machine):
    words = [sys.executable, "-m", "edge", "service", "logs", "front", "-n", "7", "-f"]
    result = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert result.stdout == "a line of the log\n"
    assert machine.calls == ["journalctl --unit=harrier@front.service --lines=7 --follow"]


def test_waiting_ends_early_when_it_fails_again_and_again(machine, monkeypatch):
    ended = {"NRestarts": "6", "ExecMainStatus": "2", "MainPID": "0"}
    begun = {"NRestarts": "8", "ExecMainStatus": "0", "MainPID": "4711"}  # the next one has no exit code yet
    answers = iter([{"NRestarts": "5"}, ended, begun])
    monkeypatch.setattr("edge.service.systemd.properties", lambda name: next(answers))
    with pytest.raises(DeviceError, match=r"ends again and again \(exit code 2\)"):
        wait_until_ready("front", 30.0, print)


def test_waiting_tells_each_status_once(machine, monkeypatch):
    texts = ["opening the model", "opening the model", "connecting: x", "connecting: x"]
    answers = iter([{}, *({"StatusText": text} for text in texts), {"ActiveState": "active"}])
    monkeypatch.setattr("edge.service.systemd.properties", lambda name: next(answers))
    told: list[str] = []
    wait_until_ready("front", 30.0, told.append)
    assert told == ["opening the model", "connecting: x"]
