"""What an engine costs more in a process of its own: `run()` of a worker minus `run()` here, in turn, in one run."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from edge import catalogue
from edge.clock import monotonic_ns
from edge.config import EngineSection
from edge.engines.base import Engine
from edge.engines.worker import WorkerEngine
from edge.engines.worker_memory import TensorMemory
from edge.targets import load_engine

WARM_UP, SECONDS = 20, 6.0
TARGET_US = 150.0
NULL_FILE = """
[[inputs]]
name = "image"
shape = [1, 416, 416, 3]
dtype = "uint8"
[[outputs]]
name = "scores"
shape = [1, 10]
"""


def measure() -> bool:
    """Measure each model there is; return whether the round trip kept its target for all."""
    kept = []
    print(f"us, in turn for {SECONDS:g} s each, after refilling the input")
    print(f"{'':28}{'in process':>20}{'worker':>20}{'worker - in process':>22}{'of it: finite?':>16}")
    print(f"{'':28}{'p50':>10}{'p99':>10}{'p50':>10}{'p99':>10}{'p50':>11}{'p99':>11}{'p50':>16}")
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "model.null").write_text(NULL_FILE)
        for title, file in _models(Path(folder)):
            kept.append(_compare(title, file))
    print(f"target: p50 of the difference under {TARGET_US:g} us")
    return all(kept)


def _models(folder: Path) -> list[tuple[str, Path]]:
    models = [("null", folder / "model.null")]
    models.append(("face 128, LiteRT", catalogue.pull("face") / catalogue.entries()["face"].file))
    shared = os.environ.get("HARRIER_SHARED")
    if shared:
        models.append(("MobileNet v2 int8, LiteRT", Path(shared) / "models/mobilenet_v2_1.0_224_quant.tflite"))
        models.append(("YOLOX-Nano, ONNX Runtime", Path(shared) / "models/yolox_nano.onnx"))
    else:
        print("HARRIER_SHARED is not set: MobileNet and YOLOX-Nano are not measured")
    return models


def _compare(title: str, file: Path) -> bool:
    options = EngineSection(deadline_ms=20_000)
    engines = load_engine(file, options), WorkerEngine(file, options)
    random = np.random.default_rng(0)
    frames = [random.uniform(0, 100, spec.shape).astype(spec.dtype) for spec in engines[0].input_specs]
    outputs = TensorMemory()  # the same check on the same numbers
    outputs.lay_out([], [[spec.name, spec.shape, spec.dtype] for spec in engines[0].output_specs], [])
    times_ns: list[list[int]] = [[], [], []]
    end_ns = monotonic_ns() + int(SECONDS * 1e9)
    while monotonic_ns() < end_ns or len(times_ns[0]) < 2 * WARM_UP:
        for engine, into in zip(engines, times_ns, strict=False):
            into.append(_timed(engine, frames))
        for mine, theirs in zip(outputs.outputs, engines[1].outputs, strict=True):
            np.copyto(mine, theirs)
        times_ns[2].append(_time(outputs.not_finite))
    for mine, theirs in zip(engines[0].outputs, engines[1].outputs, strict=True):
        assert np.array_equal(mine, theirs), "the worker computes something else"
    for engine in engines:
        engine.close()
    outputs.close()
    here, there, check = (np.array(times[WARM_UP:]) / 1e3 for times in times_ns)
    columns = [np.percentile(column, part) for column in (here, there, there - here) for part in (50, 99)]
    widths = (10, 10, 10, 10, 11, 11)
    figures = "".join(f"{value:{width}.0f}" for value, width in zip(columns, widths, strict=True))
    kept = bool(columns[4] < TARGET_US)
    print(f"{title:28}{figures}{np.median(check):16.0f}  {'kept' if kept else 'MISSED'}")
    return kept


def _timed(engine: Engine, frames: list[np.ndarray]) -> int:
    for array, frame in zip(engine.inputs, frames, strict=True):
        np.copyto(array, frame)
    return _time(engine.run)


def _time(work: Callable[[], object]) -> int:
    began_ns = monotonic_ns()
    work()
    return monotonic_ns() - began_ns
