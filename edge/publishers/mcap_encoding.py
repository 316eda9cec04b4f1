"""What a recording holds of a frame and of a message, as bytes: Foxglove's types, and our own messages as JSON."""

import colorsys
from functools import lru_cache
from pathlib import Path

import cv2
import msgspec
import numpy as np
from foxglove_schemas_protobuf.CameraCalibration_pb2 import CameraCalibration
from foxglove_schemas_protobuf.Color_pb2 import Color
from foxglove_schemas_protobuf.CompressedImage_pb2 import CompressedImage
from foxglove_schemas_protobuf.ImageAnnotations_pb2 import ImageAnnotations
from foxglove_schemas_protobuf.Log_pb2 import Log
from foxglove_schemas_protobuf.PointsAnnotation_pb2 import PointsAnnotation
from google.protobuf.timestamp_pb2 import Timestamp

from edge.errors import PublishError
from edge.publishers.mcap_schemas import StageTimes
from edge.structs import as_struct, read_toml
from edge.wire import jsonl
from edge.wire.messages import (
    ClassificationMessage,
    DetectionRecord,
    DetectionsMessage,
    Message,
    RegionMessage,
    ResultMessage,
)

__all__ = ["annotations_of", "calibration_of", "json_of", "log_of", "picture_of", "stages_of", "times_of"]

_LINE_PX, _THIN_PX, _TEXT_PX = 2.0, 1.0, 14.0
_EXPECTED_ALPHA = 0.45  # of boxes where something is only expected to be
_DARK = Color(r=0.0, g=0.0, b=0.0, a=0.6)
_COUNTS = {4: "plumb_bob", 5: "plumb_bob", 8: "rational_polynomial"}
_STAGES = StageTimes.__struct_fields__[2:]


class _Intrinsics(msgspec.Struct):
    fx_px: float
    fy_px: float
    cx_px: float
    cy_px: float


class _Distortion(msgspec.Struct):
    model: str = "opencv"
    coefficients: list[float] = msgspec.field(default_factory=lambda: [0.0] * 4)


class _CameraFile(msgspec.Struct):
    """What a recording needs of a camera file; `edge.geometry.camera.Camera` is the whole of it."""

    width_px: int
    height_px: int
    intrinsics: _Intrinsics
    frame_id: str = "camera"
    distortion: _Distortion = msgspec.field(default_factory=_Distortion)


def picture_of(image: np.ndarray, t_capture_ns: int, frame_id: str, kind: str, quality: int) -> bytes:
    """Return foxglove.CompressedImage of `image` (H, W, 3) uint8 BGR; kind: jpeg (of `quality`, 1 to 100) or png.

    Raises: PublishError for a picture that cannot be encoded.
    """
    suffix, setting = (".jpg", [cv2.IMWRITE_JPEG_QUALITY, quality]) if kind == "jpeg" else (".png", [])
    if kind == "png":
        setting = [cv2.IMWRITE_PNG_COMPRESSION, 1]  # the quickest that compresses at all
    try:
        done, data = cv2.imencode(suffix, image, setting)
    except cv2.error as exc:
        raise PublishError(f"a picture cannot be encoded ({exc.err})", "record pictures=none") from exc
    if not done:
        raise PublishError(f"a picture of {image.shape} cannot be encoded", "record pictures=none")
    return CompressedImage(
        timestamp=_stamp(t_capture_ns), frame_id=frame_id, format=kind, data=data.tobytes()
    ).SerializeToString()


def annotations_of(message: DetectionsMessage | ClassificationMessage) -> bytes:
    """Return foxglove.ImageAnnotations: boxes, key points, expected boxes, and label, score and track as text."""
    found = ImageAnnotations()
    stamp = _stamp(message.t_capture_ns)
    found.timestamp.CopyFrom(stamp)
    if isinstance(message, DetectionsMessage):
        for record in message.detections:
            _add_detection(found, record, stamp)
    else:
        for i, record in enumerate(message.classes):
            _add_text(
                found, f"{record.label} {record.score:.2f}", (4.0, 18.0 * (i + 1)), _color(record.class_id), stamp
            )
    return found.SerializeToString()


def json_of(message: Message) -> bytes:
    """Return one of our messages as JSON, as readers get it."""
    return jsonl.encode(message)[:-1]


def stages_of(message: ResultMessage, newest_ns: np.ndarray) -> bytes:
    """Return harrier.StageTimes of the step that gave a result; newest_ns (S + 2,) int64 as StageTimings has them."""
    times = dict(zip(_STAGES, (newest_ns / 1e6).round(3).tolist(), strict=True))
    return msgspec.json.encode({"seq": message.seq, "t_capture_ns": message.t_capture_ns, **times})


