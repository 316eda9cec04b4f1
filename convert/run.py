"""One conversion from end to end: load, calibrate, make each file, measure it, and put the bundle in its place."""

import json
import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from calibration.observers import check_observer
from calibration.pictures import CalibrationSet, read_pictures
from calibration.plausibility import grey_error
from convert import makers
from convert.calibrated import picture_files
from convert.finish import finish
from convert.float_model import FLOAT_ONNX, FLOAT_TFLITE, FloatModel, add_target, facts_of, restored
from convert.gate import Verdict, check_dataset, judge, open_dataset, reference_target, runs_here, shared_pictures
from convert.load import LoadOptions, load
from convert.made import Made
from convert.request import DEFAULT_MAX_DROP, ConvertRequest, Job, plan
from convert.workspace import Workspace, check_place, writing
from edge.errors import ConfigError, InterruptedWorkError
from edge.evaluation.datasets import Dataset
from edge.evaluation.gates import AccuracyError
from edge.manifest import sha256_of
from edge.progress import Progress

__all__ = ["convert"]

_LOG = logging.getLogger(__name__)
_PROBES = 4


@dataclass(slots=True)
class _Conversion:
    request: ConvertRequest
    work: Workspace
    jobs: list[Job]
    model: FloatModel
    pictures: CalibrationSet | None
    dataset: Dataset | None
    made: dict[str, Made] = field(default_factory=dict)
    verdicts: dict[str, Verdict] = field(default_factory=dict)


def convert(request: ConvertRequest) -> dict[str, Any]:
    """Write the bundle and return the report.

    Raises: AccuracyError when a target fails the gate, after the others are written; ConfigError for a request that
    cannot be met, ModelError for a model that cannot be read, InterruptedWorkError on Ctrl-C.
    """
    started = time.monotonic()
    jobs = plan(request.formats, request.precisions)
    _check(request, jobs)
    work = Workspace(request.out)
    try:
        check_place(request.out, request.force)
        dataset = open_dataset(request.evaluation, request.evaluation_images) if request.evaluation else None
        pictures = _pictures(request, dataset)
        model = _load(request, work, jobs, pictures)
        if pictures and pictures.grey and model.manifest.input.channel_order != "gray" and not request.allow_grey:
            raise grey_error(len(pictures))
        if dataset:
            check_dataset(model, dataset)
        conversion = _Conversion(request, work, jobs, model, pictures, dataset)
        _make_all(conversion)
        _judge_all(conversion)
        report = finish(
            conversion.model,
            [conversion.made[job.name] for job in jobs],
            conversion.verdicts,
            request,
            pictures,
            work,
            time.monotonic() - started,
        )
    except KeyboardInterrupt as exc:
        raise InterruptedWorkError(
            "interrupted; what was done is kept", "give the same command again to go on"
        ) from exc
    finally:
        work.close()
    failed = [row for row in report["targets"] if row["passed"] is False]
    if failed:
        losses = ", ".join(f"{row['name']} loses {row['drop']['value']:.4f}" for row in failed)
        default = " (the default)" if request.max_drop == DEFAULT_MAX_DROP else ""
        mixed = "mixed" in request.precisions
        longer = "--search MINUTES searches longer" if mixed else "--precision mixed keeps the worst layers in float"
        raise AccuracyError(
            f"{losses}; --max-drop is {request.max_drop:g}{default}",
            f"see {request.out.name}/report.html; {longer}; --max-drop X allows more",
        )
    return report


def _check(request: ConvertRequest, jobs: list[Job]) -> None:
    if not request.out.parent.is_dir():
        raise ConfigError(f"there is no folder {request.out.parent}", "make it, or give another --out")
    wanting = [job.name for job in jobs if job.calibrated]
    if wanting and not request.calibration:
        raise ConfigError(
            f"{', '.join(wanting)} needs pictures to calibrate with", "add --calibration FOLDER (a few hundred frames)"
        )
    if request.observer:
        check_observer(request.observer)
    makers.check_tools(jobs)


