"""The best pure 8-bit form of a float .tflite file: which ranges, and whether to equalize, chosen by measurement.

No rule is best for every network: percentiles rescue those with SiLU and hurt those with ReLU. Ranges are taken from
one half of the calibration pictures, and what they give is measured on the other.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from calibration.collect import collect
from calibration.collected import Histograms, ranges_from
from calibration.ranges import Ranges
from convert.bias_correction import bias_shifts
from convert.channel_reach import SATURATED
from convert.quantize_tflite import quantize_tflite
from convert.tflite_edit import Reader, op_name, read_model, tensor_name
from convert.tflite_equalize import equalize_silu, silu_factors
from edge.progress import Progress

__all__ = ["CANDIDATES", "Beside", "Choice", "Form", "Trial", "adapted", "choose_ranges"]

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
_BESIDE = 6  # trials that are measured in the other format too
_EVERY = 2  # input counts for the biases' shifts: means settle soon
_Inputs = Callable[[], Iterable[np.ndarray]]


@dataclass(frozen=True, slots=True)
class Form:
    """A float file as it came or equalized. factors: (C,) float32 by the output of each equalized convolution."""

    file: Path
    factors: dict[str, np.ndarray] = field(default_factory=dict)


Beside = Callable[[Form, Ranges], float]
"""The fidelity of another format's int8 file with a form's ranges."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One way to quantize. equalized: how many convolutions were equalized. fidelity: of the all-int8 file.

    beside: the fidelity of the other format's file with the same ranges; 0 where none was measured.
    """

    observer: str
    equalized: int
    fidelity: float
    corrected: bool = False
    beside: float = 0.0


@dataclass(frozen=True, slots=True)
class Choice:
    """The best way, as `quantize_tflite` takes it. trials: what was tried, best first.

    form: the float file that was calibrated, equalized or not. ranges, shifts of biases: as they measured best.
    """

    form: Form
    ranges: Ranges
    shifts: dict[str, np.ndarray]
    trials: tuple[Trial, ...]

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The trials, ready for JSON."""
        return [msgspec.to_builtins(trial) for trial in self.trials]


@dataclass(frozen=True, slots=True)
class _Bench:
    """What all trials share: the forms by the number of equalized convolutions, and how their files are measured."""

    forms: dict[int, Form]
    kept: Mapping[int, Histograms]
    measure: Callable[[Path], float]
    trial_file: Path
    keep_float: Collection[str]

    def ranges(self, trial: Trial) -> Ranges:
        """The ranges of a trial."""
        return _ranges(self.forms[trial.equalized].file, self.kept[trial.equalized], trial.observer)

    def fidelity(self, form: Form, ranges: Ranges, shifts: Mapping[str, np.ndarray] | None = None) -> float:
        """The fidelity of the int8 file."""
        quantize_tflite(form.file, self.trial_file, "int8", ranges, self.keep_float, shifts)
        return self.measure(self.trial_file)

    def shifts(self, form: Form, ranges: Ranges, inputs: Iterable[np.ndarray]) -> dict[str, np.ndarray]:
        """What corrects the biases."""
        quantize_tflite(form.file, self.trial_file, "int8", ranges, self.keep_float)
        return bias_shifts(form.file, self.trial_file, islice(inputs, 0, None, _EVERY))


def choose_ranges(
    source: Path,
    halves: tuple[_Inputs, _Inputs],
    measure: Callable[[Path], float],
    folder: Path,
    candidates: Iterable[str] = CANDIDATES,
    keep_float: Collection[str] = frozenset(),
    beside: Beside | None = None,
) -> Choice:
    """Return how to quantize a float file, after trying every observer with and without equalized channels.

    halves: each gives calibration inputs, (1, ...) in the model's own dtype, anew at every call; the first are for
    ranges. measure: the fidelity of an int8 file, on the pictures of the second. keep_float: layers that are in float
    in any case. beside: with it, the sum of both formats' fidelities decides among the best. The best way is
    calibrated once more on all pictures, which is kept only where it measures no worse: more pictures may widen
    ranges. folder: for the equalized file, which stays if it is chosen, and the trials, which do not.
    Raises: ConfigError and ModelError as collect, equalize_silu and quantize_tflite do; whatever measure raises.
    """
    first, second = halves
    forms = {0: Form(source)}
    factors = silu_factors(source, islice(first(), _EQUALIZING_INPUTS))
    if factors:
        forms[len(factors)] = Form(folder / f"{source.stem}-equalized.tflite", factors)
        equalize_silu(source, forms[len(factors)].file, factors)
    trial_file = folder / f".{source.stem}-trial.tflite"
    try:
        kept = {count: collect(form.file, first()) for count, form in forms.items()}
        bench = _Bench(forms, kept, measure, trial_file, keep_float)
        trials = sorted(_try(bench, list(candidates)), key=_order)
        if beside:
            few = [replace(t, beside=beside(forms[t.equalized], bench.ranges(t))) for t in trials[:_BESIDE]]
            trials = sorted([*few, *trials[_BESIDE:]], key=_order)
        for trial in trials[:_CORRECTED]:
            form, ranges = forms[trial.equalized], bench.ranges(trial)
            fidelity = bench.fidelity(form, ranges, bench.shifts(form, ranges, first()))
            trials.append(replace(trial, fidelity=fidelity, corrected=True))
        best = min(trials, key=_order)
        ranges, shifts = _settled(bench, best, first, second)
    finally:
        trial_file.unlink(missing_ok=True)
    if factors and not best.equalized:
        forms[len(factors)].file.unlink()
    return Choice(forms[best.equalized], ranges, shifts, tuple(sorted(trials, key=_order)))


def _settled(bench: _Bench, best: Trial, first: _Inputs, second: _Inputs) -> tuple[Ranges, dict[str, np.ndarray]]:
    """The ranges and shifts of the best way: of all pictures where that measures no worse."""
    form, histograms = bench.forms[best.equalized], bench.kept[best.equalized]
    ranges = bench.ranges(best)
    shifts = bench.shifts(form, ranges, first()) if best.corrected else {}
    _add(histograms, collect(form.file, second()))
    wider = bench.ranges(best)
    wider_shifts = bench.shifts(form, wider, chain(first(), second())) if best.corrected else {}
    better = bench.fidelity(form, wider, wider_shifts) >= best.fidelity
    return (wider, wider_shifts) if better else (ranges, shifts)


def _order(trial: Trial) -> tuple[float, int, bool]:
    """The most faithful first; of equals the simplest, and then (sorting keeps the order) the first that was tried."""
    return -trial.fidelity - trial.beside, trial.equalized, trial.corrected


def _try(bench: _Bench, observers: list[str]) -> list[Trial]:
    """Measure every observer on every form of the float file."""
    ways = [
        (count, f"{observer}{clip}")
        for count, form in bench.forms.items()
        for observer in observers
        for clip in (("", _CLIPPED) if _sigmoid_inputs(form.file)["silu"] else ("",))
    ]
    progress, trials = Progress("choosing ranges", len(ways)), []
    for count, observer in ways:
        trial = Trial(observer, count, 0.0)
        trials.append(replace(trial, fidelity=bench.fidelity(bench.forms[count], bench.ranges(trial))))
        progress.update(len(trials), observer)
    best = max(trials, key=lambda trial: trial.fidelity)
    progress.finish(len(trials), f"{best.observer}, {best.equalized} equalized: fidelity {best.fidelity:.3f}")
    return trials


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
