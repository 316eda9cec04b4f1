"""The ONNX files: float16 and the one Q/DQ file that every TensorRT reads."""

import msgspec

from calibration.pictures import CalibrationSet
from convert.float_model import FLOAT_ONNX, FloatModel
from convert.made import Made
from convert.onnx_float16 import write_float16
from convert.request import ConvertRequest, Job
from convert.workspace import Workspace
from edge.errors import ManifestError

__all__ = ["make_onnx"]


def make_onnx(
    job: Job, model: FloatModel, pictures: CalibrationSet | None, request: ConvertRequest, work: Workspace
) -> Made:
    """Write one precision of the float ONNX file.

    Raises: ModelError when it cannot be written in this precision, ConfigError for the disk.
    """
    entry = model.manifest.targets.get(FLOAT_ONNX)
    if entry is None:
        raise ManifestError("there is no float ONNX file", "give a model that converts to ONNX")
    source = model.folder / entry.file
    target = model.folder / f"{source.stem.removesuffix('-fp32')}-{job.precision}.onnx"
    write_float16(source, target)
    return Made(job.name, msgspec.structs.replace(entry, file=target.name, sha256=None))
