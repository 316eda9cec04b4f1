"""A campaign of faults on an engine in a worker: every message is of its own frame, and the loop goes on."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from edge.config import EngineSection, RunConfig
from edge.lineup import open_lineup
from edge.pipeline import Pipeline
from edge.testing import MemoryPublisher, MemorySource
from edge.wire.messages import ClassificationMessage

FAULTS = ["none", "hang", "exit", "abort", "nan", "shape", "late", "leak", "error", "gone", "defect"]
FRAMES, BASE, DEADLINE_S = 400, 97, 0.25
ENGINE = """
import os, time
import numpy as np
from edge.errors import EngineError, EngineLostError
from edge.tensor import TensorSpec

class Numbered:
    # blue and green say the frame's number, red what shall go wrong; the answer is the number
    lost, embedded = "", {}

    def __init__(self, path, options):
        self.goes_wrong = path.stem == "first"
        self.input_specs = [TensorSpec("image", (1, 8, 8, 3), np.dtype("f4"), "NHWC")]
        self.output_specs = [TensorSpec("scores", (1, BASE), np.dtype("f4"))]
        self.inputs = [np.zeros((1, 8, 8, 3), np.float32)]
        self.outputs = [np.zeros((1, BASE), np.float32)]
        self.hoard = []

    def close(self):
        self.inputs, self.outputs = [], []

    def run(self):
        low, high, fault = (int(value) for value in self.inputs[0][0, 3, 3])
        fault = FAULTS[fault] if self.goes_wrong else "none"
        if fault == "hang": time.sleep(600)
        if fault == "exit": os._exit(3)
        if fault == "abort": os.abort()
        if fault == "shape":
            self.outputs[0] = np.zeros((1, 2), np.float32)
            return
        if fault == "leak": self.hoard.append(np.ones(300_000_000, np.uint8))
        if fault == "error": raise EngineError("this frame does not suit it", "give another")
        if fault == "gone": raise EngineLostError("the device fell off the bus", "plug it in")
        if fault == "defect": raise ZeroDivisionError
        if fault == "late": time.sleep(DEADLINE_S * 1.5)
        self.outputs[0][:] = 0
        self.outputs[0][0, low] = np.nan if fault == "nan" else 0.5 + high / 256
"""


def pictures(faults: np.ndarray) -> list[np.ndarray]:
    """A picture a frame, (8, 8, 3) uint8, with its number and its fault, a number of `FAULTS`, in its colours."""
    return [np.full((8, 8, 3), [i % BASE, i // BASE, fault], np.uint8) for i, fault in enumerate(faults)]


def number_in(message: ClassificationMessage) -> int:
    """The frame's number that the engine saw."""
    best = message.classes[0]
    return best.class_id + BASE * round((best.score - 0.5) * 256)


def wait_until(true: Callable[[], bool]) -> bool:
    """Wait until something is so, for a bounded time; returns whether it is."""
    end = time.monotonic() + 60
    while not true() and time.monotonic() < end:
        time.sleep(0.005)
    return true()


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., tuple[Pipeline, MemoryPublisher]]]:
    """Make a pipeline over the engine in a worker, which obeys the pictures, and in process, which does not."""
    words = f"FAULTS, BASE, DEADLINE_S = {FAULTS}, {BASE}, {DEADLINE_S}\n"
    (tmp_path / "numbered_engine.py").write_text(words + ENGINE)
    info = tmp_path / "numbered-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: numbered\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[edge.engines]\nnumbered = numbered_engine:Numbered\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr("edge.engines.worker._MOST_PAUSE_S", 0.1)
    manifest = 'name = "m"\n[input]\nscale = 1.0\nchannel_order = "bgr"\n[decoder]\nfamily = "classification"\n'
    for name in ("first", "second"):
        (tmp_path / f"{name}.numbered").write_text("")
        manifest += f'[targets.{name}]\nfile = "{name}.numbered"\noutputs = {{ scores = "scores" }}\n'
    (tmp_path / "manifest.toml").write_text(manifest)
    opened = []

    def build(faults: np.ndarray, **engine) -> tuple[Pipeline, MemoryPublisher]:
        options = {"deadline_ms": DEADLINE_S * 1e3, "memory_mb": 280, "max_failures": 1000, **engine}
        section = EngineSection(target="first", fallback=["second"], isolate=True, **options)
        config = RunConfig(model=str(tmp_path), engine=section)
        opened.append(open_lineup(config))
        publisher = MemoryPublisher()
        return Pipeline(MemorySource(pictures(faults), len(faults)), opened[-1], [publisher], config), publisher

    yield build
    for lineup in opened:
        lineup.close()


def test_no_message_carries_the_result_of_another_frame(make):
    random = np.random.default_rng(11)
    faults = np.where(random.random(FRAMES) < 0.04, random.integers(1, len(FAULTS), FRAMES), 0)
    faults[: len(FAULTS)] = range(len(FAULTS))
    pipeline, publisher = make(faults)
    engine, done = pipeline.lineup.members[0].model.engine, threading.Event()

    def disturb() -> None:  # from outside, at any moment
        while not done.wait(random.uniform(0.3, 0.9)):
            if pid := engine.pid:
                try:
                    os.kill(pid, random.choice([signal.SIGKILL, signal.SIGSTOP]))
                except ProcessLookupError:
                    pass

    disturber = threading.Thread(target=disturb)
    steps_s = []
    for i in range(FRAMES):
        if i < len(FAULTS):  # each of them surely happens
            assert wait_until(lambda: not engine.lost), engine.lost
        elif i == len(FAULTS):
            disturber.start()
        began = time.monotonic()
        pipeline.step()
        steps_s.append(time.monotonic() - began)
        time.sleep(0.01)
    done.set()
    disturber.join()
    sent = [message for message in publisher.messages if message.kind == "classification"]
    assert [message.seq for message in sent] == list(range(FRAMES)), "a frame was lost"
    assert [number_in(message) for message in sent] == list(range(FRAMES))
    first, second = pipeline.lineup.members
    assert min(first.frames, second.frames) > 10
    for message in sent:
        assert ("fallback" in message.flags) == ("degraded" in message.flags)
    assert sum("fallback" in message.flags for message in sent) == second.frames
    assert max(steps_s) < DEADLINE_S + 1.0, "longer than the deadline and the fallback"
    reasons = " ".join(message.reason for message in publisher.messages if message.kind == "status")
    for said in ("did not answer within 250 ms", "SIGABRT", "exit code 3", "not finite", "gave [1, 2]", "fell off"):
        assert said in reasons


def test_the_loop_keeps_its_rate_on_the_fallback(make):
    faults = np.full(FRAMES, FAULTS.index("hang"))
    pipeline, publisher = make(faults, max_failures=2, retry_s=2.0)
    began = time.monotonic()
    for i in range(FRAMES):  # 100 a second
        pipeline.step()
        time.sleep(max(0.0, began + (i + 1) * 0.01 - time.monotonic()))
    elapsed_s = time.monotonic() - began
    sent = [message for message in publisher.messages if message.kind == "classification"]
    assert [number_in(message) for message in sent] == list(range(FRAMES))
    assert pipeline.lineup.members[0].frames == 0
    assert 2 <= pipeline.lineup.members[0].failures <= 4
    assert elapsed_s < FRAMES * 0.01 + 4 * DEADLINE_S + 1.0, "the hanging engine took the loop's time"
