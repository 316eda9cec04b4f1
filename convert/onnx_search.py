"""Which ranges and which layers in float make a Q/DQ ONNX as faithful as wanted: chosen by measurement, per model."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

import msgspec
import numpy as np

from calibration.collected import Histograms, ranges_from
from calibration.ranges import Ranges
from convert.fidelity import Fidelity
from convert.float_model import FLOAT_ONNX, FloatModel
from convert.layer_noise import layer_noise
from convert.quantize_onnx import layer_costs, quantize_onnx
from convert.search import Candidate, search
from edge.errors import ManifestError

__all__ = ["OBSERVERS", "OnnxChoice", "refitted", "search_onnx"]

OBSERVERS = ("min-max", "mse", "percentile:99.9", "percentile:99.99", "percentile:99.999")
"""Every one is the best for some model."""

_SET_ASIDE = 8  # the noisiest layers, which would hide what an observer does to all others


@dataclass(frozen=True, slots=True)
class OnnxChoice:
    """What was chosen: ranges, kept and mean_errors are what `quantize_onnx` takes.

    frontier: see `convert.search`; a latency there is the percentage of multiplications in float.
    observers: the fidelity of each, with and without corrected biases, the eight noisiest layers being in float where
    there is a goal.
    """

    ranges: Ranges
    kept: frozenset[str]
    mean_errors: dict[str, np.ndarray]
    frontier: list[Candidate]
    observers: dict[str, float]


@dataclass(frozen=True, slots=True)
class _Trial:
    """Ranges, the layers by falling noise, and the errors taken off their biases ({}: none)."""

    ranges: Ranges
    layers: list[str]
    mean_errors: dict[str, np.ndarray]

    @property
    def key(self) -> str:
        errors = {name: values.tolist() for name, values in self.mean_errors.items()}
        return sha256(msgspec.json.encode([self.ranges, errors])).hexdigest()


def search_onnx(
    model: FloatModel,
    histograms: Histograms,
    inputs: Sequence[np.ndarray],
    fidelity: Fidelity,
    goal: float,
    budget_s: float,
    scratch: Path,
    observers: Sequence[str] = OBSERVERS,
) -> OnnxChoice:
    """Return the ranges and the layers to keep in float that reach the goal with the fewest float multiplications.

    Time is not measured: Q/DQ is slower than float on a CPU, where it does not belong. histograms: of the model's
    float ONNX. inputs: a few of the calibration's tensors. fidelity: on pictures that the histograms have not seen.
    goal: the fidelity wanted, in [0, 1]; when nothing reaches it within budget_s, the most faithful is chosen.
    scratch: a folder of its own, where an interrupted search goes on.
    Raises: ManifestError when there is no float ONNX, EngineError when a candidate cannot run, ConfigError.
    """
    source = model.file(FLOAT_ONNX)
    if source is None:
        raise ManifestError(f"{model.manifest.name} has no target '{FLOAT_ONNX}'", "convert it to ONNX first")
    target, candidate = model.manifest.targets[FLOAT_ONNX], scratch / "candidate.onnx"

    def measure(file: Path) -> float:
        return fidelity.measure(file, target)

    aside = _SET_ASIDE if goal > 0 else 0  # without a goal nothing will be kept in float
    tried = _trials(source, histograms, inputs, scratch, observers)
    measured: dict[str, float] = {}
    for name, trial in tried.items():
        quantize_onnx(source, candidate, trial.ranges, frozenset(trial.layers[:aside]), trial.mean_errors)
        measured[name] = measure(candidate)
    best = tried[max(measured, key=lambda name: measured[name])]
    frontier = _search(source, best, candidate, measure, goal, budget_s)
    candidate.unlink(missing_ok=True)
    kept = next(c.kept for c in frontier if c.chosen)
    return OnnxChoice(best.ranges, kept, best.mean_errors, frontier, measured)


def refitted(
    source: Path, choice: OnnxChoice, histograms: Histograms, inputs: Sequence[np.ndarray], scratch: Path
) -> OnnxChoice:
    """Return the choice with ranges and biases measured anew, with the observer and the float layers that were chosen.

    For the half of the pictures that the choice was judged on: once it is made, they too may say what the ranges are.
    source: the float ONNX. histograms, inputs: of all pictures.
    Raises: EngineError when the model cannot run.
    """
    trials = _trials(source, histograms, inputs, scratch, [choice.ranges.observer])
    trial = next(one for one in trials.values() if bool(one.mean_errors) == bool(choice.mean_errors))
    return replace(choice, ranges=trial.ranges, mean_errors=trial.mean_errors)


def _trials(
    source: Path, histograms: Histograms, inputs: Sequence[np.ndarray], scratch: Path, observers: Sequence[str]
) -> dict[str, _Trial]:
    """Each observer with and without corrected biases, by its name."""
    trials = {}
    for observer in observers:
        ranges = ranges_from(histograms, observer, bits=8, symmetric=True)
        noise = layer_noise(source, ranges, inputs, scratch)
        errors = {name: one.mean_error for name, one in noise.items() if one.mean_error is not None}
        trials[f"{observer}, biases corrected"] = _Trial(ranges, list(noise), errors)
        trials[observer] = _Trial(ranges, list(noise), {})
    return trials


def _search(
    source: Path, best: _Trial, candidate: Path, measure: Callable[[Path], float], goal: float, budget_s: float
) -> list[Candidate]:
    costs = layer_costs(source)
    percentage = 0.0

    def build(kept: frozenset[str]) -> Path:
        nonlocal percentage
        percentage = 100 * sum(costs[name] for name in kept)
        quantize_onnx(source, candidate, best.ranges, kept, best.mean_errors)
        return candidate

    state = candidate.with_name("onnx-search.json")
    return search(best.layers, build, measure, lambda _: percentage, goal, budget_s, state, best.key)
