"""The binary format, outward: messages to bytes by the table in `edge.wire.layout`.

Numbers that do not fit their field are put at its nearest end, never wrapped.
"""

import struct
from collections.abc import Callable, Mapping
from typing import Any

from edge.errors import WireError
from edge.wire import layout
from edge.wire.block_codec import blocks_of, numbers_of
from edge.wire.messages import (
    ClassificationMessage,
    ClockMessage,
    ControlMessage,
    CreditMessage,
    DetectionsMessage,
    HeartbeatMessage,
    HelloMessage,
    LabelsMessage,
    Message,
    RegionMessage,
    StatusMessage,
    source_id_of,
)

__all__ = ["encode"]

_LAYOUTS = {one.kind: one for one in layout.LAYOUTS}
_HEADER = struct.Struct("<" + layout.HEADER.codes)
_BODY = {one.kind: struct.Struct("<" + one.body.codes) for one in layout.LAYOUTS}
_NAMES = {one.kind: one.body.names for one in layout.LAYOUTS}
_RECORD = {one.kind: one.record.codes for one in layout.LAYOUTS if one.record}
_RECORD_BLOCKS = layout.DETECTION_CODES
_RECORD_BYTES = [struct.calcsize("<" + codes) for codes in _RECORD_BLOCKS]
_LIMITS = {"B": (0, 0xFF), "H": (0, 0xFFFF), "I": (0, 0xFFFFFFFF), "Q": (0, (1 << 64) - 1), "h": (-0x8000, 0x7FFF)}
_FLAG_BIT = {name: 1 << i for i, name in enumerate(layout.FLAGS)}
_FIXED_BYTES = _HEADER.size + 2
_SCORE, _PX, _RATE = (layout.SCALES[name] for name in ("score", "x1", "max_rate_hz"))


def encode(message: Message, max_bytes: int | None = None) -> bytes:
    """Return the message with its checksum, without framing.

    max_bytes: detections for which there is no room are left out, weakest first, and counted in `omitted`.
    Raises: WireError when even the rest has more bytes than that (or than MAX_MESSAGE_BYTES), or for NaN.
    """
    kind, limit = message.kind, min(max_bytes or layout.MAX_MESSAGE_BYTES, layout.MAX_MESSAGE_BYTES)
    flags = 0
    for name in message.flags:
        flags |= _FLAG_BIT[name]
    header = (
        layout.MAGIC,
        layout.VERSION,
        _LAYOUTS[kind].number,
        flags,
        layout.FORMAT_HASH,
        source_id_of(message.source),
        message.seq & 0xFFFFFFFF,
    )
    try:
        data = _HEADER.pack(*header) + _ENCODERS[kind](message, limit)
    except (ValueError, OverflowError) as exc:  # int(nan), int(inf)
        raise WireError(f"a {kind} message has a number that is not finite", "report this as a defect") from exc
    if len(data) + 2 > limit:
        raise WireError(f"a {kind} message has {len(data) + 2} bytes, more than {limit}", "allow more bytes")
    return data + layout.crc16(data).to_bytes(2, "little")


def _pack(kind: str, values: Mapping[str, float]) -> bytes:
    """The fixed fields; a number that does not fit is put at the nearest end."""
    numbers = [values[name] for name in _NAMES[kind]]
    try:
        return _BODY[kind].pack(*numbers)
    except struct.error:
        return _BODY[kind].pack(*_limited(numbers, _LAYOUTS[kind].body.codes))


def _limited(numbers: list, codes: str) -> list[int]:
    return [min(max(int(n), _LIMITS[c][0]), _LIMITS[c][1]) for n, c in zip(numbers, codes, strict=True)]


def _string(text: str) -> bytes:
    """Length and UTF-8, cut at 255 bytes between two characters."""
    data = text.encode("utf-8", "replace")
    if len(data) > 255:
        data = data[:255].decode("utf-8", "ignore").encode()
    return bytes((len(data),)) + data


def _captured(message: DetectionsMessage | ClassificationMessage) -> dict[str, float]:
    return {
        "t_capture_ns": message.t_capture_ns,
        "age_us": int(message.age_ms * 1000 + 0.5),
        "ttl_ms": message.ttl_ms,
        "model_id": message.model_id,
        "frame_width": message.frame[0],
        "frame_height": message.frame[1],
        "timestamp": layout.TIMESTAMPS.index(message.timestamp),
    }


