"""What is counted, summed and judged, on recordings of which every number is known."""

import argparse
import re
from collections import Counter
from itertools import count
from types import SimpleNamespace

import msgspec
import numpy as np
import pytest
from bench_engines import CLASSIFIER
from made_up import S, block_of, measured_of, recording_of, sampler_of

from edge.bench import intervals, plots, schedule
from edge.bench.budgets import Limits, check_budget
from edge.bench.measure import Recording, measure_block, warm_up
from edge.bench.report_html import page_of
from edge.bench.report_text import SOAK_NOTE, soak_all_clear, soak_lines, text_of
from edge.bench.results import Report
from edge.bench.schedule import measure_in_turns
from edge.bench.session import execute, report_of
from edge.bench.soak import SoakLog
from edge.bench.summaries import comparison_of, distribution_of, power_of, resources_of, series_of, setup_of
from edge.bench.waterfall import drawn_stages, end_ms
from edge.config import RunConfig
from edge.errors import SourceTimeoutError
from edge.model import open_model
from edge.pipeline import Pipeline
from edge.sources.state import SourceEvent, SourceStats
from edge.testing import MemoryPublisher, MemorySource
from edge.wire.messages import Message


def reported(measured) -> Report:
    arguments = argparse.Namespace(startup=False)
    return report_of(arguments, [("run", RunConfig(model="m", source="s"))] * 2, {}, measured, None)


def judged(report: Report, **limits: float) -> dict[str, tuple[float | None, bool]]:
    lines = check_budget(report, msgspec.convert(limits, Limits))
    return {line.limit_name: (line.measured, line.kept) for line in lines}