def _pictures(request: ConvertRequest, dataset: Dataset | None) -> CalibrationSet | None:
    if not request.calibration:
        return None
    progress = Progress("looking at the calibration pictures")
    pictures = read_pictures(request.calibration, allow_few=request.allow_few, progress=progress.update)
    progress.clear()
    shared = shared_pictures(pictures, dataset) if dataset else []
    if dataset and shared:
        said = (
            f"{len(shared)} of the {len(dataset.samples)} pictures of --eval are calibrated on, too (first "
            f"{shared[0]}): the accuracy of quantized targets is flattered; give --calibration other pictures"
        )
        _LOG.warning("warning: %s", said)
        pictures = replace(pictures, notes=(*pictures.notes, said))
    return pictures


def _load(request: ConvertRequest, work: Workspace, jobs: list[Job], pictures: CalibrationSet | None) -> FloatModel:
    forms = {job.form for job in jobs}
    want_onnx = bool(forms & {"onnx", "tensorrt"}) or not forms & {"tflite", "edgetpu"}
    depends = {
        "source": _identity(request.model),
        "state_dict": _identity(str(request.state_dict)) if request.state_dict else None,
        "labels": _identity(request.labels) if request.labels else None,
        "settings": dict(request.settings or {}),
        "size": request.size_wh,
        "forms": sorted(forms),
        "probe": pictures.identity if pictures else None,
        "surgery": [request.split_outputs, request.equalized],
    }
    facts = work.facts("load", depends)
    if facts is not None:
        return restored(work.bundle, facts)
    progress = Progress(f"reading {Path(request.model).name}")
    progress.update(0, "")
    work.clear()
    options = LoadOptions(
        settings=request.settings or {},
        labels=request.labels,
        size_wh=request.size_wh,
        state_dict=request.state_dict,
        pictures=picture_files(pictures.chosen(range(min(_PROBES, len(pictures)))), work) if pictures else [],
        want_onnx=want_onnx,
        want_tflite=bool(forms & {"tflite", "edgetpu"}),
        split_outputs=request.split_outputs,
        equalized=request.equalized,
    )
    with writing(work.folder):
        model = load(request.model, work.bundle, options)
    progress.clear()
    files = [model.folder / target.file for target in model.manifest.targets.values()]
    work.done("load", depends, facts_of(model), [*files, model.probe])
    return model


def _identity(reference: str) -> str:
    """What a file is: its hash and, for ONNX, the state of the files beside it that it names, where weights may lie.

    A folder's files and a factory's package by their sizes and times.
    """
    path = Path(reference)
    if path.is_file():
        if path.suffix.lower() != ".onnx":
            return sha256_of(path)
        content = path.read_bytes()
        return sha256_of(path) + _states(f for f in path.parent.iterdir() if f.name.encode() in content)
    if path.is_dir():
        return _states(path.rglob("*"))
    package = Path(reference.partition(":")[0].partition(".")[0])
    return reference + _states([package.with_suffix(".py"), *package.rglob("*.py")])


def _states(files: Iterable[Path]) -> str:
    found = sorted(file for file in files if file.is_file())
    return json.dumps([(str(f), f.stat().st_size, f.stat().st_mtime_ns) for f in found])


def _make_all(conversion: _Conversion) -> None:
    for job in conversion.jobs:
        made = makers.make(job, conversion.model, conversion.pictures, conversion.request, conversion.work)
        conversion.made[job.name] = made
        if made.target and job.name not in (FLOAT_ONNX, FLOAT_TFLITE):
            with writing(conversion.work.folder):
                conversion.model = add_target(conversion.model, job.name, made.target)


def _judge_all(conversion: _Conversion) -> None:
    request, dataset = conversion.request, conversion.dataset
    if not dataset:
        return
    names = [name for name, made in conversion.made.items() if made.target and runs_here(name)]
    reference = reference_target(conversion.model)
    folder = conversion.work.folder / "eval"
    first = judge(conversion.model, reference, dataset, None, folder, request.threads)
    conversion.verdicts[reference] = first
    for name in names:
        if name != reference:
            conversion.verdicts[name] = judge(
                conversion.model, name, dataset, request.max_drop, folder, request.threads, first.evaluation
            )
