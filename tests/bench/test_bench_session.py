"""Whole runs: numbers, drops, comparison, budgets, refusal, soak, and the files they write."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import msgspec
import numpy as np
import pytest

from edge.bench import results, session
from edge.bench.budgets import limits_for, read_budgets
from edge.bench.fingerprint import fingerprint
from edge.bench.measure import Block, Recording
from edge.bench.report_html import page_of
from edge.bench.report_text import text_of
from edge.bench.results import Report
from edge.bench.session import configurations, execute, measure, report_of
from edge.bench.soak import SoakLog
from edge.bench.summaries import distribution_of, setup_of
from edge.errors import ConfigError, DeviceError, MissingBackendError
from edge.timings import Stage

DOCS = Path(__file__).parents[2] / "docs" / "bench.md"


def report(arguments) -> Report:
    named = configurations(arguments)
    return report_of(arguments, named, fingerprint(), measure(arguments, named), None)


def test_a_run_measures_everything(engine_file, options, tmp_path, capsys):
    words = ["--model", engine_file("sleep2"), "--frames", 40, "--repeats", 3, "--warm-up", 3]
    path, page = tmp_path / "r.json", tmp_path / "r.html"
    assert execute(options(*words, "--json", path, "--html", page)) == 0
    found = msgspec.json.decode(path.read_bytes(), type=Report)  # unknown or missing fields would raise
    setup = found.setups[0]
    assert setup.frames == 120
    assert set(setup.stages) == {"wait", "preprocess", "infer", "decode", "publish"}
    assert setup.stages["infer"].p50.value >= 2.0
    assert setup.step.p50.value >= setup.stages["infer"].p50.value
    assert setup.capture_to_publish.max >= setup.capture_to_publish.p99.value >= setup.capture_to_publish.p50.value
    assert sum(setup.step.histogram_counts) == setup.step.count == 120
    assert setup.age_of_information.p50.value > 2.0  # a subscriber in its own process saw it
    assert 0 < setup.throughput_fps.low <= setup.throughput_fps.value <= setup.throughput_fps.high < 500
    assert 0.9 < setup.stages_over_wall <= 1.0005
    assert found.resources.rss_mb > 20
    assert len(found.series.t_s) == len(found.series.rss_mb) >= 2
    printed = capsys.readouterr().out
    assert "stages add up to" in printed
    assert "not available" in printed
    check_page(page.read_text(encoding="utf-8"))


class Balance(HTMLParser):
    """Checks that what opens closes, in order."""

    VOID = ("meta", "br", "rect", "path", "img", "link")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.seen.append(tag)
        if tag not in ("meta", "path"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list) -> None:
        self.seen.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def check_page(page: str) -> None:
    parser = Balance()
    parser.feed(page)
    assert parser.open == []
    assert parser.seen.count("svg") >= 4
    assert not {"script", "link", "img", "iframe"} & set(parser.seen)
    assert not re.search(r"https?://|@import|url\(|\bsrc=|\bhref=", page)


def test_the_page_escapes_what_it_is_given(engine_file, options):
    found = report(options("--model", engine_file("sleep2"), "--frames", 8, "--repeats", 1))
    found.setups[0].model = "<script>alert(1)</script>"
    found.findings = [results.Finding(kind="busy", text="a & b < c", invalidates=True)]
    page = page_of(found)
    check_page(page)
    assert "a &amp; b &lt; c" in page


def test_the_documents_describe_every_field():
    text = DOCS.read_text(encoding="utf-8")
    structs = [getattr(results, name) for name in results.__all__ if name != "SCHEMA"]
    for struct in structs:
        for field in struct.__struct_fields__:
            assert f"`{field}`" in text, f"docs/bench.md does not describe {struct.__name__}.{field}"
    assert results.SCHEMA in text


def test_a_slow_pipeline_drops_frames_and_says_why(engine_file, options):
    words = ["--model", engine_file("sleep4"), "--frames", 40, "--repeats", 1]
    found = report(options(*words, "--source", "synthetic://?size=64x48&fps=600"))
    drops = found.setups[0].drops
    assert drops.replaced_by_newer > 0
    assert drops.captured >= drops.replaced_by_newer + 38
    assert "replaced by a newer one" in text_of(found)


def test_twice_the_sleep_is_found_as_twice_the_time(engine_file, options):
    found = report(options("--compare", engine_file("sleep2"), engine_file("sleep4"), "--frames", 12, "--warm-up", 3))
    ratio = found.comparison.ratios["infer_p50"]
    assert found.comparison.pairs == 12
    assert 1.5 < ratio.value < 2.5
    assert 1.0 < ratio.low <= ratio.value <= ratio.high  # how wide it is depends on how busy the machine is
    assert "A m_sleep2 is better" in found.comparison.verdicts["throughput"]
    assert found.setups[0].publish == found.setups[1].publish
    assert "12 interleaved pairs" in page_of(found)


def test_the_same_against_the_same_shows_no_difference(engine_file, options):
    """95 % intervals are wrong one time in twenty, so one repetition is allowed."""
    words = ["--compare", engine_file("sleep2"), engine_file("sleep2"), "--frames", 10, "--warm-up", 3]
    verdicts = [report(options(*words)).comparison.verdicts["infer_p50"]]
    if verdicts[0] != "no difference shown":
        verdicts += [report(options(*words)).comparison.verdicts["infer_p50"]]
    assert verdicts[-1] == "no difference shown"


def test_two_configurations_with_their_own_sources_are_compared(engine_file, options, tmp_path):
    for name, size in (("a", "64x48"), ("b", "128x96")):
        text = f'model = "{engine_file("sleep2")}"\nsource = "synthetic://?size={size}&fps=0"\n'
        (tmp_path / f"{name}.toml").write_text(text)
    arguments = options("--compare", tmp_path / "a.toml", tmp_path / "b.toml", "--frames", 5, "--repeats", 2)
    arguments.source = None
    found = report(arguments)
    assert [setup.source for setup in found.setups] == [
        "synthetic://?size=64x48&fps=0",
        "synthetic://?size=128x96&fps=0",
    ]
    assert found.comparison.verdicts.pop("step_p99").startswith("left out: 5 frames a block")
    assert set(found.comparison.verdicts.values()) == {"too few pairs to tell: at least 6 repeats are needed"}


def budget_file(tmp_path: Path, limits: str, board: str = "*") -> Path:
    path = tmp_path / "board.toml"
    path.write_text(f'[boards."{board}"]\n{limits}\n')
    return path


@pytest.mark.parametrize(
    ("limits", "code"),
    [
        ("infer_p50_ms = 200\nthroughput_fps_min = 1\nrss_mb_max = 4000", 0),
        ("infer_p50_ms = 1.9", 6),
        ("throughput_fps_min = 501", 6),
        ("rss_mb_max = 5", 6),
    ],
)
def test_budgets_are_kept_or_broken(engine_file, options, tmp_path, capsys, limits, code):
    budget = budget_file(tmp_path, limits)
    words = ["--model", engine_file("sleep2"), "--frames", 10, "--repeats", 1, "--budget", budget]
    assert execute(options(*words)) == code
    assert ("NOT KEPT" in capsys.readouterr().out) == (code == 6)


def test_what_cannot_be_measured_does_not_keep_a_budget(engine_file, options, tmp_path, capsys):
    budget = budget_file(tmp_path, "age_of_information_p99_ms = 1000")
    words = ["--model", engine_file("sleep2"), "--frames", 5, "--repeats", 1, "--publish", "udp://127.0.0.1:9"]
    assert execute(options(*words, "--budget", budget)) == 6
    assert re.search(r"age_of_information_p99_ms +not available", capsys.readouterr().out)


def test_a_wrong_budget_names_the_key_or_the_board(engine_file, options, tmp_path):
    words = ["--model", engine_file("sleep2"), "--frames", 5]
    with pytest.raises(ConfigError, match="throughput_fps_mn.*did you mean 'throughput_fps_min'"):
        execute(options(*words, "--budget", budget_file(tmp_path, "throughput_fps_mn = 3")))
    with pytest.raises(ConfigError, match=r"no budget is for .*add \[boards"):
        execute(options(*words, "--budget", budget_file(tmp_path, "rss_mb_max = 3", "No Such Board")))


@pytest.mark.parametrize("order", [1, -1])
def test_the_longest_name_that_fits_a_board_counts(tmp_path, order):
    boards = ['"Orin"', '"Orin Nano"', '"*"', '"*Cortex*"', '"***********Or"'][::order]
    path = tmp_path / "board.toml"
    path.write_text("".join(f"[boards.{board}]\nrss_mb_max = {len(board)}\n" for board in boards))
    budgets = read_budgets(path)
    for board, cpu, name in (
        ("NVIDIA Jetson Orin Nano Developer Kit", "ARMv8 Processor", "Orin Nano"),
        ("NVIDIA Jetson Orin NX", "ARMv8 Processor", "Orin"),
        ("Raspberry Pi 5", "Cortex-A76", "*Cortex*"),
        (None, "orange", "***********Or"),
        ("Raspberry Pi 5", None, "*"),
        (None, None, "*"),
    ):
        assert limits_for(budgets, board, cpu)[0] == name


@pytest.mark.parametrize("board", ["", "  "])
def test_a_budget_for_a_board_without_a_name_is_refused(tmp_path, board):
    with pytest.raises(ConfigError, match=r'board.toml: \[boards." *"\] names no board: give a part of its name'):
        read_budgets(budget_file(tmp_path, "rss_mb_max = 3", board))


def test_strict_refuses_a_busy_machine(engine_file, options, tmp_path, busy_loop, capsys):
    words = ["--model", engine_file("sleep2"), "--frames", 100, "--repeats", 4, "--strict"]
    with pytest.raises(DeviceError, match=r"refuses this run.*other programs kept .* cores busy") as caught:
        execute(options(*words, "--json", tmp_path / "r.json"))
    assert caught.value.exit_code == 4
    assert not (tmp_path / "r.json").exists()
    assert "THIS RUN DOES NOT COUNT" in capsys.readouterr().out


@pytest.mark.parametrize("throttles", [True, False])
def test_a_run_on_a_machine_that_throttles_is_marked(engine_file, options, tmp_path, throttles, capsys, monkeypatch):
    counter = tmp_path / "root/sys/devices/system/cpu/cpu0/thermal_throttle/package_throttle_count"
    counter.parent.mkdir(parents=True)
    counter.write_text("3\n")
    words = ["--model", engine_file("sleep2"), "--frames", 10, "--repeats", 2, "--json", tmp_path / "r.json"]
    take_turns = session.measure_in_turns

    def heated(*words: object) -> None:
        take_turns(*words)
        counter.write_text("4\n" if throttles else "3\n")

    monkeypatch.setattr(session, "measure_in_turns", heated)
    code = execute(options(*words), tmp_path / "root")
    found = msgspec.json.decode((tmp_path / "r.json").read_bytes(), type=Report)
    assert code == 0
    assert found.valid is not throttles
    assert ("MARKED: package thermal throttle count rose by 1" in capsys.readouterr().out) is throttles


def blocks_of(stages_ms: float, wall_ms: float, n: int = 50) -> Recording:
    stages = np.zeros((n, len(Stage)), np.int64)
    stages[:, 2] = int(stages_ms * 1e6)
    wall = np.full(n, int(stages_ms * 1e6))
    ends = (np.arange(1, n + 1) * wall_ms * 1e6).astype(np.int64)
    pipeline = SimpleNamespace(
        model=SimpleNamespace(name="m", target="null"), source=SimpleNamespace(source_id="s"), publishers=[], frame=None
    )
    recording = Recording("run", pipeline)
    recording.add(Block(stages, wall, wall, ends, 0, int(ends[-1])))
    return recording


@pytest.mark.parametrize(("wall_ms", "adds_up"), [(10.0, True), (10.2, True), (10.4, False), (9.6, False)])
def test_the_sum_of_the_stages_is_checked_against_the_wall_clock(wall_ms, adds_up):
    setup = setup_of(blocks_of(10.0, wall_ms), None)
    assert setup.stages_add_up is adds_up
    assert setup.stages_over_wall == pytest.approx(10 / wall_ms, rel=1e-3)
    assert setup.throughput_fps.value == pytest.approx(1000 / wall_ms, rel=1e-3)


def test_jitter_percentiles_and_histogram_of_known_values():
    found = distribution_of(np.tile([1.0, 3.0], 500))
    assert (found.p50.value, found.max, found.mean, found.jitter) == (2.0, 3.0, 2.0, 2.0)
    assert (found.histogram_counts[0], found.histogram_counts[-1]) == (500, 500)
    assert (found.cdf_ms[0], found.cdf_ms[100]) == (1.0, 3.0)


def test_a_leak_is_found_and_its_absence_too(engine_file, options):
    leaking = report(options("--soak", "3s", "--model", engine_file("leak"))).soak
    assert leaking.rss_slope_mb_per_hour.low > 0
    assert [problem for problem in leaking.problems if problem.startswith("memory leak: RSS grew by")]
    sound = report(options("--soak", "2s", "--model", engine_file("sleep2"))).soak
    assert not [problem for problem in sound.problems if problem.startswith("memory leak")]


def soak_of(p50_ms, p99_ms) -> list[str]:
    log = SoakLog(600)
    for i, (low, high) in enumerate(zip(p50_ms, p99_ms, strict=True)):
        age = (np.array([low] * 95 + [high] * 5) * 1e6).astype(np.int64)
        start = i * 600 * 10**9 + 1
        log.add(Block(np.zeros((100, len(Stage)), np.int64), age, age, age, start, start + 600 * 10**9))
    sample = SimpleNamespace(t_ns=1, rss_mb=100.0)
    return [problem.split(":")[0] for problem in log.conclude([sample]).problems]


def test_drift_and_tail_growth_are_told_apart():
    rng = np.random.default_rng(0)
    noise, ramp = 1 + 0.02 * rng.normal(size=48), np.linspace(1, 1.6, 48)
    assert soak_of(10 * noise, 15 * noise) == []
    assert soak_of(10 * noise, 15 * noise * ramp) == ["tail growth"]
    assert soak_of(10 * noise * ramp, 30 * noise) == ["drift"]


def test_noise_is_no_drift():
    rng = np.random.default_rng(0)
    found = [soak_of(10 * (1 + 0.5 * rng.random(48)), np.full(48, 30.0)) for _ in range(40)]
    assert sum(map(bool, found)) <= 4


def test_the_plots_are_pictures(engine_file, options, tmp_path):
    pytest.importorskip("matplotlib", reason="the extra report is not installed")
    words = ["--model", engine_file("sleep2"), "--frames", 30, "--repeats", 1, "--plot", tmp_path / "plots"]
    assert execute(options(*words)) == 0
    for name in ("waterfall", "cdf", "series"):
        assert (tmp_path / "plots" / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_plots_without_matplotlib_name_the_extra(engine_file, options, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    with pytest.raises(MissingBackendError, match=r"pip install 'harrier-edge\[report\]'"):
        execute(options("--model", engine_file("sleep2"), "--frames", 5, "--repeats", 1, "--plot", tmp_path))


def test_messages_cannot_share_standard_output_with_the_table(options):
    with pytest.raises(ConfigError, match="the table goes to standard output"):
        configurations(options("--model", "face", "--publish", "stdout://"))


def test_a_source_that_ends_too_soon_says_so(engine_file, options):
    words = ["--model", engine_file("sleep2"), "--source", "synthetic://?size=64x48&fps=0&frames=10"]
    with pytest.raises(ConfigError, match="the source ended before anything was measured"):
        measure(arguments := options(*words), configurations(arguments))
    found = report(options(*words, "--warm-up", 2, "--repeats", 1))
    assert found.setups[0].frames == 6


def test_the_face_model_from_the_catalogue(catalogue, options, tmp_path):
    catalogue("face")
    words = ["--model", "face", "--frames", 20, "--repeats", 2, "--json", tmp_path / "r.json"]
    assert execute(options(*words)) == 0
    assert json.loads((tmp_path / "r.json").read_text())["setups"][0]["stages"]["nms"]["count"] == 40
