"""`harrier replay --expect` alone: a recording carries what its results were made with, so nothing else is needed."""

import json
import re
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest

pytest.importorskip("mcap", reason="the record extra is not installed")
pytest.importorskip("foxglove_schemas_protobuf", reason="the record extra is not installed")

from edge import catalogue as catalogue_module
from edge import replay_expected
from edge.cli import main
from edge.config import RunConfig, Thresholds, TrackingSection
from edge.frame import Frame, FrameInfo
from edge.geometry_config import RegionSection
from edge.manifest import DecoderSection
from edge.parts import open_pipeline
from edge.pipeline import Pipeline
from edge.publishers import mcap as mcap_module
from edge.recording import Recording
from edge.replay_settings import differences, settings_text
from edge.run_settings import METADATA, metadata_of, settings_from, settings_in_force

FRAMES = 16
CONFIG = """
model = "face"
source = "images://{folder}/pictures?fps=20"
publish = ["mcap://{folder}/drive.mcap?pictures=png&min_free_mb=0"]
[thresholds]
score = 0.8
iou = 0.4
[tracking]
min_hits = 3
[[region]]
name = "desk"
kind = "include"
points = [[0.0, 0.0], [0.62, 0.0], [0.62, 1.0], [0.0, 1.0]]
[[region]]
name = "door"
kind = "line"
points = [[0.5, 0.0], [0.5, 1.0]]
"""


@pytest.fixture(scope="module")
def pictures(catalogue) -> list[np.ndarray]:
    """A face that moves to the right and is blurred at first, and now and then, when it scores under 0.8."""
    catalogue("face")
    photo = cv2.imread(str(catalogue("astronaut") / catalogue_module.entries()["astronaut"].file))
    photo = cv2.resize(photo, (320, 320))
    images = [np.roll(photo, 6 * number, axis=1) for number in range(FRAMES)]
    return [cv2.GaussianBlur(image, (0, 0), 3.0) if i < 4 or i % 5 == 4 else image for i, image in enumerate(images)]


@pytest.fixture
def folder(tmp_path, pictures) -> Path:
    """With a configuration and what its source reads."""
    (tmp_path / "pictures").mkdir()
    for number, image in enumerate(pictures):
        cv2.imwrite(str(tmp_path / "pictures" / f"{number:03}.png"), image)
    (tmp_path / "run.toml").write_text(CONFIG.format(folder=tmp_path))
    (tmp_path / "plain.toml").write_text('model = "face"\n')
    return tmp_path


def record(path: Path, pictures: list[np.ndarray], config: RunConfig, changes: dict[int, object]) -> Path:
    """A run whose settings change before some frames; its frames are 50 ms apart."""
    config.source, config.publish = "synthetic://?fps=200", [f"mcap://{path}?pictures=png&min_free_mb=0"]
    with open_pipeline(config) as pipeline:
        frames = iter(enumerate(pictures))

        def read(timeout_s: float) -> Frame:
            seq, image = next(frames)
            height, width = image.shape[:2]
            return Frame(image, FrameInfo(seq, "camera", 10**9 + seq * 50_000_000, width, height, "bgr8", "generated"))

        pipeline.source.read = read
        publisher = pipeline.publishers[0]
        for seq in range(len(pictures)):
            if seq in changes:
                changes[seq](pipeline)
            pipeline.step()
            publisher._free.put(publisher._free.get(timeout=10))  # a picture is encoded before the next one comes
    return path


def compared(path: Path, *arguments: str) -> tuple[int, dict]:
    found = path.with_suffix(".json")
    code = main(["-q", "replay", str(path), "--expect", "--json", str(found), *arguments])
    return code, json.loads(found.read_text())


