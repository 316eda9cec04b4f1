"""`harrier replay`: what a recording holds, and whether a model still sees what was recorded."""

import json
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest

pytest.importorskip("mcap", reason="the record extra is not installed")
pytest.importorskip("foxglove_schemas_protobuf", reason="the record extra is not installed")

from edge import catalogue as catalogue_module
from edge.cli import main
from edge.config import RunConfig, TrackingSection
from edge.frame import Frame, FrameInfo
from edge.model import open_model
from edge.pipeline import Pipeline
from edge.publishers.mcap import McapPublisher
from edge.replay_compare import Limits, compare
from edge.testing import MemorySource
from edge.uri import parse_uri
from edge.wire.messages import ClassificationMessage, DetectionRecord, DetectionsMessage

FRAMES = 12


@pytest.fixture(scope="module")
def seen(catalogue) -> list[tuple[np.ndarray, DetectionsMessage]]:
    """A face that moves through the picture, and what the model sees of it."""
    catalogue("face")
    photo = cv2.imread(str(catalogue("astronaut") / catalogue_module.entries()["astronaut"].file))
    photo = cv2.resize(photo, (320, 320))
    images = [np.roll(photo, 4 * i, axis=1) for i in range(FRAMES)]
    model = open_model("face")
    pipeline = Pipeline(MemorySource(images, FRAMES), model, [], RunConfig())
    found = [(image, pipeline.step()) for image in images]
    model.close()
    assert sum(len(message.detections) for _, message in found) >= FRAMES
    return found


def write(path: Path, seen: list[tuple[np.ndarray, DetectionsMessage]], options: str = "pictures=png") -> Path:
    publisher = McapPublisher(parse_uri(f"mcap://{path}?min_free_mb=0&{options}"))
    for seq, (image, message) in enumerate(seen):
        t_ns = 10**9 + seq * 33_000_000
        message = msgspec.structs.replace(message, seq=2 * seq, t_capture_local_ns=t_ns, age_ms=5.0)
        publisher.send(message)
        publisher.show(Frame(image, FrameInfo(2 * seq, "memory", t_ns, image.shape[1], image.shape[0])), message)
        publisher._free.put(publisher._free.get(timeout=10))  # a picture is encoded before the next one comes
    publisher.close(10.0)
    assert publisher.dropped == 0
    return path


def changed(message: DetectionsMessage, **values) -> DetectionsMessage:
    first, *others = message.detections
    return msgspec.structs.replace(message, detections=[msgspec.structs.replace(first, **values), *others])


def test_a_recording_says_what_is_in_it(tmp_path, seen, capsys):
    path = write(tmp_path / "x.mcap", seen)
    assert main(["-q", "replay", str(path), "--json", str(tmp_path / "x.json")]) == 0
    said = capsys.readouterr().out
    assert f"{FRAMES} results of face, {FRAMES - 1} frames dropped between them" in said
    assert "/camera/image" in said
    found = json.loads((tmp_path / "x.json").read_text())
    assert found["results"] == FRAMES
    assert found["duration_s"] == pytest.approx(0.033 * (FRAMES - 1), abs=0.001)


def test_the_same_model_sees_the_same(tmp_path, seen, capsys):
    path = write(tmp_path / "x.mcap", seen)
    json_file, report = tmp_path / "x.json", tmp_path / "x.html"
    arguments = ["-q", "replay", str(path), "--expect", "--json", str(json_file), "--report", str(report)]
    assert main(arguments) == 0
    assert f"0 of {FRAMES} frames differ" in capsys.readouterr().out
    found = json.loads(json_file.read_text())
    assert (found["frames"], found["missing"], found["extra"], found["off"]) == (FRAMES, 0, 0, 0)
    assert found["recorded"] == sum(len(message.detections) for _, message in seen)
    assert found["iou_least"] > 0.99
    assert found["score_change_most"] < 0.001
    assert "0 of" in report.read_text()


def test_every_kind_of_difference_is_found_and_shown(tmp_path, seen, capsys):
    edited = list(seen)
    image, message = edited[2]
    edited[2] = image, changed(message, score=round(message.detections[0].score - 0.2, 4))
    image, message = edited[4]
    edited[4] = image, msgspec.structs.replace(message, detections=[])
    image, message = edited[6]
    x1, y1, x2, y2 = message.detections[0].box
    edited[6] = image, changed(message, box=(x1 + 200, y1, x2 + 200, y2))
    path = write(tmp_path / "x.mcap", edited)
    html, png, json_file = tmp_path / "x.html", tmp_path / "x.png", tmp_path / "x.json"
    assert main(["-q", "replay", str(path), "--expect", "--report", str(html), "--json", str(json_file)]) == 5
    output = capsys.readouterr()
    assert f"3 of {FRAMES} frames differ" in output.out
    assert "--max-differing is 0" in output.err
    found = json.loads(json_file.read_text())
    assert (found["missing"], found["off"]) == (1, 1)
    assert found["extra"] == 1 + len(seen[4][1].detections)
    assert {row["seq"] for row in found["worst"]} == {4, 8, 12}
    assert html.read_text().count("<img") == 3
    assert main(["-q", "replay", str(path), "--expect", "--report", str(png), "--max-differing", "0.25"]) == 0
    assert cv2.imread(str(png)).shape == (900, 800, 3)
    assert main(["-q", "replay", str(path), "--expect", "--max-differing", "0.2"]) == 5


