"""The binary format, inward: bytes to messages by the table in `edge.wire.layout`.

Nothing is decoded to a default: bytes that are not one whole, undamaged message of this very table raise.
"""

import struct
from collections.abc import Callable
from typing import Any

from edge.errors import WireChecksumError, WireError, WireLengthError, WireVersionError
from edge.wire import layout
from edge.wire.block_codec import add_blocks
from edge.wire.messages import (
    ClassificationMessage,
    ClockMessage,
    ControlMessage,
    CreditMessage,
    DetectionRecord,
    DetectionsMessage,
    HeartbeatMessage,
    HelloMessage,
    LabelsMessage,
    Message,
    RegionMessage,
    StatusMessage,
)
from edge.wire.names import Names

__all__ = ["decode"]

_HEADER = struct.Struct("<" + layout.HEADER.codes)
_LAYOUTS = {one.number: one for one in layout.LAYOUTS}
_BODY = {one.kind: struct.Struct("<" + one.body.codes) for one in layout.LAYOUTS}
_NAMES = {one.kind: one.body.names for one in layout.LAYOUTS}
_RECORD = {one.kind: one.record.codes for one in layout.LAYOUTS if one.record}
_STRINGS = {one.kind: len(one.strings) for one in layout.LAYOUTS}
_ALL_FLAGS = (1 << len(layout.FLAGS)) - 1
_FLAGS_OF = [tuple(name for i, name in enumerate(layout.FLAGS) if n >> i & 1) for n in range(_ALL_FLAGS + 1)]
_FIXED_BYTES = _HEADER.size + 2
_SCORE, _PX, _RATE = (layout.SCALES[name] for name in ("score", "x1", "max_rate_hz"))
_OTHER = "run the same version of Harrier on both sides"


def decode(data: bytes, names: Names | None = None) -> Message:
    """Return the message in a buffer that holds one and nothing else.

    names: what HELLO and LABELS of this connection have told, by which numbers become names.
    Raises: WireVersionError, WireLengthError, WireChecksumError, or WireError for what no sender writes.
    """
    size = len(data)
    if size < _FIXED_BYTES:
        raise WireLengthError(f"{size} bytes are too few for a message", "check the framing")
    if data[0] != layout.MAGIC:
        raise WireError(f"a message begins with 0x48, not 0x{data[0]:02x}", "check that the sender is harrier run")
    if data[1] != layout.VERSION:
        raise WireVersionError(f"protocol version {data[1]}, not {layout.VERSION}", _OTHER)
    if layout.crc16(data[:-2]) != data[-2] | data[-1] << 8:
        raise WireChecksumError("the checksum is wrong", "check cable, baud rate and ground")
    _, _, number, flags, table, source_id, seq = _HEADER.unpack_from(data)
    if table != layout.FORMAT_HASH:
        raise WireVersionError(f"table 0x{table:04x}, not 0x{layout.FORMAT_HASH:04x}", _OTHER)
    if number not in _LAYOUTS or flags > _ALL_FLAGS:
        raise WireVersionError(f"there is no kind {number} with flags 0x{flags:02x}", _OTHER)
    kind = _LAYOUTS[number].kind
    body = _BODY[kind]
    at, end = _HEADER.size, size - 2
    if at + body.size > end:
        raise WireLengthError(f"a {kind} message has at least {_FIXED_BYTES + body.size} bytes, not {size}", _OTHER)
    values = dict(zip(_NAMES[kind], body.unpack_from(data, at), strict=True))
    names = names or Names()
    head = {"source": names.source(source_id), "seq": seq, "flags": _FLAGS_OF[flags]}
    message = _DECODERS[kind](head, values, _Rest(data, at + body.size, end), names)
    names.learn(message, source_id)
    return message


