"""Messages of every kind, made by hypothesis, with the values the binary format can carry exactly."""

from hypothesis import strategies as st

from edge.wire import layout
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
    RegionMessage,
    StatusMessage,
)

U16, U32, TIME = st.integers(0, 0xFFFF), st.integers(0, 0xFFFFFFFF), st.integers(0, 2**63 - 1)
FLAGS = st.lists(st.sampled_from(layout.FLAGS), unique=True).map(
    lambda names: tuple(sorted(names, key=layout.FLAGS.index))
)
TEXT = (
    st.text(max_size=60)
    .filter(lambda text: len(text.encode("utf-8", "replace")) < 256)
    .map(lambda text: text.encode("utf-8", "replace").decode())
)
STATE = st.sampled_from(layout.STATES)
SCORE = U16.map(lambda n: n / 65535)
ANGLE = st.integers(-0x7FFF, 0x7FFF).map(lambda n: n / 1e4)
NOW = st.integers(-0x7FFF, 0x7FFF).map(lambda n: n / 4)
METRES = st.integers(-0x7FFF, 0x7FFF).map(lambda n: n / 50)
PX = U16.map(lambda n: n / 8)
I16 = st.integers(-0x7FFF, 0x7FFF)
KNOWN = st.integers(0, 0xFFFE)


@st.composite
def records(draw, velocity: bool, position: bool, prediction: bool, base: bool) -> DetectionRecord:
    """A detection with the given blocks."""
    return DetectionRecord(
        label="",
        class_id=draw(U16),
        score=draw(SCORE),
        box=draw(st.tuples(PX, PX, PX, PX)),
        track_id=draw(st.none() | st.integers(0, 0xFFFE)),
        velocity_px_s=draw(st.none() | st.tuples(I16.map(float), I16.map(float))) if velocity else None,
        bearing_rad=draw(st.none() | st.tuples(ANGLE, ANGLE)) if position else None,
        bearing_sigma_rad=None,
        range_m=draw(st.none() | KNOWN.map(lambda n: n / 100)) if position else None,
        range_sigma_m=None,
        predicted_box=(box := draw(st.none() | st.tuples(NOW, NOW, NOW, NOW)) if prediction else None),
        unseen_ms=draw(st.none() | st.integers(1, 0xFFFE).map(float)) if box else None,
        predicted_sigma_px=draw(KNOWN.map(lambda n: n / 4)) if box else None,
        position_m=(place := draw(st.none() | st.tuples(METRES, METRES, METRES)) if base else None),
        position_sigma_m=draw(st.none() | KNOWN.map(lambda n: n / 50)) if place else None,
    )


def _head(draw) -> dict:
    return {"seq": draw(U32), "flags": draw(FLAGS), "source": draw(TEXT)}


def _captured(draw) -> dict:
    capture, age_us = draw(st.integers(0, 2**62)), draw(U32)
    return {
        **_head(draw),
        "t_capture_ns": capture,
        "t_publish_ns": capture + age_us * 1000,
        "age_ms": age_us / 1000,
        "ttl_ms": draw(U16),
        "model_id": draw(U32),
        "frame": (draw(U16), draw(U16)),
        "timestamp": draw(st.sampled_from(layout.TIMESTAMPS)),
    }


@st.composite
def detections(draw) -> DetectionsMessage:
    """With up to ten records."""
    blocks = [draw(st.booleans()) for _ in layout.BLOCKS]
    found = draw(st.lists(records(*blocks), max_size=10))
    for record in found:  # a sigma is nothing without its value
        if record.bearing_rad:
            record.bearing_sigma_rad = draw(st.none() | KNOWN.map(lambda n: n / 1e4))
        if record.range_m is not None:
            record.range_sigma_m = draw(st.none() | KNOWN.map(lambda n: n / 100))
    return DetectionsMessage(**_captured(draw), detections=found, omitted=draw(U16))


@st.composite
def messages(draw):
    """Of any kind."""
    kind = draw(st.sampled_from([one.kind for one in layout.LAYOUTS]))
    if kind == "detections":
        return draw(detections())
    if kind == "classification":
        classes = draw(st.lists(st.builds(DetectionRecord, label=st.just(""), class_id=U16, score=SCORE), max_size=9))
        return ClassificationMessage(**_captured(draw), classes=classes)
    head = _head(draw)
    if kind == "heartbeat":
        newest = draw(st.none() | st.integers(0, 0xFFFFFFFE).map(float))
        return HeartbeatMessage(
            **head,
            t_publish_ns=draw(TIME),
            uptime_ms=draw(U32),
            period_ms=draw(U16),
            state=draw(STATE),
            newest_age_ms=newest,
        )
    if kind == "status":
        texts = {"engine": draw(TEXT), "reason": draw(TEXT)}
        return StatusMessage(**head, t_publish_ns=draw(TIME), t_event_ns=draw(TIME), state=draw(STATE), **texts)
    if kind == "hello":
        return HelloMessage(
            **head,
            software=draw(TEXT),
            model=draw(TEXT),
            model_id=draw(U32),
            frame=(draw(U16), draw(U16)),
            class_count=draw(U16),
            ttl_ms=draw(U16),
            heartbeat_ms=draw(U16),
            token=draw(TEXT),
            frame_id=draw(TEXT),
            base_frame_id=draw(TEXT),
        )
    if kind == "labels":
        labels = draw(st.lists(TEXT, max_size=20))
        return LabelsMessage(**head, model_id=draw(U32), first=draw(U16), total=draw(U16), labels=labels)
    if kind == "clock":
        times = {name: draw(TIME) for name in ("t_request_ns", "t_receive_ns", "t_reply_ns")}
        return ClockMessage(**head, reply=draw(st.booleans()), **times)
    if kind == "credit":
        return CreditMessage(**head, results=draw(U16))
    if kind == "region":
        then, age_us, class_id = draw(st.integers(0, 2**62)), draw(U32), draw(U16)
        return RegionMessage(
            **head,
            t_publish_ns=then + age_us * 1000,
            t_event_ns=then,
            age_ms=age_us / 1000,
            region=draw(TEXT),
            index=draw(U16),
            event=draw(st.sampled_from(layout.EVENTS)),
            track_id=draw(U16),
            class_id=class_id,
            label=str(class_id),
            direction=draw(st.sampled_from(layout.DIRECTIONS)),
            dwell_ms=draw(st.none() | st.integers(1, 0xFFFFFFFF).map(float)),
            lost=draw(st.booleans()),
            inside=draw(st.none() | st.integers(0, 0xFFFE)),
            model_id=draw(U32),
        )
    return ControlMessage(
        **head,
        kinds=tuple(one.kind for one in layout.LAYOUTS if draw(st.booleans())),
        max_rate_hz=draw(U16) / 10,
        class_ids=tuple(draw(st.lists(U16, max_size=9))),
        command=draw(st.sampled_from(layout.COMMANDS)),
    )
