"""The best pure 8-bit form of a float .tflite file: which ranges, and whether to equalize, chosen by measurement.

No rule is best for every network: percentiles rescue those with SiLU and hurt those with ReLU. Ranges are taken from
one half of the calibration pictures, and what they give is measured on the other.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from calibration.collect import collect
from calibration.collected import Histograms, ranges_from
from calibration.ranges import Ranges
from convert.bias_correction import bias_shifts
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
_CORRECTED = 3  # trials whose biases are corrected too
_EVERY = 2  # input counts for the biases' shifts: means settle soon
_Inputs = Callable[[], Iterable[np.ndarray]]


@dataclass(frozen=True, slots=True)
class Trial:
    """One way to quantize. equalized: how many convolutions were equalized. fidelity: of the all-int8 file."""

    observer: str
    equalized: int
    fidelity: float
    corrected: bool = False


@dataclass(frozen=True, slots=True)
class Choice:
    """The best way, as `quantize_tflite` takes it. trials: what was tried, best first.

    source: the float file that was calibrated, equalized or not. ranges, shifts of biases: as they measured best.
    """

    source: Path
    ranges: Ranges
    shifts: dict[str, np.ndarray]
    trials: tuple[Trial, ...]

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The trials, ready for JSON."""
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
    ranges. measure: the fidelity of an all-int8 file, on the pictures of the second. The best way is calibrated once
    more on all of them, which is kept only where it measures no worse: more pictures may widen ranges. folder: for
    the equalized file, which stays if it is chosen, and the trials, which do not.
    Raises: ConfigError and ModelError as collect, equalize_silu and quantize_tflite do; whatever measure raises.
    """
    first, second = halves
    equalized_file = folder / f"{source.stem}-equalized.tflite"
    equalized = equalize_silu(source, equalized_file, islice(first(), _EQUALIZING_INPUTS))
    forms = {0: source, **({len(equalized): equalized_file} if equalized else {})}
    trial_file = folder / f".{source.stem}-trial.tflite"
    try:
        kept = {count: collect(file, first()) for count, file in forms.items()}
        trials = _try(forms, kept, list(candidates), measure, trial_file)
        for trial in sorted(trials, key=_order)[:_CORRECTED]:
            file, ranges = (
                forms[trial.equalized],
                _ranges(forms[trial.equalized], kept[trial.equalized], trial.observer),
            )
            shifts = _shifts(file, ranges, first(), trial_file)
            quantize_tflite(file, trial_file, "int8", ranges, shifts=shifts)
            trials.append(replace(trial, fidelity=measure(trial_file), corrected=True))
        best = min(trials, key=_order)
        file, histograms = forms[best.equalized], kept[best.equalized]
        ranges = _ranges(file, histograms, best.observer)
        shifts = _shifts(file, ranges, first(), trial_file) if best.corrected else {}
        _add(histograms, collect(file, second()))
        wider = _ranges(file, histograms, best.observer)
        wider_shifts = _shifts(file, wider, chain(first(), second()), trial_file) if best.corrected else {}
        quantize_tflite(file, trial_file, "int8", wider, shifts=wider_shifts)
        if measure(trial_file) >= best.fidelity:
            ranges, shifts = wider, wider_shifts
    finally:
        trial_file.unlink(missing_ok=True)
    if equalized and not best.equalized:
        equalized_file.unlink()
    return Choice(file, ranges, shifts, tuple(sorted(trials, key=_order)))


def _order(trial: Trial) -> tuple[float, int, bool]:
    """The most faithful first; of equals the simplest, and then (sorting keeps the order) the first that was tried."""
    return -trial.fidelity, trial.equalized, trial.corrected


def _try(
    forms: dict[int, Path],
    kept: dict[int, Histograms],
    observers: list[str],
    measure: Callable[[Path], float],
    trial_file: Path,
) -> list[Trial]:
    """Measure every observer on every form of the float file."""
    ways = [
        (count, f"{observer}{clip}")
        for count, file in forms.items()
        for observer in observers
        for clip in (("", _CLIPPED) if _sigmoid_inputs(file)["silu"] else ("",))
    ]
    progress, trials = Progress("choosing ranges", len(ways)), []
    for count, observer in ways:
        quantize_tflite(forms[count], trial_file, "int8", _ranges(forms[count], kept[count], observer))
        trials.append(Trial(observer, count, measure(trial_file)))
        progress.update(len(trials), observer)
    best = max(trials, key=lambda trial: trial.fidelity)
    progress.finish(len(trials), f"{best.observer}, {best.equalized} equalized: fidelity {best.fidelity:.3f}")
    return trials


def _shifts(file: Path, ranges: Ranges, inputs: Iterable[np.ndarray], trial_file: Path) -> dict[str, np.ndarray]:
    quantize_tflite(file, trial_file, "int8", ranges)
    return bias_shifts(file, trial_file, islice(inputs, 0, None, _EVERY))


def _add(histograms: Histograms, rest: Histograms) -> None:
    for name, histogram in rest.whole.items():
        histograms.whole[name].merge(histogram)
    histograms.images += rest.images


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
