"""What decides in a conversion: the gate, resuming, mixed precision, files for accelerators, the bundle's place."""

import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("onnx", reason="the converter needs onnx")
pytest.importorskip("litert_quantizer", reason="the converter needs litert-quantizer")

from convert import finish, gate, makers, run
from convert import load as load_module
from convert.float_model import FLOAT_ONNX
from convert.load import LoadOptions, load
from convert.made import Made
from convert.request import ConvertRequest, Job
from convert.run import convert
from convert.workspace import Workspace, replace_folder
from edge.errors import ConfigError, InterruptedWorkError, MissingBackendError, ModelError
from edge.golden import check_golden
from edge.model import open_model


def rows_of(bundle: Path) -> dict[str, dict]:
    return {row["name"]: row for row in json.loads((bundle / "report.json").read_text())["targets"]}


@pytest.mark.parametrize(("value", "passed"), [(0.02, False), (0.01, True), (-0.1, True)])
def test_the_measured_drop_decides_not_an_end_of_its_interval(value, passed, monkeypatch):
    drop = {"value": value, "low": value - 0.5, "high": value + 0.5}
    figures = {"figures": {"map": {"value": 0.3, "low": 0.2, "high": 0.4}}}
    report = {"models": [figures, figures], "comparison": {"drop": drop}}
    asked = []
    monkeypatch.setattr(gate, "evaluate", lambda *given, known: asked.append(given) or SimpleNamespace(report=report))
    model = SimpleNamespace(folder=Path(), manifest=SimpleNamespace(targets={FLOAT_ONNX: None}))
    dataset, reference = SimpleNamespace(kind="detection"), SimpleNamespace()
    verdict = gate.judge(model, "tflite-int8", dataset, 0.01, Path(), 1, reference)
    assert verdict.passed is passed
    assert len(asked[0]) == 3  # resampled as often as `harrier eval` does


def test_the_float_model_is_scored_once(classifier_file, class_folders, tmp_path, monkeypatch):
    from edge.evaluation import evaluate

    scored = []
    real = evaluate.score_classifier
    monkeypatch.setattr(evaluate, "score_classifier", lambda *rest: scored.append(rest) or real(*rest))
    precisions = ("fp32", "fp16", "dynamic")
    report = convert(
        ConvertRequest(str(classifier_file), tmp_path / "b", ("tflite",), precisions, evaluation=class_folders)
    )
    assert len(report["targets"]) == len(precisions)
    assert len(scored) == 1 + len(precisions)  # onnx-fp32, which all are compared with, and each of them
    assert all(row["drop"] for row in report["targets"])


def test_a_float_file_that_differs_from_the_original_is_refused(classifier_file, tmp_path, monkeypatch):
    monkeypatch.setattr(load_module, "float_error", lambda *_: {"scores": 0.01})
    with pytest.raises(ModelError, match="scores"):
        load(str(classifier_file), tmp_path / "bundle", LoadOptions(want_tflite=True))


def test_what_is_made_from_a_failing_file_fails_with_it():
    def row(name: str, passed: bool | None) -> dict:
        facts = {"name": name, "passed": passed, "drop": {"value": 0.2}, "metric": "map", "accuracy": None}
        return {**facts, "file": f"{name}.x", "written": True, "notes": []}

    made = [Made("onnx-int8"), Made("tensorrt-int8", source="onnx-int8"), Made("tensorrt-fp16", source="onnx-fp16")]
    rows = [row("onnx-int8", False), row("tensorrt-int8", None), row("tensorrt-fp16", None)]
    finish._pass_on_failures(made, rows, ConvertRequest("m", Path("b")))
    assert [(one["passed"], one["written"]) for one in rows[1:]] == [(False, False), (None, True)]
    assert "onnx-int8" in rows[1]["notes"][0]


def request(model: Path, out: Path, pictures: Path, **changes) -> ConvertRequest:
    return ConvertRequest(str(model), out, ("tflite", "onnx"), ("int8",), calibration=str(pictures), **changes)


