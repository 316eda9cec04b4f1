"""The ONNX files: float16, and the explicit Q/DQ file that every TensorRT reads."""

from collections.abc import Callable, Iterator
from itertools import chain, islice
from pathlib import Path

import msgspec
import numpy as np

from calibration.collect import collect
from calibration.collected import Histograms, ranges_from, read_histograms, write_histograms
from calibration.pictures import CalibrationSet
from convert.calibrated import fidelity_on, given_ranges, halves, inputs_of
from convert.float_model import FLOAT_ONNX, FloatModel
from convert.made import Made
from convert.onnx_float16 import write_float16
from convert.onnx_search import OBSERVERS, OnnxChoice, refitted, search_onnx
from convert.quantize_onnx import layer_names, quantize_onnx
from convert.request import ConvertRequest, Job
from convert.search import GOAL, SEARCH_S
from convert.workspace import Workspace, writing
from edge.errors import ManifestError
from edge.manifest import sha256_of
from edge.progress import Progress

__all__ = ["make_onnx"]

_INPUTS, _FEW = 24, 8


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
    first, second = halves(pictures)
    if request.ranges and job.precision == "int8":
        ranges = given_ranges(model, source, request.ranges, first)
        quantize_onnx(source, target, ranges)
        made.observer = ranges.observer
        return made
    choice = _chosen(job, model, source, (first, second), request, work)
    kept = choice.kept if job.precision == "mixed" else frozenset()
    quantize_onnx(source, target, choice.ranges, kept, choice.mean_errors)
    made.observer = choice.ranges.observer
    made.kept_float = [name for name in layer_names(source) if name in kept]
    made.notes = [f"{len(kept)} layers stay in float"] if kept else []
    made.details = {"observers": choice.observers, "biases_corrected": bool(choice.mean_errors)}
    if job.precision == "mixed":
        made.frontier = [
            {"kept": len(c.kept), "fidelity": c.fidelity, "latency_ms": None, "chosen": c.chosen}
            for c in choice.frontier
        ]
    return made


def _chosen(
    job: Job,
    model: FloatModel,
    source: Path,
    both_halves: tuple[CalibrationSet, CalibrationSet],
    request: ConvertRequest,
    work: Workspace,
) -> OnnxChoice:
    """Observer and layers chosen on the halves, then ranges and biases of all pictures."""
    first, second = both_halves
    given, other = inputs_of(model, source, first), inputs_of(model, source, second)
    scratch = work.folder / "onnx"
    with writing(scratch):
        scratch.mkdir(exist_ok=True)
    histograms = _histograms(scratch / "histograms.npz", source, given, first.identity)
    choice = search_onnx(
        model,
        histograms,
        list(islice(given(), _INPUTS)),
        fidelity_on(model, FLOAT_ONNX, second, work, request.threads),
        GOAL if job.precision == "mixed" else 0.0,
        request.search_s or SEARCH_S,
        scratch,
        (request.observer,) if request.observer else OBSERVERS,
    )
    progress = Progress("measuring ranges", len(first) + len(second))
    everything = collect(source, chain(given(), other()), progress.update, histograms)  # goes on after the first half
    progress.clear()
    both = [*islice(given(), _INPUTS // 2), *islice(other(), _INPUTS // 2)]
    return refitted(source, choice, everything, both, scratch)


def _histograms(file: Path, source: Path, inputs: Callable[[], Iterator[np.ndarray]], identity: str) -> Histograms:
    """Of the first half of the pictures; an interrupted collection of the very same ones goes on."""
    known = read_histograms(file) if file.exists() else None
    if known is None or (known.model_sha256, known.inputs) != (sha256_of(source), identity):
        known = Histograms(sha256_of(source), inputs=identity)
    progress = Progress("measuring ranges")
    found = collect(source, inputs(), progress.update, known, checkpoint=file)
    progress.clear()
    write_histograms(file, found)
    return found
