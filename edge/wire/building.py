"""Messages made of what the pipeline knows: results, states, and what a stream says of itself first."""

import zlib
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from edge import __version__
from edge.clock import monotonic_ns, unix_ns_from_monotonic_ns
from edge.detections import Classification, Detections
from edge.events import RegionEvent
from edge.frame import FrameInfo
from edge.locations import Location, Locations
from edge.wire.messages import (
    ClassificationMessage,
    DetectionRecord,
    DetectionsMessage,
    FlagName,
    HeartbeatMessage,
    HelloMessage,
    LabelsMessage,
    Message,
    RegionMessage,
    ResultMessage,
    SourceState,
    StatusMessage,
)

__all__ = ["Stream", "greeting", "heartbeat_of", "message_of", "region_of", "restamped", "status_of"]

_MOVES_AFTER_S = 0.5e-3  # what waits for less goes out as it is: at 1,000 px/s that is half a pixel
_LABELS_BYTES = 150  # of names in one message: it must not hold up a slow serial line


class Stream(msgspec.Struct, frozen=True, kw_only=True):
    """What one run says of itself in every message: who sees, with which model, and for how long that holds.

    frame_id and base_frame_id: of the camera file, "" without one.
    """

    source: str
    model: str
    labels: tuple[str, ...] = ()
    ttl_ms: int = 500
    heartbeat_ms: int = 250
    frame_id: str = ""
    base_frame_id: str = ""
    model_id: int = 0

    def __post_init__(self) -> None:
        """Set model_id: CRC-32 of the model's name and labels, UTF-8, each ended by a newline."""
        text = "".join(f"{name}\n" for name in (self.model, *self.labels))
        msgspec.structs.force_setattr(self, "model_id", zlib.crc32(text.encode()))


def message_of(
    info: FrameInfo,
    result: Detections | Classification,
    stream: Stream,
    flags: tuple[FlagName, ...] = (),
    locations: Locations | None = None,
) -> DetectionsMessage | ClassificationMessage:
    """Return the message of one frame's result (xyxy in source px), stamped now; it holds copies, no buffers."""
    now = monotonic_ns()
    age_s = (now - info.t_capture_ns) / 1e9
    t_publish_ns = unix_ns_from_monotonic_ns(now)
    head: dict[str, Any] = {
        "source": info.source_id,
        "seq": info.seq,
        "flags": flags,
        "t_publish_ns": t_publish_ns,
        "t_capture_ns": t_publish_ns - (now - info.t_capture_ns),  # the wall clock is read once
        "age_ms": round(age_s * 1e3, 3),
        "ttl_ms": stream.ttl_ms,
        "timestamp": info.timestamp_quality,
        "frame": (info.width_px, info.height_px),
        "ref": info.frame_ref or None,
        "model": stream.model,
        "model_id": stream.model_id,
        "t_capture_local_ns": info.t_capture_ns,
    }
    if isinstance(result, Detections):
        return DetectionsMessage(**head, detections=_records(result, stream.labels, age_s, locations))
    return ClassificationMessage(**head, classes=_classes(result, stream.labels))


def restamped(message: Message) -> Message:
    """Return the message as it is to be sent at this moment: while it waited its age grew and what it saw moved on."""
    now = monotonic_ns()
    if isinstance(message, RegionMessage) and message.t_event_local_ns is not None:
        age_ms = round((now - message.t_event_local_ns) / 1e6, 3)
        return msgspec.structs.replace(message, t_publish_ns=unix_ns_from_monotonic_ns(now), age_ms=age_ms)
    if not isinstance(message, ResultMessage) or message.t_capture_local_ns is None:
        return message
    age_ms = round((now - message.t_capture_local_ns) / 1e6, 3)
    waited_s = (age_ms - message.age_ms) / 1e3
    message = msgspec.structs.replace(message, t_publish_ns=unix_ns_from_monotonic_ns(now), age_ms=age_ms)
    if isinstance(message, DetectionsMessage) and waited_s >= _MOVES_AFTER_S:
        message.detections = [_moved_on(record, waited_s) for record in message.detections]
    return message


