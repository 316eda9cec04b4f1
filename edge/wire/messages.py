"""What is said over the wire, as typed structs; the formats (JSON lines, binary) carry these and nothing else.

Times on the wire are Unix ns of the sender. `age_ms` is measured on the monotonic clock, so it is right even where the
wall clock is not. Boxes are (x1, y1, x2, y2) in source px, x right, y down.
"""

from functools import lru_cache
from typing import ClassVar, Literal

import msgspec

from edge.clock import monotonic_ns, unix_ns_from_monotonic_ns
from edge.wire.layout import crc16

__all__ = [
    "EVENT_KINDS",
    "KEPT_KINDS",
    "RESULT_KINDS",
    "ClassificationMessage",
    "ClockMessage",
    "ControlMessage",
    "CreditMessage",
    "DetectionRecord",
    "DetectionsMessage",
    "FlagName",
    "HeartbeatMessage",
    "HelloMessage",
    "LabelsMessage",
    "Message",
    "RegionMessage",
    "ResultMessage",
    "SourceState",
    "StatusMessage",
    "source_id_of",
]

FlagName = Literal["degraded", "fallback", "stale", "throttled"]
"""degraded: slower or less exact than asked for, or on a frozen or black picture. fallback: on another engine than the
first. stale: no frame within the time to live. throttled: the board slows down because it is hot or short of power."""
SourceState = Literal["connecting", "streaming", "stalled", "lost", "ended", "closed", "paused"]

KEPT_KINDS = frozenset({"status", "hello", "labels"})
"""What no newer message makes worthless."""
RESULT_KINDS = frozenset({"detections", "classification"})
"""What the model saw on one frame."""
EVENT_KINDS = frozenset({"region"})
"""What happened once: each counts, in order, and whoever comes later is not told."""


class DetectionRecord(msgspec.Struct, omit_defaults=True):
    """One detection, or one class of a classification (then without box).

    velocity_px_s: (right, down) of the box's centre in the picture; velocity_sigma_px_s: of either component.
    predicted_box: where the box is expected at t_publish_ns; it may lie outside the frame. predicted_sigma_px: of its
    centre, along either axis. Only tracks have these.
    unseen_ms: for how long before this frame it was not detected, where `box` is only where it was expected to be.
    bearing_rad: (azimuth, right positive; elevation, up positive) from the optical axis. range_m: along the ground.
    position_m: (x ahead, y left, z up) in HELLO's base_frame_id; position_sigma_m: along the axis that is least sure.
    The sigmas are one standard deviation.
    """

    label: str
    class_id: int
    score: float
    box: tuple[float, float, float, float] | None = None
    track_id: int | None = None
    keypoints: list[tuple[float, float]] | None = None
    velocity_px_s: tuple[float, float] | None = None
    velocity_sigma_px_s: float | None = None
    predicted_box: tuple[float, float, float, float] | None = None
    predicted_sigma_px: float | None = None
    unseen_ms: float | None = None
    bearing_rad: tuple[float, float] | None = None
    bearing_sigma_rad: float | None = None
    range_m: float | None = None
    range_sigma_m: float | None = None
    position_m: tuple[float, float, float] | None = None
    position_sigma_m: float | None = None


class _Head(msgspec.Struct, tag_field="kind", omit_defaults=True, kw_only=True):
    """source and seq of the frame for results; seq counts messages otherwise."""

    source: str = ""
    seq: int = msgspec.field(default_factory=int)  # and so never left out of JSON
    flags: tuple[FlagName, ...] = ()


class ResultMessage(_Head, kw_only=True):
    """What every result says.

    frame is (width, height) in px. timestamp says how far t_capture_ns can be trusted (see FrameInfo). ref names the
    file a frame came from. model_id stands for name and labels of the model.
    t_capture_local_ns and clock_error_ms are not sent: the capture time on this process's CLOCK_MONOTONIC, and, at a
    reader, the most by which it may be wrong (None where the clocks were not compared).
    """

    t_publish_ns: int
    t_capture_ns: int
    age_ms: float
    ttl_ms: int = 0
    timestamp: str = msgspec.field(default_factory=lambda: "arrival")  # said even where it is the default
    frame: tuple[int, int] = (0, 0)
    ref: str | None = None
    model: str = ""
    model_id: int = 0
    t_capture_local_ns: int | None = None
    clock_error_ms: float | None = None

    def age_now_ms(self) -> float:
        """Return how old the frame is at this moment; see clock_error_ms for how far that can be trusted."""
        if self.t_capture_local_ns is not None:
            return (monotonic_ns() - self.t_capture_local_ns) / 1e6
        return (unix_ns_from_monotonic_ns(monotonic_ns()) - self.t_capture_ns) / 1e6

    def expired(self) -> bool:
        """Return whether the result is older than its time to live; a result without one never is."""
        return bool(self.ttl_ms) and self.age_now_ms() > self.ttl_ms


