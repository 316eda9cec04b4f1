"""The accuracy gate: every target against the float model, on the same pictures, through the robot's own pipeline."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convert.float_model import FLOAT_ONNX, FLOAT_TFLITE, FloatModel
from edge.config import Thresholds
from edge.evaluation.dataset_reader import read_dataset
from edge.evaluation.datasets import Dataset
from edge.evaluation.evaluate import Evaluation, evaluate
from edge.evaluation.runner import RunSettings

__all__ = ["Verdict", "judge", "open_dataset", "reference_target", "runs_here"]

_RESAMPLES = 500


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

    Raises: ConfigError when it cannot be read.
    """
    return read_dataset(data, images, None)


def reference_target(model: FloatModel) -> str:
    """Return the float target others are compared with: the ONNX file where there is one."""
    return FLOAT_ONNX if FLOAT_ONNX in model.manifest.targets else FLOAT_TFLITE


def runs_here(name: str) -> bool:
    """Return whether this machine can run a target of this name without an accelerator."""
    return name.partition("-")[0] in ("tflite", "onnx")


def judge(
    model: FloatModel, target: str, dataset: Dataset, max_drop: float | None, folder: Path, threads: int
) -> Verdict:
    """Evaluate one target beside the float model; what was already seen of a picture in `folder` is not run again.

    The drop that counts is the measured one; its interval says how far the set can tell.
    Raises: EngineError when the target cannot run, ConfigError for a data set of another kind.
    """
    reference = reference_target(model)
    detector = dataset.kind == "detection"
    thresholds = Thresholds(max_candidates=10_000)
    names = [reference] if target == reference else [reference, target]
    settings = [
        RunSettings(str(model.folder), name, None, 0.001 if detector else 0.0, thresholds, threads) for name in names
    ]
    evaluation = evaluate(dataset, settings, folder, _RESAMPLES)
    metric = "map" if detector else "top1"
    accuracy = evaluation.report["models"][-1]["figures"][metric]
    drop = evaluation.report["comparison"]["drop"] if len(names) == 2 else None
    passed = None if max_drop is None or drop is None else bool(drop["value"] <= max_drop)
    return Verdict(target, metric, accuracy, drop, passed, evaluation)
