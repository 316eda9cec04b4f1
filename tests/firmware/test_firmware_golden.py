"""The golden messages mean the same in Python and in C, and stay as they are."""

import subprocess
import sys
from collections.abc import Callable

import pytest
from controller import FIRMWARE, ROOT, Controller
from golden_messages import FOLDER, meaning, messages

from edge.wire.c_header import c_header
from edge.wire.decoder import decode
from edge.wire.encoder import encode
from edge.wire.framing import framed
from edge.wire.layout import HEADER, LAYOUTS
from edge.wire.messages import ClockMessage, ControlMessage, CreditMessage

NAMES = sorted(messages())
FROM_HARRIER = [name for name in NAMES if not name.startswith(("credit", "control"))]


def golden(name: str) -> bytes:
    return (FOLDER / f"{name}.bin").read_bytes()


def test_no_file_is_too_many_or_missing():
    assert sorted(path.name for path in FOLDER.iterdir()) == sorted(f"{n}.{e}" for n in NAMES for e in ("bin", "json"))
    assert {one.kind for one in LAYOUTS} == {decode(golden(name)).kind for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_python_writes_and_reads_the_golden_bytes(name):
    assert encode(messages()[name]) == golden(name)
    assert meaning(golden(name)) == (FOLDER / f"{name}.json").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", FROM_HARRIER)
def test_c_reads_what_python_reads(name, big):
    assert big.feed(framed(golden(name), True, True)) == [decode(golden(name))]
    assert big.datagram(golden(name)) == [decode(golden(name))]
    assert big.counts == {"messages": 2, "bad": 0, "too_long": 0, "foreign": 0, "missed": 0}


@pytest.mark.parametrize("name", [name for name in NAMES if name not in FROM_HARRIER])
def test_c_takes_nothing_that_only_readers_say(name, big):
    assert big.feed(framed(golden(name), True, True)) == []
    assert big.counts["foreign"] == 1


def test_c_writes_what_python_writes(small):
    question = ClockMessage(reply=False, t_request_ns=4_000_000_000_000)
    assert small.sent("clock", 4_000_000_000) == framed(encode(question), True, True)
    for results in (0, 1, 255, 256, 65535):
        assert small.sent("credit", results) == framed(encode(CreditMessage(results=results)), True, True)
    for class_ids in ((), (0,), (0, 3, 256), tuple(range(100)), (0x0101,) * 100):
        wanted = ControlMessage(kinds=("detections",), max_rate_hz=12.5, class_ids=class_ids, command="stop")
        assert small.control(1 << 1, 125, class_ids, 2) == framed(encode(wanted), True, True)


def test_c_writes_nothing_where_there_is_no_room(small):
    assert small.sent("clock", 1, room=41) == b""
    assert small.sent("credit", 1, room=18) == b""
    assert small.control(0, 0, (1, 2), 0, room=26) == b""
    assert small.control(0, 0, tuple(range(101)), 0) == b""
    assert len(small.control(0, 0, (1, 2), 0, room=27)) == 27


def test_the_header_is_what_the_table_says():
    assert (FIRMWARE / "harrier_layout.h").read_text(encoding="utf-8") == c_header()


def test_the_header_has_every_field_at_its_place():
    text = c_header()
    assert f"#define HARRIER_HEADER_BYTES {HEADER.size_bytes}u\n" in text
    at = HEADER.size_bytes
    for field in next(one for one in LAYOUTS if one.kind == "heartbeat").fields:
        name = f"HEARTBEAT_{field.name.upper()}"
        assert f"#define HARRIER_AT_{name} {at}u " in text
        assert f"#define HARRIER_GET_{name}(p) harrier_get_{field.type}((p) + HARRIER_AT_{name})\n" in text
        at += field.size_bytes


def test_the_command_finds_nothing_to_write():
    words = [sys.executable, "-m", "edge.wire", "--check"]
    result = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_a_message_beyond_the_buffer_is_counted_and_the_next_is_read(libraries: Callable[[int], Controller]):
    tiny = libraries(64)
    stream = framed(golden("detections-ten"), True, True) + framed(golden("detections-one"), True, True)
    assert tiny.feed(stream) == [decode(golden("detections-one"))]
    assert tiny.counts == {"messages": 1, "bad": 0, "too_long": 1, "foreign": 0, "missed": 0}
