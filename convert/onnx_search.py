"""Which ranges and which layers in float make a Q/DQ ONNX as faithful as wanted: chosen by measurement, per model."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

import msgspec
import numpy as np

from calibration.ranges import Ranges
from convert.layer_noise import layer_noise
from convert.quantize_onnx import layer_costs, quantize_onnx
from convert.search import Candidate, search

__all__ = ["OBSERVERS", "OnnxChoice", "OnnxWay", "choose_onnx", "refitted", "search_onnx"]

OBSERVERS = ("min-max", "moving-average:0.95", "mse", "percentile:99.9", "percentile:99.99", "percentile:99.999")
"""Every one is the best for some model."""

_CORRECTED = 3  # ways whose biases are corrected too

_Measure = Callable[[Path], float]


@dataclass(frozen=True, slots=True)
class OnnxWay:
    """A float file, as it came or equalized, and ranges of it."""

    source: Path
    ranges: Ranges


@dataclass(frozen=True, slots=True)
class OnnxChoice:
    """What was chosen: way and mean_errors are what `quantize_onnx` takes.

    mean_errors: what is taken off the biases, {} where that measured worse. layers: by falling noise of each alone.
    fidelities: of the int8 file in each way, with and without corrected biases.
    """

    way: OnnxWay
    mean_errors: dict[str, np.ndarray]
    layers: list[str]
    fidelities: dict[str, float]


def choose_onnx(
    ways: Mapping[str, OnnxWay],
    inputs: Sequence[np.ndarray],
    measure: _Measure,
    scratch: Path,
    kept: frozenset[str] = frozenset(),
) -> OnnxChoice:
    """Return the way whose int8 file is the most faithful, the biases of the best three being corrected, too.

    ways: by what they are called. inputs: a few of the calibration's tensors. measure: the fidelity of a file, on
    pictures that the ranges are not from. scratch: a folder of its own. kept: layers in float in any case.
    Raises: EngineError when a candidate cannot run, ConfigError for ranges that are missing or the disk.
    """
    file = scratch / "candidate.onnx"
    measured: dict[str, float] = {}
    choices: dict[str, OnnxChoice] = {}
    for name, way in ways.items():
        quantize_onnx(way.source, file, way.ranges, kept)
        measured[name] = measure(file)
    for name in sorted(ways, key=lambda name: -measured[name])[:_CORRECTED]:
        plain, corrected = _both(ways[name], inputs, scratch)
        called = f"{name}, biases corrected"
        quantize_onnx(ways[name].source, file, ways[name].ranges, kept, corrected.mean_errors)
        measured[called] = measure(file)
        choices |= {name: plain, called: corrected}
    file.unlink(missing_ok=True)
    best = max(choices, key=lambda name: measured[name])
    return replace(choices[best], fidelities=measured)


def refitted(choice: OnnxChoice, ranges: Ranges, inputs: Sequence[np.ndarray], scratch: Path) -> OnnxChoice:
    """Return the choice with other ranges, of its own file and observer, and biases for them.

    For the half of the pictures that the choice was judged on: once it is made, they too may say what the ranges are.
    inputs: of all pictures. Raises: EngineError when the model cannot run.
    """
    plain, corrected = _both(replace(choice.way, ranges=ranges), inputs, scratch)
    return replace(corrected if choice.mean_errors else plain, fidelities=choice.fidelities)


def search_onnx(
    choice: OnnxChoice,
    measure: _Measure,
    goal: float,
    budget_s: float,
    scratch: Path,
    kept: frozenset[str] = frozenset(),
) -> list[Candidate]:
    """Return the mixtures that reach the goal with the fewest float multiplications, see `convert.search.search`.

    Time is not measured: Q/DQ is slower than float on a CPU, where it does not belong; a latency is the percentage of
    multiplications in float. goal: the fidelity wanted, in [0, 1]; when nothing reaches it within budget_s, the most
    faithful is chosen. scratch: a folder of its own, where an interrupted search goes on. kept: layers in float in
    any case, of which no mixture says anything.
    Raises: EngineError when a candidate cannot run, ConfigError.
    """
    source, ranges, file = choice.way.source, choice.way.ranges, scratch / "candidate.onnx"
    costs = layer_costs(source)
    percentage = 0.0

    def build(mixture: frozenset[str]) -> Path:
        nonlocal percentage
        percentage = 100 * sum(costs[name] for name in mixture)
        quantize_onnx(source, file, ranges, mixture | kept, choice.mean_errors)
        return file

    errors = {name: values.tolist() for name, values in choice.mean_errors.items()}
    key = sha256(msgspec.json.encode([ranges, errors, sorted(kept)])).hexdigest()
    layers = [name for name in choice.layers if name not in kept]
    state = scratch / "onnx-search.json"
    found = search(
        layers, build, measure, lambda _: percentage, goal, budget_s, state, key, "% of multiplications in float"
    )
    file.unlink(missing_ok=True)
    return found


def _both(way: OnnxWay, inputs: Sequence[np.ndarray], scratch: Path) -> tuple[OnnxChoice, OnnxChoice]:
    """The way with its biases as they are, and corrected."""
    noise = layer_noise(way.source, way.ranges, inputs, scratch)
    errors = {name: one.mean_error for name, one in noise.items() if one.mean_error is not None}
    return OnnxChoice(way, {}, list(noise), {}), OnnxChoice(way, errors, list(noise), {})