def test_set_ups_take_turns_in_changing_order(monkeypatch):
    order = []

    def measured(pipeline, frames, seconds):
        order.append(pipeline)
        return block_of(len(order), 1.0, 10)

    monkeypatch.setattr(schedule, "measure_block", measured)
    recordings = [Recording("A", "A"), Recording("B", "B")]
    measure_in_turns(recordings, 4, 10, None)
    assert "".join(order) == "ABBAABBA"
    starts = sorted((b.t_start_ns // S, r.name) for r in recordings for b in r.blocks)
    assert "".join(name for _, name in starts) == "ABBAABBA"


class CountingSource(MemorySource):
    """Its counters grow by known steps with every frame, and every frame has something to say."""

    @property
    def stats(self) -> SourceStats:
        return SourceStats(4 * self._seq, self._seq, 3 * self._seq, 2 * self._seq, 5 * self._seq, 0)

    def poll_events(self) -> list[SourceEvent]:
        return [SourceEvent("stalled", f"frame {self._seq}", self._seq * S)]


class ForgetfulPublisher(MemoryPublisher):
    """Loses seven messages with each that it sends."""

    def send(self, message: Message) -> None:
        super().send(message)
        self.dropped += 7


@pytest.fixture
def pipeline_of(tmp_path):
    """Make a pipeline of a source, with a publisher that loses messages."""
    (tmp_path / "m.null").write_text(CLASSIFIER)
    config = RunConfig(frame_timeout_s=0.01)
    model = open_model(str(tmp_path / "m.null"), config.engine)
    yield lambda source: Pipeline(source, model, [ForgetfulPublisher()], config)
    model.close()


def test_every_drop_is_counted_in_its_column_and_outside_the_blocks_none(pipeline_of, monkeypatch):
    pipeline = pipeline_of(CountingSource([np.zeros((48, 64, 3), np.uint8)]))
    monkeypatch.setattr(pipeline, "relay_events", lambda: None)  # which would publish them
    recording = Recording("run", pipeline)
    for _ in range(2):
        recording.add(measure_block(pipeline, 10, None))
    drops = setup_of(recording, None).drops
    assert (drops.captured, drops.replaced_by_newer, drops.corrupt, drops.reconnects) == (80, 60, 40, 100)
    assert drops.publisher == 2 * 10 * 7
    assert drops.read_timeouts == 0
    assert [event.partition(": ")[2] for event in drops.events] == ["stalled frame 12", "stalled frame 24"]


class SilentSource(MemorySource):
    """Calls itself stalled and never gives a frame."""

    state = "stalled"

    def __init__(self) -> None:
        super().__init__([np.zeros((48, 64, 3), np.uint8)])
        self.state = "stalled"

    def read(self, timeout_s: float):
        raise SourceTimeoutError("no frame", "wait")


def test_a_source_that_stays_silent_does_not_hang_the_warm_up(pipeline_of):
    with pytest.raises(SourceTimeoutError):
        warm_up(pipeline_of(SilentSource()), 2)


def soak_report(blocks, **more) -> Report:
    log = SoakLog(10.0)
    for block in blocks:
        log.add(block)
    recording = recording_of("run", blocks, keep_earlier=False)
    sampler = sampler_of([(t, 3.0) for t in range(41)])
    return reported(measured_of([recording], sampler, log))


def test_a_soak_sums_up_all_windows_and_not_the_last():
    blocks = [
        block_of(0, 10, 100, captured=150, replaced=50, corrupt=1, timeouts=2, events=[(1 * S, "lost")]),
        block_of(10, 10, 200, captured=210, replaced=10, reconnects=1, publisher_dropped=9, events=[(12 * S, "back")]),
        block_of(20, 10, 300, captured=300),
    ]
    found = soak_report(blocks)
    setup = found.setups[0]
    assert (setup.frames, setup.elapsed_s, setup.throughput_fps.value) == (600, 30.0, 20.0)
    assert setup.throughput_fps.low is None  # bounds from the last window would be those of that window
    assert setup.step.count == 300
    drops = setup.drops
    assert (drops.captured, drops.replaced_by_newer, drops.corrupt) == (660, 60, 1)
    assert (drops.read_timeouts, drops.reconnects, drops.publisher) == (2, 1, 9)
    assert drops.events == ["1.0 s: lost", "12.0 s: back"]
    assert setup.power.energy_mj_per_frame == pytest.approx(1e3 * 3.0 * 30 / 600)
    assert f"; {SOAK_NOTE}" in text_of(found)
    assert f"Below, {SOAK_NOTE}." in page_of(found)


def test_the_stages_of_all_windows_are_set_against_the_wall_clock():
    blocks = [block_of(10 * i, 10, 100) for i in range(3)]
    blocks[0].stages_ns //= 2
    setup = soak_report(blocks).setups[0]
    assert setup.stages_over_wall == pytest.approx(5 / 6, abs=1e-4)
    assert not setup.stages_add_up


def test_the_worst_window_of_a_soak_decides_on_a_budget():
    blocks = [block_of(0, 10, 100, 50.0, captured=200, replaced=100), block_of(10, 10, 500, 5.0, captured=500)]
    lines = judged(
        soak_report([*blocks, block_of(20, 10, 400, 6.0, captured=400)]),
        capture_to_publish_p50_ms=20,
        capture_to_publish_p99_ms=60,
        capture_to_publish_max_ms=20,
        throughput_fps_min=20,
        dropped_percent_max=5,
        step_p50_ms=1000,
        infer_p99_ms=1000,
        power_w_max=4,
    )
    assert lines == {
        "capture_to_publish_p50_ms": (50.0, False),
        "capture_to_publish_p99_ms": (50.0, True),
        "capture_to_publish_max_ms": (50.0, False),
        "throughput_fps_min": (10.0, False),
        "dropped_percent_max": (pytest.approx(100 * 100 / 1100), False),
        "step_p50_ms": (None, False),
        "infer_p99_ms": (None, False),
        "power_w_max": (3.0, True),
    }


def test_a_frame_costs_no_pause():
    """2 W throughout; 10 s of blocks in 20 s: 50 frames of 0.2 s cost 0.4 J each, not 0.8."""
    recording = recording_of("run", [block_of(0, 5, 25), block_of(15, 5, 25)])
    found = power_of(sampler_of([(t, 2.0) for t in range(21)]), recording, alone=True)
    assert (found.sensor, found.scope, found.mean_w) == ("meter", "whole board", 2.0)
    assert found.energy_mj_per_frame == pytest.approx(400.0)
    assert power_of(sampler_of([(t, None) for t in range(21)]), recording, alone=True) is None


def interleaved(pairs: int = 6, steps: int = 40) -> tuple:
    """A at 2 W and 10 steps/s, B at 6 W and 20 steps/s, in blocks of 4 s with 1 s between them; or as many as A has."""
    starts = [5.0 * i for i in range(2 * pairs)]
    order = ["AB"[(i + i // 2) % 2] for i in range(2 * pairs)]
    watts = {"A": 2.0, "B": 6.0}
    rows = [
        (s + k, watts[n] if 0 < k < 4 or k in (0, 4) else 50.0)
        for s, n in zip(starts, order, strict=True)
        for k in range(5)
    ]
    sides = [
        recording_of(
            n,
            [block_of(s, 4.0, steps if n == "A" else 2 * steps) for s, m in zip(starts, order, strict=True) if m == n],
        )
        for n in "AB"
    ]
    return sides[0], sides[1], sampler_of(rows)


def test_the_power_of_two_set_ups_is_told_apart_and_the_worse_counts():
    a, b, sampler = interleaved()
    report = reported(measured_of([a, b], sampler))
    assert [setup.power.mean_w for setup in report.setups] == [2.0, 6.0]
    assert [setup.power.energy_mj_per_frame for setup in report.setups] == [200.0, 300.0]
    ratio = report.comparison.ratios["energy_per_frame"]
    assert (ratio.low, ratio.value, ratio.high) == (1.5, 1.5, 1.5)
    assert "A is better" in report.comparison.verdicts["energy_per_frame"]
    lines = judged(report, power_w_max=5, energy_mj_per_frame_max=250, throughput_fps_min=15, cpu_cores_max=8)
    assert lines == {
        "power_w_max": (6.0, False),
        "energy_mj_per_frame_max": (300.0, False),
        "throughput_fps_min": (10.0, False),
        "cpu_cores_max": (None, False),  # one process worked for both
    }
    said = text_of(report)
    assert "power        A: 2.00 W, 200.00 mJ per frame" in said
    assert "power        B: 6.00 W, 300.00 mJ per frame" in said
    assert "6.00 W, 300.00 mJ per frame" in page_of(report)


def test_blocks_too_short_for_the_meter_have_no_power_of_their_own():
    a, b, sampler = interleaved()
    sampler.samples = sampler.samples[::5]
    report = reported(measured_of([a, b], sampler))
    assert [setup.power for setup in report.setups] == [None, None]
    assert "energy_per_frame" not in report.comparison.ratios
    assert judged(report, power_w_max=500) == {"power_w_max": (None, False)}


def test_a_meter_that_saw_less_than_half_of_a_set_up_says_nothing_of_it():
    a, _, sampler = interleaved()
    sampler.samples = sampler.samples[:20]  # the first four blocks, A's of them being two of six
    assert power_of(sampler, a, alone=False) is None
    assert power_of(sampler, a, alone=True) is not None


def test_what_the_sampler_saw_of_throttling_marks_the_run():
    sampler = sampler_of([(t, 3.0) for t in range(11)])
    recording = recording_of("run", [block_of(0, 10, 100)])
    assert reported(measured_of([recording], sampler)).valid
    sampler.throttle.states["cooling state of cpufreq-cpu0 (cooling_device0)"] = 2.0
    found = reported(measured_of([recording], sampler))
    assert not found.valid
    assert found.findings[0].text == "cooling state of cpufreq-cpu0 (cooling_device0) was up to 2"


def test_the_tail_is_compared_too():
    a, b, sampler = interleaved(steps=100)
    for block in b.blocks:
        block.wall_ns[-8:] *= 10
    ratios = comparison_of(sampler, a, b).ratios
    assert ratios["step_p50"].value == pytest.approx(0.5)
    assert ratios["step_p99"].value == pytest.approx(5.0)


def test_a_p99_of_few_frames_is_left_out_with_the_reason():
    a, b, sampler = interleaved(steps=99)
    report = reported(measured_of([a, b], sampler))
    assert "step_p99" not in report.comparison.ratios
    why = "left out: 99 frames a block, 100 are needed (--frames)"
    assert report.comparison.verdicts["step_p99"] == why
    assert re.search(rf"step_p99 +{re.escape(why)}", text_of(report))
    assert f"<td>step p99</td><td></td><td></td><td>{why}</td>" in page_of(report)
    assert judged(report, step_p99_ms=1000)["step_p99_ms"][1]  # of all frames together


def test_each_set_up_has_its_own_line_over_time_that_rests_in_the_turns_of_the_other():
    a, b, sampler = interleaved()
    for block in b.blocks:
        block.age_ns[:] = 9_000_000
    first, second = reported(measured_of([a, b], sampler)).series.latency
    assert (first.name, second.name) == ("A", "B")
    assert ({*first.p50_ms, *first.max_ms}, {*second.p50_ms, *second.max_ms}) == ({5.0, None}, {9.0, None})
    for series, recording in ((first, a), (second, b)):
        assert series.p50_ms.count(None) == series.max_ms.count(None) == 6
        ends = [t for t, value in zip(series.t_s, series.p50_ms, strict=True) if value is None]
        assert ends == [block.t_end_ns / S for block in recording.blocks]
        for t_s, value in zip(series.t_s, series.p50_ms, strict=True):
            assert value is None or any(block.t_start_ns < t_s * S < block.t_end_ns for block in recording.blocks)
    assert first.t_s == sorted(first.t_s)


def test_the_lines_of_a_set_up_have_its_colour_on_the_page():
    a, b, sampler = interleaved()
    page = page_of(reported(measured_of([a, b], sampler)))
    over_time = page.partition("<h2>Over time</h2>")[2]
    assert re.findall(r'<i class="([^"]+)"></i>([^<]+)', over_time)[:4] == [
        ("c1", "A: p50"),
        ("c1 thin", "A: max"),
        ("c2", "B: p50"),
        ("c2 thin", "B: max"),
    ]
    assert [path.count("M") for path in re.findall(r'<path class="line c\d(?: thin)?" d="([^"]*)"', over_time)[:4]] == [
        6
    ] * 4
    bars = re.findall(r'class="fill (c\d)"', page.partition("histogram: A")[2])
    assert {*bars[:40]} == {"c1"}
    assert {*bars[-40:]} == {"c2"}


def test_the_lines_of_a_set_up_have_its_colour_in_the_pictures():
    figure_class = pytest.importorskip("matplotlib.figure", reason="the extra report is not installed").Figure
    a, b, sampler = interleaved()
    report = reported(measured_of([a, b], sampler))
    curves, over_time = figure_class(), figure_class()
    plots._cdf(curves, report)
    plots._series(over_time, report)
    found = [[(line.get_label(), line.get_color()) for line in f.axes[0].lines] for f in (curves, over_time)]
    kinds = ("capture to publish", "step"), ("p50", "max")
    for lines, names in zip(found, kinds, strict=True):
        assert lines == [(f"{who}: {name}", colour) for who, colour in (("A", "C0"), ("B", "C1")) for name in names]


def test_one_set_up_has_one_line_over_time_and_a_lone_frame_is_a_dot():
    blocks = [block_of(i, 1.0, 100) for i in range(3)]
    found = series_of(sampler_of([(0, None)]), [recording_of("run", blocks)]).latency
    assert [series.name for series in found] == ["run"]
    assert None not in found[0].p50_ms
    assert 20 <= len(found[0].t_s) <= 240
    lone = [recording_of(name, [block_of(i, 1.0, 1)]) for i, name in enumerate("AB")]
    page = page_of(reported(measured_of(lone, sampler_of([(t, None) for t in range(3)]))))
    dot = re.search(r'<path class="line c1" d="(M[^"ML]*)"', page.partition("<h2>Over time</h2>")[2])
    assert dot[1].endswith("h0")


def test_the_last_line_is_the_option_that_gives_an_interval():
    few, many = [block_of(i, 1, 10) for i in range(10)], [block_of(0, 100, 1000)]
    rng = np.random.default_rng(0)
    for block in (*few, *many):
        block.age_ns[:] += (rng.normal(size=block.steps) * 1e5).astype(np.int64)
    sampler = sampler_of([(t, None) for t in range(21)])
    short = reported(measured_of([recording_of("run", few)], sampler))
    age = short.setups[0].capture_to_publish.p99.count_needed
    assert 563 <= age < 1000
    line = f"for a p99 interval: --repeats {-(-age // 10)}"
    assert text_of(short).splitlines()[-1] == line
    assert f"F{line[1:]}." in page_of(short)
    enough = reported(measured_of([recording_of("run", many)], sampler))
    assert enough.setups[0].step.p99.count_needed  # which nobody is told of
    assert "interval: --" not in text_of(enough) + page_of(enough)


def test_a_soak_says_how_long_gives_an_interval():
    report = soak_report([block_of(10 * i, 10, 30) for i in range(3)])
    needed = report.setups[0].capture_to_publish.p99.count_needed
    minutes = -(-needed * 10 * 48 // (30 * 60))
    assert text_of(report).splitlines()[-1] == f"for a p99 interval: --soak {minutes}m"


def test_the_worst_of_a_soak_comes_first_and_the_table_names_its_window():
    blocks = [block_of(10 * i, 10, 30, age_ms) for i, age_ms in enumerate((5.0, 80.0, 6.0), 1)]
    blocks[0].age_ns[-1] = 90_000_000
    report = soak_report(blocks)
    text, page = text_of(report), page_of(report)
    worst = "p99 80.000 ms (window at 15 s), max 90.000 ms (window at 5 s)"
    assert text.index(worst) < text.index("last window, 30 frames") < text.index("capture to publish  ")
    assert page.index(worst) < page.index("<h2>Latency: last window, 30 frames</h2>")
    assert "<b>80.00 ms</b><span>capture to publish, p99, worst window</span>" in page
    assert "<b>90.00 ms</b><span>capture to publish, max, whole run</span>" in page
    assert "throughput 3.00 frames/s\n" in text
    assert text.count("slope") == 3


def test_memory_that_rises_by_less_than_counts_is_told():
    log, samples = SoakLog(10.0), []
    for i in range(48):
        log.add(block_of(10 * i, 10, 30))
        samples.append(SimpleNamespace(t_ns=int((10 * i + 5) * S), rss_mb=100 + i / 100))
    soak = log.conclude(samples)
    assert soak.rss_slope_mb_per_hour.low > 0
    assert (soak.problems, soak.remarks) == ([], ["RSS rose 0.38 MB, under the 2 MB that count"])
    assert soak_lines(soak)[-1] == soak.remarks[0]
    assert soak_all_clear(soak) == "no leak, drift or tail growth that counts"


def test_the_boxes_of_the_page_scroll_and_their_plots_keep_a_width():
    style = page_of(soak_report([block_of(0, 10, 30)])).partition("<style>")[2].partition("</style>")[0]
    assert re.search(r"svg\{[^}]*min-width:\d{3}px", style)
    assert re.search(r"section\{[^}]*overflow-x:auto", style)


def test_what_the_frames_held_is_told():
    held = [Counter({0: 3, 2: 4}), Counter({2: 1, 7: 2})]
    blocks = [block_of(i, 1, 10, held=h) for i, h in enumerate(held)]
    report = soak_report(blocks)
    setup = report.setups[0]
    assert (setup.detections_per_frame_median, setup.detections_per_frame_max) == (2.0, 7)
    assert "detections per frame: median 2, max 7" in text_of(report)
    assert "<td>detections per frame</td><td>median 2, max 7</td>" in page_of(report)
    none = soak_report([block_of(0, 1, 10)])
    assert none.setups[0].detections_per_frame_median is none.setups[0].detections_per_frame_max is None
    assert "detections per frame" not in text_of(none)


def test_two_waterfalls_share_one_axis_and_the_title_names_both():
    a, b, sampler = interleaved()
    report = reported(measured_of([a, b], sampler))
    page = page_of(report)
    assert "<title>harrier bench: A against B</title>" in page
    charts = re.findall(r"<svg .*?</svg>", page.partition("Where the time of a frame goes: A")[2])
    (first, second) = [chart for chart in charts if 'class="whisker"' in chart]
    assert re.findall(r'class="tick"[^>]*>[^<]*', first) == re.findall(r'class="tick"[^>]*>[^<]*', second)
    names = list(report.comparison.ratios)
    assert names[:2] == ["infer_p50", "capture_to_publish_p50"]
    assert "step_p50" in names


def test_a_wait_that_dwarfs_one_set_up_is_drawn_in_none():
    a, b, sampler = interleaved()
    for block in a.blocks:
        block.stages_ns[:, 0] = 3 * block.stages_ns[:, 2]
    for block in b.blocks:
        block.stages_ns[:, 0] = block.stages_ns[:, 2] // 2
    setups = reported(measured_of([a, b], sampler)).setups
    waterfalls = drawn_stages(setups)
    assert ["wait" in stages for stages in waterfalls] == [False, False]
    assert "wait" in drawn_stages(setups[1:])[0]
    assert end_ms(waterfalls) == max(s.stages["infer"].p99.value for s in setups)


def test_memory_that_grows_has_a_slope():
    rows = [(t, None) for t in range(0, 130, 1)]
    found = resources_of(sampler_of(rows, [50 + t / 60 for t, _ in rows]), cpu_s=65.0, elapsed_s=130.0)
    assert found.rss_slope_mb_per_hour.value == pytest.approx(60.0, rel=0.01)
    assert found.rss_slope_mb_per_hour.low > 50
    assert (found.cpu_cores, found.rss_peak_mb, found.rss_mb) == (0.5, 52.15, 52.15)
    assert resources_of(sampler_of(rows[:50]), 1.0, 50.0).rss_slope_mb_per_hour is None
    passing = resources_of(sampler_of(rows[:3], [50, 90, 60]), 1.0, 3.0)
    assert (passing.rss_mb, passing.rss_peak_mb) == (60, 90)


def cpu_s_per_frame(report: Report) -> float:
    return report.resources.cpu_cores * report.setups[0].elapsed_s / report.setups[0].frames


def test_a_busy_engine_is_seen_in_the_cores(engine_file, options, tmp_path):
    """Its CPU time per frame is known also where others leave it little of a core."""
    found = {}
    for kind in ("spin", "sleep2"):
        words = ["--model", engine_file(kind), "--frames", 100, "--repeats", 1, "--warm-up", 2]
        execute(options(*words, "--json", tmp_path / f"{kind}.json"))
        found[kind] = msgspec.json.decode((tmp_path / f"{kind}.json").read_bytes(), type=Report)
    assert 0.0025 < cpu_s_per_frame(found["spin"]) < 0.006
    assert cpu_s_per_frame(found["sleep2"]) < 0.0025


def test_the_power_of_a_board_stands_in_the_file(engine_file, options, tmp_path):
    chip = tmp_path / "root/sys/class/hwmon/hwmon0"
    chip.mkdir(parents=True)
    for name, text in {"name": "ina3221", "in1_label": "VDD_IN", "in1_input": "5000", "curr1_input": "1500"}.items():
        (chip / name).write_text(text + "\n")
    words = ["--model", engine_file("sleep2"), "--seconds", 0.4, "--repeats", 1, "--json", tmp_path / "r.json"]
    assert execute(options(*words), tmp_path / "root") == 0
    setup = msgspec.json.decode((tmp_path / "r.json").read_bytes(), type=Report).setups[0]
    assert (setup.power.sensor, setup.power.mean_w) == ("INA3221 VDD_IN", 7.5)
    assert setup.power.energy_mj_per_frame == pytest.approx(7500 * setup.elapsed_s / setup.frames, rel=0.01)


def test_percentiles_take_all_values_and_not_the_last(monkeypatch):
    monkeypatch.setattr(intervals, "_MAX_RESAMPLED", 1000)
    values = np.concatenate([np.full(4000, 10.0), np.full(3000, 1.0)]) + np.random.default_rng(0).random(7000)
    found = distribution_of(values)
    assert found.p50.value == pytest.approx(float(np.percentile(values, 50)), abs=1e-4)
    assert found.p50.value > 10
    assert found.p50.low <= found.p50.value <= found.p50.high
    assert found.p90.low <= found.p90.value <= found.p90.high
    assert found.count == 7000
    assert len(intervals.evenly(values)) == 1000
    assert 550 <= np.sum(intervals.evenly(values) > 5) <= 600  # from start to end


def test_the_throughput_of_a_long_run_has_bounds_around_it(monkeypatch):
    monkeypatch.setattr(intervals, "_MAX_RESAMPLED", 1000)
    quick, slow = block_of(0, 30, 3000), block_of(30, 30, 300)
    fps = setup_of(recording_of("run", [quick, slow]), None).throughput_fps
    assert fps.value == 55.0
    assert fps.low <= 55.0 <= fps.high


def test_the_age_of_a_whole_soak_is_seen():
    stamps = [n for t in range(30) for n in (t * S, t * S + S // 2)]
    blocks = [block_of(10 * i, 10, 10) for i in range(3)]
    recording = recording_of("run", blocks, keep_earlier=False)
    ages = setup_of(recording, stamps).age_of_information
    assert ages.count > 5 * 1000
    assert ages.p50.value == pytest.approx(1000, abs=40)


def test_turns_are_counted_once(monkeypatch):
    blocks = count(1)
    monkeypatch.setattr(schedule, "measure_block", lambda *_: block_of(next(blocks), 1.0, 10))
    recording = Recording("A", SimpleNamespace())
    measure_in_turns([recording], 3, 10, None)
    assert (recording.totals.steps, recording.totals.elapsed_s, recording.whole) == (30, 3.0, True)
