"""What tracking, bearings, ranges and regions cost together, behind a real engine, in one run with the same step bare.

Two pipelines take the same frames in turn through the same engine: one with all of them on, one with none. What a step
takes beside its engine's run is compared, so that what is on the wire for them, too, is in the figure. The 20 objects
are those of a made-up scene, put where the model's own detections would stand.
"""

import os
import time
from collections.abc import Callable

import numpy as np

from benchmarks.geometry import CAMERA, LABELS, REGIONS
from benchmarks.tracking_scenes import SIZE_WH, Scene, Shot, make
from edge import catalogue
from edge.config import EngineSection, RunConfig, TrackingSection
from edge.detections import Detections
from edge.geometry.locator import Locator
from edge.geometry.regions import Regions
from edge.geometry_config import GeometrySection, ObjectSize
from edge.model import Model, open_model
from edge.pipeline import Pipeline
from edge.testing import MemoryPublisher, MemorySource
from edge.timings import Stage
from edge.tracking.bytetrack import ByteTracker

__all__ = ["measure"]

OBJECTS, WARM_UP, CAPACITY = 20, 50, 100
TARGET_MS = 0.3
SIZES = {"person": ObjectSize(height_m=1.7)}


def measure() -> bool:
    """Measure the parts alone and behind each engine there is; return whether the sum behind an engine is on target."""
    shots = make(Scene("robot", objects=OBJECTS, seconds=20, classes=2), seed=7)
    alone = _alone(shots)
    print(f"\n{OBJECTS} objects, {len(shots)} frames, medians in ms")
    print("parts alone, in turn:        " + "  ".join(f"{name} {ms:.3f}" for name, ms in alone.items()))
    print(f"sum of the parts, alone:     {sum(alone.values()):.3f}")
    catalogue.pull("face")
    names = {"face": "face"}
    if shared := os.environ.get("HARRIER_SHARED"):
        names["YOLOX-Nano 416"] = f"{shared}/models/yolox_nano.onnx"
    kept = [_behind(title, name, shots) for title, name in names.items()]
    return all(kept)


def _parts() -> tuple[ByteTracker, Locator, Regions]:
    tracker = ByteTracker(TrackingSection(high_score=0.5), CAPACITY)
    return tracker, Locator(CAMERA, GeometrySection(sizes=SIZES), LABELS, CAPACITY), Regions(REGIONS, LABELS)


def _alone(shots: list[Shot]) -> dict[str, float]:
    """The calls of the pipeline, one frame after the other, without an engine between."""
    tracker, locator, regions = _parts()
    found, into = Detections(CAPACITY), Detections(CAPACITY, moving=True)
    spent: dict[str, list[float]] = {"include": [], "track": [], "events": [], "locate": []}

    def timed(name: str, call: Callable[[], object]) -> None:
        begin = time.perf_counter()
        call()
        spent[name].append((time.perf_counter() - begin) * 1e3)

    for shot in shots:
        _fill(found, shot)
        timed("include", lambda: regions.kept(found, SIZE_WH))
        timed("track", lambda: tracker.update(found, into, shot.t_ns))  # noqa: B023 - called at once
        timed("events", lambda: regions.events(into, SIZE_WH, shot.t_ns))  # noqa: B023
        timed("locate", lambda: locator.locate(into, SIZE_WH))
    return {name: float(np.median(times[WARM_UP:])) for name, times in spent.items()}


def _fill(found: Detections, shot: Shot) -> None:
    n = found.count = len(shot.scores)
    found.xyxy[:n], found.scores[:n], found.class_ids[:n] = shot.xyxy, shot.scores, shot.class_ids


class _Scripted(Pipeline):
    """A pipeline that sees what the scene shows, whatever its model says."""

    shots: list[Shot]

    def _select(self, result: Detections, *_: object) -> None:
        _fill(result, self.shots[self.timings.count % len(self.shots)])


def _pipeline(model: Model, shots: list[Shot], config: RunConfig) -> _Scripted:
    image = np.full((SIZE_WH[1], SIZE_WH[0], 3), 127, np.uint8)
    pipeline = _Scripted(MemorySource([image]), model, [MemoryPublisher()], config)
    pipeline.shots = shots
    return pipeline


def _behind(title: str, name: str, shots: list[Shot]) -> bool:
    model = open_model(name, EngineSection())
    bare = _pipeline(model, shots, RunConfig())
    full = _pipeline(model, shots, RunConfig(tracking=TrackingSection(high_score=0.5)))
    _, full._locator, full._regions = _parts()
    for _ in shots:
        bare.step()
        full.step()
    model.close()
    both = [pipeline.timings for pipeline in (bare, full)]
    laps = [timings.stages_ns[WARM_UP:] / 1e6 for timings in both]
    rest = [np.median(t.wall_ns[WARM_UP:] / 1e6 - lap[:, Stage.INFER]) for t, lap in zip(both, laps, strict=True)]
    more = {stage: np.median(laps[1][:, stage]) - np.median(laps[0][:, stage]) for stage in _SHOWN}
    cost, infer_ms = float(rest[1] - rest[0]), np.median(laps[1][:, Stage.INFER])
    seen = sum(len(message.detections) for message in full.publishers[0].messages if message.kind == "detections")
    print(f"\nbehind {title} ({infer_ms:.1f} ms a run), {seen / len(shots):.1f} published a frame")
    print("  more than bare, by stage:  " + "  ".join(f"{stage.name.lower()} {ms:.3f}" for stage, ms in more.items()))
    print(f"  all of it:                 {cost:.3f}, target {TARGET_MS}: {'kept' if cost < TARGET_MS else 'MISSED'}")
    return cost < TARGET_MS


_SHOWN = (Stage.NMS, Stage.TRACK, Stage.LOCATE, Stage.PUBLISH)