def _moved_on(record: DetectionRecord, dt_s: float) -> DetectionRecord:
    """The record with its predicted box dt_s further on; it loses certainty as fast as its velocity allows at most."""
    box, velocity = record.predicted_box, record.velocity_px_s
    if box is None or velocity is None:
        return record
    right, down = velocity[0] * dt_s, velocity[1] * dt_s
    x1, y1, x2, y2 = box
    sigma = (record.predicted_sigma_px or 0.0) + (record.velocity_sigma_px_s or 0.0) * dt_s
    return msgspec.structs.replace(
        record,
        predicted_box=(round(x1 + right, 2), round(y1 + down, 2), round(x2 + right, 2), round(y2 + down, 2)),
        predicted_sigma_px=round(sigma, 2),
    )


def status_of(
    stream: Stream,
    seq: int,
    state: SourceState,
    reason: str,
    t_event_ns: int,
    engine: str,
    flags: tuple[FlagName, ...] = (),
) -> StatusMessage:
    """Return the message that says what the source is doing since t_event_ns (CLOCK_MONOTONIC), stamped now."""
    return StatusMessage(
        source=stream.source,
        seq=seq,
        flags=flags,
        t_publish_ns=unix_ns_from_monotonic_ns(monotonic_ns()),
        t_event_ns=unix_ns_from_monotonic_ns(t_event_ns),
        state=state,
        engine=engine,
        reason=reason,
    )


def region_of(event: RegionEvent, info: FrameInfo, stream: Stream, flags: tuple[FlagName, ...] = ()) -> RegionMessage:
    """Return the message of what a track did to a region, as the frame of `info` showed it, stamped now."""
    now = monotonic_ns()
    t_publish_ns = unix_ns_from_monotonic_ns(now)
    return RegionMessage(
        source=stream.source,
        seq=info.seq,
        flags=flags,
        t_publish_ns=t_publish_ns,
        t_event_ns=t_publish_ns - (now - event.t_capture_ns),
        age_ms=round((now - event.t_capture_ns) / 1e6, 3),
        region=event.region,
        index=event.index,
        event=event.kind,
        track_id=event.track_id,
        class_id=event.class_id,
        label=_label(stream.labels, event.class_id),
        direction=event.direction,
        dwell_ms=round(event.dwell_s * 1e3, 1) or None,
        lost=event.lost,
        inside=event.inside,
        model_id=stream.model_id,
        t_event_local_ns=event.t_capture_ns,
    )


def heartbeat_of(
    stream: Stream,
    seq: int,
    state: SourceState,
    t_start_ns: int,
    t_newest_ns: int | None,
    flags: tuple[FlagName, ...] = (),
) -> HeartbeatMessage:
    """Return the sign of life of a loop that began at t_start_ns; t_newest_ns: capture of its newest result.

    Both are CLOCK_MONOTONIC.
    """
    now = monotonic_ns()
    return HeartbeatMessage(
        source=stream.source,
        seq=seq,
        flags=flags,
        t_publish_ns=unix_ns_from_monotonic_ns(now),
        uptime_ms=(now - t_start_ns) // 1_000_000,
        period_ms=stream.heartbeat_ms,
        state=state,
        newest_age_ms=None if t_newest_ns is None else round((now - t_newest_ns) / 1e6, 1),
    )


def greeting(stream: Stream, frame_wh: tuple[int, int]) -> list[Message]:
    """Return what a reader is told first: HELLO, then the labels in messages of about 200 bytes."""
    messages: list[Message] = [
        HelloMessage(
            source=stream.source,
            software=f"harrier {__version__}",
            model=stream.model,
            model_id=stream.model_id,
            frame=frame_wh,
            class_count=len(stream.labels),
            ttl_ms=stream.ttl_ms,
            heartbeat_ms=stream.heartbeat_ms,
            frame_id=stream.frame_id,
            base_frame_id=stream.base_frame_id,
        )
    ]
    names: list[str] = []
    first = size = 0
    for i, label in enumerate(stream.labels):
        length = len(label.encode()) + 1
        if names and size + length > _LABELS_BYTES:
            messages.append(_labels(stream, first, names))
            first, names, size = i, [], 0
        names.append(label)
        size += length
    if names:
        messages.append(_labels(stream, first, names))
    return messages


