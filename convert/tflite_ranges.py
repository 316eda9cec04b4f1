"""The ranges of a conversion: measured once for every int8 file of it, and kept in the working folder."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from calibration.pictures import CalibrationSet
from calibration.ranges import Ranges, read_ranges, write_ranges
from convert.calibrated import fidelity_on, given_ranges, halves, inputs_of
from convert.float_model import FLOAT_ONNX, FLOAT_TFLITE, FloatModel
from convert.leaf import leaf
from convert.request import ConvertRequest, shares_ranges
from convert.tflite_choose import CANDIDATES, Form, choose_ranges
from convert.tflite_decode import tflite_decode_arithmetic
from convert.workspace import Workspace, writing
from edge.errors import ManifestError
from edge.manifest import Target
from edge.registry import Plug

__all__ = ["ChosenRanges", "chosen_ranges", "shift_lists"]

_BESIDE = Plug("convert.onnx_beside:OnnxBeside", "convert", ("onnx", "onnxruntime"))
_TFLITE_RANGES, _ONNX_RANGES = "ranges-tflite.json", "ranges-onnx.json"


@dataclass(frozen=True, slots=True)
class ChosenRanges:
    """What the int8 files are made with.

    source: the float TFLite file, equalized or not; ranges, shifts: of it. decoding: its decode arithmetic, by layer
    name. onnx: the float ONNX in the same form and the same ranges under its names, None where no int8 ONNX is wanted.
    """

    source: Path
    ranges: Ranges
    shifts: dict[str, np.ndarray]
    decoding: list[str]
    trials: list[dict[str, Any]]
    onnx: tuple[Path, Ranges] | None = None


def chosen_ranges(
    model: FloatModel, pictures: CalibrationSet | None, request: ConvertRequest, work: Workspace
) -> ChosenRanges:
    """Return the ranges of a conversion that has int8 TFLite files, measured at the first call.

    Where int8 ONNX files are wanted too, the way that is best for both formats together is taken for both.
    Raises: ConfigError for the pictures or the disk, ModelError when the model cannot be quantized.
    """
    entry = model.manifest.targets.get(FLOAT_TFLITE)
    if entry is None:
        raise ManifestError("there is no float TFLite file to quantize", "give a model that converts to TFLite")
    source = model.folder / entry.file
    decoding = tflite_decode_arithmetic(source, entry.outputs)
    first, second = halves(pictures)
    if request.ranges:
        return ChosenRanges(source, given_ranges(model, source, request.ranges, first), {}, decoding, [])
    both = shares_ranges(request) and model.file(FLOAT_ONNX) is not None
    depends = [entry.sha256, first.identity, second.identity, request.observer, both]
    facts = work.facts("choose ranges", depends)
    if facts is None:
        facts = _measured(model, source, entry, (first, second), decoding, request, work, both)
        files = [work.folder / name for name in facts["files"]]
        work.done("choose ranges", depends, facts, files)
    shifts = {name: np.array(shift) for name, shift in facts["shifts"].items()}
    onnx = None
    if both:
        onnx = work.folder / facts["onnx_source"], read_ranges(work.folder / _ONNX_RANGES)
    ranges = read_ranges(work.folder / _TFLITE_RANGES)
    return ChosenRanges(work.folder / facts["source"], ranges, shifts, decoding, facts["trials"], onnx)


def _measured(
    model: FloatModel,
    source: Path,
    entry: Target,
    both_halves: tuple[CalibrationSet, CalibrationSet],
    decoding: list[str],
    request: ConvertRequest,
    work: Workspace,
    both: bool,
) -> dict[str, Any]:
    """Choose, and write what was chosen into the working folder; return what to note, `files` among it."""
    first, second = both_halves
    fidelity = fidelity_on(model, FLOAT_TFLITE, second, work, request.threads)
    beside: Any = leaf(_BESIDE, "int8 ONNX")(model, both_halves, work, request.threads) if both else None

    def measure_beside(form: Form, ranges: Ranges) -> float:
        return beside.measure(form.file, form.factors, ranges)

    choice = choose_ranges(
        source,
        (inputs_of(model, source, first), inputs_of(model, source, second)),
        lambda file: fidelity.measure(file, entry),
        work.folder,
        (request.observer,) if request.observer else CANDIDATES,
        decoding,
        measure_beside if both else None,
    )
    made_of = str(choice.form.file.relative_to(work.folder))
    files = [_TFLITE_RANGES, made_of]
    with writing(work.folder):
        write_ranges(work.folder / _TFLITE_RANGES, choice.ranges)
    facts: dict[str, Any] = {"source": made_of, "trials": choice.rows, "shifts": shift_lists(choice.shifts)}
    if both:
        file, ranges = beside.taken(choice.form.file, choice.form.factors, choice.ranges)
        with writing(work.folder):
            write_ranges(work.folder / _ONNX_RANGES, ranges)
        facts["onnx_source"] = str(file.relative_to(work.folder))
        files += [_ONNX_RANGES, facts["onnx_source"]]
    return {**facts, "files": files}


def shift_lists(shifts: dict[str, np.ndarray]) -> dict[str, list[float]]:
    """Return shifts of biases ready for JSON."""
    return {name: shift.tolist() for name, shift in shifts.items()}
