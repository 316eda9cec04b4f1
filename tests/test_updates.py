"""A model comes into a run that goes on, proves itself or is taken back; a configuration is read again."""

import hashlib
import logging
import os
import shutil
import signal
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest

from edge import slots
from edge.config import EngineSection, RunConfig, UpdateSection, WireSection
from edge.engines.null import NullEngine
from edge.errors import EngineError, SourceTimeoutError
from edge.health import Health
from edge.lineup import open_lineup
from edge.pipeline import Pipeline
from edge.run import run
from edge.stage_watch import StageWatch
from edge.testing import MemoryPublisher, MemorySource
from edge.throttle_watch import ThrottleWatch
from edge.updates import Updater, begin_version

NULL = '[[inputs]]\nname = "x"\nshape = [1, 8, 8, 3]\nlayout = "NHWC"\n[[outputs]]\nname = "s"\nshape = [1, 3]\n'


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("HARRIER_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def bundle(tmp_path):
    """Make a bundle of a classifier that gives this score, for the first class of its labels."""

    def make(fill: float, labels: str = "abc") -> Path:
        folder = tmp_path / f"bundle-{fill}-{labels}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        text = NULL + f"fill = {fill}\n"
        (folder / "m.null").write_text(text)
        digest = hashlib.sha256(text.encode()).hexdigest()
        (folder / "manifest.toml").write_text(
            f'name = "m"\nlabels = {list(labels)}\n[targets.first]\nfile = "m.null"\nsha256 = "{digest}"\n'
            'outputs = { scores = "s" }\n[input]\n[decoder]\nfamily = "classification"\n'
        )
        return folder

    return make


class Run:
    """A pipeline that steps in a thread of its own, with its updater."""

    def __init__(self, **update) -> None:
        settings = {"shadow_frames": 5, "watch_s": 0.3, **update}
        self.config = RunConfig(model="front", source="memory://", update=UpdateSection(**settings))
        begin_version(self.config)
        lineup = open_lineup(self.config)
        self.publisher = MemoryPublisher()
        source = MemorySource([np.zeros((8, 8, 3), np.uint8)], frames=1_000_000)
        self.pipeline = Pipeline(source, lineup, [self.publisher], self.config)
        self.stages = StageWatch(self.pipeline.timings, least_ms=50)
        self.updater = Updater(self.pipeline, Health(self.pipeline, ThrottleWatch(), self.stages), self.config)
        self.ended: EngineError | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._turn)

    def __enter__(self) -> "Run":
        self.stages.__enter__()
        self.updater.__enter__()
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        self._thread.join(10)
        self.updater.__exit__()
        self.stages.__exit__()
        self.pipeline.lineup.close()

    def _turn(self) -> None:
        while not self._stop.wait(0.002):
            self.pipeline.do_asked()
            try:
                self.pipeline.step()
            except SourceTimeoutError:
                pass
            except EngineError as exc:
                if not self.updater.take_back(exc):
                    self.ended = exc
                    return

    @property
    def score(self) -> float:
        """The newest result's best score."""
        results = [m for m in self.publisher.messages[-20:] if m.kind == "classification"]
        return round(results[-1].classes[0].score, 3) if results else 0.0


