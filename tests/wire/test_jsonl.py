"""JSON lines: what is in a message, that it survives the way there and back, and that other bytes are refused."""

import json
import time

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_messages import messages

from edge.clock import monotonic_ns
from edge.detections import Classification, Detections
from edge.errors import WireError
from edge.frame import FrameInfo
from edge.wire.building import Stream, message_of, restamped, status_of
from edge.wire.jsonl import decode, encode
from edge.wire.layout import LAYOUTS
from edge.wire.messages import DetectionsMessage


def info(age_ms: float = 25.0) -> FrameInfo:
    return FrameInfo(7, "cam", monotonic_ns() - int(age_ms * 1e6), 640, 480, timestamp_quality="driver")


def stream(*labels: str) -> Stream:
    return Stream(source="cam", model="blaze", labels=labels, ttl_ms=300)


def two_detections() -> Detections:
    found = Detections(4, keypoint_count=1)
    found.count = 2
    found.xyxy[:2] = [[1.234, 2, 3, 4], [5, 6, 7, 8]]
    found.scores[:2] = [0.987654, 0.5]
    found.class_ids[:2] = [0, 9]
    found.track_ids[1] = 3
    found.keypoints[:2] = [[[1, 2]], [[3, 4]]]
    return found


def test_a_message_says_all_the_issue_asks_for():
    line = json.loads(encode(message_of(info(), two_detections(), stream("face"))))
    assert line["kind"] == "detections"
    assert (line["seq"], line["source"], line["model"], line["frame"]) == (7, "cam", "blaze", [640, 480])
    assert (line["timestamp"], line["ttl_ms"], line["model_id"]) == ("driver", 300, stream("face").model_id)
    assert "t_capture_local_ns" not in line
    assert 25 <= line["age_ms"] < 5000
    assert line["t_publish_ns"] - line["t_capture_ns"] == pytest.approx(line["age_ms"] * 1e6, abs=2e4)
    assert abs(line["t_publish_ns"] - time.time_ns()) < 5e9
    first, second = line["detections"]
    assert first == {
        "label": "face",
        "class_id": 0,
        "score": 0.9877,
        "box": [1.23, 2, 3, 4],
        "keypoints": [[1, 2]],
    }
    assert second["label"] == "9"  # a class without a label is shown by its number
    assert second["track_id"] == 3


def test_nothing_seen_is_an_empty_list_not_a_missing_one():
    assert json.loads(encode(message_of(info(), Detections(4), stream())))["detections"] == []


def test_classifications_and_status_have_their_own_kind():
    result = Classification(3)
    result.count = 2
    result.class_ids[:2] = [1, 0]
    result.scores[:2] = [0.75, 0.25]
    line = json.loads(encode(message_of(info(), result, stream("cat", "dog"))))
    assert line["kind"] == "classification"
    assert [(c["label"], c["score"]) for c in line["classes"]] == [("dog", 0.75), ("cat", 0.25)]
    status = json.loads(
        encode(status_of(stream(), 3, "lost", "unplugged", monotonic_ns() - 5_000_000, "tflite", ("stale",)))
    )
    assert (status["kind"], status["state"], status["reason"]) == ("status", "lost", "unplugged")
    assert "detections" not in status
    assert (status["engine"], status["flags"]) == ("tflite", ["stale"])
    assert status["t_publish_ns"] - status["t_event_ns"] >= 5_000_000


def test_what_is_encoded_decodes_to_the_same():
    message = message_of(info(), two_detections(), stream("face"), ("fallback", "stale"))
    back = decode(encode(message))
    assert back.detections[0].box == pytest.approx(message.detections[0].box)
    assert encode(back) == encode(message)


def test_a_message_that_waited_is_sent_with_the_age_it_has_then():
    message = message_of(info(age_ms=25), two_detections(), stream())
    time.sleep(0.02)
    later = restamped(message)
    assert later.age_ms >= message.age_ms + 20
    assert later.t_capture_ns == message.t_capture_ns
    assert later.t_publish_ns - message.t_publish_ns >= 19_000_000
    assert restamped(decode(encode(message))).age_ms == message.age_ms  # of another process: not ours to age
    status = status_of(stream(), 3, "lost", "", monotonic_ns(), "tflite")
    assert restamped(status) is status


@given(messages())
@settings(max_examples=100, deadline=None)
def test_every_kind_survives_the_way_there_and_back(message):
    # Python 3.10 has several empty tuples, and one that is not the default's is written
    empty = {name: () for name in message.__struct_fields__ if getattr(message, name) == ()}
    message = msgspec.structs.replace(message, **empty)
    back = decode(encode(message))
    assert type(back) is type(message)
    assert encode(back) == encode(message)


def test_age_now_and_expiry():
    message = message_of(info(age_ms=250), two_detections(), stream())
    assert 250 <= message.age_now_ms() < 5000
    assert not message_of(info(age_ms=1), two_detections(), stream()).expired()
    assert message_of(info(age_ms=400), two_detections(), stream()).expired()
    back = decode(encode(message))
    assert back.t_capture_local_ns is None
    assert back.age_now_ms() == pytest.approx(message.age_now_ms(), abs=50)


def test_a_message_holds_no_buffers_of_the_loop():
    found = two_detections()
    message = message_of(info(), found, stream())
    before = encode(message)
    found.xyxy[:] = np.nan
    found.scores[:] = -1
    assert encode(message) == before


@given(st.binary(max_size=200))
def test_other_bytes_are_refused_or_are_a_message(line):
    try:
        message = decode(line)
    except WireError as exc:
        assert "\n" not in str(exc)
    else:
        assert message.kind in {one.kind for one in LAYOUTS}


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{}",
        b"null",
        b'{"kind":"detections"}',
        b'{"kind":"detections","source":"a","seq":1,"t_publish_ns":1}',
        b"\xff\xfe",
        b'{"kind":"x","source":"a"}',
        b'{"kind":"hello","more":' + b"[" * 4000,
        b'{"kind":"hello","more":' + b'{"a":' * 100_000,
        b'{"kind":"credit","results":1' + b"0" * 5000 + b"}",
    ],
)
def test_incomplete_messages_are_refused(line):
    with pytest.raises(WireError):
        decode(line)


def test_a_file_name_that_is_no_utf8_costs_a_letter_and_no_message():
    frame = FrameInfo(7, "caf\udce9", monotonic_ns(), 640, 480, "bgr8", "driver", "p\udcff.jpg")
    line = encode(message_of(frame, two_detections(), stream("face")))
    back = decode(line)
    assert (back.source, back.ref, len(back.detections)) == ("caf?", "p?.jpg", 2)
    plain = encode(message_of(info(), two_detections(), stream("face")))
    assert set(json.loads(line)) == set(json.loads(plain)) | {"ref"}


def test_what_a_reader_must_know_is_never_left_out():
    line = json.loads(encode(DetectionsMessage(source="s", t_publish_ns=2, t_capture_ns=1, age_ms=0.0, detections=[])))
    assert (line["seq"], line["timestamp"], line["age_ms"], line["detections"]) == (0, "arrival", 0.0, [])
