"""Processes that belong to a run, engines that are lost or replaced, and reports that outlive what fails at the end."""

import json
import os
import subprocess
import sys
import time
from functools import partial
from types import SimpleNamespace

import msgspec
import numpy as np
import pytest
from bench_engines import CLASSIFIER, LedCameraSource
from made_up import block_of, measured_of, recording_of, sampler_of

from edge.bench import measure, session
from edge.bench.budgets import Limits, check_budget
from edge.bench.family import Family, cpu_times_s, descendants
from edge.bench.health import findings, snapshot
from edge.bench.measure import Block, measure_block
from edge.bench.measured import marks_of
from edge.bench.photon import measure_photon, open_light
from edge.bench.plots import check_plots
from edge.bench.reading import number_in, run_tool
from edge.bench.results import Report
from edge.bench.session import execute
from edge.bench.summaries import power_of, series_of, setup_of
from edge.bench.throttle import throttle_counts, throttle_now
from edge.config import RunConfig
from edge.errors import ConfigError, DeviceError, EngineLostError, InterruptedWorkError, SourceTimeoutError
from edge.lineup import Lineup, Member
from edge.model import open_model
from edge.pipeline import Pipeline
from edge.registry import PLUGS, Plug
from edge.testing import MemoryPublisher, MemorySource

GRANDCHILD = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'input()'])"
PICTURE = np.zeros((48, 64, 3), np.uint8)


def wait_for(condition) -> None:
    deadline = time.monotonic() + 20
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert condition()


@pytest.fixture
def child():
    """Start a program; it is ended by closing its standard input."""
    started = []

    def start(script: str) -> subprocess.Popen:
        command = [sys.executable, "-c", script]
        started.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_the_family_is_this_process_and_all_it_started(child):
    born = child(GRANDCHILD)
    wait_for(lambda: len(descendants(pid=born.pid)) == 1)
    assert {born.pid, *descendants(pid=born.pid)} <= descendants()
    assert os.getpid() not in descendants()
    assert {os.getpid(), born.pid} <= set(cpu_times_s())
    born.communicate("\n\n")
    assert born.pid not in descendants()


def test_the_memory_of_what_was_started_counts_and_that_of_a_reader_does_not(child):
    big = child("kept = bytearray(150_000_000); kept[::4096] = b'x' * len(kept[::4096]); print(1, flush=True); input()")
    assert big.stdout.readline() == "1\n"
    both, alone = Family().rss_mb(), Family(besides=[big.pid]).rss_mb()
    assert 140 < both - alone < 300
    family = Family()
    family.rss_mb()
    big.communicate("\n")
    assert abs(family.rss_mb() - alone) < 20  # one that is gone weighs nothing


def test_the_load_of_what_was_started_is_not_that_of_others(child):
    spin = child("print(1, flush=True)\nwhile True: pass")
    spin.stdout.readline()
    before, cpu_before = snapshot(), cpu_times_s()
    time.sleep(1.0)
    after = snapshot()
    used_s = cpu_times_s()[spin.pid] - cpu_before[spin.pid]
    assert 0.05 < used_s < 1.5
    assert after.own_s - before.own_s >= used_s - 0.1


def test_the_cores_are_those_of_the_pipeline_and_its_own(options, monkeypatch, tmp_path):
    """Neither those of the subscriber (77) nor of tools that have ended (0)."""
    times = iter([{0: 1.0, 1: 2.0, 77: 3.0}, {0: 5.0, 1: 4.5, 77: 9.0, 78: 0.5}])
    monkeypatch.setattr(session, "cpu_times_s", lambda: next(times))
    monkeypatch.setattr(session, "measure_in_turns", lambda *words: None)
    found = session._blocks(options("--model", "m"), [recording_of("run", [])], (77,), tmp_path)
    assert found.cpu_s == pytest.approx(2.5 + 0.5)