def log_of(text: str, warning: bool, t_event_ns: int) -> bytes:
    """Return foxglove.Log of something that happened at t_event_ns (Unix); what is not UTF-8 in `text` is lost."""
    text = text.encode("utf-8", "replace").decode()
    level = Log.Level.WARNING if warning else Log.Level.INFO
    return Log(timestamp=_stamp(t_event_ns), level=level, message=text, name="harrier").SerializeToString()


def times_of(message: Message, now_ns: int) -> tuple[int, int]:
    """Return when it was sent, and when what it is about happened (CLOCK_MONOTONIC ns)."""
    if isinstance(message, ResultMessage) and message.t_capture_local_ns is not None:
        return message.t_capture_local_ns + int(message.age_ms * 1e6), message.t_capture_local_ns
    if isinstance(message, RegionMessage) and message.t_event_local_ns is not None:
        return now_ns, message.t_event_local_ns
    return now_ns, now_ns


def calibration_of(path: Path, t_ns: int) -> bytes:
    """Return foxglove.CameraCalibration of a camera file.

    Raises: ConfigError naming the file and the key.
    """
    camera = as_struct(read_toml(path), _CameraFile, str(path))
    i, coefficients = camera.intrinsics, list(camera.distortion.coefficients)
    fisheye = camera.distortion.model == "fisheye"
    model = "kannala_brandt" if fisheye else _COUNTS.get(len(coefficients), "plumb_bob")
    if model == "plumb_bob":
        coefficients += [0.0] * (5 - len(coefficients))
    return CameraCalibration(
        timestamp=_stamp(t_ns),
        frame_id=camera.frame_id,
        width=camera.width_px,
        height=camera.height_px,
        distortion_model=model,
        D=coefficients,
        K=[i.fx_px, 0.0, i.cx_px, 0.0, i.fy_px, i.cy_px, 0.0, 0.0, 1.0],
        R=[1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0],
        P=[i.fx_px, 0.0, i.cx_px, 0.0, 0.0, i.fy_px, i.cy_px, 0.0, 0.0, 0.0, 1.0, 0.0],
    ).SerializeToString()


def _add_detection(found: ImageAnnotations, record: DetectionRecord, stamp: Timestamp) -> None:
    color = _color(record.class_id, _EXPECTED_ALPHA if record.unseen_ms else 1.0)
    if record.box:
        _add_box(found, record.box, color, _LINE_PX, stamp)
        text = f"{record.label} {record.score:.2f}"
        if record.track_id is not None:
            text += f" #{record.track_id}"
        _add_text(found, text, record.box[:2], color, stamp)
    if record.predicted_box:
        _add_box(found, record.predicted_box, _color(record.class_id, _EXPECTED_ALPHA), _THIN_PX, stamp)
    if record.keypoints:
        points = found.points.add(type=PointsAnnotation.Type.POINTS, thickness=2 * _LINE_PX)
        points.timestamp.CopyFrom(stamp)
        points.outline_color.CopyFrom(color)
        for x, y in record.keypoints:
            points.points.add(x=x, y=y)


def _add_box(
    found: ImageAnnotations,
    box: tuple[float, float, float, float],
    color: Color,
    thickness_px: float,
    stamp: Timestamp,
) -> None:
    x1, y1, x2, y2 = box
    loop = found.points.add(type=PointsAnnotation.Type.LINE_LOOP, thickness=thickness_px)
    loop.timestamp.CopyFrom(stamp)
    loop.outline_color.CopyFrom(color)
    for x, y in ((x1, y1), (x2, y1), (x2, y2), (x1, y2)):
        loop.points.add(x=x, y=y)


def _add_text(found: ImageAnnotations, text: str, at: tuple[float, float], color: Color, stamp: Timestamp) -> None:
    shown = found.texts.add(text=text, font_size=_TEXT_PX)
    shown.timestamp.CopyFrom(stamp)
    shown.position.x, shown.position.y = at
    shown.text_color.CopyFrom(color)
    shown.background_color.CopyFrom(_DARK)


@lru_cache(1024)
def _color(class_id: int, alpha: float = 1.0) -> Color:
    """The colour that edge.draw gives a class."""
    hue = (class_id * 67 + 100) % 180
    red, green, blue = colorsys.hsv_to_rgb(hue / 180, 200 / 255, 1.0)
    return Color(r=red, g=green, b=blue, a=alpha)


def _stamp(t_ns: int) -> Timestamp:
    return Timestamp(seconds=t_ns // 1_000_000_000, nanos=t_ns % 1_000_000_000)
