"""The messages of tests/golden/wire: for each a .bin (unframed) and a .json that says what it means.

`python tests/firmware/golden_messages.py` writes them, after a change of the table in edge/wire/layout.py.
"""

import json
from pathlib import Path

import msgspec

from edge.wire.decoder import decode
from edge.wire.encoder import encode
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

FOLDER = Path(__file__).resolve().parents[1] / "golden" / "wire"
T_NS = 1_760_000_000_123_456_789
MODEL_ID = 0x5EED1234


def messages() -> dict[str, Message]:
    """Name of the file -> message; every kind, and what is easily got wrong."""
    one = DetectionRecord("person", 3, 0.8, (12.5, 20.125, 100.0, 240.875), 41)
    moving = DetectionRecord("3", 3, 0.6, (1.0, 2.0, 3.0, 4.0), 7, velocity_px_s=(-120.0, 35.0))
    placed = DetectionRecord(
        *("3", 3, 0.4, (320.0, 16.0, 640.0, 480.0)),
        bearing_rad=(-0.25, 0.125),
        bearing_sigma_rad=0.0025,
        range_m=2.5,
        range_sigma_m=0.5,
    )
    far = msgspec.structs.replace(placed, range_m=None, range_sigma_m=None, bearing_rad=(3.1415, -1.5707))
    expected = msgspec.structs.replace(
        placed, predicted_box=(-12.5, 40.25, 80.0, 8191.5), predicted_sigma_px=3.25, unseen_ms=66.0, bearing_rad=None
    )
    ahead = msgspec.structs.replace(placed, position_m=(2.4, -0.62, 0.86), position_sigma_m=0.52)
    aside = DetectionRecord("3", 3, 0.3, (1.0, 2.0, 3.0, 4.0), position_m=(-0.02, 0.0, -655.34))
    ten = [
        DetectionRecord(str(i), i, (i + 1) / 16, (8.0 * i, 4.0 * i, 8.0 * i + 64, 4.0 * i + 32), i) for i in range(10)
    ]
    dense = [DetectionRecord("257", 257, 0.7, (33.0, 33.125, 300.125, 290.125), 0x0101) for _ in range(15)]
    edges = DetectionRecord("65535", 65535, 1.0, (0.0, 0.0, 8191.875, 8191.875), 0x12345)
    beyond = DetectionRecord("0", 0, 0.0, (-5.0, -0.01, 9000.0, 1e9))
    moved = DetectionRecord("9", 9, 0.5, (0.0, 0.0, 1.0, 1.0), velocity_px_s=(1e6, -1e6), range_m=1e6)
    return {
        "detections-none": _seen([]),
        "detections-one": _seen([one]),
        "detections-ten": _seen(ten),
        "detections-velocity": _seen([moving, one]),
        "detections-position": _seen([placed, far, one]),
        "detections-both": _seen([moving, placed]),
        "detections-all": _seen([moving, placed, expected, one]),
        "detections-base": _seen([ahead, one, aside]),
        "detections-all-and-base": _seen([moving, ahead, expected, one]),
        "detections-edges": _seen([edges, beyond, moved], seq=0xFFFFFFFF, age_ms=1e9, ttl_ms=65535),
        "detections-dense": _seen(
            dense, t_capture_ns=0x1111111111111111, seq=0x01010101, frame=(257, 257), omitted=257
        ),
        "detections-zeros": DetectionsMessage(t_publish_ns=0, t_capture_ns=0, age_ms=0.0, detections=[]),
        "detections-flags": msgspec.structs.replace(_seen([one]), flags=("degraded", "fallback", "stale", "throttled")),
        "classification-none": _sorted([]),
        "classification-five": _sorted([DetectionRecord(str(c), c, s / 16) for c, s in enumerate((9, 4, 2, 1, 0))]),
        "heartbeat": HeartbeatMessage(
            source="front",
            seq=9,
            t_publish_ns=T_NS,
            uptime_ms=61_000,
            period_ms=250,
            state="streaming",
            newest_age_ms=40,
        ),
        "heartbeat-nothing-yet": HeartbeatMessage(
            source="front",
            flags=("stale",),
            t_publish_ns=T_NS,
            uptime_ms=0,
            period_ms=250,
            state="connecting",
        ),
        "status": _changed("lost", "cpu", "no frame for 2 s"),
        "status-empty": _changed("closed", "", ""),
        "status-long": _changed("stalled", "tensorrt-fp16", "zu spät: " + "é" * 200),
        "hello": HelloMessage(
            source="front",
            software="harrier 0.1.0",
            model="face",
            model_id=MODEL_ID,
            frame=(640, 480),
            class_count=80,
            ttl_ms=500,
            heartbeat_ms=250,
        ),
        "hello-token": HelloMessage(token="open sesame"),
        "hello-frames": HelloMessage(source="front", frame_id="front_camera", base_frame_id="base_link"),
        "labels": LabelsMessage(
            source="front", model_id=MODEL_ID, first=2, total=5, labels=["person", "", "Fußgänger"]
        ),
        "labels-none": LabelsMessage(source="front", model_id=MODEL_ID, first=0, total=0, labels=[]),
        "clock-question": ClockMessage(reply=False, t_request_ns=123_456_000),
        "clock-answer": ClockMessage(
            source="front",
            reply=True,
            t_request_ns=4_294_967_295_000,
            t_receive_ns=T_NS,
            t_reply_ns=T_NS + 50_000,
        ),
        "credit": CreditMessage(results=1),
        "control-all": ControlMessage(),
        "control-view": ControlMessage(kinds=("detections", "heartbeat"), max_rate_hz=12.5, class_ids=(0, 3, 256)),
        "control-stop": ControlMessage(command="stop"),
        "control-events": ControlMessage(kinds=("status", "region")),
        "region-enter": _told(event="enter", inside=1),
        "region-leave": _told(event="leave", dwell_ms=12_500.0, inside=0, lost=True, age_ms=1_031.25),
        "region-dwell": _told(event="dwell", dwell_ms=3000.0, inside=300, region="Flur \u2192 T\u00fcr", index=513),
        "region-cross": _told(event="cross", direction="right_to_left", region="gate", index=1, track_id=0x12345),
        "region-edges": _told(
            event="dwell",
            region="r" * 300,
            index=70_000,
            track_id=0,
            class_id=0,
            age_ms=1e9,
            dwell_ms=1e12,
            inside=1 << 20,
        ),
    }


