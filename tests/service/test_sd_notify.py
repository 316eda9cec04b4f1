"""What systemd hears from a run: when it is ready, how it does, and signs of life with fresh results only."""

import os
import socket
import time

import pytest

from edge import sd_notify
from edge.config import EngineSection, RunConfig, WireSection
from edge.errors import EngineError
from edge.run import run
from edge.sd_notify import ServiceState, notify

NULL = '[[inputs]]\nname = "x"\nshape = [1, 4, 4, 3]\nlayout = "NHWC"\n[[outputs]]\nname = "y"\nshape = [1, 2]\n'


class Systemd:
    """The socket's other end."""

    def __init__(self, address: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + address[1:] if address[0] == "@" else address)
        self._socket.setblocking(False)
        self._lines: list[str] = []

    def listen(self) -> None:
        """Take what has come: the kernel keeps ten messages only."""
        while True:
            try:
                self._lines += self._socket.recv(4096).decode().splitlines()
            except BlockingIOError:
                return

    def heard(self) -> list[str]:
        """All lines since the last call."""
        self.listen()
        lines, self._lines = self._lines, []
        return lines


class Clock:
    """The time in s that ServiceState sees; while it passes, systemd listens."""

    def __init__(self, systemd: Systemd) -> None:
        self.now_s = 1000.0
        self._systemd = systemd

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.now_s += seconds
        self._systemd.listen()


@pytest.fixture
def systemd(tmp_path, monkeypatch) -> Systemd:
    address = str(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    monkeypatch.setenv("WATCHDOG_USEC", "10000000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    return Systemd(address)


@pytest.fixture
def clock(systemd, monkeypatch) -> Clock:
    found = Clock(systemd)
    monkeypatch.setattr(sd_notify.time, "monotonic", lambda: found.now_s)
    return found


def signs(lines: list[str]) -> int:
    return lines.count("WATCHDOG=1")


def test_notify_sends_one_field_a_line_and_keeps_them_on_it(systemd):
    assert notify("READY=1", "STATUS=two\nlines")
    assert systemd.heard() == ["READY=1", "STATUS=two lines"]


def test_notify_reaches_an_abstract_socket(monkeypatch):
    address = f"@harrier-test-{os.getpid()}-{time.monotonic_ns()}"
    other = Systemd(address)
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    assert notify("READY=1")
    assert other.heard() == ["READY=1"]


@pytest.mark.parametrize("address", ["", "/nowhere/at/all", "vsock:1:2", "@nobody-listens-here"])
def test_without_systemd_nothing_happens(address, monkeypatch):
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    assert not notify("READY=1")


def test_a_socket_that_takes_nothing_does_not_hold_up_the_loop(tmp_path, monkeypatch):
    full = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    full.bind(str(tmp_path / "full"))
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "full"))
    assert notify("WATCHDOG=1")
    for _ in range(10_000):  # nobody reads
        if not notify("WATCHDOG=1"):
            break
    else:
        pytest.fail("the socket takes all")


def test_ready_comes_with_the_first_result_and_not_before(systemd, clock):
    with ServiceState(RunConfig()) as service:
        service.describe = lambda: "starting: source v4l2:///dev/video0 is connecting"
        service.waiting()
        before = systemd.heard()
        service.result(20.0)
        after = systemd.heard()
        service.result(20.0)
    assert before[0] == "STATUS=opening the model"
    assert "STATUS=starting: source v4l2:///dev/video0 is connecting" in before
    assert "READY=1" not in before
    assert after == ["READY=1", "STATUS=first result, age 20 ms"]
    assert systemd.heard() == ["STOPPING=1"]


@pytest.mark.parametrize(
    ("engine", "allowed_s"),
    [(EngineSection(), 90), (EngineSection(start_s=300), 330), (EngineSection(rebuild="auto"), 1800)],
)
def test_the_start_may_take_what_the_engine_may_take(systemd, engine, allowed_s):
    with ServiceState(RunConfig(engine=engine)):
        assert f"EXTEND_TIMEOUT_USEC={allowed_s * 1_000_000}" in systemd.heard()


