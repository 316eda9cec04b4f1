"""The topics of a recording and the schema of each: Foxglove's as protobuf, our own messages as JSON."""

import json
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec
from foxglove_schemas_protobuf.CameraCalibration_pb2 import CameraCalibration
from foxglove_schemas_protobuf.CompressedImage_pb2 import CompressedImage
from foxglove_schemas_protobuf.ImageAnnotations_pb2 import ImageAnnotations
from foxglove_schemas_protobuf.Log_pb2 import Log
from mcap_protobuf.schema import build_file_descriptor_set

from edge.run_settings import METADATA
from edge.wire.messages import (
    ClassificationMessage,
    DetectionsMessage,
    HeartbeatMessage,
    HelloMessage,
    LabelsMessage,
    RegionMessage,
    StatusMessage,
)

__all__ = [
    "ANNOTATIONS",
    "CALIBRATION",
    "IMAGE",
    "LOG",
    "OWN",
    "SETTINGS",
    "STAGES",
    "TRIGGER",
    "Entry",
    "StageTimes",
    "TriggerRecord",
    "schema_of",
]

IMAGE, ANNOTATIONS, CALIBRATION = "/camera/image", "/camera/annotations", "/camera/calibration"
LOG, STAGES, TRIGGER = "/harrier/log", "/harrier/stages", "/harrier/trigger"
OWN = "/harrier/{}"
"""The topic of our messages of a kind."""
SETTINGS = METADATA
"""Not a topic: what has it is a metadata record, and its data the record's values as JSON."""

_UNSENT = {"t_capture_local_ns", "t_event_local_ns", "clock_error_ms"}  # never leave the process
_FOXGLOVE: dict[str, Any] = {
    IMAGE: CompressedImage,
    ANNOTATIONS: ImageAnnotations,
    CALIBRATION: CameraCalibration,
    LOG: Log,
}


class Entry(NamedTuple):
    """A message on its way to the disk; times are CLOCK_MONOTONIC ns."""

    topic: str
    t_log_ns: int
    t_publish_ns: int
    sequence: int
    data: bytes


class StageTimes(msgspec.Struct, kw_only=True):
    """How long each stage took for frame `seq`, all of them together, and the result's age when it was published."""

    seq: int
    t_capture_ns: int
    wait_ms: float
    preprocess_ms: float
    infer_ms: float
    decode_ms: float
    nms_ms: float
    track_ms: float
    locate_ms: float
    publish_ms: float
    wall_ms: float
    age_ms: float


class TriggerRecord(msgspec.Struct, kw_only=True):
    """Why a piece of the ring was kept, and the Unix time of that."""

    reason: str
    t_event_ns: int


_STRUCTS: dict[str, type[msgspec.Struct]] = {
    **{
        OWN.format(struct.kind): struct
        for struct in (
            DetectionsMessage,
            ClassificationMessage,
            HeartbeatMessage,
            StatusMessage,
            HelloMessage,
            LabelsMessage,
            RegionMessage,
        )
    },
    STAGES: StageTimes,
    TRIGGER: TriggerRecord,
}


@lru_cache(32)
def schema_of(topic: str) -> tuple[str, str, str, bytes]:
    """Return a topic's message encoding, and name, encoding and text of its schema."""
    if topic in _FOXGLOVE:
        kind = _FOXGLOVE[topic]
        return "protobuf", kind.DESCRIPTOR.full_name, "protobuf", build_file_descriptor_set(kind).SerializeToString()
    struct = _STRUCTS[topic]
    text = json.dumps(_json_schema(msgspec.inspect.type_info(struct)))
    return "json", f"harrier.{struct.__name__.removesuffix('Message')}", "jsonschema", text.encode()


def _json_schema(info: Any) -> dict[str, Any]:
    """JSON Schema without references and unions, which not every viewer follows; what may be absent is not required."""
    match info:
        case msgspec.inspect.StructType():
            fields = {one.encode_name: _json_schema(one.type) for one in info.fields if one.name not in _UNSENT}
            tag = {info.tag_field: {"type": "string", "const": info.tag}} if info.tag_field else {}
            return {"type": "object", "properties": {**tag, **fields}}
        case msgspec.inspect.UnionType():
            return _json_schema(next(one for one in info.types if not isinstance(one, msgspec.inspect.NoneType)))
        case msgspec.inspect.ListType() | msgspec.inspect.VarTupleType():
            return {"type": "array", "items": _json_schema(info.item_type)}
        case msgspec.inspect.TupleType():  # all ours are of one type
            return {"type": "array", "items": _json_schema(info.item_types[0])}
        case msgspec.inspect.LiteralType():
            return {"type": "string", "enum": list(info.values)}
        case msgspec.inspect.IntType():
            return {"type": "integer"}
        case msgspec.inspect.FloatType():
            return {"type": "number"}
        case msgspec.inspect.BoolType():
            return {"type": "boolean"}
        case _:
            return {"type": "string"}
