"""What happens to a frame when an engine fails: who takes over, what readers are told, and who tries again when."""

import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge import model
from edge.config import EngineSection, RunConfig, TrackingSection
from edge.engines.null import NullEngine
from edge.errors import AcceleratorError, ConfigError, EngineError, EngineLostError
from edge.lineup import Lineup, open_lineup
from edge.parts import check_parts
from edge.pipeline import Pipeline
from edge.run import run
from edge.testing import MemoryPublisher, MemorySource
from edge.timings import Stage

TENSORS = """
[[inputs]]
name = "image"
shape = [1, 8, 8, 3]
layout = "NHWC"

[[outputs]]
name = "scores"
shape = [1, 3]
fill = {fill}
"""


@pytest.fixture
def bundle(tmp_path) -> Path:
    """A bundle of one classifier with the targets `first`, `second` and `third`, told apart by their scores."""
    manifest = 'name = "m"\nlabels = ["a", "b", "c"]\n[input]\n[decoder]\nfamily = "classification"\n'
    for i, name in enumerate(("first", "second", "third")):
        (tmp_path / f"{name}.null").write_text(TENSORS.format(fill=0.5 + i / 10))
        manifest += f'[targets.{name}]\nfile = "{name}.null"\noutputs = {{ scores = "scores" }}\n'
    (tmp_path / "manifest.toml").write_text(manifest)
    return tmp_path


def config_of(bundle: Path, **engine) -> RunConfig:
    section = EngineSection(**{"target": "first", "fallback": ["second"], "retry_s": 0.05, **engine})
    return RunConfig(model=str(bundle), engine=section)


class Faults:
    """Stands before an engine's run() and lets it fail on purpose."""

    def __init__(self, lineup: Lineup, member: int = 0) -> None:
        self.engine = lineup.members[member].model.engine
        self.error: Exception | None = None
        self.calls = 0
        self._run, self.engine.run = self.engine.run, self

    def __call__(self) -> None:
        self.calls += 1
        if self.error:
            raise self.error
        self._run()


@pytest.fixture
def make(bundle):
    """Make a pipeline of endless pictures over a line-up, its publisher, and the faults of its first engine."""
    opened = []

    def build(**engine):
        config = config_of(bundle, **engine)
        lineup = open_lineup(config)
        opened.append(lineup)
        publisher = MemoryPublisher()
        source = MemorySource([np.zeros((8, 8, 3), np.uint8)], frames=10_000)
        return Pipeline(source, lineup, [publisher], config), publisher, Faults(lineup)

    yield build
    for lineup in opened:
        lineup.close()


def top_score(message) -> float:
    return round(message.classes[0].score, 3)


def statuses(publisher: MemoryPublisher) -> list[str]:
    return [message.reason for message in publisher.messages if message.kind == "status"]


def test_the_first_target_runs_and_nothing_is_flagged(make):
    pipeline, publisher, _ = make()
    message = pipeline.step()
    assert top_score(message) == 0.5
    assert message.flags == ()
    assert statuses(publisher) == []
    assert [member.frames for member in pipeline.lineup.members] == [1, 0]


def test_the_same_frame_goes_to_the_fallback_and_readers_are_told_why(make):
    pipeline, publisher, faults = make()
    faults.error = EngineLostError("did not answer within 50 ms", "it is restarted")
    message = pipeline.step()
    assert message.seq == 0
    assert top_score(message) == 0.6
    assert set(message.flags) == {"degraded", "fallback"}
    assert statuses(publisher) == ["degraded: first: did not answer within 50 ms", "fallback: second"]
    assert [m.engine for m in publisher.messages if m.kind == "status"][-1] == "second"
    assert pipeline.model.target == "second"


def test_a_repaired_engine_runs_the_next_frame_and_the_flags_go(make):
    pipeline, publisher, faults = make()
    faults.error = EngineError("a fault", "repair it")
    assert top_score(pipeline.step()) == 0.6
    faults.error = None
    message = pipeline.step()
    assert top_score(message) == 0.5
    assert message.flags == ()
    assert statuses(publisher)[-2:] == ["no longer degraded", "no longer fallback"]


def test_after_so_many_failures_it_is_left_alone_for_longer_and_longer_and_then_tried_again(make):
    pipeline, _, faults = make(max_failures=3, retry_s=0.1)
    faults.error = EngineError("a fault", "repair it")
    for _ in range(10):
        pipeline.step()
    assert faults.calls == 3
    for rests, rest_s in enumerate((0.1, 0.2), start=1):
        until = time.monotonic() + rest_s + 0.03
        while time.monotonic() < until:
            assert top_score(pipeline.step()) == 0.6
            time.sleep(0.002)
        pipeline.step()
        assert faults.calls == 3 + rests
    faults.error = None
    until = time.monotonic() + 5
    while top_score(pipeline.step()) != 0.5:
        assert time.monotonic() < until, "the repaired engine was never tried again"
        time.sleep(0.005)


