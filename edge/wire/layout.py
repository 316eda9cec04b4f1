"""The one table of the binary protocol. Codec, C header and the tables of docs/wire.md are made of it.

All numbers are little-endian, packed without padding. A message is HEADER, the fields of its kind, what repeats
`count` times, strings, and a CRC-16/IBM-3740 of all before it. A string is a length byte and that many bytes of UTF-8.
"""

import hashlib
from binascii import crc_hqx

from edge.wire.blocks import BLOCKS, NO_ANGLE, NO_PLACE, NO_RANGE, NO_SIGMA, NO_SPEED
from edge.wire.fields import Block, Field, Layout

__all__ = [
    "BLOCKS",
    "COMMANDS",
    "DETECTION_CODES",
    "DIRECTIONS",
    "EVENTS",
    "FLAGS",
    "FORMAT_HASH",
    "HEADER",
    "LAYOUTS",
    "MAGIC",
    "MAX_COUNT",
    "MAX_MESSAGE_BYTES",
    "NO_AGE",
    "NO_ANGLE",
    "NO_CLASS",
    "NO_COUNT",
    "NO_PLACE",
    "NO_RANGE",
    "NO_SIGMA",
    "NO_SPEED",
    "NO_TRACK",
    "SCALES",
    "STATES",
    "STREAM_SYNC",
    "TIMESTAMPS",
    "VERSION",
    "crc16",
]

MAGIC = 0x48  # "H"; JSON begins with "{", so the first byte tells the formats apart
VERSION = 1
STREAM_SYNC = 0xC8  # begins the prefix of a message on TCP and Unix sockets
MAX_MESSAGE_BYTES = 8192
MAX_COUNT = 255
NO_TRACK = 0xFFFF
NO_CLASS = 0xFFFF
NO_COUNT = 0xFFFF
NO_AGE = 0xFFFFFFFF

FLAGS = ("degraded", "fallback", "stale", "throttled")  # bits 0, 1, ... of the header's flags
STATES = ("connecting", "streaming", "stalled", "lost", "ended", "closed", "paused")
TIMESTAMPS = ("driver", "pts", "arrival", "generated")
COMMANDS = ("", "start", "stop")
EVENTS = ("enter", "leave", "cross", "dwell")
DIRECTIONS = ("", "left_to_right", "right_to_left")

HEADER = Block(
    "header",
    (
        Field("magic", "u8", "0x48, the letter H"),
        Field("version", "u8", "1"),
        Field("kind", "u8", "which of the kinds below"),
        Field("flags", "u8", "bits: " + ", ".join(f"{i} {name}" for i, name in enumerate(FLAGS))),
        Field("format_hash", "u16", "of this table; another table has another hash"),
        Field("source_id", "u16", "CRC-16/IBM-3740 of the source's name"),
        Field("seq", "u32", "the frame's number at the source, a gap is a dropped frame; else counts messages"),
    ),
)

_CAPTURED = (
    Field("t_capture_ns", "u64", "when the frame was taken, by the sender's Unix clock", "ns"),
    Field("age_us", "u32", "from capture to sending, by a clock that is never set", "us"),
    Field("ttl_ms", "u16", "a result older than this, counted from capture, must not be acted on", "ms"),
    Field("model_id", "u32", "CRC-32 of the model's name and labels; see HELLO"),
    Field("frame_width", "u16", "of the frame the boxes are in", "px"),
    Field("frame_height", "u16", "of the frame the boxes are in", "px"),
    Field("timestamp", "u8", "how t_capture_ns was had: " + ", ".join(f"{i} {n}" for i, n in enumerate(TIMESTAMPS))),
)

