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
    """What was chosen. frontier: see `convert.search`; a latency there is the percentage of float multiplications.

    observers: the fidelity of each, with the eight noisiest layers in float.
    """

    ranges: Ranges
    kept: frozenset[str]
    frontier: list[Candidate]
    observers: dict[str, float]


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
    tried: dict[str, tuple[Ranges, list[str]]] = {}
    for observer in observers:
        ranges = ranges_from(histograms, observer, bits=8, symmetric=True)
        noise = layer_noise(source, ranges, inputs, scratch)
        tried[observer] = ranges, list(noise)
        quantize_onnx(source, candidate, ranges, frozenset(list(noise)[:_SET_ASIDE]))
        measured[observer] = fidelity.measure(candidate, target)
    ranges, layers = tried[max(measured, key=lambda name: measured[name])]
    costs = layer_costs(source)
    percentage = 0.0

    def build(kept: frozenset[str]) -> Path:
        nonlocal percentage
        percentage = 100 * sum(costs[name] for name in kept)
        quantize_onnx(source, candidate, ranges, kept)
        return candidate

    frontier = search(
        layers,
        build,
        lambda file: fidelity.measure(file, target),
        lambda _: percentage,
        goal,
        budget_s,
        scratch / "onnx-search.json",
        sha256(msgspec.json.encode(ranges)).hexdigest(),
    )
    candidate.unlink(missing_ok=True)
    return OnnxChoice(ranges, next(c.kept for c in frontier if c.chosen), frontier, measured)
