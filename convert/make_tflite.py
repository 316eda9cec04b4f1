"""The TFLite files: one float file in every precision, int8 with the ranges that were measured to be best."""

import msgspec

from calibration.pictures import CalibrationSet
from convert.float_model import FLOAT_TFLITE, FloatModel
from convert.made import Made
from convert.quantize_tflite import quantize_tflite
from convert.request import ConvertRequest, Job
from convert.workspace import Workspace
from edge.errors import ManifestError

__all__ = ["make_tflite"]


def make_tflite(
    job: Job, model: FloatModel, pictures: CalibrationSet | None, request: ConvertRequest, work: Workspace
) -> Made:
    """Write one precision of the float TFLite file.

    Raises: ModelError when it cannot be quantized, ConfigError for the disk.
    """
    entry = model.manifest.targets.get(FLOAT_TFLITE)
    if entry is None:
        raise ManifestError("there is no float TFLite file to quantize", "give a model that converts to TFLite")
    source = model.folder / entry.file
    target = model.folder / f"{source.stem.removesuffix('-fp32')}-{job.precision}.tflite"
    quantize_tflite(source, target, job.precision, None)
    return Made(job.name, msgspec.structs.replace(entry, file=target.name, sha256=None))