class DetectionsMessage(ResultMessage, tag="detections", kw_only=True):
    """What was seen on one frame; `omitted` weaker ones had no room."""

    kind: ClassVar[str] = "detections"
    detections: list[DetectionRecord]
    omitted: int = 0


class ClassificationMessage(ResultMessage, tag="classification", kw_only=True):
    """The best classes of one frame, best first."""

    kind: ClassVar[str] = "classification"
    classes: list[DetectionRecord]


class HeartbeatMessage(_Head, tag="heartbeat", kw_only=True):
    """The loop is alive, whether frames come or not. newest_age_ms: of the newest result, None while there is none."""

    kind: ClassVar[str] = "heartbeat"
    t_publish_ns: int
    uptime_ms: int
    period_ms: int
    state: SourceState
    newest_age_ms: float | None = None


class StatusMessage(_Head, tag="status", kw_only=True):
    """A change of state at t_event_ns; engine names what runs the model now."""

    kind: ClassVar[str] = "status"
    t_publish_ns: int
    t_event_ns: int
    state: SourceState
    engine: str = ""
    reason: str = ""


class HelloMessage(_Head, tag="hello", kw_only=True):
    """What the stream is. From a reader: `token`, which opens a publisher that asks for one.

    frame_id: the camera's optical frame, base_frame_id: that of position_m; "" where no camera file is given.
    """

    kind: ClassVar[str] = "hello"
    software: str = ""
    model: str = ""
    model_id: int = 0
    frame: tuple[int, int] = (0, 0)
    class_count: int = 0
    ttl_ms: int = 0
    heartbeat_ms: int = 0
    token: str = ""
    frame_id: str = ""
    base_frame_id: str = ""


class LabelsMessage(_Head, tag="labels", kw_only=True):
    """Names of the classes `first`, `first` + 1, ... of `total`."""

    kind: ClassVar[str] = "labels"
    model_id: int
    first: int
    total: int
    labels: list[str]


class ClockMessage(_Head, tag="clock", kw_only=True):
    """A reader's question for the time, and the answer; t_request_ns comes back as it was sent."""

    kind: ClassVar[str] = "clock"
    reply: bool
    t_request_ns: int
    t_receive_ns: int = 0
    t_reply_ns: int = 0


class CreditMessage(_Head, tag="credit", kw_only=True):
    """From a reader: it can take this many more results."""

    kind: ClassVar[str] = "credit"
    results: int


class ControlMessage(_Head, tag="control", kw_only=True):
    """From a reader: the kinds, rate and classes it wants (empty and 0: all), and a command to the whole run."""

    kind: ClassVar[str] = "control"
    kinds: tuple[str, ...] = ()
    max_rate_hz: float = 0.0
    class_ids: tuple[int, ...] = ()
    command: Literal["", "start", "stop"] = ""


class RegionMessage(_Head, tag="region", kw_only=True):
    """What a track did to a region at t_event_ns, age_ms before it was sent; seq is of the frame that showed it.

    index: of the region in the configuration, from 0. direction: of a crossing, looking along the line. dwell_ms: how
    long it had been inside, of leave and dwell. lost: it did not leave, it was not seen any more. inside: tracks in the
    zone now, None for lines. t_event_local_ns and clock_error_ms as in ResultMessage.
    """

    kind: ClassVar[str] = "region"
    t_publish_ns: int
    t_event_ns: int
    age_ms: float
    region: str
    index: int
    event: Literal["enter", "leave", "cross", "dwell"]
    track_id: int
    class_id: int
    label: str
    direction: Literal["", "left_to_right", "right_to_left"] = ""
    dwell_ms: float | None = None
    lost: bool = False
    inside: int | None = None
    model_id: int = 0
    t_event_local_ns: int | None = None
    clock_error_ms: float | None = None

    def age_now_ms(self) -> float:
        """Return how long ago it happened at this moment; see clock_error_ms for how far that can be trusted."""
        if self.t_event_local_ns is not None:
            return (monotonic_ns() - self.t_event_local_ns) / 1e6
        return (unix_ns_from_monotonic_ns(monotonic_ns()) - self.t_event_ns) / 1e6


Message = (
    DetectionsMessage
    | ClassificationMessage
    | HeartbeatMessage
    | StatusMessage
    | HelloMessage
    | LabelsMessage
    | ClockMessage
    | CreditMessage
    | ControlMessage
    | RegionMessage
)


@lru_cache(64)
def source_id_of(name: str) -> int:
    """Return the number that stands for a source's name in the binary format."""
    return crc16(name.encode("utf-8", "replace"))