def test_signs_of_life_come_with_fresh_results_twenty_times_in_the_limit(systemd, clock):
    service = ServiceState(RunConfig())
    for _ in range(1, 302):  # 30 results a second for 10 s
        service.result(30.0)
        clock.advance(1 / 30)
    assert signs(systemd.heard()) in (18, 19, 20)


def test_no_sign_of_life_without_a_result(systemd, clock):
    service = ServiceState(RunConfig())
    service.describe = lambda: f"stale at {clock.now_s:.0f}"
    service.result(30.0)
    systemd.heard()
    for _ in range(320):
        clock.advance(0.0625)
        service.waiting()
    lines = systemd.heard()
    assert not signs(lines)
    assert lines[-1] == "STATUS=stale at 1020"
    assert len(lines) == 20  # a status a second, no more


def test_results_of_a_growing_backlog_are_no_sign_of_life_but_those_of_a_slow_board_are(systemd, clock):
    service = ServiceState(RunConfig(wire=WireSection(ttl_ms=500)))
    service.result(900.0)
    for _ in range(2, 12):
        clock.advance(1.0)
        service.result(900.0)
    slow = systemd.heard()
    for _ in range(12, 32):
        clock.advance(1.0)
        service.result(5001.0)
    backlog = systemd.heard()
    assert signs(slow) == 10
    assert not signs(backlog)


def test_a_longer_time_to_live_counts_as_fresh(systemd, clock):
    service = ServiceState(RunConfig(wire=WireSection(ttl_ms=8000)))
    service.result(7000.0)
    clock.advance(9.0)
    service.result(7000.0)
    assert signs(systemd.heard()) == 1


def test_who_rests_because_a_reader_asked_is_alive_and_ready(systemd, clock):
    service = ServiceState(RunConfig())
    for _ in range(200):
        service.resting()
        clock.advance(0.05)
    lines = systemd.heard()
    assert lines[0] == "READY=1"
    assert lines.count("READY=1") == 1
    assert signs(lines) in (17, 18, 19, 20)
    assert "STATUS=paused, as a reader asked" in lines


def test_a_patient_configuration_gets_a_longer_limit(systemd, clock):
    service = ServiceState(RunConfig(frame_timeout_s=60))
    service.result(30.0)
    assert systemd.heard() == ["READY=1", "STATUS=first result, age 30 ms", "WATCHDOG_USEC=120000000"]
    clock.advance(5)
    service.result(30.0)
    clock.advance(2)
    service.result(30.0)
    assert signs(systemd.heard()) == 1  # every 6 s


