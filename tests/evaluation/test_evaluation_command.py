"""`harrier eval` from the command line: real models, all formats, resuming, gates, reports."""

import argparse
import inspect
import json
import logging
import re
import shlex
import shutil
import subprocess
import sys

import cv2
import numpy as np
import pytest

from edge.errors import ConfigError, EdgeError, InterruptedWorkError, MissingBackendError
from edge.evaluation import command, evaluate
from edge.evaluation.coco_reference import reference_figures
from edge.evaluation.gates import AccuracyError

pytestmark = pytest.mark.shared

HEAVY = {"numpy", "cv2", "msgspec", "onnxruntime", "faster_coco_eval"}


def run_eval(*words) -> None:
    parser = argparse.ArgumentParser()
    command.add_eval_arguments(parser)
    command.execute_eval(parser.parse_args([str(word) for word in words]))


@pytest.fixture(scope="module")
def small(shared, tmp_path_factory):
    """The first 20 pictures of coco-val80, areas made those of the boxes, crowds left out, as three formats."""
    folder = tmp_path_factory.mktemp("small")
    document = json.loads((shared / "data/coco-val80/instances.json").read_text())
    document["images"] = document["images"][:20]
    ids = {image["id"] for image in document["images"]}
    kept = [a for a in document["annotations"] if a["image_id"] in ids and not a["iscrowd"]]
    document["annotations"] = [{**a, "area": a["bbox"][2] * a["bbox"][3]} for a in kept]
    (folder / "coco.json").write_text(json.dumps(document))
    order = sorted(document["categories"], key=lambda c: c["id"])
    index = {c["id"]: i for i, c in enumerate(order)}
    for name in ("yolo", "voc/Annotations"):
        (folder / name).mkdir(parents=True)
    (folder / "yolo/labels").mkdir()
    (folder / "voc/JPEGImages").symlink_to(shared / "data/coco-val80/images")
    (folder / "yolo/images").mkdir()
    (folder / "yolo/data.yaml").write_text("names:\n" + "".join(f"- {c['name']}\n" for c in order))
    for image in document["images"]:
        name = image["file_name"]
        (folder / "yolo/images" / name).symlink_to(shared / "data/coco-val80/images" / name)
        lines, objects = [], ""
        for a in document["annotations"]:
            if a["image_id"] == image["id"]:
                (x, y, w, h), c = a["bbox"], index[a["category_id"]]
                wide, high = image["width"], image["height"]
                lines.append(f"{c} {(x + w / 2) / wide!r} {(y + h / 2) / high!r} {w / wide!r} {h / high!r}")
                corners = (("xmin", x + 1), ("ymin", y + 1), ("xmax", x + w), ("ymax", y + h))
                box = "".join(f"<{key}>{value!r}</{key}>" for key, value in corners)
                objects += f"<object><name>{order[c]['name']}</name><bndbox>{box}</bndbox></object>"
        (folder / "yolo/labels" / name.replace("jpg", "txt")).write_text("\n".join(lines))
        text = f"<annotation><filename>{name}</filename>{objects}</annotation>"
        (folder / "voc/Annotations" / name.replace("jpg", "xml")).write_text(text)
    (folder / "labels.txt").write_text("".join(f"{c['name']}\n" for c in order))
    return folder


def test_the_whole_set_gives_the_reference_map(shared, tmp_path, capsys):
    data = shared / "data/coco-val80/instances.json"
    run_eval(shared / "models/yolox_nano.onnx", data, "--iou", 0.65, "--resamples", 100, "--json", tmp_path / "r.json")
    report = json.loads((tmp_path / "r.json").read_text())
    figures = report["models"][0]["figures"]
    assert figures["map"]["value"] == pytest.approx(0.307, abs=0.003)
    for key, ours in (("map", figures["map"]), ("map50", figures["map50"]), ("map75", figures["map75"])):
        assert ours["value"] == pytest.approx(figures["coco"][key], abs=1e-6)
    for size in ("small", "medium", "large"):
        assert figures["sizes"][size]["map"] == pytest.approx(figures["coco"][f"map_{size}"], abs=1e-6)
    assert figures["map"]["low"] < 0.258 < figures["map"]["high"]  # what its authors report for all 5000 pictures
    text = capsys.readouterr().out
    assert "mAP50-95" in text
    assert "warning: only 80 pictures" in text
    assert re.search(r"warning: \d+ of \d\d classes are in fewer than 5 pictures: mAP reads high", text)