def _told(**changes: object) -> RegionMessage:
    message = RegionMessage(
        source="front",
        seq=1000,
        t_publish_ns=T_NS + 40_000_000,
        t_event_ns=T_NS,
        age_ms=40.0,
        region="door",
        index=0,
        event="enter",
        track_id=41,
        class_id=3,
        label="3",
        model_id=MODEL_ID,
    )
    return msgspec.structs.replace(message, **changes)


def _seen(records: list[DetectionRecord], **changes: object) -> DetectionsMessage:
    message = DetectionsMessage(
        source="front",
        seq=1000,
        t_publish_ns=T_NS + 31_500_000,
        t_capture_ns=T_NS,
        age_ms=31.5,
        ttl_ms=500,
        timestamp="driver",
        frame=(640, 480),
        model_id=MODEL_ID,
        detections=records,
    )
    return msgspec.structs.replace(message, **changes)


def _sorted(classes: list[DetectionRecord]) -> ClassificationMessage:
    return ClassificationMessage(
        source="front",
        seq=1000,
        t_publish_ns=T_NS,
        t_capture_ns=T_NS,
        age_ms=0.001,
        ttl_ms=500,
        timestamp="generated",
        frame=(224, 224),
        model_id=MODEL_ID,
        classes=classes,
    )


def _changed(state: str, engine: str, reason: str) -> StatusMessage:
    return StatusMessage(
        source="front",
        seq=12,
        t_publish_ns=T_NS,
        t_event_ns=T_NS - 2_000_000_000,
        state=state,
        engine=engine,
        reason=reason,
    )


def meaning(data: bytes) -> str:
    """What a message says to a reader that has heard nothing else."""
    return json.dumps(msgspec.to_builtins(decode(data)), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    for old in FOLDER.glob("*.*"):
        if old.suffix in (".bin", ".json"):
            old.unlink()
    for name, message in messages().items():
        data = encode(message)
        (FOLDER / f"{name}.bin").write_bytes(data)
        (FOLDER / f"{name}.json").write_text(meaning(data), encoding="utf-8")
        print(f"{name}: {len(data)} bytes")
