"""The Edge TPU's file: the full-integer TFLite file, where its operators would run, and the compiled one."""

import msgspec

from calibration.pictures import CalibrationSet
from convert.edgetpu.compile import CompileOptions, compile_for_edgetpu
from convert.edgetpu.placement import placement
from convert.float_model import FloatModel
from convert.made import Made
from convert.request import ConvertRequest, Job
from convert.workspace import Workspace
from edge.errors import ManifestError

__all__ = ["make_edgetpu"]


def make_edgetpu(
    job: Job, model: FloatModel, pictures: CalibrationSet | None, request: ConvertRequest, work: Workspace
) -> Made:
    """Report where each operator would run, and compile where there is a compiler, here or at request.remote.

    Raises: ModelError when the compiler refuses the file, ConfigError for a remote host that cannot be used.
    """
    source = f"tflite-{job.precision}"
    file = model.file(source)
    if file is None:
        raise ManifestError(f"there is no {source} to compile", "convert it first")
    report = placement(file)
    result = compile_for_edgetpu(file, model.folder, CompileOptions(remote=request.remote))
    notes = [
        f"{report.mapped_count} of {len(report.ops)} operators map to the Edge TPU, "
        f"{100 * report.multiply_add_share:.1f} % of the multiply-adds"
    ]
    if first := report.first_unmapped:
        notes.append(f"from operator {first.index}, {first.name} '{first.output}', on: {first.why}; cure: {first.cure}")
    notes += [f"the compiler would refuse it: {why}; {cure}" for why, cure in report.refusals]
    if report.doubt:
        notes.append(report.doubt)
    details = {"placement": report.facts, "compiler": result.facts}
    if result.file is None:
        return Made(
            job.name,
            source=source,
            missing="; ".join(line.strip() for line in result.text.splitlines() if line.strip()),
            notes=notes,
            details=details,
        )
    target = msgspec.structs.replace(model.manifest.targets[source], file=result.file.name, sha256=None)
    return Made(job.name, target=target, source=source, notes=notes, details=details)