def test_a_tracked_run_with_regions_is_its_own_test(folder, capsys):
    assert main(["-q", "run", str(folder / "run.toml")]) == 0
    path = folder / "drive.mcap"
    assert main(["-q", "replay", str(path)]) == 0
    shown = capsys.readouterr().out
    assert re.search(
        r"^settings \(\w+\): score 0\.8, iou 0\.4, nms weighted \(the model's\); tracking byte", shown, re.M
    )
    assert "min_hits 3; region desk include; region door line" in shown
    assert main(["-q", "replay", str(path), "--expect", "--score", "0.001", "--iou", "0.99"]) == 0
    output = capsys.readouterr()
    assert f"0 of {FRAMES - 2} frames differ" in output.out
    assert "recorded with score" not in output.out
    assert "recorded with tracking" not in output.err
    # that each of them matters here, so that the test above tests them
    text = (folder / "run.toml").read_text()
    for gone in ("score = 0.8", "[tracking]\nmin_hits = 3", text[text.index("[[region]]") : text.rindex("[[region]]")]):
        (folder / "other.toml").write_text(text.replace(gone, ""))
        if "tracking" in gone:
            (folder / "other.toml").write_text(text[: text.index("[tracking]")])
        code, found = compared(path, "--config", str(folder / "other.toml"))
        assert (code, bool(found["differing"])) == (5, True), gone
    assert main(["-q", "replay", str(path), "--expect", "--config", str(folder / "run.toml")]) == 0


def test_what_is_given_wins_and_what_differs_is_named(folder, capsys):
    assert main(["-q", "run", str(folder / "run.toml")]) == 0
    path = folder / "drive.mcap"
    capsys.readouterr()
    code, found = compared(path, "--threshold", "0.97")
    assert (code, found["notes"]) == (5, ["recorded with score 0.8, compared with 0.97"])
    assert found["limits"]["threshold"] == 0.97
    assert found["missing"] == found["recorded"] > 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("recorded with")]
    assert lines == ["recorded with score 0.8, compared with 0.97"]
    _, found = compared(path, "--config", str(folder / "plain.toml"))
    assert found["notes"] == [
        "recorded with score 0.8, compared with 0.5; iou 0.4, compared with 0.3; "
        "tracking bytetrack, compared with none; region desk include, compared with none; "
        "region door line, compared with none"
    ]
    assert main(["-q", "replay", str(path), "--expect", "--report", str(folder / "x.html")]) == 0


@pytest.mark.parametrize("tracking", [None, TrackingSection()], ids=["plain", "tracked"])
def test_each_result_is_compared_with_the_settings_it_had(tmp_path, pictures, capsys, tracking):
    """Sliders of the live page, under which tracks go on, and a configuration that is read again, after which not."""
    again = RunConfig(
        model="face",
        thresholds=Thresholds(score=0.85),
        tracking=tracking,
        region=[RegionSection(name="left", kind="exclude", points=[(0.0, 0.0), (0.2, 0.0), (0.2, 1.0)])],
    )
    changes = {
        3: lambda pipeline: pipeline.set_thresholds(score=0.97),  # nothing is seen
        6: lambda pipeline: pipeline.set_thresholds(score=0.3, iou=0.6),
        9: lambda pipeline: pipeline.use(pipeline.lineup, again),
        12: lambda pipeline: pipeline.use(pipeline.lineup, again),  # the same once more: tracks begin anew
    }
    config = RunConfig(model="face", thresholds=Thresholds(score=0.6), tracking=tracking)
    path = record(tmp_path / "drive.mcap", pictures, config, changes)
    code, found = compared(path, "--score", "0.001", "--iou", "0.99" if tracking else "0.9")
    assert code == 0, found["worst"]
    assert found["notes"] == ["settings changed 4 times while it was recorded: each result has its own"]
    assert [one["results"] for one in found["settings"]] == [3, 3, 3, 3, 4]
    assert [one["thresholds"]["score"] for one in found["settings"]] == [0.6, 0.97, 0.3, 0.85, 0.85]
    assert "settings changed 4 times" in capsys.readouterr().out
    # with one score for all of them it is another matter
    code, found = compared(path, "--threshold", "0.6")
    assert code == 5
    assert len(found["notes"]) == 4
    assert main(["-q", "replay", str(path)]) == 0
    assert "settings of 3 results (" in capsys.readouterr().out


