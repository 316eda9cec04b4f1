"""A run with a live page, in threads of this process: a detector that computes nothing and sees what a test says."""

import http.client
import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from edge.config import EngineSection, RunConfig, WebSection
from edge.errors import SourceTimeoutError
from edge.health import Health
from edge.lineup import open_lineup
from edge.pipeline import Pipeline
from edge.registry import resolve
from edge.stage_watch import StageWatch
from edge.testing import MemoryPublisher, MemorySource
from edge.throttle_watch import ThrottleWatch
from edge.updates import Updater

WITHIN_S = 10.0
ROWS = 8
NULL = """
[[inputs]]
name = "image"
shape = [1, 64, 64, 3]
layout = "NHWC"
[[outputs]]
name = "boxes"
shape = [1, 8, 4]
[[outputs]]
name = "scores"
shape = [1, 8, 2]
"""
TARGET = '[targets.{0}]\nfile = "{0}.null"\noutputs = {{ boxes = "boxes", scores = "scores" }}\n'


def detector(folder: Path, *targets: str) -> Path:
    """A bundle of a detector for cats and dogs."""
    folder.mkdir()
    for name in targets:
        (folder / f"{name}.null").write_text(NULL)
    (folder / "manifest.toml").write_text(
        'name = "pets"\nlabels = ["cat", "dog"]\n' + "".join(TARGET.format(name) for name in targets) + "[input]\n"
        '[decoder]\nfamily = "yolo"\nscore_threshold = 0.5\niou_threshold = 0.4\n'
    )
    return folder


def see(pipeline: Pipeline, *found: tuple[float, float, float]) -> None:
    """Let the model see squares of 10 px at (x, y) of its input with these scores, all cats."""
    boxes, scores = pipeline.model.engine.outputs
    boxes[...], scores[...] = 0, 0
    for row, (x, y, score) in enumerate(found):
        boxes[0, row], scores[0, row, 0] = (x, y, 10, 10), score


class LiveRun:
    """A pipeline that steps in a thread, with its page; a context manager."""

    def __init__(self, folder: Path, web: WebSection | None = None, period_s: float = 0.01, **config: Any) -> None:
        bundle = detector(folder / "pets", "first", "second")
        section = web or WebSection(listen="127.0.0.1:0")
        engine = EngineSection(target="first")
        self.config = RunConfig(model=str(bundle), source="memory://", engine=engine, web=section, **config)
        self.publisher = MemoryPublisher()
        source = MemorySource([np.full((128, 256, 3), 90, np.uint8)])
        self.pipeline = Pipeline(source, open_lineup(self.config), [self.publisher], self.config)
        see(self.pipeline, (32, 32, 0.9), (12, 32, 0.6))
        self.pipeline.state = "streaming"
        self.frames = True
        self.trouble: Exception | None = None
        self._stages = StageWatch(self.pipeline.timings)
        health = Health(self.pipeline, ThrottleWatch(), self._stages)
        self.updater = Updater(self.pipeline, health, self.config)
        self.page = resolve("pages", "live")(section, self.pipeline, health, self.updater)
        self._open = True
        self._period_s, self._stop = period_s, threading.Event()
        self._thread = threading.Thread(target=self._turn)

    def __enter__(self) -> "LiveRun":
        self.updater.__enter__()
        self.page.__enter__()
        self._thread.start()
        until(lambda: self.pipeline.timings.count, "no result came")
        return self

    def end_page(self) -> None:
        """As if the process had ended, as far as a browser can see."""
        if self._open:
            self._open = False
            self.page.__exit__()

    def __exit__(self, *exc: object) -> None:
        self.end_page()
        self._stop.set()
        self._thread.join(WITHIN_S)
        self.updater.__exit__()
        self.pipeline.lineup.close()
        if self.trouble:
            raise self.trouble
        assert not self.page.failure

    @property
    def port(self) -> int:
        """Where the page is."""
        return int(self.page.address.rpartition(":")[2])

    def ask(self, path: str, body: object = None, method: str = "", **headers: str) -> tuple[int, Any]:
        """What is answered: status, and the JSON, or the text of anything else; header_names with underscores."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if body is not None:
            named = {"Content-Type": "application/json", "X-Harrier": "1", **named}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=WITHIN_S)
        try:
            data = None if body is None else json.dumps(body)
            connection.request(method or ("GET" if body is None else "POST"), path, data, named)
            answer = connection.getresponse()
            text = answer.read()
        finally:
            connection.close()
        kind = answer.getheader("Content-Type") or ""
        return answer.status, json.loads(text) if kind.startswith("application/json") else text

    def _turn(self) -> None:
        paused = False
        while not self._stop.wait(self._period_s):
            pipeline = self.pipeline
            try:
                pipeline.do_asked()
                command, self.page.command = self.page.command, ""
                if command:  # as harrier run does it
                    paused = command == "stop"
                    pipeline.state = "paused" if paused else "streaming"
                if self.frames and not paused:
                    pipeline.step()
            except SourceTimeoutError:
                pass
            except Exception as exc:
                self.trouble = exc
                return


def until(condition: Callable[[], object], what: str) -> None:
    """Wait for it."""
    deadline = time.monotonic() + WITHIN_S
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)
