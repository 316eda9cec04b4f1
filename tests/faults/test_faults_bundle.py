"""Bundles with flipped bits, cut files and holes: refused in one line, or harmless; no traceback, no crash."""

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import cv2
import pytest
from broken_runs import null_bundle

from edge.golden import write_golden

FLIPPING = Path(__file__).with_name("flipping.py")
FLIPS = 200


def flipped(bundle: Path, work: Path, count: int, seed: int) -> list[dict]:
    """What harrier said of so many damaged copies."""
    work.mkdir()
    command = [sys.executable, str(FLIPPING), str(bundle), str(work), str(seed), str(count)]
    environment = {**os.environ, "HARRIER_HOME": str(work / "home")}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    assert done.returncode == 0, f"harrier itself crashed ({done.returncode}): {done.stderr[-2000:]}"
    return [json.loads(line) for line in done.stdout.splitlines()]


def check(rows: list[dict]) -> Counter:
    """One line and exit code 3 for what is refused (5 where the golden picture's result differs); count the rest."""
    for row in rows:
        assert "Traceback" not in row["said"], row
        lines = [line for line in row["said"].splitlines() if line.startswith("harrier: ")]
        if row["code"]:
            assert row["code"] in (3, 5), row
            assert len(lines) == 1, row
            assert ": " in lines[0].removeprefix("harrier: "), row
    return Counter((row["file"], row["code"]) for row in rows)


@pytest.fixture
def face_bundle(tmp_path, catalogue) -> Path:
    """The catalogue's face model with a golden picture and its labels in a file."""
    folder = tmp_path / "face"
    shutil.copytree(catalogue("face"), folder)
    manifest = (folder / "manifest.toml").read_text()
    assert 'labels = ["face"]' in manifest
    (folder / "manifest.toml").write_text(manifest.replace('labels = ["face"]', 'labels = "labels.txt"'))
    (folder / "labels.txt").write_text("face\n")
    write_golden(folder, cv2.imread(str(catalogue("astronaut") / "astronaut.png")), "tflite", ["tflite"])
    return folder


def test_flips_of_a_real_bundle(tmp_path, face_bundle, measured):
    """Promise: a damaged model file is always refused; elsewhere what is refused is so in one line, exit code 3."""
    rows = flipped(face_bundle, tmp_path / "work", FLIPS, 11)
    assert len(rows) > FLIPS * 0.95
    found = check(rows)
    assert {code for file, code in found if file.endswith(".tflite")} == {3}
    measured(flips=len(rows), refused=sum(n for (_, code), n in found.items() if code))


def test_flips_of_a_bundle_whose_engine_reads_text(tmp_path, measured):
    rows = flipped(null_bundle(tmp_path / "bundle"), tmp_path / "work", FLIPS, 12)
    found = check(rows)
    assert found[("first.null", 0)] == 0
    measured(flips=len(rows), refused=sum(n for (_, code), n in found.items() if code))


def test_a_running_robot_keeps_its_model_when_a_damaged_one_is_installed(tmp_path, face_bundle):
    """Promise: nothing of a refused bundle stays; what was installed is what it was."""
    environment = {**os.environ, "HARRIER_HOME": str(tmp_path / "home")}

    def install() -> subprocess.CompletedProcess:
        command = [sys.executable, "-m", "edge", "model", "install", str(face_bundle)]
        return subprocess.run(command, capture_output=True, text=True, env=environment)

    assert install().returncode == 0
    before = sorted(path.relative_to(tmp_path) for path in (tmp_path / "home").rglob("*"))
    model = face_bundle / "face_detection_short_range.tflite"
    data = bytearray(model.read_bytes())
    data[len(data) // 2] ^= 1
    model.write_bytes(data)
    refused = install()
    assert refused.returncode == 3
    assert "SHA-256 differs" in refused.stderr
    assert sorted(path.relative_to(tmp_path) for path in (tmp_path / "home").rglob("*")) == before
