"""The ONNX files: float16, and the explicit Q/DQ file that every TensorRT reads."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from calibration.collect import collect
from calibration.collected import Histograms, ranges_from, read_histograms, write_histograms
from calibration.pictures import CalibrationSet
from calibration.ranges import read_ranges, write_ranges
from convert.calibrated import fidelity_on, given_ranges, halves, inputs_of
from convert.fidelity import Fidelity
from convert.float_model import FLOAT_ONNX, FLOAT_TFLITE, FloatModel
from convert.leaf import leaf
from convert.made import Made
from convert.onnx_decode import onnx_decode_arithmetic
from convert.onnx_equalize import equalize_onnx, onnx_silu_factors
from convert.onnx_float16 import write_float16
from convert.onnx_search import OBSERVERS, OnnxChoice, OnnxWay, choose_onnx, refitted, search_onnx
from convert.quantize_onnx import activation_names, layer_names, quantize_onnx
from convert.request import ConvertRequest, Job, shares_ranges
from convert.search import SEARCH_S, Candidate, goal_for
from convert.workspace import Workspace, writing
from edge.errors import ManifestError
from edge.manifest import sha256_of
from edge.progress import Progress
from edge.registry import Plug

__all__ = ["make_onnx"]

_INPUTS, _FEW, _EQUALIZING_INPUTS = 24, 8, 10
_SHARED = Plug("convert.tflite_ranges:chosen_ranges", "convert", ("litert_quantizer", "ai_edge_litert"))
_RANGES = "chosen-ranges.json"


@dataclass(frozen=True, slots=True)
class _Calibration:
    """What the int8 files of one conversion are made of. decoding: layers in float in any case."""

    model: FloatModel
    source: Path
    halves: tuple[CalibrationSet, CalibrationSet]
    decoding: frozenset[str]
    scratch: Path
    fidelity: Fidelity

    def measure(self, file: Path) -> float:
        """The fidelity of a file made of the float ONNX."""
        return self.fidelity.measure(file, self.model.manifest.targets[FLOAT_ONNX])

    def inputs(self, half: int) -> Callable[[], Iterator[np.ndarray]]:
        """What gives the pictures of one half."""
        return inputs_of(self.model, self.source, self.halves[half])


def make_onnx(
    job: Job, model: FloatModel, pictures: CalibrationSet | None, request: ConvertRequest, work: Workspace
) -> Made:
    """Write one precision of the float ONNX file.

    Raises: ModelError when it cannot be written in this precision, ConfigError for the pictures or the disk.
    """
    entry = model.manifest.targets.get(FLOAT_ONNX)
    if entry is None:
        raise ManifestError("there is no float ONNX file", "give a model that converts to ONNX")
    source = model.folder / entry.file
    target = model.folder / f"{source.stem.removesuffix('-fp32')}-{job.precision}.onnx"
    made = Made(job.name, msgspec.structs.replace(entry, file=target.name, sha256=None))
    if job.precision == "fp16":
        few = inputs_of(model, source, pictures.chosen(range(min(_FEW, len(pictures))))) if pictures else None
        # what real pictures drive beyond float16's range stays float32
        write_float16(source, target, ranges_from(collect(source, few()), "min-max") if few else None)
        return made
    kept = frozenset(onnx_decode_arithmetic(source, entry.outputs))
    if kept:
        made.notes.append(f"decode arithmetic of {len(kept)} layers stays in float")
    first, second = halves(pictures)
    if request.ranges and job.precision == "int8":
        ranges = given_ranges(model, source, request.ranges, first, activation_names(source))
        quantize_onnx(source, target, ranges, kept)
        made.observer, made.kept_float = ranges.observer, [name for name in layer_names(source) if name in kept]
        return made
    scratch = work.folder / "onnx"
    with writing(scratch):
        scratch.mkdir(exist_ok=True)
    fidelity = fidelity_on(model, FLOAT_ONNX, second, work, request.threads)
    given = _Calibration(model, source, (first, second), kept, scratch, fidelity)
    choice = _chosen(given, pictures, request, work)
    made.details = {"observers": choice.fidelities, "biases_corrected": bool(choice.mean_errors)}
    if job.precision == "mixed":
        goal, budget_s = goal_for(request.max_drop), request.search_s or SEARCH_S
        frontier = search_onnx(choice, given.measure, goal, budget_s, scratch, kept)
        found = next(c.kept for c in frontier if c.chosen)
        made.notes += [f"{len(found)} layers stay in float"] if found else []
        made.frontier = _rows(frontier)
        kept |= found
    quantize_onnx(choice.way.source, target, choice.way.ranges, kept, choice.mean_errors)
    made.observer = choice.way.ranges.observer
    made.kept_float = [name for name in layer_names(source) if name in kept]
    if choice.way.source != source:
        made.notes.append("channels equalized behind convolutions, in float")
    if shares_ranges(request):
        made.notes.append("the same ranges as the int8 TFLite files")
    return made


def _rows(frontier: list[Candidate]) -> list[dict[str, Any]]:
    return [{"kept": len(c.kept), "fidelity": c.fidelity, "latency_ms": None, "chosen": c.chosen} for c in frontier]


def _chosen(
    given: _Calibration, pictures: CalibrationSet | None, request: ConvertRequest, work: Workspace
) -> OnnxChoice:
    """The ranges and biases, measured once for int8 and mixed and kept in the working folder."""
    shared = shares_ranges(request) and FLOAT_TFLITE in given.model.manifest.targets
    identities = [half.identity for half in given.halves]
    depends = [sha256_of(given.source), *identities, request.observer, shared, sorted(given.decoding)]
    ranges_file = given.scratch / _RANGES
    facts = work.facts("choose onnx", depends)
    if facts is not None:
        way = OnnxWay(work.folder / facts["source"], read_ranges(ranges_file))
        errors = {name: np.array(values, np.float32) for name, values in facts["mean_errors"].items()}
        return OnnxChoice(way, errors, facts["layers"], facts["fidelities"])
    both = [*islice(given.inputs(0)(), _INPUTS // 2), *islice(given.inputs(1)(), _INPUTS // 2)]
    if shared:
        source, ranges = leaf(_SHARED, "int8 ONNX beside TFLite")(given.model, pictures, request, work).onnx
        ways = {ranges.observer: OnnxWay(source, ranges)}
        choice = choose_onnx(ways, both, given.measure, given.scratch, given.decoding)
    else:
        choice = _own_choice(given, both, (request.observer,) if request.observer else OBSERVERS)
    with writing(given.scratch):
        write_ranges(ranges_file, choice.way.ranges)
    facts = {
        "source": str(choice.way.source.relative_to(work.folder)),
        "mean_errors": {name: values.tolist() for name, values in choice.mean_errors.items()},
        "layers": choice.layers,
        "fidelities": choice.fidelities,
    }
    work.done("choose onnx", depends, facts, [ranges_file, choice.way.source])
    return choice


def _own_choice(given: _Calibration, both: list[np.ndarray], observers: tuple[str, ...]) -> OnnxChoice:
    """The observer and form chosen on the halves, then ranges and biases of all pictures."""
    files = {"": given.source}
    factors = onnx_silu_factors(given.source, islice(given.inputs(0)(), _EQUALIZING_INPUTS))
    equalized = given.scratch / f"{given.source.stem}-equalized.onnx"
    if factors and equalize_onnx(given.source, equalized, factors):
        files[", equalized"] = equalized
    histograms = {file: _histograms(given, file) for file in files.values()}
    ways = {
        f"{observer}{form}": OnnxWay(file, ranges_from(histograms[file], observer, bits=8, symmetric=True))
        for form, file in files.items()
        for observer in observers
    }
    few = list(islice(given.inputs(0)(), _INPUTS))
    choice = choose_onnx(ways, few, given.measure, given.scratch, given.decoding)
    file, observer = choice.way.source, choice.way.ranges.observer
    progress = Progress("measuring ranges", sum(len(half) for half in given.halves))
    everything = chain(given.inputs(0)(), given.inputs(1)())  # goes on after the first half
    ranges = ranges_from(collect(file, everything, progress.update, histograms[file]), observer, 8, symmetric=True)
    progress.clear()
    return refitted(choice, ranges, both, given.scratch)


def _histograms(given: _Calibration, source: Path) -> Histograms:
    """Of the first half of the pictures; an interrupted collection of the very same ones goes on."""
    file, identity = given.scratch / f"{source.stem}.npz", given.halves[0].identity
    known = read_histograms(file) if file.exists() else None
    if known is None or (known.model_sha256, known.inputs) != (sha256_of(source), identity):
        known = Histograms(sha256_of(source), inputs=identity)
    progress = Progress("measuring ranges")
    found = collect(source, given.inputs(0)(), progress.update, known, checkpoint=file)
    progress.clear()
    write_histograms(file, found)
    return found
