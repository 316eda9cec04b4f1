"""What stands in a recording: Foxglove's types as Foxglove describes them, and our own messages to the last bit."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("mcap", reason="the record extra is not installed")
pytest.importorskip("mcap_protobuf", reason="the record extra is not installed")
pytest.importorskip("foxglove_schemas_protobuf", reason="the record extra is not installed")

import msgspec
from foxglove_schemas_protobuf.CompressedImage_pb2 import CompressedImage
from foxglove_schemas_protobuf.ImageAnnotations_pb2 import ImageAnnotations
from foxglove_schemas_protobuf.Log_pb2 import Log
from foxglove_schemas_protobuf.PointsAnnotation_pb2 import PointsAnnotation
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from mcap.reader import make_reader
from mcap_protobuf.decoder import DecoderFactory
from recorded import (
    BALL,
    EXPECTED,
    HELLO,
    LABELS,
    TRACKED,
    classification,
    detections,
    frame,
    messages_of,
    region,
    status,
)

from edge.draw import class_color
from edge.errors import ConfigError
from edge.publishers.mcap import McapPublisher
from edge.publishers.mcap_encoding import _color, calibration_of
from edge.publishers.mcap_schemas import StageTimes
from edge.timings import Stage, StageTimings
from edge.uri import parse_uri
from edge.wire import jsonl

CAMERA = """width_px = 640
height_px = 480
frame_id = "front"
[intrinsics]
fx_px = 500.0
fy_px = 501.0
cx_px = 320.5
cy_px = 239.5
[distortion]
model = "{model}"
coefficients = {coefficients}
[mount]
height_m = 0.5
"""


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """One file with everything, and what was sent."""
    path = tmp_path_factory.mktemp("contents") / "all.mcap"
    publisher = McapPublisher(parse_uri(f"mcap://{path}?quality=95"))
    publisher.timings = StageTimings()
    publisher.timings.start()
    publisher.timings.lap(Stage.INFER)
    publisher.timings.finish(0, 1_500_000)
    sent = [
        HELLO,
        LABELS,
        status("connecting"),
        detections(5),
        region(),
        status("lost", "unplugged"),
        detections(6, []),
    ]
    picture = frame(5)
    for message in sent:
        publisher.send(message)
        if message.kind == "detections" and message.seq == 5:
            publisher.show(picture, message)
    publisher.close(5.0)
    assert (publisher.failure, publisher.dropped) == ("", 0)
    return path, sent, picture


def decoded(path: Path) -> dict[str, list[Any]]:
    """By topic: the message's own record and what Foxglove's schema in the file makes of it."""
    found: dict[str, list[Any]] = {}
    with path.open("rb") as file:
        reader = make_reader(file, validate_crcs=True, decoder_factories=[DecoderFactory()])
        topics = [c.topic for c in reader.get_summary().channels.values() if c.message_encoding == "protobuf"]
        for _, channel, message, value in reader.iter_decoded_messages(topics=topics):
            found.setdefault(channel.topic, []).append((message, value))
    return found


def test_schemas_are_foxglove_s_own(recorded):
    with recorded[0].open("rb") as file:
        schemas = {schema.name: schema for schema in make_reader(file).get_summary().schemas.values()}
    for kind in (CompressedImage, ImageAnnotations, Log):
        schema = schemas[kind.DESCRIPTOR.full_name]
        assert schema.encoding == "protobuf"
        files = {one.name: one for one in FileDescriptorSet.FromString(schema.data).file}
        own = files[kind.DESCRIPTOR.file.name]
        assert own.SerializeToString() == kind.DESCRIPTOR.file.serialized_pb
        assert set(own.dependency) <= set(files)  # whoever opens it needs no other file


def test_boxes_labels_tracks_and_times_come_back(recorded):
    path, sent, _ = recorded
    then = sent[3]
    message, shown = decoded(path)["/camera/annotations"][0]
    assert shown.timestamp.ToNanoseconds() == then.t_capture_ns
    assert message.sequence == 5
    loops = [p for p in shown.points if p.type == PointsAnnotation.Type.LINE_LOOP]
    boxes = [(p.points[0].x, p.points[0].y, p.points[2].x, p.points[2].y) for p in loops]
    assert boxes == [BALL.box, TRACKED.box, TRACKED.predicted_box, EXPECTED.box]
    assert all(p.timestamp.ToNanoseconds() == then.t_capture_ns for p in loops)
    assert [p.outline_color.a for p in loops] == [1.0, 1.0, pytest.approx(0.45), pytest.approx(0.45)]
    points = next(p for p in shown.points if p.type == PointsAnnotation.Type.POINTS)
    assert [(p.x, p.y) for p in points.points] == TRACKED.keypoints
    assert [text.text for text in shown.texts] == ["ball 0.81", "person 0.93 #7", "cup 0.40 #9"]
    assert (shown.texts[0].position.x, shown.texts[0].position.y) == BALL.box[:2]


def test_the_picture_has_the_time_of_its_annotations(recorded):
    path, sent, picture = recorded
    found = decoded(path)
    (message, shown), (beside, annotations) = found["/camera/image"][0], found["/camera/annotations"][0]
    assert shown.timestamp.ToNanoseconds() == annotations.timestamp.ToNanoseconds()
    assert (message.log_time, message.publish_time) == (beside.log_time, beside.publish_time)
    assert message.log_time - message.publish_time == pytest.approx(sent[3].age_ms * 1e6, abs=1000)
    assert (shown.format, shown.frame_id, message.sequence) == ("jpeg", "front_optical", 5)
    image = cv2.imdecode(np.frombuffer(shown.data, np.uint8), cv2.IMREAD_COLOR)
    same = cv2.imdecode(cv2.imencode(".jpg", picture.image, [cv2.IMWRITE_JPEG_QUALITY, 95])[1], cv2.IMREAD_COLOR)
    assert np.array_equal(image, same)


def test_our_messages_lose_nothing(recorded):
    path, sent, _ = recorded
    found = [
        jsonl.decode(m.data) for m in messages_of(path) if m.encoding == "json" and m.schema != "harrier.StageTimes"
    ]
    wanted = [msgspec.structs.replace(m, t_capture_local_ns=None) if m.kind == "detections" else m for m in sent]
    key = str
    assert sorted(map(key, found)) == sorted(map(key, wanted))


def test_json_schemas_describe_what_is_written(recorded):
    def check(value: Any, schema: dict[str, Any], where: str) -> None:
        kinds = {"object": dict, "array": list, "string": str, "integer": int, "number": (int, float), "boolean": bool}
        assert isinstance(value, kinds[schema["type"]]), where
        if schema["type"] == "object":
            for key, inner in value.items():
                check(inner, schema["properties"][key], f"{where}.{key}")
        elif schema["type"] == "array":
            for inner in value:
                check(inner, schema["items"], where)
        elif "enum" in schema:
            assert value in schema["enum"], where

    seen = set()
    with recorded[0].open("rb") as file:
        for schema, channel, message in make_reader(file).iter_messages():
            if channel.message_encoding == "json":
                assert schema.encoding == "jsonschema"
                assert b"$ref" not in schema.data
                check(json.loads(message.data), json.loads(schema.data), channel.topic)
                seen.add(schema.name)
    assert seen == {f"harrier.{n}" for n in ("Hello", "Labels", "Status", "Detections", "Region", "StageTimes")}


def test_stage_times_are_those_of_the_step(recorded):
    times = next(json.loads(m.data) for m in messages_of(recorded[0]) if m.topic == "/harrier/stages")
    assert times["seq"] == 5
    assert times["age_ms"] == 1.5
    assert 0 <= times["infer_ms"] <= times["wall_ms"]
    stages = [f"{stage.name.lower()}_ms" for stage in Stage]
    assert list(StageTimes.__struct_fields__) == ["seq", "t_capture_ns", *stages, "wall_ms", "age_ms"]


def test_changes_of_state_and_regions_can_be_read_in_the_log(recorded):
    lines = [(value.level, value.message) for _, value in decoded(recorded[0])["/harrier/log"]]
    assert lines == [
        (Log.Level.INFO, "connecting"),
        (Log.Level.INFO, "region gate: enter, person #7"),
        (Log.Level.WARNING, "lost unplugged"),
    ]


def test_classes_are_shown_as_text(tmp_path):
    path = tmp_path / "classes.mcap"
    publisher = McapPublisher(parse_uri(f"mcap://{path}"))
    publisher.send(classification())
    publisher.close(5.0)
    shown = decoded(path)["/camera/annotations"][0][1]
    assert [text.text for text in shown.texts] == ["tabby 0.61", "tiger cat 0.20"]
    assert not shown.points


def test_png_pictures_are_the_camera_s_own_pixels(tmp_path):
    path = tmp_path / "exact.mcap"
    publisher = McapPublisher(parse_uri(f"mcap://{path}?pictures=png"))
    picture, message = frame(1), detections(1)
    publisher.send(message)
    publisher.show(picture, message)
    publisher.close(5.0)
    shown = decoded(path)["/camera/image"][0][1]
    assert shown.format == "png"
    assert np.array_equal(cv2.imdecode(np.frombuffer(shown.data, np.uint8), cv2.IMREAD_COLOR), picture.image)


@pytest.mark.parametrize("class_id", [0, 1, 7, 79])
def test_colours_are_those_of_other_pictures(class_id):
    color = _color(class_id)
    bgr = [round(255 * part) for part in (color.b, color.g, color.r)]
    assert np.allclose(bgr, class_color(class_id), atol=3)


@pytest.mark.parametrize(
    ("model", "coefficients", "name", "count"),
    [
        ("opencv", [0.1, -0.2, 0.0, 0.001], "plumb_bob", 5),
        ("opencv", [0.1, -0.2, 0.0, 0.001, 0.3], "plumb_bob", 5),
        ("opencv", [0.1] * 8, "rational_polynomial", 8),
        ("fisheye", [0.1] * 4, "kannala_brandt", 4),
    ],
)
def test_a_camera_file_becomes_a_calibration_in_every_file(tmp_path, model, coefficients, name, count):
    (tmp_path / "camera.toml").write_text(CAMERA.format(model=model, coefficients=coefficients))
    path = tmp_path / "calibrated.mcap"
    publisher = McapPublisher(parse_uri(f"mcap://{path}?camera={tmp_path}/camera.toml"))
    publisher.send(detections())
    publisher.close(5.0)
    ((_, found),) = decoded(path)["/camera/calibration"]
    assert (found.width, found.height, found.frame_id, found.distortion_model) == (640, 480, "front", name)
    assert list(found.K) == [500.0, 0.0, 320.5, 0.0, 501.0, 239.5, 0.0, 0.0, 1.0]
    assert list(found.D)[: len(coefficients)] == coefficients
    assert len(found.D) == count


def test_a_camera_file_that_is_none_is_refused(tmp_path):
    (tmp_path / "camera.toml").write_text("width_px = 640\n")
    with pytest.raises(ConfigError, match=r"camera\.toml"):
        calibration_of(tmp_path / "camera.toml", 0)