def _label(labels: Sequence[str], class_id: int) -> str:
    return labels[class_id] if class_id < len(labels) else str(class_id)


def _labels(stream: Stream, first: int, names: list[str]) -> LabelsMessage:
    return LabelsMessage(
        source=stream.source, model_id=stream.model_id, first=first, total=len(stream.labels), labels=names
    )


def _classes(result: Classification, labels: Sequence[str]) -> list[DetectionRecord]:
    n = result.count
    return [
        DetectionRecord(_label(labels, c), c, round(score, 4))
        for c, score in zip(result.class_ids[:n].tolist(), result.scores[:n].tolist(), strict=True)
    ]


def _records(
    detections: Detections, labels: Sequence[str], age_s: float, locations: Locations | None
) -> list[DetectionRecord]:
    n, known, points = detections.count, len(labels), detections.keypoints
    class_ids, tracks = detections.class_ids[:n].tolist(), detections.track_ids[:n].tolist()
    keypoints = [None] * n if points is None else points[:n].astype(np.float64).round(2).tolist()
    figures = _figures(detections, n, max(age_s, 0.0))  # a recording may run ahead of its frames
    common: list[tuple[Any, ...]] = [
        (labels[c] if c < known else str(c), c, row[4], row[:4], track if track >= 0 else None, shape)
        for c, track, shape, row in zip(class_ids, tracks, keypoints, figures, strict=True)
    ]
    if detections.motion is None and locations is None:
        return [DetectionRecord(*one) for one in common]
    moving: Sequence[tuple[Any, ...]] = [_STILL] * n
    if detections.motion is not None:
        moving = [(row[5:7], row[7], row[8:12], row[12], row[13] or None) for row in figures]
    places: Sequence[tuple[Any, ...]] = locations.rows() if locations else [Location()] * n
    return [DetectionRecord(*one, *motion, *place) for one, motion, place in zip(common, moving, places, strict=True)]


def _figures(detections: Detections, n: int, age_s: float) -> list[list[float]]:
    """Of each its box, its score and, where it moves, velocity_px_s to unseen_ms in order; rounded in one go."""
    motion = detections.motion
    values = np.empty((n, 5 if motion is None else len(_PARTS)))  # float32 would print 17 digits
    values[:, :4] = detections.xyxy[:n]
    values[:, 4] = detections.scores[:n]
    if motion is not None:
        values[:, 5:13] = _moving(detections.xyxy[:n], motion.told[:n], age_s)
        np.multiply(motion.unseen_s[:n], 1e3, out=values[:, 13])
    values *= (parts := _PARTS[: values.shape[1]])
    return (np.rint(values, out=values) / parts).tolist()


def _moving(xyxy: np.ndarray, told: np.ndarray, age_s: float) -> np.ndarray:
    """(N, 8): velocity and its sigma, where each box is expected to be by now, and the sigma of that; see BoxMotion."""
    known = np.empty((len(xyxy), 16))
    known[:, :4], known[:, 4:] = xyxy, told
    found = np.dot(known, np.dot((1.0, age_s, age_s**2, age_s**3), _BY_AGE).reshape(16, 8))
    sigmas = found[:, 2::5]
    np.sqrt(sigmas, out=sigmas)
    return found


def _by_age() -> np.ndarray:
    """(4, 16 * 8): for 1, t, t^2 and t^3, what box, rates, flow and variances add to the figures of `_moving`."""
    found = np.zeros((4, 16, 8))
    for edge in range(4):
        found[0, 4 + edge, edge % 2] = 0.5  # the centre moves as the mean of two edges
        found[0, edge, 3 + edge] = found[1, 4 + edge, 3 + edge] = 1
    found[0, 14, 2] = 1
    found[range(4), range(12, 16), 7] = 1
    return found.reshape(4, -1)


_BY_AGE = _by_age()
# what a score, px, px/s and ms are rounded to, in the order of `_figures`
_PARTS = np.array([1e2] * 4 + [1e4] + [1e1] * 3 + [1e2] * 5 + [1e1])
_STILL = (None,) * 5
