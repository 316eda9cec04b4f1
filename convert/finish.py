"""The end of a conversion: figures for the report, the gate's refusals, the golden picture, the bundle in its place."""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np

from calibration.pictures import CalibrationSet
from convert.calibrated import inputs_of
from convert.fidelity import compare_latency
from convert.float_model import FloatModel, write_manifest
from convert.gate import Verdict, reference_target, runs_here
from convert.layer_errors import layer_errors
from convert.made import Made
from convert.probe import float_error
from convert.report import report_of, text_of
from convert.report_html import page_of
from convert.request import ConvertRequest
from convert.workspace import Workspace, check_place, replace_folder, writing
from edge.evaluation.dataset_reader import read_dataset
from edge.evaluation.datasets import read_picture
from edge.evaluation.explain import explain
from edge.evaluation.pictures import names_to_show, picture_row
from edge.evaluation.runner import RunSettings
from edge.golden import write_golden
from edge.manifest import sha256_of

__all__ = ["finish"]

_FLOAT = ("fp32", "fp16")
_GOLDEN_TRIED = 16
_SHOWN_PICTURES, _EXPLAINED_PICTURES, _LAYER_PICTURES = 6, 8, 2


def finish(
    model: FloatModel,
    made: Sequence[Made],
    verdicts: Mapping[str, Verdict],
    request: ConvertRequest,
    pictures: CalibrationSet | None,
    work: Workspace,
    seconds: float,
) -> dict[str, Any]:
    """Write report.json, report.html and the golden picture, leave out what failed, and move the bundle to its place.

    Returns the report, which is printed too. Raises: ConfigError when the disk is full or the place is taken.
    """
    rows = [_row(model, one, verdicts.get(one.name), request) for one in made]
    _pass_on_failures(made, rows, request)
    _add_latencies(model, rows, request.threads)
    for row in rows:
        if row["passed"] is False and row["name"] in verdicts:
            _add_causes(model, row, verdicts[row["name"]], pictures, request.threads)
    verdict = next(iter(verdicts.values()), None)
    evaluation = None
    if verdict:
        dataset = verdict.evaluation.dataset
        evaluation = {"metric": verdict.metric, "source": str(dataset.path), "pictures": len(dataset.samples)}
    observers = sorted({one.observer for one in made if one.observer})
    calibration = None
    if pictures and observers:
        calibration = {
            "source": pictures.reference,
            "images": len(pictures.names),
            "observer": ", ".join(observers),
        }
    warnings = [*_guess(model), *(pictures.notes if pictures else ()), *_warnings(request, verdicts)]
    report = report_of(_source(model), rows, calibration, evaluation, model.notes, warnings, seconds)
    with writing(work.folder):
        kept = _bundle(model, rows, work.folder / "final")
        _write_golden(kept, rows, request, pictures)
        (kept.folder / "report.json").write_text(json.dumps(report, indent=1) + "\n")
        (kept.folder / "report.html").write_text(page_of(report, _worst(rows, verdicts)), encoding="utf-8")
    check_place(request.out, request.force)  # it may have come while this ran
    replace_folder(kept.folder, request.out)
    work.remove()
    print(text_of(report))
    print(f"{request.out}")
    return report


def _row(model: FloatModel, made: Made, verdict: Verdict | None, request: ConvertRequest) -> dict[str, Any]:
    file = model.folder / made.target.file if made.target else None
    precision = made.name.partition("-")[2]
    error = None
    if file and precision in _FLOAT and runs_here(made.name):
        error = max(float_error(model, made.name).values())
    facts = verdict.facts if verdict else {"metric": None, "accuracy": None, "drop": None, "passed": None}
    return {
        "name": made.name,
        "precision": precision,
        "file": file.name if file else None,
        "bytes": file.stat().st_size if file else None,
        "sha256": made.target.sha256 or sha256_of(file) if made.target and file else None,
        "needs": dict(made.target.needs) if made.target else {},
        "reference": made.name == reference_target(model),
        "missing": made.missing,
        "latency_ms": None,
        "float_error": error,
        **facts,
        "written": bool(file) and (facts["passed"] is not False or request.keep_failing),
        "observer": made.observer,
        "kept_float": made.kept_float,
        "frontier": made.frontier,
        "outputs_sqnr_db": {},
        "layers": [],
        "details": made.details,
        "notes": ([made.missing] if made.missing else []) + made.notes,
    }


def _pass_on_failures(made: Sequence[Made], rows: list[dict[str, Any]], request: ConvertRequest) -> None:
    """What was made from a file that fails the gate fails with it: its numbers are the same."""
    by_name = {row["name"]: row for row in rows}
    for one, row in zip(made, rows, strict=True):
        source = by_name.get(one.source)
        if source and source["passed"] is False and row["file"]:
            row.update(passed=False, drop=source["drop"], metric=source["metric"], written=request.keep_failing)
            row["notes"].append(f"made from {one.source}, which fails the gate")
        elif source and source["accuracy"] and row["file"]:
            row["notes"].append(f"not run here; made from {one.source}, whose accuracy is above")


def _add_latencies(model: FloatModel, rows: list[dict[str, Any]], threads: int) -> None:
    timed = [row for row in rows if row["file"] and runs_here(row["name"]) and row["precision"] != "int16x8"]
    latencies = compare_latency([model.folder / row["file"] for row in timed], threads)
    for row, latency_ms in zip(timed, latencies, strict=True):
        row["latency_ms"] = round(latency_ms, 3)


