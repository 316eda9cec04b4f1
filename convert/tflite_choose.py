"""The best pure 8-bit form of a float .tflite file: which ranges, and whether to equalize, chosen by measurement.

No rule is best for every network: percentiles rescue those with SiLU and hurt those with ReLU. Ranges are taken from
one half of the calibration pictures, and what they give is measured on the other.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from calibration.collect import collect
from calibration.collected import Histograms, ranges_from
from calibration.ranges import Ranges
from convert.quantize_tflite import quantize_tflite
from convert.tflite_edit import Reader, op_name, read_model, tensor_name
from convert.tflite_equalize import SATURATED, equalize_silu
from edge.progress import Progress

__all__ = ["CANDIDATES", "Choice", "Trial", "adapted", "choose_ranges"]

CANDIDATES = (
    "min-max",
    "moving-average:0.95",
    "percentile:99.9",
    "percentile:99.99",
    "percentile:99.999",
    "mse",
    "entropy",
)
SILU_LOW = -6.0
"""Where the low end of a SiLU's input may be cut: what is below counts as -0.015 at most."""

_CLIPPED = "+silu"
_EQUALIZING_INPUTS = 10
_Inputs = Callable[[], Iterable[np.ndarray]]


@dataclass(frozen=True, slots=True)
class Trial:
    """One way to quantize. equalized: how many convolutions were equalized. fidelity: of the all-int8 file."""

    observer: str
    equalized: int
    fidelity: float


@dataclass(frozen=True, slots=True)
class Choice:
    """The best way. source: the float file that was calibrated, equalized or not. ranges: of all the pictures."""

    source: Path
    ranges: Ranges
    trials: tuple[Trial, ...]

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The trials, best first, ready for JSON."""
        return [msgspec.to_builtins(trial) for trial in self.trials]


def choose_ranges(
    source: Path,
    halves: tuple[_Inputs, _Inputs],
    measure: Callable[[Path], float],
    folder: Path,
    candidates: Iterable[str] = CANDIDATES,
) -> Choice:
    """Return how to quantize a float file, after trying every observer with and without equalized channels.

    halves: each gives calibration inputs, (1, ...) in the model's own dtype, anew at every call; the first are for
    ranges while trying. measure: the fidelity of an all-int8 file, on the pictures of the second. folder: for the
    equalized file, which stays if it is chosen, and the trials, which do not.
    Raises: ConfigError and ModelError as collect, equalize_silu and quantize_tflite do; whatever measure raises.
    """
    first, second = halves
    equalized_file = folder / f"{source.stem}-equalized.tflite"
    equalized = equalize_silu(source, equalized_file, islice(first(), _EQUALIZING_INPUTS))
    forms = [(source, 0)] + ([(equalized_file, len(equalized))] if equalized else [])
    progress, done, observers = Progress("choosing ranges"), 0, list(candidates)
    trial_file, trials, kept = folder / f".{source.stem}-trial.tflite", {}, {}
    try:
        for file, count in forms:
            kept[file] = collect(file, first())
            clips = ("", _CLIPPED) if _sigmoid_inputs(file)["silu"] else ("",)
            for observer in [f"{observer}{clip}" for observer in observers for clip in clips]:
                quantize_tflite(file, trial_file, "int8", _ranges(file, kept[file], observer))
                trials[Trial(observer, count, measure(trial_file))] = file
                done += 1
                progress.update(done, f"{observer}, {count} equalized", total=len(forms) * len(observers) * len(clips))
    finally:
        trial_file.unlink(missing_ok=True)
    ranked = sorted(trials, key=lambda trial: (-trial.fidelity, trial.equalized))  # equals: as they were tried
    best = ranked[0]
    if equalized and not best.equalized:
        equalized_file.unlink()
    progress.finish(done, f"{best.observer}, {best.equalized} equalized: fidelity {best.fidelity:.3f}")
    everything = kept[trials[best]]
    rest = collect(trials[best], second())
    for name, histogram in rest.whole.items():
        everything.whole[name].merge(histogram)
    everything.images += rest.images
    return Choice(trials[best], _ranges(trials[best], everything, best.observer), tuple(ranked))


def adapted(file: Path, ranges: Ranges, clip_silu: bool = False) -> Ranges:
    """Return ranges without what a sigmoid cannot tell apart, and, if asked, without a SiLU's flat low side.

    Raises: ModelError when the file cannot be read.
    """
    tensors = dict(ranges.tensors)
    inputs = _sigmoid_inputs(file)
    for name in inputs["sigmoid"]:
        low, high = tensors[name]
        tensors[name] = (max(low, -SATURATED), min(high, SATURATED))
    for name in inputs["silu"] if clip_silu else ():
        low, high = tensors[name]
        tensors[name] = (max(low, SILU_LOW), high)
    return msgspec.structs.replace(ranges, tensors=tensors)


def _ranges(file: Path, histograms: Histograms, observer: str) -> Ranges:
    name = observer.removesuffix(_CLIPPED)
    return msgspec.structs.replace(adapted(file, ranges_from(histograms, name), name != observer), observer=observer)


def _sigmoid_inputs(file: Path) -> dict[str, list[str]]:
    """Names of the activations that only a sigmoid reads, and of those that it and the product behind it read."""
    model = read_model(file)
    graph, reader = model.subgraphs[0], Reader(model)
    found: dict[str, list[str]] = {"sigmoid": [], "silu": []}
    for op in graph.operators:
        if op_name(model, op) != "LOGISTIC":
            continue
        x, s = op.inputs[0], op.outputs[0]
        others = [other for other in reader.readers(x) if other is not op]
        kind = "silu" if others else "sigmoid"
        if all(op_name(model, other) == "MUL" and s in other.inputs for other in others) and not reader.is_output(x):
            found[kind].append(tensor_name(graph.tensors[x]))
    return found
