"""`harrier calibrate` as people call it: files, tables, and one line for what is wrong."""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from calibration_pictures import scene

from calibration import command
from calibration.command import add_calibrate
from calibration.ranges import read_ranges
from calibration.tables import read_tensorrt_cache
from edge.errors import ConfigError, DeviceError
from edge.manifest import sha256_of


def harrier(*words: object) -> None:
    parser = argparse.ArgumentParser()
    add_calibrate(parser.add_subparsers(required=True))
    arguments = parser.parse_args(["calibrate", *map(str, words)])
    arguments.command(arguments)


@pytest.fixture
def bundle(small_onnx: Path) -> Path:
    """The small network as a bundle: a classifier of three colours."""
    (small_onnx.parent / "manifest.toml").write_text(
        'format = 1\nname = "small"\n[targets.onnx]\nfile = "small.onnx"\noutputs = { scores = "out" }\n'
        '[input]\nscale = 0.00392156862745098\nresize = "stretch"\n[decoder]\nfamily = "classification"\n'
    )
    return small_onnx.parent


def test_run_writes_ranges_a_cache_and_a_table(bundle, folder_of, tmp_path, capsys):
    data = folder_of([scene(i) for i in range(50)])
    out, cache = tmp_path / "ranges.json", tmp_path / "table.cache"
    harrier("run", bundle, data, "--out", out, "--observer", "min-max", "--tensorrt-cache", cache, "--threads", 1)
    ranges = read_ranges(out)
    assert (ranges.images, ranges.observer) == (50, "min-max")
    assert ranges.model_sha256 == sha256_of(bundle / "small.onnx")
    low, high = ranges.tensors["x"]
    assert low == 0
    assert 0.9 < high <= 1
    assert ranges.tensors["y"][1] == pytest.approx(2 * high - 1, abs=1e-6)
    assert read_tensorrt_cache(cache).scales.keys() == ranges.tensors.keys()
    printed = capsys.readouterr().out
    assert "5 activations over 50 pictures, ranges by min-max" in printed
    assert "widest" in printed
    assert "most clipped" not in printed  # min-max clips nothing


def test_another_observer_takes_what_was_kept(bundle, folder_of, tmp_path, monkeypatch, capsys):
    data, kept = folder_of([scene(i) for i in range(50)]), tmp_path / "kept.npz"
    harrier(
        "run", bundle, data, "--out", tmp_path / "a.json", "--histograms", kept, "--symmetric", "--observer", "min-max"
    )
    monkeypatch.setattr("calibration.tflite_activations.TfliteActivations.run", None)
    monkeypatch.setattr("calibration.onnx_activations.OnnxActivations.run", None)  # would fail if it were called
    harrier("run", bundle, data, "--out", tmp_path / "b.json", "--histograms", kept, "--observer", "percentile:90")
    a, b = read_ranges(tmp_path / "a.json"), read_ranges(tmp_path / "b.json")
    assert a.tensors["y"][0] == -a.tensors["y"][1]
    assert b.tensors["y"][1] < a.tensors["y"][1]
    assert "most clipped" in capsys.readouterr().out
    other = folder_of([scene(i) for i in range(51)], "others")
    with pytest.raises(ConfigError, match="of another model or of other pictures"):
        harrier("run", bundle, other, "--out", tmp_path / "c.json", "--histograms", kept)


def test_what_is_wrong_is_said_before_the_work(bundle, folder_of, tmp_path):
    gray = [np.repeat(scene(i)[..., :1], 3, axis=2) for i in range(50)]
    data, out = folder_of(gray), tmp_path / "ranges.json"
    with pytest.raises(ConfigError, match="no observer 'median'"):
        harrier("run", bundle, data, "--out", out, "--observer", "median")
    with pytest.raises(ConfigError, match="there is no folder"):
        harrier("run", bundle, data, "--out", tmp_path / "none" / "ranges.json")
    with pytest.raises(ConfigError, match="all 50 pictures are grey"):
        harrier("run", bundle, data, "--out", out)
    with pytest.raises(ConfigError, match="9 readable pictures"):
        harrier("run", bundle, data, "--out", out, "--limit", 9)
    assert not out.exists()
    harrier("run", bundle, data, "--out", out, "--allow-grey", "--allow-few", "--limit", 9, "--per-channel")
    assert len(json.loads(out.read_text())["channels"]["x"]) == 3


def test_ctrl_c_leaves_no_ranges(bundle, folder_of, tmp_path, monkeypatch):
    def stopped(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "_collected", stopped)
    data = folder_of([scene(i) for i in range(50)])
    with pytest.raises(DeviceError, match="calibrating was stopped"):
        harrier("run", bundle, data, "--out", tmp_path / "ranges.json")
    assert not (tmp_path / "ranges.json").exists()


def test_pick_says_what_it_did(folder_of, tmp_path, capsys):
    data = folder_of([scene(i // 2) for i in range(8)])
    harrier("pick", data, "--count", 3, "--out", tmp_path / "out", "--sheet", tmp_path / "sheet.png")
    assert "3 of 8 frames are in" in capsys.readouterr().out
    assert len(list((tmp_path / "out").iterdir())) == 3
    assert (tmp_path / "sheet.png").is_file()


def test_the_command_line_alone_loads_nothing_heavy():
    script = "import sys, calibration.command; print(sorted({name.split('.')[0] for name in sys.modules}))"
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    for name in ("numpy", "cv2", "onnx", "onnxruntime", "msgspec"):
        assert f"'{name}'" not in out.stdout