def test_a_folder_is_one_test(tmp_path, seen, capsys):
    folder, html, json_file = tmp_path / "drives", tmp_path / "x.html", tmp_path / "x.json"
    folder.mkdir()
    write(folder / "a.mcap", seen)
    image, message = seen[2]
    write(folder / "b.mcap", [*seen[:2], (image, msgspec.structs.replace(message, detections=[])), *seen[3:5]])
    command = ["-q", "replay", str(folder), "--expect", "--json", str(json_file), "--report", str(html)]
    assert main(command) == 5
    output = capsys.readouterr()
    rows = {line.split()[0]: line.split()[1:] for line in output.out.splitlines() if line and line[0] not in " "}
    extra = str(len(message.detections))
    assert rows[f"{folder / 'a.mcap'}"] == [str(FRAMES), "0", "0", "0", "0", "0"]
    assert rows[f"{folder / 'b.mcap'}"] == ["5", "1", "0", extra, "0", "0"]
    assert rows["all"] == [str(FRAMES + 5), "1", "0", extra, "0", "0"]
    assert f"{folder / 'b.mcap'} frame 4 at" in output.out
    assert f"1 of 2 recordings, {folder / 'b.mcap'} most: 1 of 5 frames differ" in output.err
    found = json.loads(json_file.read_text())
    assert (found["frames"], found["differing"]) == (FRAMES + 5, 1)
    assert [one["differing"] for one in found["recordings"]] == [0, 1]
    assert html.read_text().count("<img") == 1
    assert "a.mcap" in html.read_text()
    # of every recording at most so much: a long one that is well hides no short one that is not
    assert main([*command, "--max-differing", "0.1"]) == 5
    assert main([*command, "--max-differing", "0.2"]) == 0


def test_a_recording_of_several_that_cannot_be_used_is_no_pass(tmp_path, seen, capsys):
    write(tmp_path / "a.mcap", seen[:2])
    (tmp_path / "b.mcap").write_bytes(b"nothing of the kind")
    assert main(["-q", "replay", str(tmp_path), "--expect"]) == 2
    output = capsys.readouterr()
    assert f"{tmp_path / 'a.mcap'}" in output.out
    assert "1 of 2 recordings cannot be used" in output.err
    assert main(["-q", "replay", str(tmp_path), "--json", str(tmp_path / "x.json")]) == 2
    assert "2 results of face" in capsys.readouterr().out
    assert [one["results"] for one in json.loads((tmp_path / "x.json").read_text())["recordings"]] == [2]


def test_tolerances_are_the_command_line_s(tmp_path, seen, capsys):
    edited = [(image, changed(message, score=round(message.detections[0].score - 0.08, 4))) for image, message in seen]
    path = write(tmp_path / "x.mcap", edited)
    assert main(["-q", "replay", str(path), "--expect"]) == 5
    assert main(["-q", "replay", str(path), "--expect", "--score", "0.1"]) == 0
    moved = [
        (image, changed(m, box=(m.detections[0].box[0] + 15, *m.detections[0].box[1:3], m.detections[0].box[3])))
        for image, m in seen
    ]
    path = write(tmp_path / "y.mcap", moved)
    assert main(["-q", "replay", str(path), "--expect"]) == 0
    assert main(["-q", "replay", str(path), "--expect", "--iou", "0.95"]) == 5


def test_the_configuration_of_the_run_tracks_as_it_did(tmp_path, seen):
    """Tracks begin with their second frame and boxes are smoothed: only the same configuration sees the same."""
    config = RunConfig(tracking=TrackingSection(), model="face")
    model = open_model("face")
    pipeline = Pipeline(MemorySource([image for image, _ in seen], FRAMES), model, [], config)
    tracked = [(image, pipeline.step()) for image, _ in seen]
    model.close()
    assert not tracked[0][1].detections
    assert tracked[5][1].detections[0].track_id is not None
    path = write(tmp_path / "x.mcap", tracked)
    (tmp_path / "run.toml").write_text('model = "face"\n[tracking]\n')
    assert main(["-q", "replay", str(path), "--expect", "--config", str(tmp_path / "run.toml"), "--score", "0.1"]) == 0
    assert main(["-q", "replay", str(path), "--expect"]) == 5  # the first frame has a detection more
    # of a file that begins in the middle of a run, as those of a ring do
    path = write(tmp_path / "piece.mcap", tracked[4:])
    json_file = tmp_path / "x.json"
    command = ["-q", "replay", str(path), "--expect", "--config", str(tmp_path / "run.toml"), "--score", "0.1"]
    assert main([*command, "--json", str(json_file)]) == 0
    found = json.loads(json_file.read_text())
    assert (found["frames"], found["passed_over"]) == (FRAMES - 5, 1)


