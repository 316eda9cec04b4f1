"""One file of the bundle, by format: each maker has its own tools, imported when a job needs them."""

from dataclasses import asdict
from importlib.util import find_spec
from typing import Any

import msgspec

from calibration.pictures import CalibrationSet
from convert.float_model import FLOAT_ONNX, FLOAT_TFLITE, FloatModel
from convert.leaf import leaf
from convert.made import Made
from convert.request import ConvertRequest, Job, shares_ranges
from convert.workspace import Workspace
from edge.errors import ConfigError, MissingBackendError
from edge.manifest import Target, sha256_of
from edge.registry import Plug

__all__ = ["check_tools", "make"]

_MAKERS = {
    "tflite": Plug("convert.make_tflite:make_tflite", "convert", ("litert_quantizer", "ai_edge_litert")),
    "onnx": Plug("convert.make_onnx:make_onnx", "convert", ("onnx", "onnxruntime")),
    "tensorrt": Plug("convert.make_tensorrt:make_tensorrt", "convert", ("onnx",)),
    "edgetpu": Plug("convert.make_edgetpu:make_edgetpu", "convert", ("litert_quantizer", "ai_edge_litert")),
}


def check_tools(jobs: list[Job]) -> None:
    """Find out, before the work, that a format's tools are not installed.

    Raises: MissingBackendError with the line that installs them.
    """
    for form in {job.form for job in jobs}:
        plug = _MAKERS[form]
        for module in plug.modules:
            if find_spec(module) is None:
                raise MissingBackendError(
                    f"{form} needs {module}, which is not installed", f"pip install 'harrier-edge[{plug.extra}]'"
                )


def make(
    job: Job, model: FloatModel, pictures: CalibrationSet | None, request: ConvertRequest, work: Workspace
) -> Made:
    """Return what came of the job; a job done before, for the same inputs, is not done again.

    Raises: ModelError when the model cannot be had in this form, ConfigError for the request or the disk.
    """
    entry = model.manifest.targets.get(job.name)
    if job.precision == "fp32" and entry is not None and job.form in ("tflite", "onnx"):
        return Made(job.name, entry)  # the loader made it
    depends = _depends(job, model, pictures, request)
    step = f"make {job.name}"
    facts = work.facts(step, depends)
    if facts is not None:
        return _restored(facts)
    made: Made = leaf(_MAKERS[job.form], f"--to {job.form}")(job, model, pictures, request, work)
    files = [model.folder / made.target.file] if made.target else []
    if made.target:  # what could not be made may be possible the next time
        work.done(step, depends, _facts(made), files)
    return made


def _depends(job: Job, model: FloatModel, pictures: CalibrationSet | None, request: ConvertRequest) -> dict[str, Any]:
    targets = model.manifest.targets
    floats = {name: targets[name].sha256 for name in (FLOAT_ONNX, FLOAT_TFLITE) if name in targets}
    depends: dict[str, Any] = {"float": floats}
    if job.calibrated:
        if pictures is None:
            raise ConfigError(f"{job.name} needs pictures to calibrate with", "add --calibration FOLDER")
        depends["pictures"] = pictures.identity
        depends["observer"] = request.observer
        depends["ranges"] = sha256_of(request.ranges) if request.ranges and request.ranges.is_file() else None
        depends["shared"] = shares_ranges(request)
    if job.precision == "mixed":
        depends["search"] = [request.search_s, request.max_drop]
    if job.form == "tensorrt":
        depends["build"] = [request.compute_capabilities, request.workspace_mib]
    return depends


def _facts(made: Made) -> dict[str, Any]:
    return {**asdict(made), "target": msgspec.to_builtins(made.target)}


def _restored(facts: dict[str, Any]) -> Made:
    return Made(**{**facts, "target": msgspec.convert(facts["target"], Target)})