@pytest.fixture
def made(tmp_path, monkeypatch):
    """A pipeline of one or more members, whose engines fail when their list says so."""
    (tmp_path / "m.null").write_text(CLASSIFIER)
    monkeypatch.setattr(measure, "_LOST_PAUSE_S", 0.001)
    opened = []

    def make(*lost: list[bool], source=None) -> Pipeline:
        config = RunConfig(frame_timeout_s=0.01)
        members = []
        for i, answers in enumerate(lost):
            model = open_model(str(tmp_path / "m.null"), config.engine)
            opened.append(model)
            run = model.engine.run

            def flaky(run=run, answers=answers) -> None:
                if answers and answers.pop(0):
                    raise EngineLostError("its process died", "it is started again")
                time.sleep(0.005)  # beside it what falls between two laps, on a busy machine, is nothing
                run()

            monkeypatch.setattr(model.engine, "run", flaky)
            members.append(Member(f"target{i}", config.engine, model, lambda model=model: model))
        return Pipeline(source or MemorySource([PICTURE]), Lineup(members), [MemoryPublisher()], config)

    yield make
    for model in opened:
        model.close()


def test_a_lost_engine_costs_frames_and_not_the_run(made):
    pipeline = made([False, False, False, True, True, False])  # two settle
    block = measure_block(pipeline, 10, None)
    assert (block.steps, block.engine_lost, block.timeouts) == (10, 2, 0)
    assert block.ran == {"target0": 10}
    recording = recording_of("run", [block])
    recording.pipeline = pipeline
    setup = setup_of(recording, None)
    assert setup.drops.engine_lost == 2
    assert setup.stages_over_wall == pytest.approx(1.0, abs=0.03)  # the wait for it is in the next frame's
    marks = marks_of(measured_of([recording], sampler_of([(0, None), (1, None)])), [setup])
    assert [(m.kind, m.text) for m in marks if m.invalidates and m.kind == "engine"] == [
        ("engine", "run: 2 frames were lost because no engine could run them")
    ]


def test_an_engine_that_stays_lost_ends_the_run(made, monkeypatch):
    monkeypatch.setattr(measure, "_MOST_LOST_NS", 20_000_000)
    with pytest.raises(EngineLostError, match="its process died"):
        measure_block(made([True] * 100_000), 10, None)


def test_frames_of_another_target_mark_the_run(made):
    pipeline = made([False] * 5 + [True], [])
    block = measure_block(pipeline, 10, None)
    assert block.ran == {"target0": 9, "target1": 1}
    recording = recording_of("run", [block, block])
    marks = marks_of(measured_of([recording], sampler_of([(0, None), (1, None)])), [])
    assert [mark.text for mark in marks if mark.kind == "engine"] == [
        "run: target1 ran 2 frames in place of target0, which ran 18"
    ]


class StutteringSource(MemorySource):
    """Gives every other frame too late."""

    def __init__(self) -> None:
        super().__init__([PICTURE])
        self._late = False

    def read(self, timeout_s: float):
        self._late = not self._late
        if self._late:
            raise SourceTimeoutError("no frame", "wait")
        return super().read(timeout_s)


def test_a_source_that_stutters_is_measured_to_the_end(made):
    block = measure_block(made([], source=StutteringSource()), 100, None)
    assert (block.steps, block.timeouts) == (100, 100)


def test_dropped_frames_are_a_share_of_all_frames():
    blocks = [block_of(0, 10, 40, captured=60, replaced=20, corrupt=40, engine_lost=10)]
    measured = measured_of([recording_of("run", blocks)], sampler_of([(0, None), (1, None)]))
    report = SimpleNamespace(setups=[setup_of(measured.recordings[0], None)], resources=None, startup=None, soak=None)
    (line,) = check_budget(report, Limits(dropped_percent_max=69))
    assert (line.measured, line.kept) == (pytest.approx(70.0), False)