def until(condition: Callable[[], bool], what: str, seconds: float = 15.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


def test_an_installed_version_takes_over_and_proves_itself(bundle, caplog):
    slots.install("front", bundle(0.4))
    caplog.set_level(logging.INFO, "harrier")
    with Run() as running:
        until(lambda: running.score == 0.4, "the first version never ran")
        second = slots.install("front", bundle(0.5))
        until(lambda: running.score == 0.5, "the second version never took over")
        until(lambda: slots.on_trial("front") is None, "it never proved itself")
        assert slots.current("front") == second
        frames = [m.seq for m in running.publisher.messages if m.kind == "classification"]
        assert frames == list(range(frames[0], frames[0] + len(frames)))  # none was left out at the swap
        assert running.pipeline.model.path == second
    assert "shadow run: on 5 frames it agrees to 100 %" in caplog.text


def test_a_version_that_sees_something_else_is_refused(bundle, caplog):
    first = slots.install("front", bundle(0.4, "abc"))
    with Run(min_agreement=0.5) as running:
        until(lambda: running.score == 0.4, "the first version never ran")
        slots.install("front", bundle(0.5, "xyz"))
        until(lambda: slots.current("front") == first, "it was not taken back")
        assert running.score == 0.4
    assert "on 5 frames it agrees to 0 %" in caplog.text
    assert "asked for are 50 %" in caplog.text


def test_a_version_that_cannot_run_is_refused(bundle, monkeypatch, caplog):
    first = slots.install("front", bundle(0.4))
    real = NullEngine.run

    def run_or_fail(self) -> None:
        if self.outputs[0].max() > 0.45:
            raise EngineError("the second fails", "repair it")
        real(self)

    monkeypatch.setattr(NullEngine, "run", run_or_fail)
    with Run() as running:
        until(lambda: running.score == 0.4, "the first version never ran")
        slots.install("front", bundle(0.5))
        until(lambda: slots.current("front") == first, "it was not taken back")
        assert running.ended is None
    assert "the second fails" in caplog.text


@pytest.mark.parametrize("fault", ["raises", "hangs"])
def test_a_version_that_fails_after_it_took_over_is_taken_back_by_itself(bundle, monkeypatch, fault):
    first = slots.install("front", bundle(0.4))
    sick = threading.Event()
    real = NullEngine.run

    def run_sick(self) -> None:
        if sick.is_set() and self.outputs[0].max() > 0.45:
            if fault == "raises":
                raise EngineError("the second fails", "repair it")
            time.sleep(0.4)
        real(self)

    monkeypatch.setattr(NullEngine, "run", run_sick)
    with Run(watch_s=30) as running:
        until(lambda: running.score == 0.4, "the first version never ran")
        slots.install("front", bundle(0.5))
        until(lambda: running.score == 0.5, "the second version never took over")
        sick.set()
        until(lambda: running.score == 0.4, "the first version did not come back")
        until(lambda: slots.current("front") == first, "the slot was not set back")
        assert running.ended is None
        time.sleep(1.2)  # two looks at the slot
        assert running.score == 0.4  # and it is not tried again


def test_a_run_that_starts_with_a_version_on_trial_goes_back_to_the_one_before(bundle, monkeypatch):
    first = slots.install("front", bundle(0.4))
    slots.install("front", bundle(0.5))
    real = NullEngine.run

    def run_slowly(self) -> None:
        if self.outputs[0].max() > 0.45:
            time.sleep(0.3)
        real(self)

    monkeypatch.setattr(NullEngine, "run", run_slowly)
    with Run(watch_s=30) as running:
        until(lambda: running.score == 0.4, "the first version did not come back")
        until(lambda: slots.current("front") == first, "the first version is not the current one again")


def test_a_version_that_is_installed_while_another_is_on_trial_has_a_trial_of_its_own(bundle):
    slots.install("front", bundle(0.4))
    with Run(watch_s=1.0) as running:
        until(lambda: running.score == 0.4, "the first version never ran")
        slots.install("front", bundle(0.5))
        until(lambda: running.score == 0.5, "the second version never took over")
        third = slots.install("front", bundle(0.6))
        until(lambda: running.score == 0.6, "the third version never took over")
        assert slots.on_trial("front").version == third.name  # what the second has proved is not the third's
        until(lambda: slots.on_trial("front") is None, "it never proved itself")
        assert slots.current("front") == third


def test_a_version_that_fails_does_not_take_a_newer_one_with_it(bundle, monkeypatch):
    slots.install("front", bundle(0.4))
    sick = threading.Event()
    real = NullEngine.run

    def run_sick(self) -> None:
        if sick.is_set() and 0.45 < self.outputs[0].max() < 0.55:
            raise EngineError("the second fails", "repair it")
        real(self)

    monkeypatch.setattr(NullEngine, "run", run_sick)
    with Run(watch_s=30) as running:
        until(lambda: running.score == 0.4, "the first version never ran")
        slots.install("front", bundle(0.5))
        until(lambda: running.score == 0.5, "the second version never took over")
        third = slots.install("front", bundle(0.6))
        sick.set()
        until(lambda: running.score == 0.6, "the third version never took over")
        assert slots.current("front") == third


def test_a_swap_that_was_given_up_does_not_happen_later(bundle, monkeypatch):
    """The loop hangs for longer than anybody waits; by then the candidate is closed."""
    monkeypatch.setattr("edge.updates._SWAP_PATIENCE_S", 0.2)
    first = slots.install("front", bundle(0.4))
    with Run(shadow_frames=0) as running:
        until(lambda: running.score == 0.4, "the first version never ran")
        go_on = threading.Event()
        running.pipeline.ask(lambda _: go_on.wait(10))
        slots.install("front", bundle(0.5))
        until(lambda: slots.current("front") == first, "it was not taken back")
        count = len(running.publisher.messages)
        go_on.set()
        until(lambda: len(running.publisher.messages) > count + 5, "it did not go on")
        assert running.score == 0.4
        assert running.ended is None


def reloaded(running: Run) -> str:
    """What a reload is told."""
    told: list[str] = []
    running.updater.reload(lambda: running.config, told.append)
    until(lambda: bool(told), "nothing was told")
    return told[0]


@pytest.mark.parametrize("began_with", [True, False])
def test_no_configuration_is_read_while_a_version_is_on_trial(bundle, began_with):
    slots.install("front", bundle(0.4))
    if began_with:
        slots.install("front", bundle(0.5))
    with Run(watch_s=30) as running:
        slots.install("front", bundle(0.5))
        until(lambda: running.score == 0.5 and running.updater.on_trial, "the second version was never on trial")
        assert "is on trial" in reloaded(running)
        assert running.updater.on_trial  # still
        running.updater._t_trial_end_s = time.monotonic()
        until(lambda: slots.on_trial("front") is None, "it never proved itself")
        assert reloaded(running) == ""


def test_hangs_that_are_over_before_anybody_looks_take_a_version_back_at_the_third(bundle, monkeypatch, caplog):
    looks: list[int] = []
    report = Health.report
    monkeypatch.setattr(Health, "report", lambda self: looks.append(1) or report(self))
    monkeypatch.setattr("edge.updates._LOOK_S", 0.02)
    first = slots.install("front", bundle(0.4))
    running = Run(watch_s=30)
    running.stages._least_ns = 10**12  # only what is counted here
    running.stages.count = 7  # of the version before
    with running:
        until(lambda: running.score == 0.4, "the first version never ran")
        second = slots.install("front", bundle(0.5))
        until(lambda: running.score == 0.5 and running.updater.on_trial, "the second version was never on trial")
        running.stages.count += 2
        looks.clear()
        until(lambda: len(looks) > 4, "nobody looks")
        assert slots.current("front") == second
        running.stages.count += 1
        until(lambda: running.score == 0.4, "the first version did not come back")
        until(lambda: slots.current("front") == first, "the slot was not set back")
    assert "was taken back (a stage was stuck 3 times)" in caplog.text


def test_a_failure_outside_a_trial_ends_the_run(bundle, monkeypatch):
    slots.install("front", bundle(0.4))
    with Run() as running:
        until(lambda: running.score == 0.4, "the first version never ran")

        def fail(self) -> None:
            raise EngineError("a fault", "repair it")

        monkeypatch.setattr(NullEngine, "run", fail)
        until(lambda: running.ended is not None, "the failure was swallowed")


def config_text(model: Path, publish: Path, extra: str = "") -> str:
    return (
        f'model = "{model}"\nsource = "synthetic://?fps=100&size=64x48"\n'
        f'publish = ["file://{publish}?format=json"]\n{extra}'
    )


@pytest.fixture
def reloading(tmp_path, bundle):
    """Run a configuration in the main thread, and do things to it from another one."""

    def go(steps: Callable[[Path, Callable[[], None]], None], seconds: float = 20) -> str:
        config, out = tmp_path / "run.toml", tmp_path / "out.jsonl"
        config.write_text(config_text(bundle(0.4), out))
        trouble: list[BaseException] = []

        def script() -> None:
            try:
                until(out.exists, "it did not begin")
                steps(config, lambda: os.kill(os.getpid(), signal.SIGHUP))
            except BaseException as exc:
                trouble.append(exc)
            finally:
                os.kill(os.getpid(), signal.SIGTERM)

        from edge.config import read_config

        thread = threading.Thread(target=script)
        thread.start()
        run(read_config(config), seconds=seconds, reread=lambda: read_config(config))
        thread.join()
        if trouble:
            raise trouble[0]
        return out.read_text()

    return go


def test_a_configuration_is_read_again_between_two_frames(reloading, bundle, tmp_path):
    out = tmp_path / "out.jsonl"

    def steps(config: Path, hang_up) -> None:
        until(lambda: '"score":0.4' in out.read_text(), "it did not run")
        config.write_text(config_text(bundle(0.6), out))
        hang_up()
        until(lambda: '"score":0.6' in out.read_text(), "the new model never ran")

    text = reloading(steps)
    assert 1 < text.count('"kind":"status"') < 10


def test_a_wrong_configuration_changes_nothing(reloading, bundle, tmp_path, caplog):
    out = tmp_path / "out.jsonl"

    def steps(config: Path, hang_up) -> None:
        for wrong in ("model = 3\n", config_text(tmp_path / "nothing", out), "not toml"):
            refused = caplog.text.count("update:")
            config.write_text(wrong)
            hang_up()
            until(lambda refused=refused: caplog.text.count("update:") > refused, f"{wrong} was not refused")
        size = out.stat().st_size
        until(lambda: out.stat().st_size > size + 1000, "it stopped")

    assert '"score":0.4' in reloading(steps).splitlines()[-3]


def test_another_source_opens_the_parts_anew(reloading, bundle, tmp_path):
    out, other = tmp_path / "out.jsonl", tmp_path / "other.jsonl"

    def steps(config: Path, hang_up) -> None:
        config.write_text(config_text(bundle(0.4), other))
        hang_up()
        until(lambda: other.exists() and '"score":0.4' in other.read_text(), "it did not go on")

    reloading(steps)
    assert '"closed"' in out.read_text()


@pytest.mark.parametrize(
    "wrong",
    [
        'source = "nothing://here"',
        'source = "synthetic://?fps=fast"',
        'publish = ["carrier-pigeon://"]',
        'model = "no-such-model"',
        'web = { listen = "0.0.0.0:1" }',
        "[tracking]",
    ],
)
def test_parts_that_are_wrong_are_refused_before_anything_is_closed(reloading, bundle, tmp_path, caplog, wrong):
    out = tmp_path / "out.jsonl"
    given = {"model": f'"{bundle(0.4)}"', "source": '"synthetic://?fps=50"', "publish": f'["file://{out}?format=json"]'}

    def steps(config: Path, hang_up) -> None:
        key, _, value = wrong.partition(" = ")
        keys = {**given, key: value} if value else given  # another source in any case
        config.write_text("".join(f"{key} = {value}\n" for key, value in keys.items()) + ("" if value else wrong))
        hang_up()
        until(lambda: "update:" in caplog.text, f"{wrong} was not refused")
        size = out.stat().st_size
        until(lambda: out.stat().st_size > size + 1000, "it stopped")

    assert reloading(steps).count('"state":"closed"') == 1  # nothing was opened anew


def test_parts_that_cannot_be_opened_leave_the_run_with_those_before(reloading, bundle, tmp_path, caplog):
    out = tmp_path / "out.jsonl"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"tcp://127.0.0.1:{taken.getsockname()[1]}"

        def steps(config: Path, hang_up) -> None:
            right = config.read_text()
            config.write_text(right.replace("publish = [", f'publish = ["{address}", '))
            hang_up()
            until(lambda: "the run goes on with the configuration before" in caplog.text, "it was not refused")
            size = out.stat().st_size
            until(lambda: out.stat().st_size > size + 1000, "it stopped")

        reloading(steps)
    assert "is in use" in caplog.text


def test_a_page_that_cannot_be_opened_anew_is_done_without(reloading, bundle, tmp_path, caplog):
    out = tmp_path / "out.jsonl"
    with socket.create_server(("127.0.0.1", 0)) as taken:

        def steps(config: Path, hang_up) -> None:
            page = f'[web]\nlisten = "127.0.0.1:{taken.getsockname()[1]}"\n'
            config.write_text(config.read_text() + page)
            hang_up()
            until(lambda: "the run goes on without its page" in caplog.text, "it was not told")
            size = out.stat().st_size
            until(lambda: out.stat().st_size > size + 1000, "it stopped")

        reloading(steps)


def test_a_defect_in_reading_again_is_told_and_the_next_time_works(bundle):
    heard: list[str] = []

    def reread() -> RunConfig:
        raise ZeroDivisionError("by hand")

    slots.install("front", bundle(0.4))
    with Run() as running:
        running.updater.reload(reread, heard.append)
        until(lambda: bool(heard), "nothing was told")
        assert heard == ["ZeroDivisionError: by hand"]
        slower = msgspec.structs.replace(running.config, wire=WireSection(ttl_ms=777))
        running.updater.reload(lambda: slower, heard.append)
        until(lambda: len(heard) > 1, "nothing was told")
        assert heard[1:] == [""]
        assert running.pipeline.stream.ttl_ms == 777


def test_a_bundle_is_not_looked_for_as_an_installed_model(bundle):
    config = RunConfig(model=str(bundle(0.4)), engine=EngineSection())
    begin_version(config)  # does nothing
    assert slots.versions("front") == {}
