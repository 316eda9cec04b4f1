"""One report of how a run is doing, and the watch that finds a stage that hangs while it hangs."""

import time

import msgspec
import numpy as np
import pytest

from edge.config import RunConfig, WireSection
from edge.errors import EngineLostError
from edge.health import Health, HealthReport
from edge.model import open_model
from edge.pipeline import Pipeline
from edge.stage_watch import StageWatch
from edge.stats import collect, latency_table
from edge.testing import MemoryPublisher, MemorySource
from edge.throttle_watch import ThrottleWatch
from edge.timings import Stage, StageTimings

NULL = '[[inputs]]\nname = "x"\nshape = [1, 4, 4, 3]\nlayout = "NHWC"\n[[outputs]]\nname = "y"\nshape = [1, 2]\n'


@pytest.fixture
def pipeline(tmp_path):
    (tmp_path / "m.null").write_text(NULL)
    config = RunConfig(frame_timeout_s=0.01, wire=WireSection(ttl_ms=80))
    model = open_model(str(tmp_path / "m.null"), config.engine)
    source = MemorySource([np.zeros((8, 12, 3), np.uint8)], frames=1000)
    yield Pipeline(source, model, [MemoryPublisher()], config)
    model.close()


def health_of(pipeline, stages: StageWatch | None = None) -> Health:
    return Health(pipeline, ThrottleWatch(), stages or StageWatch(pipeline.timings))


def until(condition, seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.002)


def test_a_run_is_starting_then_ok_then_stale(pipeline):
    health = health_of(pipeline)
    report = health.report()
    assert (report.state, report.age_ms, report.latency_ms, report.frames) == ("starting", None, None, 0)
    assert "connecting" in report.line
    for _ in range(3):
        pipeline.step()
    report = health.report()
    assert (report.state, report.reasons, report.frames) == ("ok", [], 3)
    assert 0 <= report.age_ms < 80
    assert 0 < report.latency_ms < 80
    assert report.fps > 0
    assert (report.engines[0].state, report.engines[0].frames) == ("running", 3)
    assert report.publishers[0].sent == len(pipeline.publishers[0].messages)
    assert report.memory_mb > 10
    until(lambda: health.report().state == "stale")
    assert "the newest result is" in health.report().reasons[0]
    pipeline.step()
    assert health.report().state == "ok"


def test_what_was_not_timed_is_null_and_not_zero(pipeline):
    before = collect(pipeline, 1.0)
    assert (before["frames"], before["fps"], before["stages_ms"]) == (0, 0.0, {})
    assert before["wall_ms"] is before["capture_to_publish_ms"] is before["stages_over_wall"] is None
    assert latency_table(pipeline.timings).splitlines()[1].split() == ["step", "(wall", "clock)", "-", "-", "-", "-"]
    pipeline.step()
    after = collect(pipeline, 1.0)
    assert 0 < after["capture_to_publish_ms"]["p50"] == after["capture_to_publish_ms"]["max"]
    assert after["wall_ms"]["p50"] > 0


def test_what_is_wrong_is_named(pipeline):
    health = health_of(pipeline)
    pipeline.step()
    pipeline.set_condition("throttled", "the board is hot")
    pipeline.publishers[0].failure = "the port is gone"
    report = health.report()
    assert report.state == "degraded"
    assert report.reasons == ["throttled: the board is hot", f"{pipeline.publishers[0].address}: the port is gone"]
    assert "the board is hot" in report.line


def test_a_report_survives_json(pipeline):
    pipeline.step()
    report = health_of(pipeline).report()
    assert msgspec.json.decode(msgspec.json.encode(report), type=HealthReport) == report


def hang(timings: StageTimings, watch: StageWatch, after: Stage) -> str:
    """Stop in the stage after `after` until the watch has seen it, and return what it said."""
    timings.start()
    for stage in Stage:
        timings.lap(stage)
        if stage == after:
            until(lambda: watch.stuck)
            break
    return watch.stuck


@pytest.mark.parametrize("after", [Stage.WAIT, Stage.PREPROCESS, Stage.INFER, Stage.LOCATE])
def test_a_stage_that_hangs_is_found_while_it_hangs(after):
    timings = StageTimings()
    with StageWatch(timings, least_ms=30) as watch:
        said = hang(timings, watch, after)
        assert said.startswith(f"{Stage(after + 1).name.lower()} for ")
        assert watch.count == 1
        timings.lap(Stage.PUBLISH)
        timings.finish(0, 1)
        until(lambda: not watch.stuck)
        assert watch.count == 1


def test_waiting_for_a_frame_and_a_stage_that_is_always_slow_are_not_stuck():
    timings = StageTimings()
    for _ in range(20):
        timings.start()
        timings.lap(Stage.WAIT)
        timings._last -= 50_000_000  # a stage that takes 50 ms
        timings.lap(Stage.PREPROCESS)
        timings.finish(0, 1)
    with StageWatch(timings, least_ms=20) as watch:
        timings.start()
        time.sleep(0.1)
        assert watch.stuck == ""  # no lap yet: it waits
        timings.lap(Stage.WAIT)
        time.sleep(0.2)
        assert watch.stuck == ""
        assert watch.count == 0
        until(lambda: watch.stuck)
        assert "usually 50 ms" in watch.stuck


def test_a_stage_that_hangs_again_and_again_is_found_each_time():
    timings = StageTimings()
    for i in range(200):
        timings.start()
        timings.lap(Stage.WAIT)
        if i % 20 == 0:
            timings._last -= 500_000_000  # it has hung for half a second
        timings.lap(Stage.PREPROCESS)
        timings.finish(0, 1)
    with StageWatch(timings, least_ms=30) as watch:
        until(lambda: watch._usual_ns.any())
        t_s = time.monotonic()
        hang(timings, watch, Stage.WAIT)
        assert time.monotonic() - t_s < 4.0  # ten of those half seconds would be five


@pytest.mark.parametrize(
    ("stages", "hangs_after", "named"),
    [
        ((Stage.WAIT, Stage.PREPROCESS, Stage.INFER, Stage.DECODE, Stage.PUBLISH), Stage.DECODE, "publish"),  # classes
        ([stage for stage in Stage if stage != Stage.TRACK], Stage.NMS, "locate"),
    ],
)
def test_a_stage_this_run_does_not_have_is_not_named(stages, hangs_after, named):
    timings = StageTimings()
    for _ in range(20):
        timings.start()
        for stage in stages:
            timings.lap(stage)
        timings.finish(0, 1)
    with StageWatch(timings, least_ms=30) as watch:
        assert hang(timings, watch, hangs_after).startswith(f"{named} for ")


def test_a_step_that_came_to_nothing_is_not_stuck(pipeline, monkeypatch):
    def lose() -> None:
        raise EngineLostError("it hangs", "it is restarted")

    with StageWatch(pipeline.timings, least_ms=20) as watch:
        monkeypatch.setattr(pipeline.model.engine, "run", lose)
        with pytest.raises(EngineLostError):
            pipeline.step()
        time.sleep(0.1)
        assert watch.count == 0


def test_stuck_is_the_first_thing_a_report_says(pipeline):
    pipeline.step()
    stages = StageWatch(pipeline.timings)
    stages.stuck = "infer for 140 ms"
    report = health_of(pipeline, stages).report()
    assert report.state == "stuck"
    assert report.reasons[0] == "stuck in infer for 140 ms"