@pytest.mark.parametrize(("failure", "code"), [(DeviceError("no camera", "look"), 4), (KeyboardInterrupt(), 130)])
def test_a_start_up_that_fails_costs_no_numbers(engine_file, options, tmp_path, monkeypatch, failure, code, capsys):
    def failing(config):
        raise failure

    monkeypatch.setattr(session, "measure_startup", failing)
    words = [
        "--model",
        engine_file("sleep2"),
        "--frames",
        5,
        "--repeats",
        1,
        "--startup",
        "--json",
        tmp_path / "r.json",
    ]
    with pytest.raises((DeviceError, InterruptedWorkError)) as caught:
        execute(options(*words))
    assert caught.value.exit_code == code
    found = msgspec.json.decode((tmp_path / "r.json").read_bytes(), type=Report)
    assert found.startup is None
    assert found.setups[0].frames == 5
    assert "note: no start-up time: " in capsys.readouterr().out
    (tmp_path / "board.toml").write_text('[boards."*"]\nstartup_s_max = 3\n')
    assert execute(options(*words, "--budget", tmp_path / "board.toml")) == 6


def test_the_series_of_a_soak_are_those_of_its_windows():
    window = SimpleNamespace(t_s=[1.0, 2.0], p50_ms=[3.0, 4.0], max_ms=[5.0, 6.0])
    recording = recording_of("run", [block_of(10, 10, 100)], keep_earlier=False)
    found = series_of(sampler_of([(0, None), (20, None)]), [recording], window).latency
    assert [(each.name, each.t_s, each.p50_ms, each.max_ms) for each in found] == [
        ("run", [1.0, 2.0], [3.0, 4.0], [5.0, 6.0])
    ]


def test_names_that_are_not_utf8_stand_in_every_file(engine_file, options, tmp_path, monkeypatch):
    made_report = session.report_of

    def odd(*words) -> Report:
        report = made_report(*words)
        report.setups[0].source = "/pictures/\udcff.mp4"
        return report

    monkeypatch.setattr(session, "report_of", odd)
    files = ["--json", tmp_path / "r.json", "--html", tmp_path / "r.html"]
    monkeypatch.setattr("builtins.print", lambda text: None)
    assert execute(options("--model", engine_file("sleep2"), "--frames", 5, "--repeats", 1, *files)) == 0
    assert json.loads((tmp_path / "r.json").read_bytes())["setups"][0]["source"] == "/pictures/?.mp4"
    assert "/pictures/?.mp4" in (tmp_path / "r.html").read_text(encoding="utf-8")


def test_what_tools_and_files_say_may_be_rubbish(tmp_path):
    assert run_tool([sys.executable, "-c", "import os; os.write(1, b'a\\xff')"]) == "a\ufffd"
    for text in ("nan", "inf", "x", ""):
        (tmp_path / "n").write_text(text)
        assert number_in(tmp_path / "n") is None
    for said, flags in (("throttled=0x5", 5), ("throttled=0xzz", None), ("error=1", None), ("", None)):
        assert throttle_now(tmp_path, lambda command, said=said: said).pi_flags == flags


@pytest.mark.parametrize("version", [1, 2])
def test_a_cpu_quota_that_ran_out_marks_the_run(tmp_path, version):
    lines = {1: "8:pids:/robot\n4:cpu,cpuacct:/robot/eye\n0::/\n", 2: "0::/robot/eye\n"}
    mount = tmp_path / "sys/fs/cgroup" / ("cpu" if version == 1 else "")
    (mount / "robot/eye").mkdir(parents=True)
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text(lines[version])
    (mount / "robot/eye/cpu.stat").write_text("nr_periods 10\nnr_throttled 3\n")
    (mount / "robot/cpu.stat").write_text("nr_throttled 4\n")  # a limit of the group above holds too
    before = snapshot(tmp_path, lambda command: None)
    assert before.counters == throttle_counts(tmp_path) == {"CPU quota throttle count": 7.0}
    (mount / "robot/cpu.stat").write_text("nr_throttled 9\n")
    found = findings(before, snapshot(tmp_path, lambda command: None), 1.0, tmp_path)
    assert [f.text for f in found if f.invalidates] == ["CPU quota throttle count rose by 5"]
    notes = [f.text for f in found if f.kind == "throttling"]  # a quota says nothing of heat
    assert notes == ["throttling by heat or power: not available; the CPU quota is watched"]


