"""YOLOX-Nano as TensorFlow Lite at every precision: mAP on coco-val80 and time beside float. About ten minutes.

Ranges, equalization, biases and the layers in float are chosen on halves of coco-calib80; coco-val80 is only reported.
"""

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import msgspec
import numpy as np

from calibration.preprocessed import tensors
from convert.fidelity import Fidelity, compare_latency
from convert.float_model import FLOAT_TFLITE, FloatModel, add_target
from convert.load import LoadOptions, load
from convert.quantize_tflite import layer_names, quantize_tflite
from convert.search import search
from convert.tflite_choose import Choice, choose_ranges
from edge.config import EngineSection, Thresholds
from edge.evaluation.dataset_reader import read_dataset
from edge.evaluation.evaluate import evaluate
from edge.evaluation.runner import RunSettings
from edge.model import load_engine

GOAL, SEARCH_S = 0.92, 240.0
THREADS = (1, 2)
MOST_DROP = {"fp16": 0.003, "dynamic": 0.003, "int8": 0.0567, "mixed": 0.012}  # mAP; int8: to 0.25
MOST_TIME = 1.15  # of the mixed file, times that of the all-int8 one


def measure() -> bool:
    """Print the table; return whether every target was kept."""
    shared = os.environ.get("HARRIER_SHARED")
    if not shared:
        print("HARRIER_SHARED is not set: quantization is not measured")
        return True
    root = Path(shared)
    with tempfile.TemporaryDirectory(prefix="harrier-bench-") as name:
        folder = Path(name)
        pictures = [s.path for s in read_dataset(root / "data/coco-calib80/instances.json", None, None).samples]
        options = LoadOptions(pictures=pictures[:4], want_tflite=True)
        model = load(str(root / "models/yolox_nano.onnx"), folder / "bundle", options)
        choice = _choose(model, pictures, folder)
        source = _float(model)
        for precision in ("fp16", "dynamic"):
            model = _add(model, precision, lambda file, p=precision: quantize_tflite(source, file, p, None))
        model = _add(model, "int8", lambda file: _integer(choice, file, frozenset()))
        kept = _search(model, choice, pictures[1::2], folder)
        model = _add(model, "mixed", lambda file: _integer(choice, file, kept))
        return _report(model, root / "data/coco-val80/instances.json")


def _float(model: FloatModel) -> Path:
    file = model.file(FLOAT_TFLITE)
    assert file is not None
    return file


def _integer(choice: Choice, file: Path, kept: frozenset[str]) -> None:
    quantize_tflite(choice.source, file, "int8", choice.ranges, kept, choice.shifts)


def _add(model: FloatModel, name: str, write: Callable[[Path], None]) -> FloatModel:
    file = model.folder / f"{name}.tflite"
    write(file)
    entry = msgspec.structs.replace(model.manifest.targets[FLOAT_TFLITE], file=file.name)
    return add_target(model, f"tflite-{name}", entry)


def _choose(model: FloatModel, pictures: list[Path], folder: Path) -> Choice:
    engine = load_engine(_float(model), EngineSection(threads=2))
    spec = engine.input_specs[0]
    engine.close()
    fidelity = Fidelity(model, pictures[1::2], FLOAT_TFLITE, threads=2)
    target = model.manifest.targets[FLOAT_TFLITE]

    def inputs(chosen: list[Path]) -> Iterator[np.ndarray]:
        return tensors((cv2.imread(str(path)) for path in chosen), model.manifest.input, spec)

    halves = (lambda: inputs(pictures[0::2])), (lambda: inputs(pictures[1::2]))
    choice = choose_ranges(_float(model), halves, lambda file: fidelity.measure(file, target), folder)
    for trial in choice.trials:
        print(f"  {trial.observer:24} {trial.equalized} equalized, {trial.corrected=}: {trial.fidelity:.3f}")
    return choice


def _search(model: FloatModel, choice: Choice, pictures: list[Path], folder: Path) -> frozenset[str]:
    fidelity = Fidelity(model, pictures, FLOAT_TFLITE, threads=2)
    target, integer, file = model.manifest.targets[FLOAT_TFLITE], model.folder / "int8.tflite", folder / "trial.tflite"

    def build(kept: frozenset[str]) -> Path:
        _integer(choice, file, kept)
        return file

    def time_ms(file: Path) -> float:
        """Beside the all-int8 file: what else the machine does falls on both."""
        whole, mixed = compare_latency([integer, file], 2)
        return mixed / whole

    found = search(
        layer_names(choice.source),
        build,
        lambda made: fidelity.measure(made, target),
        time_ms,
        GOAL,
        SEARCH_S,
        folder / "search.json",
    )
    for one in found:
        print(f"  {len(one.kept)} layers in float: fidelity {one.fidelity:.3f}, {one.latency_ms:.2f} x the int8 time")
    return next(one.kept for one in found if one.chosen)


def _report(model: FloatModel, annotations: Path) -> bool:
    names = [name for name in model.manifest.targets if name.startswith("tflite")]
    files = [model.folder / model.manifest.targets[name].file for name in names]
    times = {threads: dict(zip(names, compare_latency(files, threads, 40), strict=True)) for threads in THREADS}
    dataset, thresholds = read_dataset(annotations, None, None), Thresholds(max_candidates=10_000, iou=0.65)
    found, kept = {}, []
    print(f"\n{'target':<16}{'mAP':>8}{'95 %':>18}{'drop':>9}{'MB':>7}{'t1 ms':>8}{'t2 ms':>8}")
    for name, file in zip(names, files, strict=True):
        settings = RunSettings(str(model.folder), name, thresholds=thresholds, threads=2)
        figure = evaluate(dataset, [settings], None, 200).report["models"][0]["figures"]["map"]
        found[name] = figure["value"]
        drop, limit = found[FLOAT_TFLITE] - found[name], MOST_DROP.get(name.removeprefix("tflite-"))
        within = limit is None or drop <= limit
        kept.append(within)
        interval = f"{figure['low']:.3f} to {figure['high']:.3f}"
        timed = "".join(f"{times[threads][name]:>8.2f}" for threads in THREADS)
        size = file.stat().st_size / 1e6
        verdict = "" if within else f"  MISSED: {limit}"
        print(f"{name:<16}{found[name]:>8.4f}{interval:>18}{drop:>9.4f}{size:>7.2f}{timed}{verdict}")
    shares = [times[threads]["tflite-mixed"] / times[threads]["tflite-int8"] for threads in THREADS]
    print("mixed beside int8: " + ", ".join(f"{share:.2f}" for share in shares) + f" x the time, target {MOST_TIME}")
    return all(kept) and max(shares) <= MOST_TIME
