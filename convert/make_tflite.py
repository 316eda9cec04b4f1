"""The TFLite files: one float file in every precision, int8 with the ranges that were measured to be best."""

from dataclasses import dataclass
from hashlib import sha256
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from calibration.collect import collect
from calibration.collected import ranges_from
from calibration.pictures import CalibrationSet
from calibration.ranges import Ranges, read_ranges, write_ranges
from convert.calibrated import fidelity_on, given_ranges, halves, inputs_of
from convert.fidelity import compare_latency, latency_ms
from convert.float_model import FLOAT_TFLITE, FloatModel
from convert.made import Made
from convert.quantize_tflite import layer_names, quantize_tflite
from convert.request import ConvertRequest, Job
from convert.search import GOAL, SEARCH_S, Candidate, search
from convert.tflite_choose import CANDIDATES, choose_ranges
from convert.workspace import Workspace, writing
from edge.errors import ManifestError
from edge.manifest import Target

__all__ = ["make_tflite"]


@dataclass(slots=True)
class _Chosen:
    source: Path
    ranges: Ranges
    shifts: dict[str, np.ndarray]
    trials: list[dict[str, Any]]


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
    chosen = _chosen(model, source, entry, pictures, request, work)
    made.observer = chosen.ranges.observer
    made.details = {"trials": chosen.trials}
    if chosen.source != source:
        made.notes.append(f"channels equalized behind {chosen.trials[0]['equalized']} convolutions")
    kept: frozenset[str] = frozenset()
    precision = job.precision
    if precision == "mixed":
        frontier = _searched(model, chosen, entry, pictures, request, work)
        kept, precision = next(one.kept for one in frontier if one.chosen), "int8"
        order = [name for name in layer_names(chosen.source) if name in kept]
        made.kept_float = order
        made.notes.append(_kept_text(len(kept), len(layer_names(chosen.source))))
        made.frontier = [
            {"kept": len(c.kept), "fidelity": c.fidelity, "latency_ms": c.latency_ms, "chosen": c.chosen}
            for c in frontier
        ]
    if chosen.shifts:
        made.notes.append("biases corrected for the rounding of the weights")
    quantize_tflite(chosen.source, target, precision, chosen.ranges, kept, chosen.shifts)
    return made


def _chosen(
    model: FloatModel,
    source: Path,
    entry: Target,
    pictures: CalibrationSet | None,
    request: ConvertRequest,
    work: Workspace,
) -> _Chosen:
    """The ranges, measured once for all integer precisions and kept in the working folder."""
    first, second = halves(pictures)
    if request.ranges:
        return _Chosen(source, given_ranges(model, source, request.ranges, first), {}, [])
    depends = [entry.sha256, first.identity, second.identity, request.observer]
    ranges_file = work.folder / "ranges-tflite.json"
    facts = work.facts("choose tflite", depends)
    if facts is not None:
        shifts = {name: np.array(shift) for name, shift in facts["shifts"].items()}
        return _Chosen(work.folder / facts["source"], read_ranges(ranges_file), shifts, facts["trials"])
    fidelity = fidelity_on(model, FLOAT_TFLITE, second, work, request.threads)
    choice = choose_ranges(
        source,
        (inputs_of(model, source, first), inputs_of(model, source, second)),
        lambda file: fidelity.measure(file, entry),
        work.folder,
        (request.observer,) if request.observer else CANDIDATES,
    )
    with writing(work.folder):
        write_ranges(ranges_file, choice.ranges)
    facts = {
        "source": str(choice.source.relative_to(work.folder)),
        "trials": choice.rows,
        "shifts": _lists(choice.shifts),
    }
    work.done("choose tflite", depends, facts, [ranges_file, choice.source])
    return _Chosen(choice.source, choice.ranges, choice.shifts, choice.rows)


def _searched(
    model: FloatModel,
    chosen: _Chosen,
    entry: Target,
    pictures: CalibrationSet | None,
    request: ConvertRequest,
    work: Workspace,
) -> list[Candidate]:
    _, second = halves(pictures)
    fidelity = fidelity_on(model, FLOAT_TFLITE, second, work, request.threads)
    trial, whole = work.folder / "trial.tflite", work.folder / "whole.tflite"
    quantize_tflite(chosen.source, whole, "int8", chosen.ranges, frozenset(), chosen.shifts)
    whole_ms = latency_ms(whole, request.threads)

    def build(kept: frozenset[str]) -> Path:
        quantize_tflite(chosen.source, trial, "int8", chosen.ranges, kept, chosen.shifts)
        return trial

    def time_ms(file: Path) -> float:
        """Beside the all-int8 file, so that what else the machine does falls on both."""
        beside, own = compare_latency([whole, file], request.threads)
        return whole_ms * own / beside

    return search(
        layer_names(chosen.source),
        build,
        lambda file: fidelity.measure(file, entry),
        time_ms,
        GOAL,
        request.search_s or SEARCH_S,
        work.folder / "search-tflite.json",
        sha256(msgspec.json.encode([chosen.ranges, _lists(chosen.shifts), second.identity])).hexdigest(),
    )


def _kept_text(kept: int, count: int) -> str:
    if kept == count:
        return "all layers stay in float: no mixture reached the goal in time, --search MINUTES searches longer"
    return f"{kept} of {count} layers stay in float" if kept else "nothing has to stay in float: it is int8"


def _lists(shifts: dict[str, np.ndarray]) -> dict[str, list[float]]:
    return {name: shift.tolist() for name, shift in shifts.items()}