def test_a_light_that_goes_away_is_told(made, tmp_path):
    led = tmp_path / "led"
    led.mkdir()
    (led / "brightness").write_text("7")
    light = open_light(str(led))
    (led / "brightness").unlink()
    led.rmdir()
    with pytest.raises(DeviceError, match="cannot switch the light .*No such file"):
        measure_photon(made([]), light, flashes=2, on_s=0.01, off_s=0.01)


def test_a_folder_nobody_may_write_is_refused_before_the_run(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib", reason="the extra report is not installed")
    check_plots(tmp_path / "a" / "b")
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(ConfigError, match="no permission"):
        check_plots(tmp_path / "a" / "b")


def test_a_meter_that_fails_now_and_then_loses_no_energy():
    recording = recording_of("run", [Block(*(np.ones((4, 8), np.int64), *[np.ones(4, np.int64)] * 3), 0, 10**10)])
    sampler = sampler_of([(t, None if t == 3 else 2.0) for t in range(11)])
    assert power_of(sampler, recording, alone=True).mean_w == pytest.approx(2.0)


def test_light_to_message_from_the_command_to_every_file(engine_file, options, tmp_path, monkeypatch, capsys):
    led = tmp_path / "led"
    led.mkdir()
    (led / "brightness").write_text("7")
    monkeypatch.setitem(PLUGS["sources"], "ledcam", Plug("bench_engines:LedCameraSource"))
    monkeypatch.setattr(LedCameraSource, "led", led / "brightness", raising=False)
    monkeypatch.setattr(session, "measure_photon", partial(measure_photon, flashes=6, on_s=0.2, off_s=0.15))
    words = ["--model", engine_file("sleep2"), "--source", "ledcam://?size=64x48&fps=20", "--photon", led]
    words += [
        "--frames",
        3,
        "--repeats",
        1,
        "--warm-up",
        2,
        "--json",
        tmp_path / "r.json",
        "--html",
        tmp_path / "r.html",
    ]
    assert execute(options(*words)) == 0
    photon = msgspec.json.decode((tmp_path / "r.json").read_bytes(), type=Report).photon
    assert photon.flashes == 6
    assert photon.missed <= 2
    assert 40 <= photon.light_to_message.cdf_ms[0] <= photon.light_to_message.p50.value < 190
    assert 40 <= photon.light_to_capture_stamp_p50_ms <= photon.light_to_message.p50.value
    assert "light to message: p50" in capsys.readouterr().out
    assert "Light to message</h2>" in (tmp_path / "r.html").read_text(encoding="utf-8")
    assert (led / "brightness").read_text() == "7"


class FallsSilent(MemorySource):
    """Gives twelve frames, then none."""

    def read(self, timeout_s: float):
        if self._seq == 12:
            time.sleep(timeout_s)
            raise SourceTimeoutError("no frame", "wait")
        return super().read(timeout_s)


def test_silence_after_the_last_frame_is_no_step(made):
    block = measure_block(made([], source=FallsSilent([PICTURE])), None, 0.2)
    assert (block.steps, block.elapsed_s > 0.19) == (10, True)
    setup = setup_of(recording_of("run", [block]), None)
    assert setup.drops.read_timeouts >= 10
    assert 0.5 < setup.stages_over_wall <= 1.001


def test_a_file_that_cannot_be_written_in_the_end_costs_no_other(engine_file, options, tmp_path, monkeypatch):
    def full(path, content) -> None:
        if path.suffix == ".json":
            raise ConfigError("cannot write r.json (No space left on device)", "free some space")
        path.write_bytes(content)

    monkeypatch.setattr(session, "write_atomically", full)
    words = ["--model", engine_file("sleep2"), "--frames", 5, "--repeats", 1]
    files = ["--json", tmp_path / "r.json", "--html", tmp_path / "r.html"]
    with pytest.raises(ConfigError, match="No space left"):
        execute(options(*words, *files))
    assert "capture to publish" in (tmp_path / "r.html").read_text(encoding="utf-8")
    with pytest.raises(ConfigError, match="both name"):
        execute(options(*words, "--json", tmp_path / "r", "--html", tmp_path / "r"))
