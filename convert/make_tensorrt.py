"""The TensorRT engines of a bundle, built from its ONNX files here where that can be, else on the board."""

import msgspec

from calibration.pictures import CalibrationSet
from convert.float_model import FloatModel
from convert.made import Made
from convert.request import ConvertRequest, Job
from convert.tensorrt.bundle import build_target
from convert.tensorrt.request import BuildOptions
from convert.workspace import Workspace
from edge.errors import AcceleratorError, MissingBackendError

__all__ = ["make_tensorrt"]


def make_tensorrt(
    job: Job, model: FloatModel, pictures: CalibrationSet | None, request: ConvertRequest, work: Workspace
) -> Made:
    """Build one engine; where there is no TensorRT or GPU, say how the board builds it: its ONNX is in the bundle.

    Raises: ConfigError for what this TensorRT cannot do, ModelError for an ONNX it does not take.
    """
    options = BuildOptions(
        workspace_mib=request.workspace_mib,
        compute_capabilities=request.compute_capabilities,
        timing_cache=work.folder / "timings.cache",
    )
    try:
        manifest, built = build_target(model.folder, model.manifest, job.precision, options)
    except (MissingBackendError, AcceleratorError) as exc:
        cure = f"on the board: harrier build {request.out.name} --on-device --precision {job.precision}"
        return Made(job.name, missing=f"{exc.cause}; {cure}")
    result = built.result
    return Made(
        job.name,
        source=built.source,
        target=manifest.targets[job.name],
        notes=list(result.notes),
        details={
            "builder": f"{result.features.name} {result.features.version}",
            "seconds": round(result.seconds, 2),
            "layers": [msgspec.to_builtins(row) for row in result.layers],
            "layer_source": result.layer_source,
            "precisions": result.precisions,
        },
    )
