"""Streams of bytes that are cut, damaged, or not for this reader: C and Python find the same messages in them."""

import random

import pytest
from controller import Controller
from golden_messages import messages
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.errors import EdgeError
from edge.wire.decoder import decode
from edge.wire.encoder import encode
from edge.wire.framing import SerialDeframer, framed
from edge.wire.layout import crc16
from edge.wire.messages import Message, StatusMessage

MESSAGES = [encode(m) for name, m in messages().items() if not name.startswith(("credit", "control"))]
FRAMES = [framed(message, True, True) for message in MESSAGES]


def python_reads(stream: bytes) -> tuple[list[Message], int]:
    """The messages, and how many were damaged."""
    deframer = SerialDeframer()
    return [decode(message) for message in deframer.feed(stream)], deframer.damaged


def read_all(controller: Controller, parts: list[bytes]) -> list[Message]:
    controller.restart()
    return [message for part in parts for message in controller.feed(part)]


def without(expected: list[Message], found: list[Message]) -> int:
    """How many of the expected are not in found, which has nothing else and keeps the order."""
    i = 0
    for message in expected:
        i += i < len(found) and found[i] == message
    assert i == len(found), "something was read that nobody sent"
    return len(expected) - i


def test_every_split_of_a_stream(big):
    stream = b"".join(FRAMES)
    expected = [decode(message) for message in MESSAGES]
    assert read_all(big, [stream]) == expected
    for at in range(0, len(stream), 7):
        assert read_all(big, [stream[:at], stream[at:]]) == expected
    assert read_all(big, [stream[i : i + 1] for i in range(len(stream))]) == expected


def test_a_lost_byte_costs_one_message(big):
    stream, expected = b"".join(FRAMES), [decode(message) for message in MESSAGES]
    for at in range(len(stream)):
        assert without(expected, read_all(big, [stream[:at] + stream[at + 1 :]])) <= 1


def test_a_flipped_bit_costs_one_message(big):
    stream, expected = b"".join(FRAMES), [decode(message) for message in MESSAGES]
    draw = random.Random(1)
    for at in range(len(stream)):
        damaged = bytearray(stream)
        damaged[at] ^= 1 << draw.randrange(8)
        assert without(expected, read_all(big, [bytes(damaged)])) <= 1


def test_an_added_byte_costs_one_message(big):
    stream, expected = b"".join(FRAMES), [decode(message) for message in MESSAGES]
    draw = random.Random(2)
    for at in range(0, len(stream), 3):
        assert without(expected, read_all(big, [stream[:at] + bytes((draw.randrange(256),)) + stream[at:]])) <= 1


damage = st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(0, 255), st.booleans()), max_size=12)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.lists(st.sampled_from(FRAMES), min_size=1, max_size=6), damage)
def test_python_and_c_agree_on_damaged_streams(libraries, chosen, damage):
    stream = bytearray(b"".join(chosen))
    for at, byte, replaces in damage:
        at %= len(stream)
        if replaces:
            stream[at] = byte
        else:
            stream.insert(at, byte)
    big = libraries(8192)
    expected, damaged = python_reads(bytes(stream))
    assert big.feed(bytes(stream)) == expected
    assert big.counts["bad"] == damaged


@settings(max_examples=2000, deadline=None, derandomize=True)
@given(st.sampled_from(MESSAGES), st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=3), st.data())
def test_python_and_c_agree_on_what_no_sender_writes(libraries, message, changes, data):
    """With a right checksum, so that only lengths and numbers tell."""
    body = bytearray(message[:-2])
    for at, byte in changes:
        body[at % len(body)] = byte
    body = body[: data.draw(st.integers(max(12, len(body) - 3), len(body)))]
    bad = bytes(body) + crc16(bytes(body)).to_bytes(2, "little")
    big = libraries(8192)
    found = big.datagram(bad) if not _only_text_is_wrong(bad) else []
    try:
        expected = [decode(bad)]
    except EdgeError:
        expected = []
    if expected and expected[0].kind in ("credit", "control"):
        expected = []  # C does not take what only readers say
    assert found == expected


def _only_text_is_wrong(data: bytes) -> bool:
    """C hands on bytes as they are: a controller has no use for UTF-8."""
    try:
        decode(data)
    except EdgeError as exc:
        return "UTF-8" in exc.cause
    return False


def test_a_sender_of_another_table_is_counted(big):
    for at, value in ((1, 2), (4, MESSAGES[0][4] ^ 1), (5, MESSAGES[0][5] ^ 128)):
        body = bytearray(MESSAGES[1][:-2])
        body[at] = value
        assert big.datagram(bytes(body) + crc16(bytes(body)).to_bytes(2, "little")) == []
    assert big.counts == {"messages": 0, "bad": 0, "too_long": 0, "foreign": 3, "missed": 0}


def test_json_on_the_line_is_noticed(small):
    small.feed(b'{"kind":"detections"}\n' * 100)
    assert small.counts["too_long"] == 1
    assert small.feed(b"\0" + FRAMES[0]) == [decode(MESSAGES[0])]


def test_gaps_in_the_frames_are_counted(small):
    one = messages()["detections-one"]
    for seq in (10, 11, 14, 14, 3, 4, 0xFFFFFFFF, 0, 1):
        one.seq = seq
        small.feed(framed(encode(one), True, True))
    assert small.counts["missed"] == 2  # 12 and 13; 14 to 3 and 4 to -1 are a source that began anew
    one.source, one.seq = "rear", 100
    small.feed(framed(encode(one), True, True))
    assert small.counts["missed"] == 2


def test_only_strings_that_are_there_are_read(big):
    big.feed(FRAMES[list(messages()).index("labels")])
    assert [big.tell("string_bytes", i) for i in range(5)] == [6, 0, len("Fußgänger".encode()), -1, -1]
    big.feed(FRAMES[list(messages()).index("heartbeat")])
    assert big.tell("string_bytes", 0) == -1


@pytest.mark.parametrize("more", [-1, 0, 1, 2, 100])
def test_the_longest_message_fits_and_not_one_byte_more(small, more):
    """What lies behind the buffer is the library's own: no sanitizer sees a byte too many there."""
    message = StatusMessage(t_publish_ns=1, t_event_ns=2, state="lost", engine="", reason="")
    message.reason = "x" * (150 if more < 100 else 255)
    message.engine = "e" * (256 + more - len(encode(message)))
    data = encode(message)
    assert len(data) == 256 + more
    for _ in range(3):  # in each of its places
        small.feed(framed(data, True, True))
    fits = 0 if more > 0 else 3
    assert small.counts == {"messages": fits, "bad": 0, "too_long": 3 - fits, "foreign": 0, "missed": 0}