LAYOUTS = (
    Layout(
        "detections",
        1,
        "what was seen on one frame; sent for every frame, with count 0 when nothing was seen",
        (
            *_CAPTURED,
            Field("blocks", "u8", "bits: " + ", ".join(f"{i} {b.name}" for i, b in enumerate(BLOCKS))),
            Field("omitted", "u16", "detections left out, the weakest, for want of room"),
            Field("count", "u8", "records that follow"),
        ),
        Block(
            "detection",
            (
                Field("class_id", "u16", "index into the labels"),
                Field("score", "u16", "0 to 1", "", 65535),
                Field("track_id", "u16", f"low 16 bits of the track's number; {NO_TRACK} for none"),
                Field("x1", "u16", "left edge, in the source's pixels", "px", 8),
                Field("y1", "u16", "upper edge", "px", 8),
                Field("x2", "u16", "right edge", "px", 8),
                Field("y2", "u16", "lower edge", "px", 8),
            ),
        ),
    ),
    Layout(
        "classification",
        2,
        "the best classes of one frame, best first",
        (*_CAPTURED, Field("count", "u8", "records that follow")),
        Block(
            "class",
            (Field("class_id", "u16", "index into the labels"), Field("score", "u16", "0 to 1", "", 65535)),
        ),
    ),
    Layout(
        "heartbeat",
        3,
        "sent by the loop itself at a fixed rate, whether frames come or not; where it stops, vision is dead",
        (
            Field("t_publish_ns", "u64", "now, by the sender's Unix clock", "ns"),
            Field("uptime_ms", "u32", "since the start, low 32 bits", "ms"),
            Field("newest_age_ms", "u32", f"age of the newest result; {NO_AGE} while there was none", "ms"),
            Field("period_ms", "u16", "about how often it comes; when three are missing, vision is dead", "ms"),
            Field("state", "u8", "of the source: " + ", ".join(f"{i} {name}" for i, name in enumerate(STATES))),
        ),
    ),
    Layout(
        "status",
        4,
        "a change of state; never replaced by a newer message",
        (
            Field("t_publish_ns", "u64", "now, by the sender's Unix clock", "ns"),
            Field("t_event_ns", "u64", "when it happened", "ns"),
            Field("state", "u8", "of the source, as in HEARTBEAT"),
        ),
        strings=("engine", "reason"),
    ),
    Layout(
        "hello",
        5,
        "what the stream is; from a reader: its token",
        (
            Field("model_id", "u32", "as in the results"),
            Field("frame_width", "u16", "0 before the first frame", "px"),
            Field("frame_height", "u16", "0 before the first frame", "px"),
            Field("class_count", "u16", "labels the model has"),
            Field("ttl_ms", "u16", "as in the results", "ms"),
            Field("heartbeat_ms", "u16", "how often HEARTBEAT comes", "ms"),
        ),
        strings=("software", "source", "model", "token", "frame_id", "base_frame_id"),
    ),
    Layout(
        "labels",
        6,
        "names of the classes, as many messages as it takes",
        (
            Field("model_id", "u32", "as in the results"),
            Field("first", "u16", "class id of the first name here"),
            Field("total", "u16", "labels the model has"),
            Field("count", "u8", "names that follow"),
        ),
        listed_string="label",
    ),
    Layout(
        "clock",
        7,
        "a reader's question for the time (reply 0), and the answer (reply 1), as NTP does it",
        (
            Field("reply", "u8", "0 or 1"),
            Field("t_request_ns", "u64", "sending of the question by the reader's clock, given back as it came", "ns"),
            Field("t_receive_ns", "u64", "arrival of the question by the sender's Unix clock; 0 in a question", "ns"),
            Field("t_reply_ns", "u64", "sending of the answer, same clock; 0 in a question", "ns"),
        ),
    ),
    Layout(
        "credit",
        8,
        "from a reader: it can take this many more results; from the first one on it gets no more than that",
        (Field("results", "u16", "results it can take beside those it could"),),
    ),
    Layout(
        "control",
        9,
        "from a reader: what it wants to have, where the publisher allows it",
        (
            Field("kinds", "u16", "bit n: kind number n; 0 for all"),
            Field("max_rate_hz", "u16", "results a second at most; 0 for all", "Hz", 10),
            Field("command", "u8", ", ".join(f"{i} {name or 'nothing'}" for i, name in enumerate(COMMANDS))),
            Field("count", "u8", "class ids that follow: only these classes; none for all"),
        ),
        Block("wanted", (Field("class_id", "u16", "a class to have"),)),
    ),
    Layout(
        "region",
        10,
        "what a track did to a region of the picture; every one is sent, none takes the place of another",
        (
            Field("t_event_ns", "u64", "capture of the first frame on which it was so, by the sender's clock", "ns"),
            Field("age_us", "u32", "from then to sending, by a clock that is never set", "us"),
            Field("model_id", "u32", "as in the results"),
            Field("region", "u16", "number of the region in the sender's configuration, from 0"),
            Field("event", "u8", ", ".join(f"{i} {name}" for i, name in enumerate(EVENTS))),
            Field("direction", "u8", ", ".join(f"{i} {name or 'none'}" for i, name in enumerate(DIRECTIONS))),
            Field("lost", "u8", "1: it did not leave, it was not seen any more since t_event_ns"),
            Field("class_id", "u16", "index into the labels"),
            Field("track_id", "u16", "low 16 bits of the track's number"),
            Field("dwell_ms", "u32", "how long it had been inside, of leave and dwell", "ms"),
            Field("inside", "u16", f"tracks in the zone now; {NO_COUNT} of lines"),
        ),
        strings=("name",),
    ),
)


SCALES = {
    field.name: field.scale
    for block in (*(one.body for one in LAYOUTS), *(one.record for one in LAYOUTS if one.record), *BLOCKS)
    for field in block.fields
}
"""What a value is multiplied with to be written, by the name of its field."""


def _detection_codes() -> tuple[str, ...]:
    record = next(one.record for one in LAYOUTS if one.kind == "detections")
    assert record is not None
    return tuple(
        record.codes + "".join(block.codes for i, block in enumerate(BLOCKS) if bits >> i & 1)
        for bits in range(1 << len(BLOCKS))
    )


DETECTION_CODES = _detection_codes()
"""The letters of `struct` of one detection, by the bits of `blocks`."""


def crc16(data: bytes) -> int:
    """Return CRC-16/IBM-3740: polynomial 0x1021, start 0xFFFF, not reflected; of b"123456789" it is 0x29B1."""
    return crc_hqx(data, 0xFFFF)


def _hash() -> int:
    """Of everything that decides where a byte stands and what it means."""

    def words(block: Block) -> list:
        return [block.name, *((f.name, f.type, f.unit, f.scale) for f in block.fields)]

    table = [
        VERSION,
        FLAGS,
        STATES,
        TIMESTAMPS,
        COMMANDS,
        EVENTS,
        DIRECTIONS,
        words(HEADER),
        [words(block) for block in BLOCKS],
        [
            (x.kind, x.number, words(x.body), words(x.record) if x.record else [], x.strings, x.listed_string)
            for x in LAYOUTS
        ],
    ]
    return int.from_bytes(hashlib.sha256(repr(table).encode()).digest()[:2], "little")


FORMAT_HASH = _hash()
