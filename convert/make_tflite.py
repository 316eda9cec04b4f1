"""The TFLite files: one float file in every precision, int8 with the ranges that were measured to be best."""

from hashlib import sha256
from itertools import chain
from pathlib import Path

import msgspec

from calibration.collect import collect
from calibration.collected import ranges_from
from calibration.pictures import CalibrationSet
from convert.calibrated import fidelity_on, halves, inputs_of
from convert.fidelity import compare_latency, latency_ms
from convert.float_model import FLOAT_TFLITE, FloatModel
from convert.made import Made
from convert.quantize_tflite import layer_names, quantize_tflite
from convert.request import ConvertRequest, Job
from convert.search import SEARCH_S, Candidate, goal_for, search
from convert.tflite_edit import read_model
from convert.tflite_integer import float_kinds
from convert.tflite_ranges import ChosenRanges, chosen_ranges, shift_lists
from convert.workspace import Workspace
from edge.errors import ManifestError
from edge.manifest import Target

__all__ = ["make_tflite"]

_INTEGER_ENDS = ("int8-io", "uint8-io")


def make_tflite(
    job: Job, model: FloatModel, pictures: CalibrationSet | None, request: ConvertRequest, work: Workspace
) -> Made:
    """Write one precision of the float TFLite file.

    Raises: ModelError when it cannot be quantized, ConfigError for the pictures or the disk.
    """
    entry = model.manifest.targets.get(FLOAT_TFLITE)
    if entry is None:
        raise ManifestError("there is no float TFLite file to quantize", "give a model that converts to TFLite")
    source = model.folder / entry.file
    target = model.folder / f"{source.stem.removesuffix('-fp32')}-{job.precision}.tflite"
    made = Made(job.name, msgspec.structs.replace(entry, file=target.name, sha256=None))
    if not job.calibrated:
        quantize_tflite(source, target, job.precision, None)
        return made
    if job.precision == "int16x8":  # 65,536 steps have room for the whole range
        made.observer = "min-max"
        inputs = chain.from_iterable(inputs_of(model, source, half)() for half in halves(pictures))
        ranges = ranges_from(collect(source, inputs), made.observer, bits=16)
        quantize_tflite(source, target, job.precision, ranges)
        return made
    chosen = chosen_ranges(model, pictures, request, work)
    made.observer = chosen.ranges.observer
    made.details = {"trials": chosen.trials}
    if chosen.source != source:
        made.notes.append(f"channels equalized behind {chosen.trials[0]['equalized']} convolutions")
    if chosen.onnx:
        made.notes.append("the same ranges as the int8 ONNX file")
    kept = frozenset() if job.precision in _INTEGER_ENDS else frozenset(chosen.decoding)
    if chosen.decoding:
        made.notes.append(_decoding_text(len(chosen.decoding), bool(kept)))
    precision = job.precision
    if precision == "mixed":
        frontier = _searched(model, chosen, entry, pictures, request, work)
        found, precision = next(one.kept for one in frontier if one.chosen), "int8"
        made.notes.append(_kept_text(len(found), len(_searchable(chosen))))
        made.frontier = [
            {"kept": len(c.kept), "fidelity": c.fidelity, "latency_ms": c.latency_ms, "chosen": c.chosen}
            for c in frontier
        ]
        kept |= found
    made.kept_float = [name for name in layer_names(chosen.source) if name in kept]
    if chosen.shifts:
        made.notes.append("biases corrected for the rounding of the weights")
    quantize_tflite(chosen.source, target, precision, chosen.ranges, kept, chosen.shifts)
    if left := float_kinds(read_model(target), kept):
        kinds = ", ".join(f"{count} {kind}" for kind, count in left.items())
        made.notes.append(f"computed in float, having no 8-bit form here: {kinds}")
    return made


def _searchable(chosen: ChosenRanges) -> list[str]:
    return [name for name in layer_names(chosen.source) if name not in set(chosen.decoding)]


def _searched(
    model: FloatModel,
    chosen: ChosenRanges,
    entry: Target,
    pictures: CalibrationSet | None,
    request: ConvertRequest,
    work: Workspace,
) -> list[Candidate]:
    _, second = halves(pictures)
    fidelity = fidelity_on(model, FLOAT_TFLITE, second, work, request.threads)
    decoding = frozenset(chosen.decoding)
    trial, whole = work.folder / "trial.tflite", work.folder / "whole.tflite"
    quantize_tflite(chosen.source, whole, "int8", chosen.ranges, decoding, chosen.shifts)
    whole_ms = latency_ms(whole, request.threads)

    def build(kept: frozenset[str]) -> Path:
        quantize_tflite(chosen.source, trial, "int8", chosen.ranges, kept | decoding, chosen.shifts)
        return trial

    def time_ms(file: Path) -> float:
        """Beside the all-int8 file, so that what else the machine does falls on both."""
        beside, own = compare_latency([whole, file], request.threads)
        return whole_ms * own / beside

    return search(
        _searchable(chosen),
        build,
        lambda file: fidelity.measure(file, entry),
        time_ms,
        goal_for(request.max_drop),
        request.search_s or SEARCH_S,
        work.folder / "search-tflite.json",
        sha256(msgspec.json.encode([chosen.ranges, shift_lists(chosen.shifts), second.identity])).hexdigest(),
    )


def _kept_text(kept: int, count: int) -> str:
    if kept == count:
        return "all layers stay in float: no mixture reached the goal in time, --search MINUTES searches longer"
    return f"{kept} of {count} layers stay in float" if kept else "nothing has to stay in float: it is int8"


def _decoding_text(count: int, kept: bool) -> str:
    if kept:
        return f"decode arithmetic of {count} layers stays in float"
    return f"decode arithmetic of {count} layers is in int8 as far as it can be; the precision int8 keeps it in float"
