"""Framing: whatever the line does to the bytes, a lost or flipped one costs one message, never two."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.errors import WireLengthError
from edge.wire.encoder import encode
from edge.wire.framing import (
    LineDeframer,
    SerialDeframer,
    StreamDeframer,
    cobs_decode,
    cobs_encode,
    framed,
)
from edge.wire.layout import MAX_MESSAGE_BYTES, STREAM_SYNC
from edge.wire.messages import CreditMessage, DetectionRecord, DetectionsMessage


def numbered(seq: int) -> bytes:
    records = [DetectionRecord("", i, 0.5, (i * 8.0, 25.0, 6425.0, 200.0)) for i in range(seq % 4)]
    return encode(
        DetectionsMessage(source="s", seq=seq, t_publish_ns=0, t_capture_ns=0, age_ms=0.0, detections=records)
    )


@given(st.binary(max_size=1200) | st.lists(st.sampled_from([b"\0", b"a" * 253, b"b" * 254, b"c"])).map(b"".join))
@settings(max_examples=300, deadline=None)
def test_cobs_leaves_no_zero_and_costs_one_byte_in_254(data):
    coded = cobs_encode(data)
    assert 0 not in coded
    assert len(coded) <= len(data) + 1 + len(data) // 254
    assert cobs_decode(coded) == data


@pytest.mark.parametrize(
    ("data", "coded"),
    [  # the examples of the paper's field: lengths around 254
        (b"", b"\x01"),
        (b"\0", b"\x01\x01"),
        (b"\0\0", b"\x01\x01\x01"),
        (b"\x11\x22\0\x33", b"\x03\x11\x22\x02\x33"),
        (bytes(range(1, 255)), b"\xff" + bytes(range(1, 255))),
        (bytes(range(1, 256)), b"\xff" + bytes(range(1, 255)) + b"\x02\xff"),
        (b"\0" + bytes(range(1, 255)), b"\x01\xff" + bytes(range(1, 255))),
    ],
)
def test_cobs_as_others_write_it(data, coded):
    assert cobs_encode(data) == coded
    assert cobs_decode(coded) == data


@given(st.binary(max_size=300))
def test_any_bytes_are_refused_or_decoded(data):
    try:
        found = cobs_decode(data)
    except WireLengthError:
        return
    assert len(found) < max(1, len(data))


@pytest.mark.parametrize("serial", [True, False], ids=["serial", "stream"])
def test_messages_arrive_however_the_bytes_are_cut(serial):
    sent = [numbered(i) for i in range(30)]
    line = b"".join(framed(message, binary=True, serial=serial) for message in sent)
    rng = random.Random(1)
    for most in (1, 3, 50, 5000):
        deframer, found, at = SerialDeframer() if serial else StreamDeframer(), [], 0
        while at < len(line):
            step = rng.randint(1, most)
            found += deframer.feed(line[at : at + step])
            at += step
        assert found == sent
        assert deframer.damaged == 0


@pytest.mark.parametrize("serial", [True, False], ids=["serial", "stream"])
@pytest.mark.parametrize("damage", ["lost", "flipped", "added"])
def test_one_damaged_byte_costs_one_message_at_most(serial, damage):
    sent = [numbered(i) for i in range(3)]
    line = b"".join(framed(message, binary=True, serial=serial) for message in sent)
    rng = random.Random(2)
    for at in range(len(line)):
        values = range(1, 256, 7) if damage == "flipped" else [0, 255, rng.randrange(256)]
        for value in values:
            broken = bytearray(line)
            if damage == "lost":
                del broken[at]
            elif damage == "flipped":
                broken[at] ^= value
            else:
                broken.insert(at, value)
            deframer = SerialDeframer() if serial else StreamDeframer()
            # what follows shows that the line is in step again, and pushes out what waits behind a false length
            found = deframer.feed(bytes(broken)) + deframer.feed(
                b"".join(framed(numbered(9), binary=True, serial=serial) for _ in range(3))
            )
            assert len([message for message in found if message in sent]) >= 2, (damage, at, value)
            assert found[-1] == numbered(9)


def test_a_false_prefix_inside_damage_does_not_swallow_what_follows():
    whole = framed(numbered(2), binary=True, serial=False)
    low, high = 0xFF, 0x1F  # claims 8,191 bytes
    false = bytes((STREAM_SYNC, low, high, STREAM_SYNC ^ low ^ high ^ 0xFF))
    deframer = StreamDeframer()
    found = deframer.feed(false + whole * 200)
    assert found == [numbered(2)] * 200
    assert deframer.damaged == 1


def test_what_is_half_there_after_damage_is_waited_for():
    whole = framed(numbered(2), binary=True, serial=False)
    broken = bytearray(framed(numbered(1), binary=True, serial=False))
    broken[9] ^= 1
    for cut in range(len(whole) + 1):
        deframer = StreamDeframer()
        assert deframer.feed(bytes(broken) + whole[:cut]) + deframer.feed(whole[cut:]) == [numbered(2)], cut
        assert deframer.damaged == 1


def test_garbage_is_counted_and_does_not_pile_up():
    for deframer, noise in ((SerialDeframer(), b"\x05" * 100_000), (StreamDeframer(), b"\x05" * 100_000)):
        assert deframer.feed(noise) == []
        assert len(deframer._pending) <= 2 * MAX_MESSAGE_BYTES
        assert deframer.damaged >= 1
    serial = SerialDeframer()
    serial.feed(b"\x05" * 100_000)
    assert serial.feed(framed(numbered(1), binary=True, serial=True)) == [numbered(1)]


def test_lines_are_cut_at_newlines_and_must_end():
    deframer = LineDeframer()
    assert deframer.feed(b'{"a":1}\n\n{"b"') == [b'{"a":1}']
    assert deframer.feed(b":2}\n") == [b'{"b":2}']
    with pytest.raises(WireLengthError):
        deframer.feed(b"x" * (1 << 20) + b"y")


def test_text_needs_no_framing():
    assert framed(b'{"kind":"credit"}\n', binary=False, serial=True) == b'{"kind":"credit"}\n'


def test_the_largest_message_fits_its_prefix():
    largest = bytes(MAX_MESSAGE_BYTES - 2)
    from edge.wire.layout import crc16

    message = largest + crc16(largest).to_bytes(2, "little")
    assert StreamDeframer().feed(framed(message, binary=True, serial=False)) == [message]
    assert SerialDeframer().feed(framed(message, binary=True, serial=True)) == [message]
    assert len(encode(CreditMessage(results=1))) == 16
