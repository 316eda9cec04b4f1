"""What /metrics says: the format, as Prometheus' own parser reads it, and that its numbers are those of the run."""

import urllib.request

import numpy as np
import pytest
from live_runs import LiveRun, until

from edge.timings import Stage, StageTimings
from edge.web.metrics import STATES, Metrics
from edge.web.prometheus import Exposition, Histogram

pytest.importorskip("aiohttp", reason="the extra 'web' is not installed")


@pytest.fixture
def parse():
    """Text -> {name of a family: family}, and {sample name and labels: value}."""
    parser = pytest.importorskip("prometheus_client.parser", reason="prometheus-client is not installed")

    def parsed(text: str) -> tuple[dict, dict]:
        families = {family.name: family for family in parser.text_string_to_metric_families(text)}
        samples = {
            (sample.name, *sorted(sample.labels.items())): sample.value
            for family in families.values()
            for sample in family.samples
        }
        return families, samples

    return parsed


def test_a_histogram_counts_what_equals_a_bound_below_it():
    histogram = Histogram([0.001, 0.01])
    histogram.add(np.array([0, 1_000_000, 1_000_001, 10_000_000, 99_000_000]))
    histogram.add(np.array([], np.int64))
    assert histogram.cumulative == [2, 4, 5]
    assert histogram.sum_s == pytest.approx(0.111_000_001)


def test_names_that_would_break_the_format_do_not(parse):
    out = Exposition()
    nasty = 'a "quoted" \\ name\nwith two lines, and \udcff'
    out.add("harrier_a", "gauge", "first\nsecond \\ third", [({"name": nasty}, 1.5), ({"name": "none"}, None)])
    out.add("harrier_b_total", "counter", "b", [({}, 3)])
    out.add("harrier_c", "gauge", "left out", [({}, None)])
    families, samples = parse(out.text)
    assert samples["harrier_a", ("name", nasty.replace("\udcff", "?"))] == 1.5
    assert samples["harrier_b_total",] == 3
    assert families["harrier_a"].documentation == "first\nsecond \\ third"
    assert set(families) == {"harrier_a", "harrier_b"}
    assert all(line.isprintable() for line in out.text.splitlines())


def test_a_run_tells_its_numbers(tmp_path, parse):
    with LiveRun(tmp_path, tracking=None) as run:
        run.pipeline.model.engine.restarts = 3  # as one with a process of its own has
        run.pipeline.ask(lambda pipeline: pipeline.set_condition("throttled", "hot"))
        run.publisher.failure = "the port is gone"
        until(lambda: run.pipeline.conditions, "no condition")
        run.frames = False
        count = run.pipeline.timings.count
        until(lambda: run.ask("/api/state")[1]["health"]["state"] == "stale", "it does not become stale")
        families, samples = parse(run.ask("/metrics")[1].decode())
        count = run.pipeline.timings.count
    assert samples["harrier_frames_total",] == count
    assert {state: samples["harrier_state", ("state", state)] for state in STATES} == {
        **dict.fromkeys(STATES, 0),
        "stale": 1,
    }
    assert samples["harrier_condition", ("condition", "throttled")] == 1
    assert samples["harrier_condition", ("condition", "degraded")] == 0
    assert samples["harrier_publisher_failing", ("publisher", "memory")] == 1
    assert samples["harrier_source_state", ("state", "streaming")] == 1
    assert samples["harrier_engine_frames_total", ("place", "0"), ("target", "first")] == count
    assert samples["harrier_engine_running", ("place", "0"), ("target", "first")] == 1
    assert samples["harrier_engine_restarts_total", ("place", "0"), ("target", "first")] == 3
    assert samples["harrier_age_seconds_count",] == samples["harrier_step_seconds_count",] == count
    assert samples["harrier_stage_seconds_count", ("stage", "infer")] == count
    assert samples["harrier_steps_missed_total",] == 0
    assert samples["harrier_newest_age_seconds",] > samples["harrier_ttl_seconds",] == 0.5
    assert samples["process_resident_memory_bytes",] > 10e6
    timings = run.pipeline.timings
    assert samples["harrier_age_seconds_sum",] == pytest.approx(timings.age_ns.sum() / 1e9)
    work = timings.wall_ns.sum() - timings.stages_ns[:, Stage.WAIT].sum()
    assert samples["harrier_step_seconds_sum",] == pytest.approx(work / 1e9)
    for family in families.values():
        assert family.documentation.endswith("."), family.name
        assert family.type == "histogram" or not family.name.endswith("_bucket")


def test_the_content_type_is_the_formats(tmp_path):
    with LiveRun(tmp_path) as run, urllib.request.urlopen(f"{run.page.address}/metrics", timeout=10) as answer:
        assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"


class Told:
    """As much of a pipeline as Metrics reads when it collects."""

    def __init__(self, capacity: int) -> None:
        self.timings = StageTimings(capacity)

    def steps(self, count: int) -> None:
        for _ in range(count):
            self.timings.start()
            for stage in Stage:
                self.timings.lap(stage)
            self.timings.finish(0, 3_000_000)


def told(metrics: Metrics) -> tuple[int, int]:
    return metrics._age.cumulative[-1], metrics._missed


def test_histograms_go_over_the_whole_run_and_count_what_the_ring_lost():
    run = Told(capacity=8)
    metrics = Metrics(run)
    for steps, expected in ((5, (5, 0)), (7, (12, 0)), (0, (12, 0)), (20, (19, 13)), (3, (22, 13))):
        run.steps(steps)
        metrics.collect()
        assert told(metrics) == expected
    run.timings = StageTimings(8)  # as a benchmark begins anew
    run.steps(2)
    metrics.collect()
    assert told(metrics) == (24, 13)


def test_what_is_overwritten_while_it_is_read_is_left_out():
    run = Told(capacity=4)
    run.steps(6)
    gone, stages, wall, age = run.timings.after(0)
    assert (gone, len(stages), len(wall), len(age)) == (3, 3, 3, 3)  # the oldest may be refilled just now
    np.testing.assert_array_equal(wall, run.timings.wall_ns[1:])

    class Moving(StageTimings):
        """Two more steps end between the copy and the second look."""

        reads = 0

        @property
        def count(self) -> int:
            self.reads += 1
            return 6 + 2 * (self.reads > 1)

        @count.setter
        def count(self, value: int) -> None:
            self.reads = 0

    moving = Moving(4)
    gone, stages, *_ = moving.after(0)
    assert gone + len(stages) == 6
    assert len(stages) == 1  # of steps 2 to 5 two were overwritten, and one may be written just now


def test_after_tells_nothing_twice():
    run = Told(capacity=16)
    run.steps(5)
    assert run.timings.after(5)[0] == len(run.timings.after(5)[1]) == 0
    assert len(run.timings.after(3)[2]) == 2
    assert len(run.timings.after(7)[2]) == 0