def test_all_formats_give_the_same_figures(shared, small, tmp_path):
    model, images = shared / "models/yolox_nano.onnx", shared / "data/coco-val80/images"
    options = ("--labels", small / "labels.txt", "--resamples", 100, "--resume", tmp_path / "kept")
    found = {}
    for form, data in (("coco", "coco.json"), ("yolo", "yolo"), ("voc", "voc")):
        extra = ("--images", images) if form == "coco" else ()
        run_eval(model, small / data, *options, *extra, "--json", tmp_path / form)
        found[form] = json.loads((tmp_path / form).read_text())["models"][0]["figures"]
    for other in ("yolo", "voc"):
        assert found[other]["map"]["value"] == pytest.approx(found["coco"]["map"]["value"], abs=1e-9)
        assert found[other]["map50"]["value"] == pytest.approx(found["coco"]["map50"]["value"], abs=1e-9)
        for size, entry in found["coco"]["sizes"].items():
            assert found[other]["sizes"][size]["map"] == pytest.approx(entry["map"], abs=1e-9)
    assert found["coco"]["map"]["value"] > 0.2


def test_an_interrupted_run_goes_on(shared, small, tmp_path, capfd, caplog):
    caplog.set_level(logging.INFO)  # as without --quiet
    words = (shared / "models/yolox_nano.onnx", small / "yolo", "--resamples", 100, "--resume", tmp_path)
    run_eval(*words, "--json", tmp_path / "whole.json")
    (kept,) = tmp_path.glob("*.jsonl")
    lines = kept.read_bytes().splitlines(keepends=True)
    assert len(lines) == 21
    kept.write_bytes(b"".join(lines[:8]) + lines[8][:50])  # as a kill in the middle of a write leaves it
    capfd.readouterr()
    run_eval(*words, "--json", tmp_path / "again.json")
    assert "20 pictures, 7 from before" in capfd.readouterr().err
    assert kept.read_bytes().splitlines(keepends=True)[:9] == lines[:9]
    whole, again = (json.loads((tmp_path / name).read_text()) for name in ("whole.json", "again.json"))
    assert whole["models"][0]["figures"]["map"] == again["models"][0]["figures"]["map"]
    run_eval(*words, "--score", 0.3)
    assert len(list(tmp_path.glob("*.jsonl"))) == 2  # other settings, other results
    run_eval(shared / "models/FastestDet.onnx", *words[1:])
    assert len(list(tmp_path.glob("*.jsonl"))) == 3


@pytest.mark.parametrize("damage", [b'{"image": "x"}', b"[]", b"7", b'{"image": "x", "size_wh": [1]}', b"oops"])
def test_a_damaged_line_is_computed_again(shared, small, tmp_path, damage, capfd, caplog):
    caplog.set_level(logging.INFO)  # as without --quiet
    words = (shared / "models/FastestDet.onnx", small / "yolo", "--limit", 3, "--resamples", 100, "--resume", tmp_path)
    run_eval(*words)
    (kept,) = tmp_path.glob("*.jsonl")
    lines = kept.read_bytes().splitlines(keepends=True)
    kept.write_bytes(b"".join([*lines[:2], damage + b"\n", *lines[3:]]))
    capfd.readouterr()
    run_eval(*words)
    said = capfd.readouterr().err
    assert "3 pictures, 1 from before" in said
    assert "Average Precision" not in said  # faster-coco-eval's own lines
    assert kept.read_bytes().splitlines(keepends=True) == lines


