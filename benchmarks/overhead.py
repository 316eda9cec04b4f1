"""Wall time of Pipeline.step() beside the engine's own run, on 1280x720 frames, all in one run."""

import os
from pathlib import Path

import cv2
import numpy as np

from edge import catalogue
from edge.config import RunConfig
from edge.model import open_model
from edge.pipeline import Pipeline
from edge.stats import latency_table
from edge.testing import MemoryPublisher, MemorySource
from edge.timings import Stage, StageTimings

WARM_UP, STEPS = 30, 1000
FRAME_WH = (1280, 720)


def measure() -> bool:
    """Measure each model there is; return whether all kept their target."""
    photo = catalogue.pull("astronaut") / catalogue.entries()["astronaut"].file
    image = cv2.resize(cv2.imread(str(photo)), FRAME_WH)
    catalogue.pull("face")
    kept = [_overhead("face", "face", image, target_ms=0.35)]
    shared = os.environ.get("HARRIER_SHARED")
    if shared:
        kept.append(_overhead("YOLOX-Nano 416", f"{shared}/models/yolox_nano.onnx", _scene(shared), target_ms=0.8))
    else:
        print("HARRIER_SHARED is not set: YOLOX-Nano is not measured")
    return all(kept)


def _scene(shared: str) -> np.ndarray:
    return cv2.resize(cv2.imread(str(Path(shared) / "data/images/pets.jpg")), FRAME_WH)


def _overhead(title: str, model_name: str, image: np.ndarray, target_ms: float) -> bool:
    config = RunConfig()
    model = open_model(model_name, config.engine)
    pipeline = Pipeline(MemorySource([image.copy() for _ in range(3)]), model, [MemoryPublisher()], config)
    for _ in range(WARM_UP):
        pipeline.step()
    pipeline.timings = StageTimings()
    for _ in range(STEPS):
        message = pipeline.step()
    wall, stages = pipeline.timings.wall_ns, pipeline.timings.stages_ns
    overhead_ms = (np.median(wall) - np.median(stages[:, Stage.INFER])) / 1e6
    model.close()
    print(f"\n{title}, {FRAME_WH[0]}x{FRAME_WH[1]} frames, {STEPS} steps, {len(message.detections)} found")
    print(latency_table(pipeline.timings))
    verdict = "kept" if overhead_ms < target_ms else "MISSED"
    print(f"overhead (median step - median engine run): {overhead_ms:.3f} ms, target {target_ms} ms: {verdict}")
    return overhead_ms < target_ms