def interrupted(wanted: ConvertRequest, monkeypatch) -> None:
    """Run until all files are made."""
    with monkeypatch.context() as patch:
        patch.setattr(run, "finish", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(InterruptedWorkError):
            convert(wanted)


def test_pictures_need_no_utf8_names(classifier_file, class_folders, tmp_path):
    for path in sorted(class_folders.rglob("*.png"))[:12]:
        (tmp_path / "set" / path.parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, tmp_path / "set" / path.parent.name / os.fsdecode(b"caf\xe9" + path.name.encode()))
    wanted = ConvertRequest(
        str(classifier_file), tmp_path / "b", ("onnx",), ("fp32", "fp16"), evaluation=tmp_path / "set"
    )
    convert(wanted)
    assert check_golden(str(tmp_path / "b"), "onnx-fp32")["agreement"] == 1
    assert "caf\\udce9" in (tmp_path / "b/report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("change", ["pictures", "settings"])
def test_a_resumed_run_takes_nothing_from_other_pictures_or_pixels(
    change, classifier_file, pictures, tmp_path, monkeypatch
):
    folder = tmp_path / "pictures"
    shutil.copytree(pictures, folder)
    interrupted(request(classifier_file, tmp_path / "b", folder), monkeypatch)
    settings = {}
    if change == "pictures":
        import cv2

        for path in folder.iterdir():  # darker ones of the same names
            cv2.imwrite(str(path), cv2.imread(str(path)) // 4)
    else:
        settings = {"input.scale": 0.001, "input.mean": [0.0, 0.0, 0.0], "input.std": [1.0, 1.0, 1.0]}
    convert(request(classifier_file, tmp_path / "b", folder, settings=settings))
    convert(request(classifier_file, tmp_path / "fresh", folder, settings=settings))
    resumed, fresh = rows_of(tmp_path / "b"), rows_of(tmp_path / "fresh")
    for name in ("tflite-int8", "onnx-int8"):
        assert resumed[name]["sha256"] == fresh[name]["sha256"], name


def test_a_resumed_run_of_the_same_does_nothing_twice(classifier_file, pictures, tmp_path, monkeypatch):
    wanted = request(classifier_file, tmp_path / "b", pictures)
    interrupted(wanted, monkeypatch)
    monkeypatch.setattr(makers, "leaf", lambda *_: pytest.fail("a file was made again"))
    convert(wanted)
    assert set(rows_of(tmp_path / "b")) == {"tflite-fp32", "tflite-int8", "onnx-fp32", "onnx-int8"}


def test_mixed_keeps_the_worst_layers_in_float(classifier_file, pictures, class_folders, tmp_path, monkeypatch):
    for form in ("tflite", "onnx"):
        monkeypatch.setattr(f"convert.make_{form}.goal_for", lambda max_drop: 0.995)
    wanted = ConvertRequest(
        str(classifier_file),
        tmp_path / "b",
        ("tflite", "onnx"),
        ("int8", "mixed"),
        calibration=str(pictures),
        evaluation=class_folders,
        max_drop=1.0,
        observer="percentile:51",  # cuts nearly all of every activation off
        search_s=30.0,
    )
    convert(wanted)
    rows = rows_of(tmp_path / "b")
    for form in ("tflite", "onnx"):
        whole, mixed = rows[f"{form}-int8"], rows[f"{form}-mixed"]
        assert mixed["kept_float"]
        assert not whole["kept_float"]
        assert mixed["drop"]["value"] <= whole["drop"]["value"]
        chosen = [point for point in mixed["frontier"] if point["chosen"]]
        assert len(chosen) == 1
        assert chosen[0]["kept"] == len(mixed["kept_float"])
        assert chosen[0]["fidelity"] > min(point["fidelity"] for point in mixed["frontier"])
    assert "circle" in (tmp_path / "b" / "report.html").read_text()


def test_given_ranges_serve_every_format_alike(classifier_file, pictures, tmp_path):
    from calibration.collect import collect
    from calibration.collected import ranges_from
    from calibration.pictures import read_pictures
    from calibration.ranges import read_ranges, write_ranges
    from convert.calibrated import given_ranges, inputs_of

    model = load(str(classifier_file), tmp_path / "m", LoadOptions(want_tflite=True))
    found = read_pictures(str(pictures))
    onnx_file, tflite_file = model.file("onnx-fp32"), model.file("tflite-fp32")
    write_ranges(tmp_path / "r.json", ranges_from(collect(onnx_file, inputs_of(model, onnx_file, found)()), "mse"))
    ours, other = read_ranges(tmp_path / "r.json"), given_ranges(model, tflite_file, tmp_path / "r.json", found)
    shared = ours.tensors.keys() & other.tensors.keys()
    assert len(shared) >= 5
    assert all(ours.tensors[name] == other.tensors[name] for name in shared)
    (tmp_path / "r.json").write_text((tmp_path / "r.json").read_text().replace(ours.model_sha256, "0" * 64))
    with pytest.raises(ConfigError, match="another model"):
        given_ranges(model, tflite_file, tmp_path / "r.json", found)


def test_grey_pictures_do_not_calibrate_a_colour_model(classifier_file, pictures, tmp_path):
    import cv2

    folder = tmp_path / "grey"
    folder.mkdir()
    for path in pictures.iterdir():
        cv2.imwrite(str(folder / path.name), cv2.imread(str(path), cv2.IMREAD_GRAYSCALE))
    with pytest.raises(ConfigError, match="grey"):
        convert(request(classifier_file, tmp_path / "b", folder, observer="min-max"))
    convert(request(classifier_file, tmp_path / "b", folder, observer="min-max", allow_grey=True))


def test_labels_and_accuracy_travel_and_a_guess_stays_one(classifier_file, class_folders, tmp_path):
    (tmp_path / "names.txt").write_text("0\n1\n2\n3\n")
    wanted = ConvertRequest(
        str(classifier_file),
        tmp_path / "b",
        ("tflite",),
        ("fp32", "fp16"),
        evaluation=class_folders,
        labels=str(tmp_path / "names.txt"),
        max_drop=1.0,
    )
    convert(wanted)
    model = open_model(str(tmp_path / "b"))
    assert model.labels == ["0", "1", "2", "3"]
    assert set(model.manifest.accuracy) == {"tflite-fp32", "tflite-fp16"}
    assert model.origins["contract"].startswith("a guess")
    assert rows_of(tmp_path / "b")["tflite-fp16"]["float_error"] > 0
    assert any("pictures" in warning for warning in json.loads((tmp_path / "b/report.json").read_text())["warnings"])


def test_engines_and_edge_tpu_files_say_what_they_are(classifier_file, pictures, class_folders, tmp_path):
    pytest.importorskip("tensorrt_rtx_libs", reason="TensorRT-RTX is not installed")
    wanted = ConvertRequest(
        str(classifier_file),
        tmp_path / "b",
        ("tensorrt", "edgetpu"),
        ("fp16", "int8", "uint8-io"),
        calibration=str(pictures),
        evaluation=class_folders,
        max_drop=1.0,
        compute_capabilities=("8.6",),
    )
    convert(wanted)
    rows = rows_of(tmp_path / "b")
    for name, precision in (("tensorrt-fp16", "HALF"), ("tensorrt-int8", "INT8")):
        assert rows[name]["written"]
        assert rows[name]["needs"]["sm"] == "8.6"
        assert rows[name]["details"]["precisions"].get(precision, 0) >= 2, name
        assert (tmp_path / "b" / rows[name]["file"]).stat().st_size > 1000
    edge = rows["edgetpu-uint8-io"]
    placed = edge["details"]["placement"]
    assert placed["operators"] == len(placed["ops"]) > 3
    assert f"{placed['operators']} operators on the Edge TPU" in (tmp_path / "b" / "report.html").read_text()
    assert edge["written"] or "edgetpu_compiler" in edge["missing"]
    assert rows["tflite-uint8-io"]["written"]


def test_a_format_without_its_tools_is_told_before_the_work(classifier_file, tmp_path, monkeypatch):
    monkeypatch.setattr(makers, "find_spec", lambda name: None)
    with pytest.raises(MissingBackendError, match="pip install"):
        convert(ConvertRequest(str(classifier_file), tmp_path / "b"))
    assert not list(tmp_path.iterdir())


def test_the_old_bundle_comes_back_when_the_new_cannot_take_its_place(tmp_path):
    old = tmp_path / "b"
    old.mkdir()
    (old / "manifest.toml").write_text("old")
    with pytest.raises(ConfigError):
        replace_folder(tmp_path / "missing", old)
    assert (old / "manifest.toml").read_text() == "old"
    old.rename(tmp_path / ".b.old")  # a killed run got no further
    Workspace(old).remove()
    assert (old / "manifest.toml").read_text() == "old"
    (tmp_path / ".b.old").mkdir()  # a killed run got one step further: this one was replaced
    Workspace(old).remove()
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


def test_int16_loses_nothing(classifier_file, pictures, class_folders, tmp_path):
    wanted = ConvertRequest(
        str(classifier_file),
        tmp_path / "b",
        ("tflite",),
        ("int16x8",),
        calibration=str(pictures),
        evaluation=class_folders,
        max_drop=0.05,
    )
    convert(wanted)  # AccuracyError otherwise
    assert rows_of(tmp_path / "b")["tflite-int16x8"]["drop"]["value"] <= 0.05


def test_a_job_is_named_after_what_it_makes():
    assert Job("tflite", "int8").name == "tflite-int8"
    assert [Job("tflite", p).calibrated for p in ("fp16", "int8", "int16x8")] == [False, True, True]


def test_an_engine_with_fewer_int8_layers_than_its_onnx_is_refused(classifier_file, pictures, tmp_path, monkeypatch):
    pytest.importorskip("tensorrt_rtx_libs", reason="TensorRT-RTX is not installed")
    from convert import make_tensorrt

    real = make_tensorrt.layers_of
    wanted = ConvertRequest(
        str(classifier_file),
        tmp_path / "b",
        ("tensorrt",),
        ("int8",),
        calibration=str(pictures),
        observer="mse",
        compute_capabilities=("8.6",),
    )
    monkeypatch.setattr(make_tensorrt, "layers_of", lambda file, precision: real(file, precision) + 1)
    with pytest.raises(ModelError, match="of 4 convolutions and products in INT8"):
        convert(wanted)
    assert not (tmp_path / "b").exists()


def test_a_source_is_known_by_all_that_it_is_made_of(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m.onnx").write_bytes(b"graph weights.bin")
    (tmp_path / "weights.bin").write_bytes(b"1234")
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "model.py").write_text("a = 1\n")
    before = run._identity("m.onnx"), run._identity("net.model:make")
    (tmp_path / "log.txt").write_text("a file that the model does not name")
    assert (run._identity("m.onnx"), run._identity("net.model:make")) == before
    (tmp_path / "weights.bin").write_bytes(b"12345")
    (tmp_path / "net" / "model.py").write_text("a = 22\n")
    assert run._identity("m.onnx") != before[0]
    assert run._identity("net.model:make") != before[1]