class _Rest:
    """What follows the fixed fields; every read is checked against the end."""

    def __init__(self, data: bytes, at: int, end: int) -> None:
        self.data, self.at, self.end = data, at, end

    def numbers(self, codes: str, count: int) -> tuple:
        """`count` groups of numbers, which must be all there is."""
        packed = "<" + codes * count
        if self.at + struct.calcsize(packed) != self.end:
            raise WireLengthError(f"{count} records do not have {self.end - self.at} bytes", _OTHER)
        return struct.unpack_from(packed, self.data, self.at)

    def strings(self, count: int) -> list[str]:
        """`count` strings, which must be all there is."""
        found = []
        for _ in range(count):
            last = self.at + 1 + self.data[self.at] if self.at < self.end else self.end + 1
            if last > self.end:
                raise WireLengthError("a string reaches beyond the message", _OTHER)
            try:
                found.append(str(self.data[self.at + 1 : last], "utf-8"))
            except UnicodeDecodeError as exc:
                raise WireError("a string is not UTF-8", _OTHER) from exc
            self.at = last
        if self.at != self.end:
            raise WireLengthError(f"{self.end - self.at} bytes follow the last string", _OTHER)
        return found


def _captured(head: dict, values: dict, names: Names) -> dict[str, Any]:
    """The fields of a result. Raises: WireError for a way of stamping that does not exist."""
    model_id, age_us = values["model_id"], values["age_us"]
    return {
        **head,
        "t_publish_ns": values["t_capture_ns"] + age_us * 1000,
        "t_capture_ns": values["t_capture_ns"],
        "age_ms": age_us / 1000,
        "ttl_ms": values["ttl_ms"],
        "timestamp": _entry(layout.TIMESTAMPS, values["timestamp"], "time stamp"),
        "frame": (values["frame_width"], values["frame_height"]),
        "model": names.model(model_id),
        "model_id": model_id,
    }


def _entry(entries: tuple[str, ...], index: int, what: str) -> Any:
    if index >= len(entries):
        raise WireError(f"there is no {what} number {index}", _OTHER)
    return entries[index]


def _detections(head: dict, values: dict, rest: _Rest, names: Names) -> DetectionsMessage:
    blocks, count = values["blocks"], values["count"]
    if blocks >= len(layout.DETECTION_CODES):
        raise WireError(f"there are no blocks 0x{blocks:02x}", _OTHER)
    codes = layout.DETECTION_CODES[blocks]
    numbers = rest.numbers(codes, count)
    labels = names.labels(values["model_id"])
    records = []
    for at in range(0, len(numbers), len(codes)):
        class_id, score, track, x1, y1, x2, y2 = numbers[at : at + 7]
        record = DetectionRecord(
            labels.get(class_id) or str(class_id),
            class_id,
            score / _SCORE,
            (x1 / _PX, y1 / _PX, x2 / _PX, y2 / _PX),
            None if track == layout.NO_TRACK else track,
        )
        if blocks:
            add_blocks(record, numbers[at + 7 : at + len(codes)], blocks)
        records.append(record)
    return DetectionsMessage(
        **_captured(head, values, names),
        detections=records,
        omitted=values["omitted"],
    )


def _classification(head: dict, values: dict, rest: _Rest, names: Names) -> ClassificationMessage:
    numbers = rest.numbers(_RECORD["classification"], values["count"])
    labels = names.labels(values["model_id"])
    return ClassificationMessage(
        **_captured(head, values, names),
        classes=[
            DetectionRecord(labels.get(c) or str(c), c, score / _SCORE)
            for c, score in zip(numbers[::2], numbers[1::2], strict=True)
        ],
    )


def _heartbeat(head: dict, values: dict, rest: _Rest, names: Names) -> HeartbeatMessage:
    rest.strings(0)
    newest = values["newest_age_ms"]
    return HeartbeatMessage(
        **head,
        t_publish_ns=values["t_publish_ns"],
        uptime_ms=values["uptime_ms"],
        period_ms=values["period_ms"],
        state=_entry(layout.STATES, values["state"], "state"),
        newest_age_ms=None if newest == layout.NO_AGE else float(newest),
    )


