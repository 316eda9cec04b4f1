"""Reports reach the reader whatever a file is called, and are kept where nobody reads or a disk is full."""

import argparse
import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from same_for_all import TENSORS

from edge.cli import main
from edge.evaluation.command import _keep_gates
from edge.evaluation.gates import AccuracyError
from edge.evaluation.pictures import draw_boxes
from edge.golden import verdict_of

BUNDLE = """
format = 1
name = "still"
[targets.null]
file = "one.null"
outputs = { scores = "scores" }
[input]
scale = 1.0
[decoder]
family = "classification"
"""


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    done, data = cv2.imencode(".png", np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8))
    assert done
    path.write_bytes(data.tobytes())


@pytest.fixture
def still(tmp_path) -> Path:
    """A classifier that says the same of every picture."""
    folder = tmp_path / "bundle"
    folder.mkdir()
    (folder / "manifest.toml").write_text(BUNDLE)
    (folder / "one.null").write_text(TENSORS)
    return folder


def test_names_that_are_not_utf8_reach_the_terminal_and_every_report(still, tmp_path, monkeypatch, capfd):
    strict = open(os.dup(1), "w", encoding="utf-8", errors="strict")  # noqa: SIM115
    name = os.fsdecode(b"caf\xe9.png")
    picture(tmp_path / "set/0" / name)
    picture(tmp_path / "set/1" / name)
    files = [tmp_path / f"report.{suffix}" for suffix in ("json", "html", "png")]
    words = ["eval", still, tmp_path / "set", "--compare", still / "one.null", "--resume", tmp_path / "kept"]
    with strict, monkeypatch.context() as patch:
        patch.setattr("sys.stdout", strict)
        words += ["--json", files[0], "--html", files[1], "--grid", files[2]]
        assert main([str(word) for word in words]) == 0
    assert "1/caf\\udce9.png" in capfd.readouterr().out
    assert "1/caf\\udce9.png" in files[1].read_text(encoding="utf-8")
    rows = json.loads(files[0].read_text())["comparison"]["pictures"]
    assert {row["picture"] for row in rows} == {f"{n}/{name}" for n in "01"}
    assert cv2.imread(str(files[2])) is not None


def test_reports_and_gates_do_not_wait_for_a_reader(still, tmp_path, monkeypatch):
    picture(tmp_path / "set/1/a.png")
    ends = os.pipe()
    os.close(ends[0])  # as `harrier eval ... | head` leaves it
    words = ["eval", still, tmp_path / "set", "--json", tmp_path / "r.json", "--min-top1", 0.9]
    out = open(ends[1], "w")  # noqa: SIM115
    monkeypatch.setattr("sys.stdout", out)
    assert main([str(word) for word in words]) == 5
    assert json.loads((tmp_path / "r.json").read_text())["models"][0]["figures"]["top1"]["value"] == 0
    with pytest.raises(BrokenPipeError):
        out.close()


def test_a_report_that_cannot_be_written_is_printed_all_the_same(still, tmp_path, capsys):
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full, a disk that is full")
    picture(tmp_path / "set/1/a.png")
    assert main(["eval", str(still), str(tmp_path / "set"), "--json", "/dev/full"]) == 2
    said = capsys.readouterr()
    assert "top-1        " in said.out
    assert "No space left on device" in said.err


def test_a_file_that_is_no_report_is_told_in_one_line(tmp_path, capsys):
    for text in ("{}", '{"models": [1, 2]}', "[[", "[" * 200_000, "\xff"):
        (tmp_path / "diff.json").write_bytes(text.encode("latin-1"))
        assert main(["explain", str(tmp_path / "diff.json")]) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 5
    assert all("diff.json" in line for line in said)


def test_a_name_in_other_letters_is_whole_on_the_page_and_legible_in_the_picture(still, tmp_path, monkeypatch):
    picture(tmp_path / "set/1/Größe é.png")
    drawn = []
    monkeypatch.setattr(cv2, "putText", lambda image, text, *rest: drawn.append(text))
    for name in ("Käse Straße", "Größe é ЖÅ"):
        draw_boxes(np.zeros((40, 40, 3), np.uint8), np.array([[1.0, 1, 9, 9]]), np.array([0]), [name])
    assert drawn == ["Kase Strasse"] * 2 + ["Grosse e ?A"] * 2
    assert main(["eval", str(still), str(tmp_path / "set"), "--html", str(tmp_path / "r.html")]) == 0
    assert "1/Größe é.png: quality 0.00" in (tmp_path / "r.html").read_text(encoding="utf-8")


def test_a_report_of_one_model_is_no_comparison(still, tmp_path, capsys):
    picture(tmp_path / "set/1/a.png")
    assert main(["eval", str(still), str(tmp_path / "set"), "--json", str(tmp_path / "one.json")]) == 0
    assert main(["explain", str(tmp_path / "one.json")]) == 2
    (line,) = capsys.readouterr().err.splitlines()[-1:]
    assert "one.json is of one model" in line
    assert "eval --compare B --json FILE" in line
    assert "unpack" not in line


def test_the_measured_drop_decides_not_an_end_of_its_interval():
    gates = argparse.Namespace(min_map=None, min_top1=None, max_drop=0.02, compare=None)
    _keep_gates(gates, {"comparison": {"drop": {"value": 0.02, "low": -0.1, "high": 0.2}}})
    with pytest.raises(AccuracyError, match=r"B loses 0\.0201 \(-0\.1000 to 0\.2000\), --max-drop is 0\.02"):
        _keep_gates(gates, {"comparison": {"drop": {"value": 0.0201, "low": -0.1, "high": 0.2}}})


@pytest.mark.parametrize(
    ("of", "agreement", "score", "kept"),
    [
        ("onnx", 0.9, 0.1, True),
        ("onnx", 0.89, 0.0, False),
        ("onnx", 1.0, 0.11, False),
        ("onnx-fp32", 0.5, 0.9, True),  # another engine may lose a faint object, and its scores are its own
        ("onnx-fp32", 0.49, 0.0, False),
    ],
)
def test_the_golden_picture_is_judged_by_what_is_compared(of, agreement, score, kept):
    found = {"target": "onnx", "of": of, "agreement": agreement, "score": score}
    if kept:
        assert verdict_of(found).startswith(f"golden picture: onnx agrees with the converter's {of}")
    else:
        with pytest.raises(AccuracyError, match="on the golden picture"):
            verdict_of(found)
