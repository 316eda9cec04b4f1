"""Messages as JSON lines: one object a line, UTF-8, newline at the end.

Times are Unix ns. `age_ms` is capture to encode, measured on the monotonic clock, so it is right even where the
wall clock is not. Boxes are [x1, y1, x2, y2] in source px, x right, y down.
"""

import time
from typing import Literal

import msgspec
import numpy as np

from edge.clock import monotonic_ns, unix_ns_from_monotonic_ns
from edge.detections import Classification, Detections
from edge.errors import WireError
from edge.frame import FrameInfo

__all__ = ["DetectionRecord", "Message", "decode", "encode", "message_of", "status_of"]


class DetectionRecord(msgspec.Struct, omit_defaults=True):
    """One detection, or one class of a classification (then without box)."""

    label: str
    class_id: int
    score: float
    box: tuple[float, float, float, float] | None = None
    track_id: int | None = None
    keypoints: list[tuple[float, float]] | None = None


class Message(msgspec.Struct, omit_defaults=True):
    """One line. `kind` says which of the lists is meaningful; a status has neither.

    frame is [width, height] in px. timestamp says how far t_capture_ns can be trusted (see FrameInfo). ref names the
    file a frame came from. Of a status, t_capture_ns is when it happened.
    """

    kind: Literal["detections", "classification", "status"]
    source: str
    seq: int
    t_publish_ns: int
    t_capture_ns: int | None = None
    age_ms: float | None = None
    timestamp: str | None = None
    frame: tuple[int, int] | None = None
    ref: str | None = None
    model: str | None = None
    detections: list[DetectionRecord] | None = None
    classes: list[DetectionRecord] | None = None
    state: str | None = None
    reason: str | None = None

    def age_now_ms(self) -> float:
        """Return how old the frame is at this moment; right where both machines' clocks agree."""
        return (time.time_ns() - (self.t_capture_ns or self.t_publish_ns)) / 1e6


_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(Message)


def message_of(info: FrameInfo, result: Detections | Classification, labels: list[str], model: str) -> Message:
    """Return the message of one frame's result (xyxy in source px), stamped now; it holds copies, no buffers."""
    now = monotonic_ns()
    message = Message(
        kind="detections" if isinstance(result, Detections) else "classification",
        source=info.source_id,
        seq=info.seq,
        t_publish_ns=unix_ns_from_monotonic_ns(now),
        t_capture_ns=unix_ns_from_monotonic_ns(info.t_capture_ns),
        age_ms=round((now - info.t_capture_ns) / 1e6, 3),
        timestamp=info.timestamp_quality,
        frame=(info.width_px, info.height_px),
        model=model,
        ref=info.frame_ref or None,
    )
    if isinstance(result, Detections):
        message.detections = _records(result, labels)
    else:
        message.classes = [
            DetectionRecord(labels[c] if c < len(labels) else str(c), c, round(s, 4))
            for c, s in zip(
                result.class_ids[: result.count].tolist(), result.scores[: result.count].tolist(), strict=True
            )
        ]
    return message


def status_of(source_id: str, seq: int, state: str, reason: str, t_event_ns: int) -> Message:
    """Return the message that says what the source is doing since t_event_ns (CLOCK_MONOTONIC), stamped now."""
    now = monotonic_ns()
    return Message(
        kind="status",
        source=source_id,
        seq=seq,
        t_publish_ns=unix_ns_from_monotonic_ns(now),
        t_capture_ns=unix_ns_from_monotonic_ns(t_event_ns),
        age_ms=round((now - t_event_ns) / 1e6, 3),
        state=state,
        reason=reason or None,
    )


def encode(message: Message) -> bytes:
    """Return one line, newline included."""
    return _ENCODER.encode(message) + b"\n"


def decode(line: bytes) -> Message:
    """Return the message in one line.

    Raises: WireError when it is not one.
    """
    try:
        message = _DECODER.decode(line)
        told = {"detections": message.detections, "classification": message.classes, "status": message.state}
        if told[message.kind] is None or message.age_ms is None:
            raise msgspec.ValidationError(f"a {message.kind} message without its content")
        return message
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise WireError(f"not a Harrier message ({exc})", "check that the sender is harrier run") from exc


def _records(detections: Detections, labels: list[str]) -> list[DetectionRecord]:
    n = detections.count
    boxes = detections.xyxy[:n].astype(np.float64).round(2).tolist()  # float32 would print 17 digits
    scores = detections.scores[:n].tolist()
    points = detections.keypoints
    keypoints = None if points is None else points[:n].astype(np.float64).round(2).tolist()
    return [
        DetectionRecord(
            label=labels[c] if c < len(labels) else str(c),
            class_id=c,
            score=round(scores[i], 4),
            box=boxes[i],
            track_id=track if track >= 0 else None,
            keypoints=keypoints[i] if keypoints else None,
        )
        for i, (c, track) in enumerate(
            zip(detections.class_ids[:n].tolist(), detections.track_ids[:n].tolist(), strict=True)
        )
    ]
