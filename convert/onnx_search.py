"""Which ranges and which layers in float make a Q/DQ ONNX as faithful as wanted: chosen by measurement, per model."""

from collections.abc import Sequence
from dataclasses import dataclass
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

__all__ = ["OBSERVERS", "OnnxChoice", "search_onnx"]

OBSERVERS = ("min-max", "mse", "percentile:99.9", "percentile:99.99", "percentile:99.999")
"""Every one is the best for some model."""

_SET_ASIDE = 8  # the noisiest layers, which would hide what an observer does to all others


@dataclass(frozen=True, slots=True)
class OnnxChoice:
    """What was chosen: ranges, kept and mean_errors are what `quantize_onnx` takes.

    frontier: see `convert.search`; a latency there is the percentage of multiplications in float.
    observers: the fidelity of each, with and without corrected biases, the eight noisiest layers being in float.
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
    measured: dict[str, float] = {}
    tried: dict[str, _Trial] = {}
    for observer in observers:
        ranges = ranges_from(histograms, observer, bits=8, symmetric=True)
        noise = layer_noise(source, ranges, inputs, scratch)
        errors = {name: one.mean_error for name, one in noise.items() if one.mean_error is not None}
        for corrected in (errors, {}):
            trial = _Trial(ranges, list(noise), corrected)
            quantize_onnx(source, candidate, ranges, frozenset(trial.layers[:_SET_ASIDE]), corrected)
            name = f"{observer}, biases corrected" if corrected else observer
            tried[name], measured[name] = trial, fidelity.measure(candidate, target)
    best = tried[max(measured, key=lambda name: measured[name])]
    costs = layer_costs(source)
    percentage = 0.0

    def build(kept: frozenset[str]) -> Path:
        nonlocal percentage
        percentage = 100 * sum(costs[name] for name in kept)
        quantize_onnx(source, candidate, best.ranges, kept, best.mean_errors)
        return candidate

    frontier = search(
        best.layers,
        build,
        lambda file: fidelity.measure(file, target),
        lambda _: percentage,
        goal,
        budget_s,
        scratch / "onnx-search.json",
        sha256(msgspec.json.encode([best.ranges, {k: v.tolist() for k, v in best.mean_errors.items()}])).hexdigest(),
    )
    candidate.unlink(missing_ok=True)
    kept = next(c.kept for c in frontier if c.chosen)
    return OnnxChoice(best.ranges, kept, best.mean_errors, frontier, measured)