def test_ctrl_c_is_no_kept_gate(shared, small, tmp_path, monkeypatch):
    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(evaluate, "run_dataset", stopped)
    words = (shared / "models/FastestDet.onnx", small / "yolo", "--min-map", 0.9)
    with pytest.raises(InterruptedWorkError, match="the evaluation was stopped.*: with --resume FOLDER"):
        run_eval(*words)
    with pytest.raises(InterruptedWorkError, match="the evaluation was stopped.*: the same command goes on"):
        run_eval(*words, "--resume", tmp_path)


def test_another_map_of_the_reference_is_told(shared, small, monkeypatch, capsys):
    for more, told in ((1e-5, True), (1e-8, False)):

        def reference(truths, found, count, more=more):
            figures = reference_figures(truths, found, count)
            return {**figures, "map": figures["map"] + more}

        monkeypatch.setattr(command, "_reference", lambda reference=reference: reference)
        run_eval(shared / "models/FastestDet.onnx", small / "yolo", "--limit", 3, "--resamples", 100)
        assert ("faster-coco-eval says mAP" in capsys.readouterr().out) is told


def test_what_cannot_work_is_told_before_the_work(shared, small, tmp_path, monkeypatch):
    monkeypatch.setattr(evaluate, "run_dataset", None)  # calling it would fail
    words = (shared / "models/FastestDet.onnx", small / "yolo")
    for option in ("--json", "--html", "--grid"):
        with pytest.raises(ConfigError, match="no/such/file .there is no such folder"):
            run_eval(*words, option, tmp_path / "no/such/file")
    with pytest.raises(ConfigError, match="it is a folder"):
        run_eval(*words, "--json", tmp_path)
    with pytest.raises(ConfigError, match="--min-top1 does not fit a detection set"):
        run_eval(*words, "--min-top1", 0.5)


def test_two_models_are_compared_and_the_page_shows_it(shared, small, tmp_path, capsys):
    page, grid = tmp_path / "page.html", tmp_path / "grid.png"
    words = (shared / "models/yolox_nano.onnx", small / "yolo", "--compare", shared / "models/FastestDet.onnx")
    with pytest.raises(AccuracyError, match="--max-drop is 0.01") as caught:
        run_eval(*words, "--resamples", 100, "--html", page, "--grid", grid, "--max-drop", 0.01)
    assert caught.value.exit_code == 5
    assert "B is worse" in capsys.readouterr().out
    text = page.read_text()
    assert len(re.findall("<img [^>]*data:image/jpeg;base64,", text)) == 8
    assert text.count("<svg") == 2
    assert not re.search(r'(?:src|href)="(?!data:)', text)
    assert cv2.imread(str(grid)).shape[1] > 1200  # truth, A and B


def test_a_failed_gate_gives_the_command_that_tells_why(shared, small, tmp_path, monkeypatch, capsys):
    model = shared / "models/FastestDet.onnx"
    monkeypatch.chdir(small)
    words = (model, "yolo", "--compare", model, "--limit", 3, "--resamples", 100, "--iou", 0.6, "--min-map", 0.99)
    with pytest.raises(AccuracyError, match="see which stage loses it: harrier explain ") as caught:
        run_eval(*words)
    given = caught.value.cure.partition("harrier explain ")[2]
    assert given == f"{model} yolo --compare {model} --iou 0.6 --limit 3"
    with pytest.raises(AccuracyError, match=r"see which stage loses it: harrier explain '.*/d iff\.json'$") as caught:
        run_eval(*words, "--json", tmp_path / "d iff.json")
    monkeypatch.chdir(tmp_path)  # explain finds everything from there, too
    capsys.readouterr()
    parser = argparse.ArgumentParser()
    command.add_explain_arguments(parser)
    asked = parser.parse_args(shlex.split(caught.value.cure.partition("harrier explain ")[2]))
    command.execute_explain(asked)
    assert asked.data == small / "yolo"
    assert "3 pictures, A and B agree on 100.0 % of what they say there" in capsys.readouterr().out


