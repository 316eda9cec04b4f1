"""`harrier convert` from end to end on a small classifier: the bundle, the gate, interruptions and bad requests."""

import errno
import json
import logging
import shutil
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("onnx", reason="the converter needs onnx")
pytest.importorskip("litert_quantizer", reason="the converter needs litert-quantizer")

from convert import finish, make_tflite, makers, run, tflite_choose, tflite_ranges
from convert.report_html import frontier_chart
from convert.request import ConvertRequest, Job, plan
from convert.run import convert
from convert.tflite_choose import CANDIDATES
from convert.workspace import Workspace
from edge.cli import main
from edge.config import EngineSection
from edge.errors import ConfigError, InterruptedWorkError, ManifestError
from edge.evaluation.gates import AccuracyError
from edge.golden import check_golden
from edge.model import open_model
from edge.progress import LogHandler


def request(model: Path, out: Path, **changes) -> ConvertRequest:
    return ConvertRequest(model=str(model), out=out, **changes)


@pytest.fixture(scope="module")
def bundle(classifier_file, pictures, class_folders, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("out") / "small"
    convert(
        request(
            classifier_file,
            out,
            formats=("tflite", "onnx"),
            precisions=("fp32", "fp16", "dynamic", "int8", "uint8-io"),
            calibration=str(pictures),
            evaluation=class_folders,
            max_drop=0.2,
        )
    )
    return out


def report_of(bundle: Path) -> dict:
    return json.loads((bundle / "report.json").read_text())


def test_the_bundle_holds_what_was_asked_for_and_every_target_runs(bundle, pictures):
    rows = {row["name"]: row for row in report_of(bundle)["targets"]}
    assert set(rows) == {
        *("tflite-fp32", "tflite-fp16", "tflite-dynamic", "tflite-int8", "tflite-uint8-io"),
        *("onnx-fp32", "onnx-fp16", "onnx-int8"),
    }
    for name, row in rows.items():
        assert row["written"], name
        assert sha256((bundle / row["file"]).read_bytes()).hexdigest() == row["sha256"]
        assert row["latency_ms"] > 0
        model = open_model(str(bundle), EngineSection(target=name))
        model.close()
    assert rows["onnx-fp32"]["reference"]
    assert rows["onnx-fp32"]["accuracy"]["value"] == 1.0  # the folders are what the float model says
    for name in ("onnx-fp32", "tflite-fp32"):
        assert rows[name]["float_error"] < 2e-3
    assert rows["tflite-fp32"]["drop"]["value"] == 0.0
    assert rows["tflite-int8"]["drop"]["value"] <= 0.2
    assert rows["tflite-int8"]["observer"] in CANDIDATES
    assert open_model(str(bundle), EngineSection(target="tflite-uint8-io")).engine.input_specs[0].dtype == np.uint8
    assert report_of(bundle)["calibration"]["images"] == len(list(pictures.iterdir()))


def test_quick_targets_come_first(bundle):
    times = [row["latency_ms"] for row in report_of(bundle)["targets"]]
    first = next(iter(open_model(str(bundle)).manifest.targets))
    quickest = min(report_of(bundle)["targets"], key=lambda row: row["latency_ms"])
    assert first == quickest["name"]
    assert min(times) == quickest["latency_ms"]


def test_the_golden_picture_is_seen_again_and_a_changed_result_is_noticed(bundle, tmp_path, capsys):
    for name in ("tflite-int8", "onnx-fp32"):
        found = check_golden(str(bundle), name)
        assert (found["of"], found["agreement"], found["score"]) == (name, 1.0, pytest.approx(0, abs=1e-4))
    copy = tmp_path / "copy"
    shutil.copytree(bundle, copy)
    path = copy / "golden" / "results.json"
    stored = json.loads(path.read_text())
    stored["results"]["tflite-fp32"]["class_ids"][0] = (stored["results"]["tflite-fp32"]["class_ids"][0] + 1) % 4
    path.write_text(json.dumps(stored))
    assert main(["inspect", str(copy), "--golden", "--target", "tflite-fp32"]) == 5
    assert main(["inspect", str(copy), "--golden", "--target", "tflite-int8"]) == 0
    path.write_text("[]")
    assert main(["inspect", str(copy), "--golden"]) == 3
    assert "harrier convert" in capsys.readouterr().err


def test_the_page_shows_the_targets_and_stands_alone(bundle):
    page = (bundle / "report.html").read_text()
    assert "tflite-int8" in page
    assert "top-1" in page
    assert "<img" not in page or "data:image/jpeg;base64," in page
    assert "http://" not in page.replace("http://www.w3.org", "")


def test_the_source_is_only_read(classifier_file, pictures, tmp_path):
    before = classifier_file.read_bytes()
    convert(request(classifier_file, tmp_path / "b", precisions=("fp32", "fp16")))
    assert classifier_file.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


def failing(classifier_file, pictures, class_folders, out, **changes) -> ConvertRequest:
    """int8 with nearly all of every activation cut off."""
    return request(
        classifier_file,
        out,
        precisions=("fp32", "int8"),
        calibration=str(pictures),
        evaluation=class_folders,
        max_drop=0.01,
        observer="percentile:51",
        **changes,
    )


def test_a_target_that_fails_the_gate_is_not_written(classifier_file, pictures, class_folders, tmp_path):
    out = tmp_path / "b"
    with pytest.raises(AccuracyError, match=r"tflite-int8 loses .*; --max-drop is 0\.01 \(the default\)"):
        convert(failing(classifier_file, pictures, class_folders, out))
    row = next(row for row in report_of(out)["targets"] if row["name"] == "tflite-int8")
    assert (row["passed"], row["written"]) == (False, False)
    assert row["drop"]["value"] > 0.01
    assert row["layers"]
    assert row["outputs_sqnr_db"]
    assert list(open_model(str(out)).manifest.targets) == ["tflite-fp32"]
    assert not list(out.glob("*int8*"))


def test_keep_failing_writes_it_and_fails_all_the_same(classifier_file, pictures, class_folders, tmp_path):
    out = tmp_path / "b"
    with pytest.raises(AccuracyError):
        convert(failing(classifier_file, pictures, class_folders, out, keep_failing=True))
    assert "tflite-int8" in open_model(str(out)).manifest.targets


def test_an_interrupted_run_leaves_no_bundle_and_goes_on(classifier_file, tmp_path, monkeypatch):
    out = tmp_path / "b"
    wanted = request(classifier_file, out, precisions=("fp32", "fp16", "dynamic"))
    real = makers.make

    def stop(job: Job, *rest):
        if job.precision == "dynamic":
            raise KeyboardInterrupt
        return real(job, *rest)

    monkeypatch.setattr(makers, "make", stop)
    with pytest.raises(InterruptedWorkError) as caught:
        convert(wanted)
    assert caught.value.exit_code == 130
    assert not out.exists()
    assert (tmp_path / ".b.work").is_dir()

    asked = []
    monkeypatch.setattr(makers, "make", lambda job, *rest: asked.append(job.name) or real(job, *rest))
    monkeypatch.setattr(run, "load", lambda *rest: pytest.fail("the model was loaded again"))
    monkeypatch.setattr("convert.make_tflite.quantize_tflite", only_dynamic(monkeypatch))
    convert(wanted)
    assert asked == ["tflite-fp32", "tflite-fp16", "tflite-dynamic"]
    assert (out / "manifest.toml").is_file()
    assert not (tmp_path / ".b.work").exists()


def only_dynamic(monkeypatch):
    from convert.quantize_tflite import quantize_tflite

    def quantize(source, target, precision, *rest):
        assert precision == "dynamic", f"{precision} was made before the interruption"
        quantize_tflite(source, target, precision, *rest)

    return quantize


def test_another_model_of_the_same_name_is_not_taken_for_the_first(classifier_file, tmp_path, monkeypatch):
    import onnx
    from networks import classifier

    model = tmp_path / "m.onnx"
    shutil.copy(classifier_file, model)
    monkeypatch.setattr(run, "_make_all", lambda conversion: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(InterruptedWorkError):
        convert(request(model, tmp_path / "b"))
    monkeypatch.undo()
    onnx.save(classifier(softmax=False), model)
    report = convert(request(model, tmp_path / "b"))
    assert report["source"]["sha256"] == sha256(model.read_bytes()).hexdigest()


def test_a_full_disk_loses_nothing(classifier_file, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(finish, "page_of", full)
    with pytest.raises(ConfigError, match="No space left on device"):
        convert(request(classifier_file, tmp_path / "b"))
    assert not (tmp_path / "b").exists()
    monkeypatch.undo()
    convert(request(classifier_file, tmp_path / "b"))
    assert (tmp_path / "b" / "report.html").is_file()


def test_an_older_bundle_stays_until_the_new_one_stands(classifier_file, tmp_path, monkeypatch):
    out = tmp_path / "b"
    convert(request(classifier_file, out))
    old = (out / "report.json").read_bytes()
    with pytest.raises(ConfigError, match="there already"):
        convert(request(classifier_file, out))
    monkeypatch.setattr(finish, "page_of", lambda *_: (_ for _ in ()).throw(OSError(errno.EIO, "broken")))
    with pytest.raises(ConfigError):
        convert(request(classifier_file, out, force=True))
    assert (out / "report.json").read_bytes() == old
    monkeypatch.undo()
    convert(request(classifier_file, out, precisions=("fp32", "fp16"), force=True))
    assert "tflite-fp16" in open_model(str(out)).manifest.targets


def test_a_bundle_that_a_killed_run_put_aside_is_not_replaced_without_force(classifier_file, tmp_path, monkeypatch):
    out, aside = tmp_path / "b", tmp_path / ".b.old"
    convert(request(classifier_file, out))
    old = (out / "report.json").read_bytes()
    monkeypatch.setattr(finish, "replace_folder", lambda new, place: (place.rename(aside), killed()))
    with pytest.raises(InterruptedWorkError):
        convert(request(classifier_file, out, precisions=("fp32", "fp16"), force=True))
    monkeypatch.undo()
    assert not out.exists()
    again = request(classifier_file, out, precisions=("fp32", "fp16"))
    for _ in range(2):
        with pytest.raises(ConfigError, match="there already: add --force"):
            convert(again)
        assert (out / "report.json").read_bytes() == old
        assert (tmp_path / ".b.work").is_dir()
    monkeypatch.setattr(run, "load", lambda *rest: pytest.fail("the model was loaded again"))
    convert(replace(again, force=True))
    assert "tflite-fp16" in open_model(str(out)).manifest.targets
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


def killed():
    raise KeyboardInterrupt


def test_a_bundle_that_came_during_the_run_is_not_replaced_without_force(classifier_file, tmp_path, monkeypatch):
    out = tmp_path / "b"
    real = finish.page_of

    def meanwhile(*rest):
        out.mkdir()
        (out / "manifest.toml").write_text("another's")
        return real(*rest)

    monkeypatch.setattr(finish, "page_of", meanwhile)
    with pytest.raises(ConfigError, match="there already"):
        convert(request(classifier_file, out))
    assert (out / "manifest.toml").read_text() == "another's"
    shutil.rmtree(out)
    monkeypatch.undo()
    monkeypatch.setattr(makers, "leaf", lambda *_: pytest.fail("a file was made again"))
    convert(request(classifier_file, out))


def test_what_is_no_bundle_is_never_replaced(classifier_file, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(ConfigError, match="is no bundle"):
        convert(request(classifier_file, tmp_path / "mine", force=True))
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"


def test_two_conversions_of_one_bundle_do_not_meet(tmp_path):
    held = Workspace(tmp_path / "b")
    with pytest.raises(ConfigError, match="another conversion"):
        Workspace(tmp_path / "b")
    held.close()
    Workspace(tmp_path / "b").remove()
    assert not list(tmp_path.iterdir())


def test_a_corrupt_calibration_picture_is_named_and_left_out(classifier_file, pictures, tmp_path):
    folder = tmp_path / "pictures"
    shutil.copytree(pictures, folder)
    (folder / "000.png").write_bytes(b"not a picture")
    report = convert(
        request(classifier_file, tmp_path / "b", precisions=("int8",), calibration=str(folder), observer="min-max")
    )
    assert any("000.png" in warning for warning in report["warnings"])
    assert report["calibration"]["images"] == 63


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["nothing.onnx"], 3, "nothing.onnx"),
        (["MODEL", "--to", "tflit"], 2, "did you mean 'tflite'"),
        (["MODEL", "--precision", "int9"], 2, "no precision 'int9'"),
        (["MODEL", "--to", "onnx", "--precision", "dynamic"], 2, "no precision 'dynamic'"),
        (["MODEL", "--precision", "int8"], 2, "--calibration"),
        (["MODEL", "--precision", "int8", "--calibration", "nowhere"], 2, "nowhere"),
        (["MODEL", "--eval", "nowhere.json"], 2, "nowhere.json"),
        (["MODEL", "--max-drop", "0.1"], 2, "--eval"),
        (["MODEL", "--set", "input.chanel_order=rgb"], 2, "channel_order"),
        (["MODEL", "--set", "nonsense"], 2, "KEY=VALUE"),
        (["MODEL", "--labels", "two.txt"], 3, "labels"),
        (["MODEL", "--out", "nowhere/b"], 2, "nowhere"),
    ],
)
def test_bad_requests_are_one_line_with_the_right_code(
    words, code, said, classifier_file, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    Path("two.txt").write_text("cat\ndog\n")
    shutil.copy(classifier_file, "m.onnx")
    assert main(["convert", *("m.onnx" if word == "MODEL" else word for word in words)]) == code
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("harrier: ")]
    assert len(lines) == 1, lines
    assert said in lines[0]
    assert not Path("m-bundle").exists()


def test_a_plan_makes_what_others_need_first():
    names = [job.name for job in plan(("tensorrt", "edgetpu"), ("int8", "uint8-io"))]
    assert names == ["tflite-fp32", "tflite-uint8-io", "onnx-fp32", "onnx-int8", "tensorrt-int8", "edgetpu-uint8-io"]
    assert [job.name for job in plan(("tensorrt",), ("best",))] == ["onnx-fp32", "onnx-int8", "tensorrt-best"]
    with pytest.raises(ConfigError, match="edgetpu has none of the precisions fp16"):
        plan(("edgetpu", "onnx"), ("fp16",))


def test_classes_that_differ_are_said_before_anything_is_made(classifier_file, class_folders, tmp_path, monkeypatch):
    (tmp_path / "names.txt").write_text("a\nb\nc\nd\n")
    folders = tmp_path / "eval"
    for name in ("d", "c", "bb"):
        shutil.copytree(next(path for path in sorted(class_folders.iterdir()) if path.is_dir()), folders / name)
    monkeypatch.setattr(makers, "make", lambda *_: pytest.fail("made before the classes were compared"))
    with pytest.raises(ConfigError, match="no label 'bb'"):
        convert(request(classifier_file, tmp_path / "b", labels=str(tmp_path / "names.txt"), evaluation=folders))


def test_calibrating_on_the_evaluation_is_warned_of(classifier_file, class_folders, tmp_path, caplog):
    report = convert(
        request(
            classifier_file,
            tmp_path / "b",
            precisions=("fp32", "int8"),
            calibration=str(class_folders),
            evaluation=class_folders,
            observer="min-max",
            allow_few=True,
        )
    )
    count = report["evaluation"]["pictures"]
    said = f"{count} of the {count} pictures of --eval are calibrated on, too"
    assert [w for w in report["warnings"] if w.startswith(said)]
    assert said in caplog.text


def test_a_guessed_contract_is_a_warning_until_it_is_stated(classifier_file, tmp_path):
    (tmp_path / "names.txt").write_text("a\nb\nc\nd\n")
    report = convert(request(classifier_file, tmp_path / "b"))
    assert [w for w in report["warnings"] if w.startswith("how pixels become numbers is a guess (rgb")]
    settings = {"input.scale": 0.5, "input.channel_order": "rgb"}
    report = convert(request(classifier_file, tmp_path / "c", settings=settings, labels=str(tmp_path / "names.txt")))
    assert not [w for w in report["warnings"] if "guess" in w]
    assert "contract: channel_order, scale as stated; else" in " ".join(report["notes"])
    assert not [note for note in report["notes"] if note.startswith("labels: none")]


def test_a_request_that_fails_before_any_step_leaves_no_folder(classifier_file, tmp_path, class_folders):
    labels = tmp_path / "two.txt"
    labels.write_text("cat\ndog\n")
    with pytest.raises(ManifestError):
        convert(request(classifier_file, tmp_path / "b", labels=str(labels)))
    assert [path.name for path in tmp_path.iterdir()] == ["two.txt"]


def test_corrected_biases_are_those_of_the_file_that_was_measured(classifier_file, pictures, tmp_path, monkeypatch):
    asked = []
    real = make_tflite.quantize_tflite
    shifted = {"scores": np.ones(4)}

    def choose(source, halves, measure, folder, candidates, keep_float, beside):
        choice = tflite_choose.choose_ranges(source, halves, measure, folder, ["min-max"])
        return replace(choice, shifts=shifted)

    def quantize(source, target, precision, ranges, kept=frozenset(), shifts=None):
        asked.append((precision, shifts))
        real(source, target, precision, ranges, kept, shifts)

    monkeypatch.setattr(tflite_ranges, "choose_ranges", choose)
    monkeypatch.setattr(make_tflite, "quantize_tflite", quantize)
    convert(
        request(classifier_file, tmp_path / "b", precisions=("fp32", "int8", "uint8-io"), calibration=str(pictures))
    )
    assert [precision for precision, _ in asked] == ["int8", "uint8-io"]
    for _, shifts in asked:  # the second from the working folder's notes
        assert shifts.keys() == shifted.keys()
        assert np.array_equal(shifts["scores"], shifted["scores"])


@pytest.mark.parametrize(
    ("words", "cure"),
    [
        (["--search", "1"], "mixed"),
        (["--compute-capability", "8.6"], "tensorrt"),
        (["--remote", "a@b"], "edgetpu"),
        (["--images", "x"], "--eval"),
        (["--observer", "mse"], "--calibration"),
        (["--state-dict", "x.pt"], "MODULE:FACTORY"),
    ],
)
def test_an_option_without_effect_is_refused(words, cure, classifier_file, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["convert", str(classifier_file), *words]) == 2
    said = capsys.readouterr().err
    assert f"{words[0]} changes nothing here" in said
    assert cure in said


def test_a_single_mixture_is_a_sentence_not_an_axis():
    point = {"kept": 0, "fidelity": 0.98, "latency_ms": 0.2, "chosen": True}
    assert "<svg" not in frontier_chart({"frontier": [point]})
    assert "<svg" in frontier_chart({"frontier": [point, {**point, "kept": 2, "latency_ms": 0.3}]})


def test_steps_of_other_libraries_are_not_shown(capsys):
    for name, level, shown in (("absl", 20, False), ("root", 20, False), ("convert.run", 20, True), ("absl", 30, True)):
        LogHandler().emit(logging.LogRecord(name, level, "", 0, f"told by {name}", (), None))
        assert (f"told by {name}" in capsys.readouterr().err) == shown


def test_a_failing_target_is_explained_beside_the_float_file_of_its_own_format(
    classifier_file, pictures, class_folders, tmp_path, monkeypatch
):
    compared = []

    def listen(dataset, a, b):
        compared.append((a.target, b.target))
        return {"details": {"engine": {"sqnr_db": {}}}}

    monkeypatch.setattr(finish, "explain", listen)
    with pytest.raises(AccuracyError, match="--precision mixed"):
        convert(failing(classifier_file, pictures, class_folders, tmp_path / "b", formats=("tflite", "onnx")))
    assert ("tflite-fp32", "tflite-int8") in compared  # the ONNX file's outputs may lie in another order


def test_the_probe_of_a_video_is_its_frames(classifier_file, pictures, tmp_path):
    video = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter_fourcc(*"MJPG"), 10, (64, 64))
    for path in sorted(pictures.iterdir()):
        writer.write(cv2.resize(cv2.imread(str(path)), (64, 64)))
    writer.release()
    report = convert(
        request(classifier_file, tmp_path / "b", precisions=("int8",), calibration=str(video), observer="min-max")
    )
    assert not [note for note in report["notes"] if "no pictures were given" in note]
