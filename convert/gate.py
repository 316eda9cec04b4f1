"""The accuracy gate: every target against the float model, on the same pictures, through the robot's own pipeline."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from calibration.pictures import CalibrationSet
from convert.float_model import FLOAT_ONNX, FLOAT_TFLITE, FloatModel
from edge.config import EngineSection, Thresholds
from edge.evaluation.categories import classes_of_categories
from edge.evaluation.dataset_reader import read_dataset
from edge.evaluation.datasets import Dataset, check_pictures
from edge.evaluation.evaluate import Evaluation, evaluate
from edge.evaluation.runner import RunSettings, check_kind
from edge.manifest import sha256_of
from edge.model import open_model

__all__ = ["Verdict", "check_dataset", "judge", "open_dataset", "reference_target", "runs_here", "shared_pictures"]


@dataclass(slots=True)
class Verdict:
    """What the gate says of one target. passed None: nothing was asked (no --max-drop, or the float model itself).

    accuracy and drop have value, low and high (95 %), as `harrier eval` reports them.
    """

    target: str
    metric: str
    accuracy: dict[str, float]
    drop: dict[str, float] | None
    passed: bool | None
    evaluation: Evaluation

    @property
    def facts(self) -> dict[str, Any]:
        """The verdict, ready for JSON."""
        return {"metric": self.metric, "accuracy": self.accuracy, "drop": self.drop, "passed": self.passed}


def open_dataset(data: Path, images: Path | None) -> Dataset:
    """Return the evaluation set.

    Raises: ConfigError when it cannot be read, or a picture of it is missing or cut short.
    """
    dataset = read_dataset(data, images, None)
    check_pictures(dataset.samples)
    return dataset


def check_dataset(model: FloatModel, dataset: Dataset) -> None:
    """Find out, before anything is quantized, that the data set is for another kind of model or other classes.

    Raises: ConfigError.
    """
    opened = open_model(str(model.folder), EngineSection(target=reference_target(model)))
    try:
        check_kind(opened, dataset)
        classes_of_categories(dataset, opened.labels, opened.decoder.class_count)
    finally:
        opened.close()


def shared_pictures(pictures: CalibrationSet, dataset: Dataset) -> list[str]:
    """Return the names of the evaluation's pictures that are calibrated on, too, as the same file or a copy of it."""
    sizes: dict[int, list[Path]] = {}
    for path in pictures.paths:
        sizes.setdefault(path.stat().st_size, []).append(path)
    shared = []
    for sample in dataset.samples:
        alike = sizes.get(sample.path.stat().st_size, [])
        if alike and sha256_of(sample.path) in [sha256_of(path) for path in alike]:
            shared.append(sample.name)
    return shared


def reference_target(model: FloatModel) -> str:
    """Return the float target others are compared with: the ONNX file where there is one."""
    return FLOAT_ONNX if FLOAT_ONNX in model.manifest.targets else FLOAT_TFLITE


def runs_here(name: str) -> bool:
    """Return whether this machine can run a target of this name without an accelerator."""
    return name.partition("-")[0] in ("tflite", "onnx")


def judge(
    model: FloatModel,
    target: str,
    dataset: Dataset,
    max_drop: float | None,
    folder: Path,
    threads: int,
    reference: Evaluation | None = None,
) -> Verdict:
    """Evaluate one target beside the float model; what was already seen of a picture in `folder` is not run again.

    reference: the float model's own evaluation, None where `target` is the float model.
    The drop that counts is the measured one; its interval says how far the set can tell.
    Raises: EngineError when the target cannot run, ConfigError for a data set of another kind.
    """
    detector = dataset.kind == "detection"
    thresholds = Thresholds(max_candidates=10_000)
    names = [reference_target(model), target] if reference else [target]
    settings = [
        RunSettings(str(model.folder), name, None, 0.001 if detector else 0.0, thresholds, threads) for name in names
    ]
    evaluation = evaluate(dataset, settings, folder, known=reference)  # as often resampled as there
    metric = "map" if detector else "top1"
    accuracy = evaluation.report["models"][-1]["figures"][metric]
    drop = evaluation.report["comparison"]["drop"] if reference else None
    passed = None if max_drop is None or drop is None else bool(drop["value"] <= max_drop)
    return Verdict(target, metric, accuracy, drop, passed, evaluation)
