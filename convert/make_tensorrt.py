"""The TensorRT engines of a bundle, built from its ONNX files here where that can be, else on the board."""

from pathlib import Path

import msgspec
import onnx

from calibration.pictures import CalibrationSet
from convert.float_model import FloatModel
from convert.made import Made
from convert.request import ConvertRequest, Job
from convert.tensorrt.bundle import build_target
from convert.tensorrt.request import BuildOptions
from convert.workspace import Workspace
from edge.errors import AcceleratorError, MissingBackendError, ModelError

__all__ = ["layers_of", "make_tensorrt"]

_WANTED = {"fp32": "FLOAT", "fp16": "HALF", "int8": "INT8", "best": "INT8"}
_COMPUTE = ("Conv", "ConvTranspose", "Gemm", "MatMul")


def make_tensorrt(
    job: Job, model: FloatModel, pictures: CalibrationSet | None, request: ConvertRequest, work: Workspace
) -> Made:
    """Build one engine; where there is no TensorRT or GPU, say how the board builds it: its ONNX is in the bundle.

    The network that was built has as many layers of the intended precision as its ONNX says.
    Raises: ConfigError for what this TensorRT cannot do, ModelError for an ONNX it does not take or takes otherwise.
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
    onnx_file = model.folder / manifest.targets[built.source].file
    wanted = _WANTED[job.precision]
    expected, found = layers_of(onnx_file, wanted), result.precisions.get(wanted, 0)
    if found < expected:
        raise ModelError(
            f"{job.name} was built with {found} of {expected} convolutions and products in {wanted}",
            "report this with the model; --precision fp16 is not affected by int8",
        )
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


def layers_of(onnx_file: Path, wanted: str) -> int:
    """Return how many convolutions and products of an ONNX file are to compute in `wanted`: FLOAT, HALF or INT8.

    INT8: data and weights come out of DequantizeLinear. HALF: the weights are float16.
    """
    graph = onnx.load(onnx_file).graph
    makers = {output: node.op_type for node in graph.node for output in node.output}
    types = {tensor.name: tensor.data_type for tensor in graph.initializer}
    found = 0
    for node in graph.node:
        if node.op_type not in _COMPUTE:
            continue
        integer = all(makers.get(name) == "DequantizeLinear" for name in node.input[:2])
        half = any(types.get(name) == onnx.TensorProto.FLOAT16 for name in node.input)
        found += {"INT8": integer, "HALF": half, "FLOAT": not integer and not half}[wanted]
    return found