def _encode_detections(message: DetectionsMessage, limit: int) -> bytes:
    records = message.detections
    blocks = 0
    for r in records:
        blocks |= blocks_of(r)
    room = max(0, (limit - _FIXED_BYTES - _BODY["detections"].size) // _RECORD_BYTES[blocks])
    room = min(room, layout.MAX_COUNT)
    omitted = message.omitted
    if len(records) > room:
        omitted += len(records) - room
        order = sorted(range(len(records)), key=lambda i: -records[i].score)[:room]
        records = [records[i] for i in sorted(order)]
    values = _captured(message) | {"blocks": blocks, "omitted": omitted, "count": len(records)}
    numbers: list[int] = []
    for r in records:
        track = r.track_id
        x1, y1, x2, y2 = r.box or (0, 0, 0, 0)
        numbers += (
            r.class_id,
            int(r.score * _SCORE + 0.5),
            layout.NO_TRACK if track is None else track & 0xFFFF,
            int(x1 * _PX + 0.5),
            int(y1 * _PX + 0.5),
            int(x2 * _PX + 0.5),
            int(y2 * _PX + 0.5),
        )
        if blocks:
            numbers += numbers_of(r, blocks)
    codes = _RECORD_BLOCKS[blocks] * len(records)
    try:
        packed = struct.pack("<" + codes, *numbers)
    except struct.error:
        packed = struct.pack("<" + codes, *_limited(numbers, codes))
    return _pack("detections", values) + packed


def _encode_classification(message: ClassificationMessage, limit: int) -> bytes:
    room = (limit - _FIXED_BYTES - _BODY["classification"].size) // 4
    classes = message.classes[: max(0, min(room, layout.MAX_COUNT))]  # best first
    numbers = [n for c in classes for n in (c.class_id, int(c.score * _SCORE + 0.5))]
    codes = _RECORD["classification"] * len(classes)
    return _pack("classification", _captured(message) | {"count": len(classes)}) + struct.pack(
        "<" + codes, *_limited(numbers, codes)
    )


def _encode_heartbeat(message: HeartbeatMessage, limit: int) -> bytes:
    newest = message.newest_age_ms
    values = {
        "t_publish_ns": message.t_publish_ns,
        "uptime_ms": message.uptime_ms & 0xFFFFFFFF,
        "newest_age_ms": layout.NO_AGE if newest is None else min(round(newest), layout.NO_AGE - 1),
        "period_ms": message.period_ms,
        "state": layout.STATES.index(message.state),
    }
    return _pack("heartbeat", values)


def _encode_status(message: StatusMessage, limit: int) -> bytes:
    state = layout.STATES.index(message.state)
    values = {"t_publish_ns": message.t_publish_ns, "t_event_ns": message.t_event_ns, "state": state}
    room = limit - _FIXED_BYTES - _BODY["status"].size
    engine = _string(message.engine)
    reason = message.reason.encode("utf-8", "replace")[: max(0, room - len(engine) - 1)].decode("utf-8", "ignore")
    return _pack("status", values) + engine + _string(reason)


def _encode_hello(message: HelloMessage, limit: int) -> bytes:
    values = {
        "model_id": message.model_id,
        "frame_width": message.frame[0],
        "frame_height": message.frame[1],
        "class_count": message.class_count,
        "ttl_ms": message.ttl_ms,
        "heartbeat_ms": message.heartbeat_ms,
    }
    frames = (message.frame_id, message.base_frame_id)
    texts = (message.software, message.source, message.model, message.token, *frames)
    return _pack("hello", values) + b"".join(map(_string, texts))


def _encode_labels(message: LabelsMessage, limit: int) -> bytes:
    values = {
        "model_id": message.model_id,
        "first": message.first,
        "total": message.total,
        "count": len(message.labels),
    }
    return _pack("labels", values) + b"".join(map(_string, message.labels))


def _encode_clock(message: ClockMessage, limit: int) -> bytes:
    times = {name: getattr(message, name) for name in ("t_request_ns", "t_receive_ns", "t_reply_ns")}
    return _pack("clock", {"reply": int(message.reply), **times})


def _encode_credit(message: CreditMessage, limit: int) -> bytes:
    return _pack("credit", {"results": message.results})


def _encode_control(message: ControlMessage, limit: int) -> bytes:
    kinds = 0
    for kind in message.kinds:
        kinds |= 1 << _LAYOUTS[kind].number
    classes = message.class_ids[: layout.MAX_COUNT]
    values = {
        "kinds": kinds,
        "max_rate_hz": round(message.max_rate_hz * _RATE),
        "command": layout.COMMANDS.index(message.command),
        "count": len(classes),
    }
    codes = _RECORD["control"] * len(classes)
    return _pack("control", values) + struct.pack("<" + codes, *_limited(list(classes), codes))


def _encode_region(message: RegionMessage, limit: int) -> bytes:
    inside = message.inside
    values = {
        "t_event_ns": message.t_event_ns,
        "age_us": int(message.age_ms * 1000 + 0.5),
        "model_id": message.model_id,
        "region": message.index,
        "event": layout.EVENTS.index(message.event),
        "direction": layout.DIRECTIONS.index(message.direction),
        "lost": int(message.lost),
        "class_id": message.class_id,
        "track_id": message.track_id & 0xFFFF,
        "dwell_ms": round(message.dwell_ms or 0.0),
        "inside": layout.NO_COUNT if inside is None else min(inside, layout.NO_COUNT - 1),
    }
    return _pack("region", values) + _string(message.region)


_ENCODERS: dict[str, Callable[[Any, int], bytes]] = {
    "detections": _encode_detections,
    "classification": _encode_classification,
    "heartbeat": _encode_heartbeat,
    "status": _encode_status,
    "hello": _encode_hello,
    "labels": _encode_labels,
    "clock": _encode_clock,
    "credit": _encode_credit,
    "control": _encode_control,
    "region": _encode_region,
}