def _add_causes(
    model: FloatModel, row: dict[str, Any], verdict: Verdict, pictures: CalibrationSet | None, threads: int
) -> None:
    """Which outputs and which layers make a target fail."""
    dataset = replace(verdict.evaluation.dataset, samples=verdict.evaluation.dataset.samples[:_EXPLAINED_PICTURES])
    form = row["name"].partition("-")[0]
    own = f"{form}-fp32"  # of the same format: its outputs lie in the same order
    reference = own if own in model.manifest.targets else reference_target(model)
    settings = [RunSettings(str(model.folder), name, threads=threads) for name in (reference, row["name"])]
    findings = explain(dataset, settings[0], settings[1])
    row["outputs_sqnr_db"] = {k: round(v, 2) for k, v in findings["details"]["engine"]["sqnr_db"].items()}
    float_file = model.file(own)
    if pictures and float_file:  # tensors keep their names from the float file on
        few = pictures.chosen(range(min(_LAYER_PICTURES, len(pictures))))
        inputs = inputs_of(model, float_file, few)()
        row["layers"] = layer_errors(float_file, model.folder / row["file"], inputs)


def _bundle(model: FloatModel, rows: Sequence[dict[str, Any]], folder: Path) -> FloatModel:
    """A folder with the targets that are written, quickest here first; those that do not run here come last."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    written = [row for row in rows if row["written"]]
    written.sort(key=lambda row: (row["latency_ms"] is None, row["latency_ms"] or 0.0))
    targets = {row["name"]: model.manifest.targets[row["name"]] for row in written}
    for target in targets.values():
        shutil.copy2(model.folder / target.file, folder / target.file)
    if isinstance(model.manifest.labels, str):
        shutil.copy2(model.folder / model.manifest.labels, folder / model.manifest.labels)
    accuracy = {row["name"]: row["accuracy"]["value"] for row in written if row["accuracy"]}
    guess = next((note for note in model.notes if note.startswith("contract: a guess")), "")
    manifest = msgspec.structs.replace(
        model.manifest, targets=targets, accuracy=accuracy, contract_origin=guess.removeprefix("contract: ")
    )
    write_manifest(folder, manifest)
    return replace(model, folder=folder, manifest=manifest)


def _write_golden(
    model: FloatModel, rows: Sequence[dict[str, Any]], request: ConvertRequest, pictures: CalibrationSet | None
) -> None:
    names = [row["name"] for row in rows if row["written"] and runs_here(row["name"])]
    if not names:
        return
    reference = reference_target(model) if reference_target(model) in names else names[0]
    found: list[np.ndarray] = []
    if request.evaluation:
        samples = read_dataset(request.evaluation, request.evaluation_images, _GOLDEN_TRIED).samples
        found = [read_picture(sample.path, sample.size_wh) for sample in samples]
    elif pictures:
        found = [pictures.picture(i) for i in range(min(_GOLDEN_TRIED, len(pictures)))]
    for i, picture in enumerate(found):
        seen = write_golden(model.folder, picture, reference, [reference])
        if seen[reference]["class_ids"] or i == len(found) - 1:
            write_golden(model.folder, picture, reference, names)  # one on which there is something to see
            return


def _worst(rows: Sequence[dict[str, Any]], verdicts: Mapping[str, Verdict]) -> list[tuple[str, bytes]]:
    """The pictures on which the target that lost most differs most from the float model."""
    compared = [row for row in rows if row["drop"]]
    if not compared:
        return []
    row = max(compared, key=lambda row: row["drop"]["value"])
    evaluation = verdicts[row["name"]].evaluation
    shown = []
    for name in names_to_show(evaluation, _SHOWN_PICTURES):
        done, data = cv2.imencode(".jpg", picture_row(evaluation, name), [cv2.IMWRITE_JPEG_QUALITY, 80])
        if done:
            sides = ", ".join(f"{side.title} {side.identity['target']}" for side in evaluation.sides)
            shown.append((f"{name}: truth, {sides}", data.tobytes()))
    return shown


def _source(model: FloatModel) -> dict[str, Any]:
    path = model.original
    return {
        "name": model.manifest.name,
        "file": path.name,
        "kind": path.suffix.lstrip(".") or "SavedModel",
        "bytes": path.stat().st_size if path.is_file() else None,
        "sha256": sha256_of(path) if path.is_file() else "",
    }


def _guess(model: FloatModel) -> list[str]:
    """A warning where nobody said how the pixels of training became numbers: every figure depends on it."""
    if not any(note.startswith("contract: a guess") for note in model.notes):
        return []
    contract = model.manifest.input
    return [
        f"how pixels become numbers is a guess ({contract.channel_order}, scale {contract.scale:.6g}, "
        f"mean {', '.join(f'{v:g}' for v in contract.mean)}, std {', '.join(f'{v:g}' for v in contract.std)}): if "
        "training did otherwise, nothing here is right; state it: --set input.scale=... --set input.channel_order=..."
    ]


def _warnings(request: ConvertRequest, verdicts: Mapping[str, Verdict]) -> list[str]:
    if not request.evaluation:
        return ["accuracy was not measured: give labelled pictures with --eval"]
    said = [warning for verdict in verdicts.values() for warning in verdict.evaluation.report["warnings"]]
    plain = [warning.removeprefix("A: ").removeprefix("B: ") for warning in said]
    found: dict[str, str] = {}
    for warning in plain:  # one of a kind: each target's interval has its own width
        found.setdefault(warning.partition(" ")[0] + warning[-20:], warning)
    return list(found.values())
