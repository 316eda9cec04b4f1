"""Bytes to messages on a fake clock: formats, damage, versions, and where the capture time lies."""

import random
import re

import pytest

from edge.errors import WireError, WireVersionError
from edge.reception import Reception
from edge.wire import jsonl
from edge.wire.encoder import encode
from edge.wire.framing import framed
from edge.wire.layout import crc16
from edge.wire.messages import (
    ClockMessage,
    DetectionRecord,
    DetectionsMessage,
    HelloMessage,
    LabelsMessage,
    Message,
)

MS, S = 1_000_000, 1_000_000_000
EPOCH_NS = 1_700_000_000 * S


def seen(seq: int, age_ms: float = 20.0, t_capture_ns: int = EPOCH_NS) -> DetectionsMessage:
    return DetectionsMessage(
        source="cam",
        seq=seq,
        t_publish_ns=t_capture_ns + int(age_ms * MS),
        t_capture_ns=t_capture_ns,
        age_ms=age_ms,
        model_id=9,
        detections=[DetectionRecord("cat", 1, 0.5, (1.0, 2.0, 3.0, 4.0))],
    )


GREETING = [
    HelloMessage(source="cam", model="m", model_id=9),
    LabelsMessage(source="cam", model_id=9, first=0, total=2, labels=["dog", "cat"]),
]


def stream(*messages: Message) -> bytes:
    return b"".join(framed(encode(message), True, False) for message in messages)


def serial(*messages: Message) -> bytes:
    return b"".join(framed(encode(message), True, True) for message in messages)


def lines(*messages: Message) -> bytes:
    return b"".join(map(jsonl.encode, messages))


@pytest.mark.parametrize("written", [stream, lines])
@pytest.mark.parametrize("block", [1, 7, 100_000])
def test_a_stream_tells_its_format_by_its_first_byte(written, block):
    reception, data = Reception("stream"), written(*GREETING, seen(1), seen(2))
    found = [m for at in range(0, len(data), block) for m in reception.take(data[at : at + block], S)]
    assert [m.kind for m in found] == ["hello", "labels", "detections", "detections"]
    assert found[-1].detections[0].label == "cat"
    assert reception.labels == {0: "dog", 1: "cat"}
    assert (reception.hello.model, reception.damaged, reception.heard) == ("m", 0, True)


@pytest.mark.parametrize("written", [serial, lines])
@pytest.mark.parametrize("missing", [0, 1, 30, 50])
def test_a_serial_line_may_be_joined_amid_a_message(written, missing):
    reception, data = Reception("serial"), written(seen(1), *GREETING, seen(2), seen(3))[missing:]
    found = [m for at in range(0, len(data), 5) for m in reception.take(data[at : at + 5], S)]
    assert [m.seq for m in found if m.kind == "detections"][-2:] == [2, 3]
    assert reception.labels == {0: "dog", 1: "cat"}
    assert reception.damaged <= 1


def test_noise_on_a_serial_line_is_not_kept_for_ever():
    reception = Reception("serial")
    for _ in range(40):
        assert reception.take(b"\x55\n" * 2000, S) == []
    assert reception.damaged >= 1
    assert [m.seq for m in reception.take(serial(seen(4), seen(5)), S)][-1] == 5


@pytest.mark.parametrize("written", [encode, jsonl.encode])
def test_datagrams_need_no_framing(written):
    reception = Reception("message")
    assert [m.seq for n in (1, 2) for m in reception.take(written(seen(n)), S)] == [1, 2]


@pytest.mark.parametrize("damage", [b"", b"{", b"H", b"{}", b"\xff" * 40, b'{"kind":"detections"}', b'{"kind":"x"}'])
def test_a_damaged_datagram_is_counted(damage):
    reception = Reception("message")
    assert reception.take(damage, S) == []
    assert reception.damaged == 1
    assert len(reception.take(encode(seen(1)), S)) == 1


def test_a_flipped_byte_costs_one_message_of_a_stream():
    data = bytearray(stream(seen(1), seen(2), seen(3)))
    data[30] ^= 0x40
    reception = Reception("stream")
    assert [m.seq for m in reception.take(bytes(data), S)] == [2, 3]
    assert reception.damaged == 1


def test_a_line_without_end_is_damage():
    reception = Reception("stream")
    reception.take(b"{", S)
    for _ in range(20):
        reception.take(b"x" * 65536, S)
    assert reception.damaged == 1


def foreign(version: int = 2) -> bytes:
    data = bytearray(encode(seen(1))[:-2])
    data[1] = version
    return bytes(data) + crc16(bytes(data)).to_bytes(2, "little")


def test_another_version_is_raised_when_nothing_else_comes():
    reception = Reception("message")
    for _ in range(2):
        assert reception.take(foreign(), S) == []
    with pytest.raises(WireVersionError, match="protocol version 2, not 1: run the same version"):
        reception.take(foreign(), S)


def test_a_stray_foreign_datagram_or_a_damaged_version_ends_nothing():
    reception = Reception("message")
    damaged = bytearray(encode(seen(1)))
    damaged[1] = 7
    for _ in range(5):
        reception.take(foreign(), S)
        reception.take(foreign(), S)
        assert len(reception.take(encode(seen(1)), S)) == 1
        assert reception.take(bytes(damaged), S) == []
    assert reception.damaged == 15