def test_failures_far_apart_do_not_add_up(make):
    pipeline, _, faults = make(max_failures=2, retry_s=0.02)
    for _ in range(4):
        faults.error = EngineError("a fault", "repair it")
        assert top_score(pipeline.step()) == 0.6
        faults.error = None
        time.sleep(0.03)
        assert top_score(pipeline.step()) == 0.5  # at once: it was not left alone


def test_an_engine_that_is_lost_is_not_asked(make):
    pipeline, _, faults = make()
    faults.engine.lost = "restarting after a crash"
    message = pipeline.step()
    assert faults.calls == 0
    assert top_score(message) == 0.6
    assert pipeline.lineup.reason == "first: restarting after a crash"


def test_the_third_takes_over_from_the_second(make):
    pipeline, _, faults = make(fallback=["second", "third"])
    second = Faults(pipeline.lineup, 1)
    faults.error = second.error = EngineError("a fault", "repair it")
    assert top_score(pipeline.step()) == 0.7
    assert pipeline.model.target == "third"


def test_without_a_fallback_a_fault_ends_the_run_and_a_lost_engine_does_not(make):
    pipeline, _, faults = make(fallback=[])
    faults.error = EngineLostError("it hangs", "it is restarted")
    with pytest.raises(EngineLostError):
        pipeline.step()
    assert "degraded" in pipeline.flags
    faults.error = None
    assert pipeline.step().flags == ()
    faults.error = EngineError("a fault", "repair it")
    with pytest.raises(EngineError, match="a fault") as caught:
        pipeline.step()
    assert not isinstance(caught.value, EngineLostError)


def test_the_stages_of_a_step_with_a_failure_add_up(make):
    pipeline, _, faults = make()

    def fail_slowly() -> None:
        time.sleep(0.02)
        raise EngineError("a fault", "repair it")

    faults.engine.run = fail_slowly
    pipeline.step()
    assert pipeline.timings.stages_ns.sum() == pytest.approx(pipeline.timings.wall_ns.sum(), rel=0.03)
    assert pipeline.timings.stages_ns[0, Stage.INFER] >= 20_000_000


def test_a_target_that_cannot_open_now_is_opened_later(bundle, monkeypatch):
    refusals = [3]

    def open_model(name, options, labels, score):
        if options.target == "first" and refusals[0]:
            refusals[0] -= 1
            raise AcceleratorError("there is no Edge TPU", "plug it in")
        return model.open_model(name, options, labels, score)

    monkeypatch.setattr("edge.lineup.open_model", open_model)
    config = config_of(bundle, retry_s=0.01)
    lineup = open_lineup(config)
    pipeline = Pipeline(MemorySource([np.zeros((8, 8, 3), np.uint8)], frames=10_000), lineup, [], config)
    message = pipeline.step()
    assert top_score(message) == 0.6
    assert pipeline.lineup.reason == "first: there is no Edge TPU"
    until = time.monotonic() + 10
    while top_score(pipeline.step()) != 0.5:
        assert time.monotonic() < until, "it was never opened"
        time.sleep(0.005)
    assert pipeline.step().flags == ()
    assert refusals == [0]
    opened = lineup.members[0].model
    lineup.close()
    assert not opened.engine.inputs
    assert pipeline.model.name == "m"


def test_a_fallback_that_cannot_open_is_told_at_the_start(bundle):
    with pytest.raises(Exception, match="no target 'fourth'"):
        open_lineup(config_of(bundle, fallback=["fourth"]))
    with pytest.raises(ConfigError, match="names a target twice"):
        open_lineup(config_of(bundle, fallback=["first"]))


def test_when_no_target_can_open_the_first_says_why(bundle, monkeypatch):
    def refuse(name, options, labels, score):
        raise AcceleratorError(f"no device for {options.target}", "plug it in")

    monkeypatch.setattr("edge.lineup.open_model", refuse)
    with pytest.raises(AcceleratorError, match="no device for first"):
        open_lineup(config_of(bundle))


def test_check_names_the_fallbacks(bundle):
    config = config_of(bundle)
    config.source = "synthetic://"
    assert "fallback second" in check_parts(config)


def test_check_says_why_targets_were_passed_over(bundle, monkeypatch):
    config = config_of(bundle, target="auto", fallback=[])
    config.source = "synthetic://"
    assert "note    target 'second' was not needed: 'first' is quicker" in check_parts(config)