def test_the_model_is_opened_once_for_all_recordings(tmp_path, pictures, monkeypatch):
    opened, closed, real = [], [], replay_expected.open_model

    def counted(name: str, *arguments):
        model = real(name, *arguments)
        opened.append(name)
        end = model.engine.close
        model.engine.close = lambda: (closed.append(name), end())
        return model

    folder = tmp_path / "drives"
    folder.mkdir()
    for number, score in enumerate((0.8, 0.97, 0.3)):  # one file's threshold is not the next one's
        config = RunConfig(model="face", thresholds=Thresholds(score=score))
        record(folder / f"{number}.mcap", pictures[3:8], config, {})
    monkeypatch.setattr(replay_expected, "open_model", counted)
    found = tmp_path / "x.json"
    assert main(["-q", "replay", str(folder), "--expect", "--json", str(found)]) == 0
    assert (opened, closed) == (["face"], ["face"])
    rows = json.loads(found.read_text())["recordings"]
    assert [row["limits"]["threshold"] for row in rows] == [0.8, 0.97, 0.3]
    assert [row["recorded"] for row in rows][:2] == [3, 0]
    assert rows[2]["recorded"] >= 5


def test_a_recording_whose_settings_cannot_be_read_says_so(tmp_path, pictures, monkeypatch, capsys):
    monkeypatch.setattr(mcap_module, "metadata_of", lambda settings: {**metadata_of(settings), "format": "7"})
    config = RunConfig(model="face", thresholds=Thresholds(score=0.6), tracking=TrackingSection())
    path = record(tmp_path / "x.mcap", pictures[:6], config, {})
    assert main(["-q", "replay", str(path)]) == 0
    assert "settings in the recording is of format '7'" in capsys.readouterr().out
    main(["-q", "replay", str(path), "--expect"])
    output = capsys.readouterr()
    assert "of format '7'" in output.out
    assert "recorded with tracking: give the configuration" in output.err


def test_addresses_and_paths_of_the_run_are_not_in_them(tmp_path, pictures):
    path = record(tmp_path / "x.mcap", pictures[:2], RunConfig(model="face"), {})
    recording = Recording(path)
    assert list(recording)
    found = recording.metadata[METADATA]
    assert set(found) == {"format", "model", "target", "of_model", "fits", "settings"}
    assert not [word for word in ("://", str(tmp_path), "synthetic") if word in str(found)]
    assert settings_from(found).model == "face"


def test_differences_and_settings_in_words():
    decoder = DecoderSection(family="yolo")
    zone = RegionSection(name="gate", kind="zone", points=[(0, 0), (1, 0), (1, 1)], dwell_s=2.0)
    wider = msgspec.structs.replace(zone, points=[(0, 0), (1, 0), (1, 0.5)], dwell_s=0.0)
    then = settings_in_force(RunConfig(tracking=TrackingSection(), region=[zone]), decoder, "a", "onnx")
    now = RunConfig(thresholds=Thresholds(class_agnostic=True), tracking=TrackingSection(min_hits=1), region=[wider])
    assert differences(then, then) == ""
    assert differences(then, settings_in_force(now, decoder, "b", "litert")) == (
        "recorded with class_agnostic off, compared with on; tracking.min_hits 2, compared with 1; "
        "region gate.points [(0, 0), (1, 0), (1, 1)], compared with [(0, 0), (1, 0), (1, 0.5)]; "
        "region gate.dwell_s 2, compared with 0"
    )
    bare = settings_in_force(RunConfig(), decoder)
    assert differences(bare, then) == (
        "recorded with tracking none, compared with bytetrack; region gate none, compared with zone"
    )
    assert settings_text(then) == (
        "score 0.25 (the model's), iou 0.5 (the model's), nms hard (the model's); tracking bytetrack; region gate zone"
    )


def test_settings_follow_the_pipeline(tmp_path, pictures):
    """The same object while nothing changes, so that a publisher need not compare."""
    seen = []

    def look(pipeline: Pipeline) -> None:
        seen.append(pipeline.publishers[0].settings())

    changes = {1: look, 2: look, 3: lambda pipeline: (pipeline.set_thresholds(score=0.6), look(pipeline))}
    changes |= {4: lambda pipeline: (pipeline.set_thresholds(score=0.6), look(pipeline))}
    changes |= {5: lambda pipeline: (pipeline.use(pipeline.lineup), look(pipeline))}
    record(tmp_path / "x.mcap", pictures[:6], RunConfig(model="face"), changes)
    one, two, three, four, five = seen
    assert one is two
    assert (one.of_model, three.of_model) == (("score", "iou", "nms"), ("iou", "nms"))
    assert three is four
    assert (three.fits, five.fits) == (0, 1)
    assert five == msgspec.structs.replace(three, fits=1)