@pytest.mark.parametrize(("name", "value"), [("WATCHDOG_PID", "1"), ("WATCHDOG_USEC", "0"), ("WATCHDOG_USEC", "soon")])
def test_no_signs_where_systemd_wants_none_of_this_process(systemd, clock, monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    service = ServiceState(RunConfig())
    service.result(30.0)
    clock.advance(60)
    service.result(30.0)
    lines = systemd.heard()
    assert lines[0] == "READY=1"
    assert not signs(lines)


def test_status_is_what_health_says_once_a_second(systemd, clock):
    service = ServiceState(RunConfig())
    service.describe = lambda: "ok, 30.0 results/s"
    for _ in range(1, 92):
        service.result(25.0)
        clock.advance(1 / 30)
    said = [line for line in systemd.heard() if line.startswith("STATUS=")]
    assert said[0] == "STATUS=first result, age 25 ms"
    assert len(said) in (3, 4)
    assert said[1] == "STATUS=ok, 30.0 results/s"


def test_a_ready_that_systemd_could_not_take_is_told_again(tmp_path, monkeypatch):
    address = tmp_path / "notify"
    monkeypatch.setenv("NOTIFY_SOCKET", str(address))
    service = ServiceState(RunConfig())
    service.result(25.0)  # nobody is there yet
    late = Systemd(str(address))
    service.result(25.0)
    service.result(25.0)
    assert late.heard().count("READY=1") == 1


def test_reloading_tells_the_time_and_is_over_with_the_first_result_after_the_verdict(systemd, clock):
    service = ServiceState(RunConfig())
    service.result(25.0)
    systemd.heard()
    before_us = time.monotonic_ns() // 1000
    service.reloading()
    reloading = systemd.heard()
    service.result(25.0)
    service.resting()
    assert "READY=1" not in systemd.heard()
    service.reloaded("")
    service.result(25.0)
    assert reloading[0] == "RELOADING=1"
    stamp_us = int(reloading[1].removeprefix("MONOTONIC_USEC="))
    assert before_us <= stamp_us <= time.monotonic_ns() // 1000
    assert systemd.heard() == ["READY=1", "STATUS=first result, age 25 ms"]


def test_a_configuration_that_was_refused_is_in_the_status(systemd, clock):
    service = ServiceState(RunConfig())
    service.result(25.0)
    service.reloading()
    service.reloaded("no model: name one")
    systemd.heard()
    service.result(25.0)
    assert systemd.heard() == ["READY=1", "STATUS=the configuration was not taken: no model: name one"]
    service.reloading()
    service.reloaded("")
    systemd.heard()
    service.result(25.0)
    assert systemd.heard() == ["READY=1", "STATUS=first result, age 25 ms"]


def test_parts_that_are_opened_anew_get_the_time_of_a_start_and_their_own_limit_then(systemd, clock):
    service = ServiceState(RunConfig())
    service.result(25.0)
    systemd.heard()
    service.reopening(RunConfig(frame_timeout_s=15))
    assert systemd.heard() == ["STATUS=opening the parts anew", "WATCHDOG_USEC=90000000"]
    service.result(25.0)
    assert systemd.heard() == ["READY=1", "STATUS=first result, age 25 ms", "WATCHDOG_USEC=30000000"]
    service.reopening(RunConfig())
    service.result(25.0)
    assert systemd.heard()[-1] == "WATCHDOG_USEC=10000000"
    service.reloading()
    service.reloaded("")
    service.result(25.0)
    assert not [line for line in systemd.heard() if line.startswith("WATCHDOG_USEC")]


def test_what_ended_the_run_stands_in_the_status(systemd):
    service = ServiceState(RunConfig())
    error = EngineError("the file is damaged", "copy it again")
    service.__exit__(type(error), error, None)
    assert systemd.heard() == ["STOPPING=1", "STATUS=the file is damaged: copy it again"]


def test_a_real_run_becomes_ready_and_stops(tmp_path, systemd):
    (tmp_path / "m.null").write_text(NULL)
    out = tmp_path / "out.jsonl"
    source = "synthetic://?size=64x64&fps=50&frames=5"
    run(RunConfig(model=str(tmp_path / "m.null"), source=source, publish=[f"file://{out}"]))
    lines = systemd.heard()
    assert lines[0] == "STATUS=opening the model"
    assert lines.index("READY=1") < lines.index("STOPPING=1")
    assert out.read_text().count('"classification"') >= 1


def test_a_real_run_tells_what_health_says(tmp_path, systemd, monkeypatch):
    monkeypatch.setattr(sd_notify, "_STATUS_S", 0.05)
    (tmp_path / "m.null").write_text(NULL)
    source = "synthetic://?size=64x64&fps=50"
    run(RunConfig(model=str(tmp_path / "m.null"), source=source, publish=["tcp://127.0.0.1:0"]), seconds=0.5)
    said = [line for line in systemd.heard() if "results/s" in line]
    assert said
    assert all(line.startswith(("STATUS=ok, ", "STATUS=degraded, ", "STATUS=stale, ")) for line in said)
    assert all("synthetic" in line for line in said)