def test_preprocessing_on_the_gpu_is_not_the_fallbacks(bundle, monkeypatch):
    def open_model(name, options, labels, score):
        if options.target == "first":
            raise AcceleratorError("there is no GPU 0", "plug it in")
        return model.open_model(name, options, labels, score)

    monkeypatch.setattr("edge.lineup.open_model", open_model)
    config = config_of(bundle, preprocess="gpu")
    lineup = open_lineup(config)
    pipeline = Pipeline(MemorySource([np.zeros((8, 8, 3), np.uint8)]), lineup, [], config)
    assert top_score(pipeline.step()) == 0.6
    lineup.close()


def test_a_target_that_is_opened_later_and_cannot_be_used_ends_no_run(bundle, monkeypatch):
    """As TensorRT that is back, with preprocess = "gpu" and without NVRTC."""
    refusals, opened = [1], []

    def open_model(name, options, labels, score):
        if options.target == "first" and refusals and refusals.pop():
            raise AcceleratorError("there is no GPU 0", "plug it in")
        opened.append(model.open_model(name, options, labels, score))
        return opened[-1]

    monkeypatch.setattr("edge.lineup.open_model", open_model)
    config = config_of(bundle, preprocess="gpu", retry_s=0.01)
    lineup = open_lineup(config)
    pipeline = Pipeline(MemorySource([np.zeros((8, 8, 3), np.uint8)], frames=10_000), lineup, [], config)
    until = time.monotonic() + 10
    while "cannot fill its input on the GPU" not in pipeline.lineup.reason:
        assert top_score(pipeline.step()) == 0.6
        assert time.monotonic() < until, "it was never opened"
        time.sleep(0.005)
    assert top_score(pipeline.step()) == 0.6
    lineup.close()
    assert not [one for one in opened if len(one.engine.inputs)], "it was not closed"


def test_a_run_goes_on_while_the_only_engine_is_lost(bundle, monkeypatch, tmp_path):
    config = config_of(bundle, fallback=[])
    config.source, config.publish = "synthetic://?fps=200", [f"file://{tmp_path}/out.jsonl?format=json"]
    lost = iter([""] * 5 + ["restarting"] * 3)
    monkeypatch.setattr(NullEngine, "lost", property(lambda self: next(lost, "")))
    run(config, frames=12)
    lines = (tmp_path / "out.jsonl").read_text().splitlines()
    assert sum('"classification"' in line for line in lines) == 12
    assert any("degraded: first: restarting" in line for line in lines)


def test_another_lineup_takes_over_between_two_frames(make, bundle):
    pipeline, publisher, _ = make()
    assert top_score(pipeline.step()) == 0.5
    other = open_lineup(config_of(bundle, target="third", fallback=[]))
    kept = []
    pipeline.ask(lambda asked: kept.append(asked.use(other)))
    assert not kept  # the thread that runs the frames does it
    pipeline.do_asked()
    message = pipeline.step()
    assert (message.seq, top_score(message)) == (1, 0.7)
    assert kept[0].members[0].target == "first"
    assert kept[0].members[0].model is not None
    assert [m.kind for m in publisher.messages if m.kind in ("hello", "classification")][-2:] == [
        "hello",
        "classification",
    ]
    other.close()


def test_a_lineup_that_does_not_fit_the_configuration_changes_nothing(catalogue, bundle):
    config = RunConfig(model="face", tracking=TrackingSection())
    lineup = open_lineup(config)
    picture = cv2.imread(str(next(catalogue("astronaut").glob("*.png"))))
    pipeline = Pipeline(MemorySource([picture]), lineup, [], config)
    pipeline.step()
    assert pipeline.step().detections  # a track needs two frames
    other = open_lineup(config_of(bundle))
    with pytest.raises(ConfigError, match="finds no boxes to track"):
        pipeline.use(other)
    pipeline.step()
    assert pipeline.step().detections
    other.close()
    lineup.close()


def test_a_servers_token_is_told_to_nobody(bundle, monkeypatch, caplog):
    def refuse(name, options, labels, score):
        if "://" in (options.target or ""):
            raise EngineLostError("the server does not answer", "look at it")
        return model.open_model(name, options, labels, score)

    monkeypatch.setattr("edge.lineup.open_model", refuse)
    config = config_of(bundle, target="kserve+http://127.0.0.1:1/m?token=secret1", fallback=["first"])
    lineup = open_lineup(config)
    publisher = MemoryPublisher()
    pipeline = Pipeline(MemorySource([np.zeros((8, 8, 3), np.uint8)]), lineup, [publisher], config)
    pipeline.step()
    assert "the server does not answer" in statuses(publisher)[0]
    assert not any("secret1" in repr(message) for message in publisher.messages)
    assert "cannot run now" in caplog.text
    assert "secret1" not in caplog.text
    lineup.close()


def test_a_fallback_that_runs_already_is_not_opened_again(bundle):
    lineup = open_lineup(config_of(bundle, target=None, fallback=["first", "second"]))
    assert [member.model.target for member in lineup.members] == ["first", "second"]
    lineup.close()
