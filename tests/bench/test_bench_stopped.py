"""Runs that end before their time: Ctrl-C, a killed parent, files that cannot be written, options that contradict."""

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from edge.bench import schedule, session
from edge.bench.results import Report
from edge.bench.session import configurations, execute
from edge.errors import ConfigError, DeviceError, InterruptedWorkError, MissingBackendError, SourceTimeoutError

HERE = Path(__file__).parent
SCRIPT = """
import sys
sys.path.insert(0, {here!r})
from edge.cli import main
from edge.registry import PLUGS, Plug
PLUGS["engines"]["sleep2"] = Plug("bench_engines:Sleep2Engine")
sys.exit(main(sys.argv[1:]))
"""


def started(*words: str | Path) -> subprocess.Popen:
    """`harrier bench` in a process of its own, as a terminal would start it."""
    command = [sys.executable, "-c", SCRIPT.format(here=str(HERE)), "bench", *map(str, words)]
    command += ["--source", "synthetic://?size=64x48&fps=200"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


def subscriber_of(pid: int) -> int:
    """The pid of its child that reads what it publishes, once it streams."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                if parent == pid and b"edge.bench.subscriber" in (entry / "cmdline").read_bytes():
                    return int(entry.name)
            except (OSError, IndexError):
                continue
        time.sleep(0.02)
    raise AssertionError("no subscriber was started")


def is_gone(pid: int) -> bool:
    """Whether a process ends within 5 s; one that nobody has waited for yet counts as ended."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.02)
    return False


def test_ctrl_c_ends_a_soak_with_the_report_of_its_windows(engine_file, tmp_path):
    child = started("--model", engine_file("sleep2"), "--soak", "20s", "--json", tmp_path / "r.json")
    reader = subscriber_of(child.pid)
    time.sleep(2.5)
    child.send_signal(signal.SIGINT)
    said, errors = child.communicate(timeout=30)
    assert "Traceback" not in said + errors
    found = msgspec.json.decode((tmp_path / "r.json").read_bytes(), type=Report)
    assert 1 <= len(found.soak.t_s) < 48
    assert f"soak: {len(found.soak.t_s)} of 48 windows" in said
    assert child.returncode == (6 if found.soak.problems else 0)
    assert is_gone(reader)


def test_ctrl_c_before_the_first_window_is_an_error_not_a_success(engine_file, tmp_path):
    child = started("--model", engine_file("sleep2"), "--soak", "8h", "--json", tmp_path / "r.json")
    reader = subscriber_of(child.pid)
    time.sleep(1.5)
    child.send_signal(signal.SIGINT)
    _, errors = child.communicate(timeout=30)
    assert child.returncode == 130
    assert "the soak was stopped before its first window of 600 s was over, nothing was written" in errors
    assert "Traceback" not in errors
    assert not (tmp_path / "r.json").exists()
    assert is_gone(reader)


def test_a_killed_run_leaves_no_reader_behind_and_the_reader_is_silent(engine_file):
    child = started("--model", engine_file("sleep2"), "--soak", "8h")
    reader = subscriber_of(child.pid)
    time.sleep(0.5)
    child.kill()
    assert is_gone(reader)
    _, errors = child.communicate(timeout=30)  # the reader writes to the same standard error
    assert "Traceback" not in errors
    assert "Broken" not in errors


def test_ctrl_c_is_no_kept_budget(engine_file, options, monkeypatch):
    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(session, "measure", stopped)
    with pytest.raises(InterruptedWorkError, match="the run was stopped, nothing was written") as caught:
        execute(options("--model", engine_file("sleep2")))
    assert caught.value.exit_code == 130


def test_a_soak_that_finds_a_leak_is_exit_code_6(engine_file, options, tmp_path, capsys):
    words = ["--soak", "3s", "--model", engine_file("leak"), "--json", tmp_path / "r.json"]
    assert execute(options(*words)) == 6
    assert "PROBLEM: memory leak: RSS grew by" in capsys.readouterr().out
    assert (tmp_path / "r.json").exists()


def test_too_few_windows_claim_nothing(engine_file, options, monkeypatch, capsys):
    monkeypatch.setattr(schedule, "WINDOWS", 3)
    assert execute(options("--soak", "0.5s", "--model", engine_file("sleep2"))) == 0
    said = capsys.readouterr().out
    assert "too few windows to tell of a leak, drift or tail growth" in said
    assert "no leak" not in said
    assert "soak: 3 of 48 windows of 0.167 s\n  worst of the whole run, capture to publish: p99 " in said
    assert re.search(r"\nlast window, \d+ frames; stages, step and capture to publish are those of the last", said)


def test_one_window_has_no_slope(engine_file, options, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(schedule, "WINDOWS", 1)
    assert execute(options("--soak", "0.2s", "--model", engine_file("sleep2"), "--json", tmp_path / "r.json")) == 0
    said = capsys.readouterr().out
    assert re.findall(r"(\w+) slope (.*)", said) == [(name, "not available") for name in ("RSS", "p50", "p99")]
    assert "+0.000" not in said
    soak = msgspec.json.decode((tmp_path / "r.json").read_bytes(), type=Report).soak
    assert soak.rss_slope_mb_per_hour is soak.p50_slope_ms_per_hour is soak.p99_slope_ms_per_hour is None


def test_a_soak_whose_source_ends_keeps_what_it_has(engine_file, options, tmp_path, capsys):
    source = "synthetic://?size=64x48&fps=0&frames=150"
    words = ["--soak", "2s", "--model", engine_file("sleep2"), "--source", source, "--json", tmp_path / "r.json"]
    with pytest.raises(DeviceError, match=r"the soak ended after \d+ of 48 windows: the source ended") as caught:
        execute(options(*words))
    assert caught.value.exit_code == 4
    found = msgspec.json.decode((tmp_path / "r.json").read_bytes(), type=Report)
    assert not found.valid
    assert (found.findings[0].kind, found.findings[0].invalidates) == ("source", True)
    assert 2 <= len(found.soak.t_s) < 48
    assert 60 < found.setups[0].frames < 120
    assert found.setups[0].step.count < found.setups[0].frames
    assert "MARKED: the soak ended after" in capsys.readouterr().out


@pytest.mark.parametrize("windows", [0, 2])
def test_a_soak_whose_source_falls_silent_keeps_what_it_has(engine_file, options, monkeypatch, windows):
    measured, done = schedule.measure_block, []

    def silent(*words):
        if len(done) == windows:
            raise SourceTimeoutError("no frame for 31 s", "check the cable")
        done.append(measured(*words))
        return done[-1]

    monkeypatch.setattr(schedule, "measure_block", silent)
    expected = "the soak ended after 2 of 48 windows: no frame for 31 s" if windows else "^no frame for 31 s"
    with pytest.raises(DeviceError, match=expected):
        execute(options("--soak", "2s", "--model", engine_file("sleep2")))


def test_a_subscriber_that_cannot_connect_is_told(engine_file, options, monkeypatch, capsys):
    class Deaf(session.Subscriber):
        """Connected to something else."""

        def __init__(self, address: str) -> None:
            super().__init__("tcp://127.0.0.1:9")

    monkeypatch.setattr(session, "Subscriber", Deaf)
    assert execute(options("--model", engine_file("sleep2"), "--frames", 5, "--repeats", 1)) == 0
    assert "note: the subscriber could not connect to tcp://127.0.0.1:" in capsys.readouterr().out


def test_the_start_up_of_two_set_ups_is_not_checked_and_said_so(engine_file, options, tmp_path, capsys):
    (tmp_path / "board.toml").write_text('[boards."*"]\nstartup_s_max = 0.001\nrss_mb_max = 9000\n')
    words = ["--compare", engine_file("sleep2"), engine_file("sleep4"), "--frames", 3, "--repeats", 1, "--warm-up", 1]
    assert execute(options(*words, "--budget", tmp_path / "board.toml")) == 0
    said = capsys.readouterr().out
    assert "note: startup_s_max: not checked, as --compare times no start-up" in said
    assert re.search(r"rss_mb_max .* kept", said)
    assert "startup_s_max  " not in said


def test_what_a_comparison_would_ignore_is_refused(options, tmp_path):
    files = [tmp_path / "a.toml", tmp_path / "b.toml"]
    for file in files:
        file.write_text('model = "face"\n')
    with pytest.raises(ConfigError, match="--compare names the models, and --model x would be unused"):
        configurations(options("--compare", "face", "face-full", "--model", "x"))
    with pytest.raises(ConfigError, match="--compare names both configurations, and robot.toml would be unused"):
        configurations(options("robot.toml", "--compare", *files))
    named = configurations(options("--compare", *files, "--model", "x"))  # one model under two configurations
    assert [config.model for _, config in named] == ["x", "x"]


@pytest.mark.parametrize("option", ["--frames", "--seconds", "--repeats"])
def test_a_soak_takes_no_other_length(options, option):
    with pytest.raises(ConfigError, match="--soak has windows of its own"):
        configurations(options("--model", "face", "--soak", "3s", option, "3"))


@pytest.mark.parametrize("option", ["--json", "--html"])
def test_a_file_that_cannot_be_written_is_told_before_the_run(options, tmp_path, option, monkeypatch):
    monkeypatch.setattr(session, "measure", None)  # calling it would fail
    with pytest.raises(ConfigError, match="no/such/file .there is no such folder"):
        execute(options("--model", "face", option, tmp_path / "no/such/file"))
    with pytest.raises(ConfigError, match="it is a folder"):
        execute(options("--model", "face", option, tmp_path))


def test_plots_without_matplotlib_are_refused_before_the_run(options, tmp_path, monkeypatch):
    monkeypatch.setattr(session, "measure", None)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingBackendError, match="--plot needs matplotlib"):
        execute(options("--model", "face", "--plot", tmp_path))


def test_a_budget_without_a_limit_is_refused(options, tmp_path):
    (tmp_path / "board.toml").write_text('[boards."*"]\n')
    with pytest.raises(ConfigError, match="has no limit, so anything would keep it"):
        execute(options("--model", "face", "--budget", tmp_path / "board.toml"))


def test_the_terminal_flashes_only_on_a_terminal():
    command = [sys.executable, "-m", "edge", "bench", "--model", "x", "--photon", "terminal"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "standard output is no terminal" in done.stderr
    assert done.stdout == ""


def test_a_light_is_left_as_it_was_when_the_pipeline_cannot_open(options, tmp_path, monkeypatch):
    (tmp_path / "brightness").write_text("7")

    def refused(_: object) -> None:
        (tmp_path / "brightness").write_text("0")  # as a light that opening would leave dark
        raise DeviceError("no camera", "look")

    monkeypatch.setattr(session, "open_pipeline", refused)
    with pytest.raises(DeviceError, match="no camera"):
        execute(options("--model", "face", "--photon", tmp_path / "brightness"))
    assert (tmp_path / "brightness").read_text() == "7"


def test_a_light_that_is_not_seen_ends_the_run_before_it_is_measured(engine_file, options, tmp_path, monkeypatch):
    (tmp_path / "brightness").write_text("0")
    monkeypatch.setattr(session, "measure_photon", lambda *_: (_ for _ in ()).throw(DeviceError("no flash", "look")))
    monkeypatch.setattr(session, "_blocks", None)
    with pytest.raises(DeviceError, match="no flash"):
        execute(options("--model", engine_file("sleep2"), "--photon", tmp_path / "brightness"))


def test_names_of_facts_do_not_run_into_their_values(engine_file, options, capsys):
    assert execute(options("--model", engine_file("sleep2"), "--frames", 5, "--repeats", 1)) == 0
    assert "accelerator clocks mhz  " in capsys.readouterr().out