def test_tracking_without_its_configuration_is_warned_of(tmp_path, seen, capsys):
    path = write(tmp_path / "x.mcap", [(image, changed(message, track_id=1)) for image, message in seen])
    assert main(["-q", "replay", str(path), "--expect"]) == 0
    assert "recorded with tracking" in capsys.readouterr().err


def test_a_lower_threshold_than_recorded_is_noticed(tmp_path, seen, capsys):
    bold = [
        (image, msgspec.structs.replace(m, detections=[DetectionRecord("face", 0, 0.99, (1.0, 1.0, 9.0, 9.0))]))
        for image, m in seen
    ]
    path = write(tmp_path / "x.mcap", bold)
    assert main(["-q", "replay", str(path), "--expect"]) == 5
    assert "was it recorded with --threshold 0.99?" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["none.mcap"], 2, "cannot read none.mcap"),
        (["none.mcap", "--expect"], 2, "cannot read none.mcap"),
        (["x.mcap", "--report", "x.html"], 2, "add --expect"),
        (["nothing-here", "--expect"], 2, "there is no .mcap file in nothing-here"),
        (["x.mcap", "--expect", "--model", "no-such-model"], 3, "no-such-model"),
        (["x.mcap", "--expect", "--json", "/nowhere/x.json"], 2, "cannot write"),
        (["empty.mcap", "--expect"], 2, "holds no results of Harrier"),
        (["other.mcap", "--expect"], 2, "the recorded model 'some-model' is not here"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(tmp_path, seen, capsys, monkeypatch, arguments, code, said):
    monkeypatch.chdir(tmp_path)
    write(Path("x.mcap"), seen[:1])
    Path("nothing-here").mkdir()
    without = McapPublisher(parse_uri("mcap://empty.mcap?min_free_mb=0"))
    without.trigger("only a mark")
    without.close(10.0)
    write(Path("other.mcap"), [(image, msgspec.structs.replace(m, model="some-model")) for image, m in seen[:1]])
    assert main(["-q", "replay", *arguments]) == code
    error = capsys.readouterr().err.strip()
    assert said in error
    assert len(error.splitlines()) == 1


def detections(*records: DetectionRecord) -> DetectionsMessage:
    return DetectionsMessage(t_publish_ns=0, t_capture_ns=0, age_ms=0.0, detections=list(records))


def test_what_is_just_under_the_threshold_now_or_then_is_no_difference():
    limits = Limits(score=0.05, threshold=0.5)
    faint = DetectionRecord("a", 0, 0.52, (0, 0, 10, 10))
    plain = DetectionRecord("a", 0, 0.56, (0, 0, 10, 10))
    assert compare(detections(), detections(faint), 0.0, limits).size == 0
    assert compare(detections(), detections(plain), 0.0, limits).size == 1
    assert compare(detections(faint), detections(), 0.0, limits).size == 1  # looked for a little below the threshold
    expected = DetectionRecord("a", 0, 0.9, (50, 50, 60, 60), track_id=1, unseen_ms=33.0)
    assert compare(detections(plain, expected), detections(plain), 0.0, limits).size == 0


def test_each_box_has_one_partner_of_its_own_class():
    a = DetectionRecord("a", 0, 0.9, (0, 0, 10, 10))
    near = DetectionRecord("a", 0, 0.9, (1, 0, 11, 10))
    other = DetectionRecord("b", 1, 0.9, (0, 0, 10, 10))
    found = compare(detections(a, near), detections(near, a), 0.0, Limits())
    assert [overlap for _, overlap, _ in found.pairs] == [1.0, 1.0]
    found = compare(detections(a), detections(other), 0.0, Limits())
    assert (len(found.missing), len(found.extra)) == (1, 1)
    assert found.text == "missing a 0.90, extra b 0.90"
    found = compare(detections(a), detections(a, near), 0.0, Limits())
    assert (len(found.pairs), found.extra) == (1, [near])


def test_classifiers_keep_their_best_class_or_differ():
    def classes(*pairs: tuple[int, float]) -> ClassificationMessage:
        records = [DetectionRecord(str(c), c, s) for c, s in pairs]
        return ClassificationMessage(t_publish_ns=0, t_capture_ns=0, age_ms=0.0, classes=records)

    limits = Limits(score=0.05)
    assert compare(classes((1, 0.6), (2, 0.3)), classes((1, 0.58), (2, 0.3)), 0.0, limits).size == 0
    assert compare(classes((1, 0.5), (2, 0.49)), classes((2, 0.51), (1, 0.48)), 0.0, limits).size == 0
    assert compare(classes((1, 0.6)), classes((1, 0.5)), 0.0, limits).size == 1
    assert compare(classes((1, 0.6)), classes((3, 0.6)), 0.0, limits).size == 2