def test_what_is_no_harrier_is_raised():
    with pytest.raises(WireError, match="not a Harrier message"):
        Reception("stream").take(b"SSH-2.0-x\r\n", S)


@pytest.mark.parametrize("framing", ["stream", "serial", "message"])
def test_what_is_sent_is_framed_as_the_transport_is(framing):
    sender, receiver = Reception(framing), Reception(framing)
    assert [m.seq for m in receiver.take(sender.framed(seen(5)), S)] == [5]


def answered(reception: Reception, now_ns: int, offset_ns: int, way_ns: int = MS) -> None:
    """One exchange with a publisher whose Unix clock is offset_ns ahead of ours."""
    question = reception.clock.question(now_ns)
    there = now_ns + way_ns + offset_ns
    answer = ClockMessage(reply=True, t_request_ns=question.t_request_ns, t_receive_ns=there, t_reply_ns=there)
    assert reception.take(stream(answer), now_ns + 2 * way_ns) == []  # not for the reader


def test_without_compared_clocks_the_age_is_that_of_sending():
    (message,) = Reception("stream").take(stream(seen(1, age_ms=20)), 5 * S)
    assert message.t_capture_local_ns == 5 * S - 20 * MS
    assert message.clock_error_ms is None


def test_with_compared_clocks_the_way_counts_too_and_the_error_is_said():
    reception = Reception("stream")
    answered(reception, 5 * S, EPOCH_NS)
    captured = 6 * S
    (message,) = reception.take(stream(seen(1, 20, EPOCH_NS + captured)), captured + 320 * MS)  # 300 ms on its way
    assert abs(message.t_capture_local_ns - captured) <= message.clock_error_ms * MS
    assert 1.0 <= message.clock_error_ms < 2.0


def test_a_capture_time_is_never_later_than_arrival_less_age():
    reception = Reception("stream")
    answered(reception, 5 * S, EPOCH_NS, way_ns=10 * MS)
    captured = 6 * S
    (message,) = reception.take(stream(seen(1, 20, EPOCH_NS + captured + 8 * MS)), captured + 20 * MS)
    assert message.t_capture_local_ns == captured
    assert message.clock_error_ms is not None


def test_a_publisher_whose_clock_was_set_is_not_believed():
    reception = Reception("stream")
    answered(reception, 5 * S, EPOCH_NS)
    (message,) = reception.take(stream(seen(1, 20, EPOCH_NS + 6 * S + 3600 * S)), 6 * S + 20 * MS)
    assert message.t_capture_local_ns == 6 * S
    assert message.clock_error_ms is None
    assert reception.clock.restarts == 1
    assert reception.clock.due_in_ns(6 * S) == 0


@pytest.mark.parametrize("key", ["age_ms", "t_capture_ns", "ttl_ms", "seq"])
@pytest.mark.parametrize("value", ["1e305", "-1e305", "1" + "0" * 300, "-1" + "0" * 300, "-5"])
def test_numbers_beyond_all_reason_break_nothing(key, value):
    reception = Reception("stream")
    answered_json(reception)
    line = jsonl.encode(seen(1)).decode()
    line = re.sub(rf'"{key}":[\d.]+', f'"{key}":{value}', line) if f'"{key}"' in line else line
    for message in reception.take(line.encode(), 6 * S):
        message.age_now_ms()
        message.expired()
    assert len(reception.take(jsonl.encode(seen(2)), 6 * S)) == 1


def answered_json(reception: Reception) -> None:
    question = reception.clock.question(5 * S)
    huge = ClockMessage(reply=True, t_request_ns=question.t_request_ns, t_receive_ns=1, t_reply_ns=1)
    reception.take(jsonl.encode(huge).replace(b":1,", b":1" + b"0" * 300 + b","), 5 * S)
    assert reception.damaged == 1
    reception.take(
        jsonl.encode(
            ClockMessage(reply=True, t_request_ns=question.t_request_ns, t_receive_ns=EPOCH_NS, t_reply_ns=EPOCH_NS)
        ),
        5 * S + MS,
    )


@pytest.mark.parametrize("framing", ["stream", "serial", "message"])
@pytest.mark.parametrize("format", ["binary", "json"])
def test_whatever_arrives_is_a_message_damage_or_a_plain_error(framing, format):
    rng = random.Random(f"{framing} {format}")
    written = {"stream": stream, "serial": serial, "message": encode}[framing] if format == "binary" else jsonl.encode
    originals = [written(message) for message in (*GREETING, seen(1), seen(2))]
    reception, found = Reception(framing), 0
    for _ in range(6000):
        data = bytearray(rng.choice(originals))
        for _ in range(rng.choice((0, 1, 1, 3))):
            data[rng.randrange(len(data))] = rng.choice((0, 10, 34, 48, 57, 123, 200, 255, rng.randrange(256)))
        cut = rng.randrange(len(data)) if rng.random() < 0.2 else len(data)
        try:
            found += len(reception.take(bytes(data[:cut]), S))
        except WireError:
            reception = Reception(framing)
    assert found > 500  # and no other error
