"""JSON lines: what is in a message, that it survives the way there and back, and that other bytes are refused."""

import json
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.clock import monotonic_ns
from edge.detections import Classification, Detections
from edge.errors import WireError
from edge.frame import FrameInfo
from edge.wire.jsonl import decode, encode, message_of, status_of


def info(age_ms: float = 25.0) -> FrameInfo:
    return FrameInfo(7, "cam", monotonic_ns() - int(age_ms * 1e6), 640, 480, timestamp_quality="driver")


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
    line = json.loads(encode(message_of(info(), two_detections(), ["face"], "blaze")))
    assert line["kind"] == "detections"
    assert (line["seq"], line["source"], line["model"], line["frame"]) == (7, "cam", "blaze", [640, 480])
    assert line["timestamp"] == "driver"
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
    assert json.loads(encode(message_of(info(), Detections(4), [], "m")))["detections"] == []


def test_classifications_and_status_have_their_own_kind():
    result = Classification(3)
    result.count = 2
    result.class_ids[:2] = [1, 0]
    result.scores[:2] = [0.75, 0.25]
    line = json.loads(encode(message_of(info(), result, ["cat", "dog"], "m")))
    assert line["kind"] == "classification"
    assert [(c["label"], c["score"]) for c in line["classes"]] == [("dog", 0.75), ("cat", 0.25)]
    status = json.loads(encode(status_of("cam", 3, "lost", "unplugged", monotonic_ns() - 5_000_000)))
    assert (status["kind"], status["state"], status["reason"]) == ("status", "lost", "unplugged")
    assert "detections" not in status
    assert status["age_ms"] >= 5


def test_what_is_encoded_decodes_to_the_same():
    message = message_of(info(), two_detections(), ["face"], "m")
    back = decode(encode(message))
    assert back.detections[0].box == pytest.approx(message.detections[0].box)
    assert encode(back) == encode(message)


def test_a_message_holds_no_buffers_of_the_loop():
    found = two_detections()
    message = message_of(info(), found, [], "m")
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
        assert message.kind in ("detections", "classification", "status")


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
    ],
)
def test_incomplete_messages_are_refused(line):
    with pytest.raises(WireError):
        decode(line)