def test_where_nothing_can_be_explained_the_gate_says_what_else(shared, small):
    words = (shared / "models/FastestDet.onnx", small / "yolo", "--limit", 3, "--resamples", 100, "--min-map", 0.99)
    with pytest.raises(AccuracyError, match="--grid FILE.png, or add --compare with the model it was made from"):
        run_eval(*words)
    with pytest.raises(AccuracyError, match="see the most different pictures with --grid FILE.png$"):
        run_eval(*words, "--compare", shared / "models/yolox_nano.onnx")


def test_convert_resamples_as_often_as_eval_does():
    parser = argparse.ArgumentParser()
    command.add_eval_arguments(parser)
    most = inspect.signature(evaluate.evaluate).parameters["resamples"].default
    assert parser.parse_args(["model", "data"]).resamples == most


@pytest.mark.parametrize("rounds", ["1", "99", "0", "-5", "x"])
def test_too_few_rounds_for_an_interval_are_refused(rounds, capsys):
    with pytest.raises(SystemExit):
        run_eval("model.onnx", "data", "--resamples", rounds)
    said = capsys.readouterr().err
    assert "--resamples" in said
    assert ("give 100 or more" in said) is (rounds in ("1", "99"))


def test_what_the_data_set_has_to_say_is_in_the_report(shared, small, tmp_path, capsys):
    folder = tmp_path / "set"
    for part in ("images", "labels"):
        shutil.copytree(small / "yolo" / part, folder / part / "val", symlinks=True)
    (folder / "data.yaml").symlink_to(small / "yolo/data.yaml")
    (folder / "labels/alone.txt").write_text("")
    words = (shared / "models/FastestDet.onnx", folder, "--limit", 2, "--resamples", 100)
    run_eval(*words, "--split", "val", "--json", tmp_path / "val.json", "--html", tmp_path / "val.html")
    assert "2 pictures, YOLO txt, split val\n" in capsys.readouterr().out
    assert "YOLO txt, split val" in (tmp_path / "val.html").read_text()
    report = json.loads((tmp_path / "val.json").read_text())
    assert (report["data"]["split"], report["options"]["split"]) == ("val", "val")
    run_eval(*words)
    text = capsys.readouterr().out
    assert "warning: the whole set is evaluated: --split takes one of val" in text
    assert f"warning: 1 label file without a picture, first {folder / 'labels/alone.txt'}" in text


def test_what_is_true_of_both_models_is_said_once(shared, small, tmp_path, capsys):
    model, data = shared / "models/FastestDet.onnx", tmp_path / "set"
    for part in ("images", "labels"):
        shutil.copytree(small / "yolo" / part, data / part, symlinks=True)
    words = (model, data, "--compare", model, "--limit", 3, "--resamples", 100, "--labels", small / "labels.txt")
    run_eval(*words, "--html", tmp_path / "r.html")
    text = capsys.readouterr().out
    warnings = [line for line in text.splitlines() if line.startswith("warning: ")]
    assert sum("only 3 pictures" in line for line in warnings) == 1
    assert sum("fewer than" in line for line in warnings) == 1
    (numbers,) = (line for line in warnings if "no data.yaml" in line)
    assert numbers.startswith("warning: A, B: no data.yaml with names: class numbers were taken as the model's: ")
    page = (tmp_path / "r.html").read_text()
    assert page.count('<p class="warn">') == len(warnings)
    assert page.count("only 3 pictures") == 1
    assert '<div class="pair"><div><h2>Confusion matrix, A' in page