def _status(head: dict, values: dict, rest: _Rest, names: Names) -> StatusMessage:
    engine, reason = rest.strings(_STRINGS["status"])
    state = _entry(layout.STATES, values["state"], "state")
    times = {name: values[name] for name in ("t_publish_ns", "t_event_ns")}
    return StatusMessage(**head, **times, state=state, engine=engine, reason=reason)


def _hello(head: dict, values: dict, rest: _Rest, names: Names) -> HelloMessage:
    software, source, model, token, frame_id, base_frame_id = rest.strings(_STRINGS["hello"])
    return HelloMessage(
        source=source,
        seq=head["seq"],
        flags=head["flags"],
        software=software,
        model=model,
        model_id=values["model_id"],
        frame=(values["frame_width"], values["frame_height"]),
        class_count=values["class_count"],
        ttl_ms=values["ttl_ms"],
        heartbeat_ms=values["heartbeat_ms"],
        token=token,
        frame_id=frame_id,
        base_frame_id=base_frame_id,
    )


def _labels(head: dict, values: dict, rest: _Rest, names: Names) -> LabelsMessage:
    found = rest.strings(values["count"])
    return LabelsMessage(
        **head, model_id=values["model_id"], first=values["first"], total=values["total"], labels=found
    )


def _clock(head: dict, values: dict, rest: _Rest, names: Names) -> ClockMessage:
    rest.strings(0)
    times = {name: values[name] for name in ("t_request_ns", "t_receive_ns", "t_reply_ns")}
    return ClockMessage(**head, reply=_entry(("", "reply"), values["reply"], "reply") == "reply", **times)


def _credit(head: dict, values: dict, rest: _Rest, names: Names) -> CreditMessage:
    rest.strings(0)
    return CreditMessage(**head, results=values["results"])


def _control(head: dict, values: dict, rest: _Rest, names: Names) -> ControlMessage:
    kinds = values["kinds"]
    known = sum(1 << number for number in _LAYOUTS)
    if kinds & ~known:
        raise WireError(f"there are no kinds 0x{kinds:04x}", _OTHER)
    return ControlMessage(
        **head,
        kinds=tuple(one.kind for one in layout.LAYOUTS if kinds >> one.number & 1),
        max_rate_hz=values["max_rate_hz"] / _RATE,
        class_ids=rest.numbers(_RECORD["control"], values["count"]),
        command=_entry(layout.COMMANDS, values["command"], "command"),
    )


def _region(head: dict, values: dict, rest: _Rest, names: Names) -> RegionMessage:
    (region,) = rest.strings(_STRINGS["region"])
    class_id, age_us, inside = values["class_id"], values["age_us"], values["inside"]
    return RegionMessage(
        **head,
        t_publish_ns=values["t_event_ns"] + age_us * 1000,
        t_event_ns=values["t_event_ns"],
        age_ms=age_us / 1000,
        region=region,
        index=values["region"],
        event=_entry(layout.EVENTS, values["event"], "event"),
        track_id=values["track_id"],
        class_id=class_id,
        label=names.labels(values["model_id"]).get(class_id) or str(class_id),
        direction=_entry(layout.DIRECTIONS, values["direction"], "direction"),
        dwell_ms=float(values["dwell_ms"]) or None,
        lost=_entry(("", "lost"), values["lost"], "lost") == "lost",
        inside=None if inside == layout.NO_COUNT else inside,
        model_id=values["model_id"],
    )


_DECODERS: dict[str, Callable[[dict, dict, _Rest, Names], Message]] = {
    "detections": _detections,
    "classification": _classification,
    "heartbeat": _heartbeat,
    "status": _status,
    "hello": _hello,
    "labels": _labels,
    "clock": _clock,
    "credit": _credit,
    "control": _control,
    "region": _region,
}
