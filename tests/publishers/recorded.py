"""What the tests of recordings share: messages, frames, and a recording read back."""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from edge.clock import monotonic_ns, unix_ns_from_monotonic_ns
from edge.frame import Frame, FrameInfo
from edge.publishers.mcap_disk import WritingOptions
from edge.publishers.mcap_schemas import OWN, Entry
from edge.recording import Recorded, Recording
from edge.wire.messages import (
    ClassificationMessage,
    DetectionRecord,
    DetectionsMessage,
    HelloMessage,
    LabelsMessage,
    RegionMessage,
    StatusMessage,
)

MB = 1_000_000

BALL = DetectionRecord("ball", 2, 0.8125, (10.25, 20.5, 50.75, 60.0))
TRACKED = DetectionRecord(
    "person",
    0,
    0.93,
    (100.0, 30.0, 180.5, 220.25),
    track_id=7,
    keypoints=[(120.0, 40.0), (130.5, 44.25)],
    velocity_px_s=(30.0, -4.0),
    velocity_sigma_px_s=2.0,
    predicted_box=(101.0, 29.9, 181.5, 220.1),
    predicted_sigma_px=1.5,
    bearing_rad=(0.1, -0.05),
    bearing_sigma_rad=0.001,
    range_m=3.2,
    range_sigma_m=0.2,
    position_m=(3.1, 0.3, 0.0),
    position_sigma_m=0.25,
)
EXPECTED = DetectionRecord("cup", 41, 0.4, (5.0, 5.0, 9.0, 9.0), track_id=9, unseen_ms=33.3)


def detections(seq: int = 0, records: list[DetectionRecord] | None = None) -> DetectionsMessage:
    """A result of just now, as the pipeline makes it."""
    now = monotonic_ns()
    unix = unix_ns_from_monotonic_ns(now)
    return DetectionsMessage(
        source="camera",
        seq=seq,
        t_publish_ns=unix,
        t_capture_ns=unix - 12_345_678,
        age_ms=12.346,
        ttl_ms=500,
        timestamp="driver",
        frame=(320, 240),
        model="coco",
        model_id=77,
        t_capture_local_ns=now - 12_345_678,
        detections=[BALL, TRACKED, EXPECTED] if records is None else records,
    )


def classification(seq: int = 0) -> ClassificationMessage:
    now = monotonic_ns()
    unix = unix_ns_from_monotonic_ns(now)
    classes = [DetectionRecord("tabby", 281, 0.61), DetectionRecord("tiger cat", 282, 0.2)]
    return ClassificationMessage(
        source="camera",
        seq=seq,
        t_publish_ns=unix,
        t_capture_ns=unix,
        age_ms=0.0,
        t_capture_local_ns=now,
        classes=classes,
    )


def status(state: str = "streaming", reason: str = "") -> StatusMessage:
    now = time.time_ns()
    return StatusMessage(
        source="camera", seq=3, t_publish_ns=now, t_event_ns=now - 1000, state=state, engine="onnx", reason=reason
    )


def region(name: str = "gate") -> RegionMessage:
    now = time.time_ns()
    return RegionMessage(
        source="camera", seq=4, t_publish_ns=now, t_event_ns=now - 5_000_000, age_ms=5.0, region=name, index=0,
        event="enter", track_id=7, class_id=0, label="person", inside=1,
    )  # fmt: skip


HELLO = HelloMessage(source="camera", software="harrier", model="coco", model_id=77, frame_id="front_optical")
LABELS = LabelsMessage(source="camera", model_id=77, first=0, total=2, labels=["person", "cup"])


def frame(seq: int = 0, size_wh: tuple[int, int] = (320, 240), t_capture_ns: int | None = None) -> Frame:
    """A frame whose noise no encoder makes small."""
    image = np.random.default_rng(seq).integers(0, 256, (size_wh[1], size_wh[0], 3), dtype=np.uint8)
    t_ns = monotonic_ns() if t_capture_ns is None else t_capture_ns
    return Frame(image, FrameInfo(seq, "camera", t_ns, *size_wh))


def messages_of(path: Path) -> list[Recorded]:
    return list(Recording(path))


def wait_for(condition: Callable[[], object], what: str, timeout_s: float = 10.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {what}"
        time.sleep(0.005)


def numbers_in(*paths: Path) -> list[int]:
    """Of the results, in the order in which they were written."""
    return [m.sequence for path in paths for m in messages_of(path) if m.schema == "harrier.Detections"]


def writing(**values) -> WritingOptions:
    base = {"max_bytes": MB, "max_s": 600.0, "flush_s": 0.02, "sync": False, "compression": "none"}
    return WritingOptions(**{**base, "memory_bytes": 8 * MB, "ring_s": 0.0, **values})


def entry_of(seq: int, size: int = 100, t_ns: int | None = None) -> Entry:
    t_ns = time.monotonic_ns() if t_ns is None else t_ns
    return Entry(OWN.format("detections"), t_ns, t_ns, seq, b"x" * size)