def test_gates_and_mistakes(shared, small, tmp_path):
    model = shared / "models/yolox_nano.onnx"
    run_eval(model, small / "yolo", "--limit", 5, "--resamples", 100, "--min-map", 0.01)
    with pytest.raises(AccuracyError, match="--min-map"):
        run_eval(model, small / "yolo", "--limit", 5, "--resamples", 100, "--min-map", 0.99)
    with pytest.raises(ConfigError, match="needs two models"):
        run_eval(model, small / "yolo", "--max-drop", 0.1)
    with pytest.raises(EdgeError, match="there is no model"):
        run_eval(model, small / "yolo", "--compare", "nowhere")
    (tmp_path / "person").mkdir()
    (tmp_path / "person/face.jpg").symlink_to(shared / "data/images/face.jpg")
    with pytest.raises(ConfigError, match="gives detections"):
        run_eval(model, tmp_path, "--labels", small / "labels.txt")
    with pytest.raises(ConfigError, match="20 of 20 pictures are missing"):
        run_eval(model, small / "coco.json", "--images", tmp_path)


def folder_set(shared, folder):
    """Two classes, three pictures: two that MobileNet knows and one under a wrong name."""
    for name, label in (("cat_720p.jpg", "Egyptian cat"), ("parrot.jpg", "macaw"), ("pets.jpg", "macaw")):
        (folder / label).mkdir(exist_ok=True)
        (folder / label / name).symlink_to(shared / "data/images" / name)
    return folder


def test_a_classifier_on_folders_and_csv(shared, tmp_path, capsys):
    model, labels = (shared / "models" / n for n in ("mobilenet_v2_1.0_224_quant.tflite", "imagenet_labels.txt"))
    (tmp_path / "set").mkdir()
    data = folder_set(shared, tmp_path / "set")
    run_eval(model, data, "--labels", labels, "--json", tmp_path / "a.json", "--html", tmp_path / "a.html")
    report = json.loads((tmp_path / "a.json").read_text())
    figures = report["models"][0]["figures"]
    table = "path,label\n" + "".join(f"{p.relative_to(tmp_path)},{p.parent.name}\n" for p in data.rglob("*.jpg"))
    (tmp_path / "set.csv").write_text(table)
    run_eval(model, tmp_path / "set.csv", "--labels", labels, "--json", tmp_path / "b.json", "--compare", model)
    again = json.loads((tmp_path / "b.json").read_text())
    assert again["models"][0]["figures"]["top1"] == figures["top1"]
    assert again["comparison"]["drop"]["value"] == 0
    assert figures["top1"]["value"] <= figures["top5"]["value"] < 1  # pets are no macaw
    matrix = np.array(figures["confusion"]["counts"])
    assert figures["confusion"]["names"] == ["Egyptian cat", "macaw", "other"]
    assert matrix.sum() == 3
    assert np.trace(matrix[:2, :2]) == round(3 * figures["top1"]["value"])
    assert matrix[1, 1] == 1
    assert figures["classes"][1]["recall"]["value"] == 0.5
    assert "top-1" in capsys.readouterr().out


def test_without_faster_coco_eval_the_install_line_is_given(shared, small, monkeypatch):
    monkeypatch.setitem(sys.modules, "faster_coco_eval", None)
    monkeypatch.delitem(sys.modules, "edge.evaluation.coco_reference", raising=False)
    with pytest.raises(MissingBackendError, match=r"harrier-edge\[eval\]"):
        run_eval(shared / "models/yolox_nano.onnx", small / "yolo")


def test_the_arguments_need_nothing_heavy():
    script = (
        "import argparse, sys\nfrom edge.evaluation import command\np = argparse.ArgumentParser()\n"
        "command.add_eval_arguments(p)\ncommand.add_explain_arguments(argparse.ArgumentParser())\n"
        "p.parse_args(['m', 'd'])\nprint(*{name.split('.')[0] for name in sys.modules})"
    )
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert not set(out.stdout.split()) & HEAVY
