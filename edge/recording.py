"""Recordings: MCAP files, read message by message; one that a crash cut short gives what is whole in it.

Whoever wrote them: what encodes a picture's message (protobuf, CDR) does not matter, for a JPEG or PNG is found in it
by its signature, and OpenCV passes over what follows. Format: https://mcap.dev/spec.
"""

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import cv2
import numpy as np
from mcap.data_stream import ReadDataStream
from mcap.exceptions import McapError
from mcap.opcode import Opcode
from mcap.records import Channel, Chunk, McapRecord, Message, Metadata, Schema
from mcap.stream_reader import breakup_chunk
from zstandard import ZstdError

from edge.errors import ConfigError

__all__ = ["BROKEN", "Recorded", "Recording", "has_pictures", "picture_in", "recordings_in"]

BROKEN = (McapError, EOFError, ValueError, struct.error, RuntimeError, OverflowError, MemoryError, ZstdError)
"""What the reader and its decompressors raise where bytes are missing or damaged."""

_MAGIC = b"\x89MCAP0\r\n"
_HEAD_BYTES = 9  # opcode and length of a record
_TAKEN: dict[int, Any] = {
    Opcode.SCHEMA: Schema,
    Opcode.CHANNEL: Channel,
    Opcode.MESSAGE: Message,
    Opcode.CHUNK: Chunk,
    Opcode.METADATA: Metadata,
}
_SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")


@dataclass(frozen=True, slots=True)
class Recorded:
    """One message as it was recorded; schema is its type's name, encoding says what `data` is written in.

    t_log_ns and t_publish_ns: Unix ns of recording and of the publisher, on a clock that is not set within a file.
    """

    topic: str
    schema: str
    encoding: str
    sequence: int
    t_log_ns: int
    t_publish_ns: int
    data: bytes


class Recording:
    """The messages of a file, in the order in which they were written.

    cut: why the file ends early, "" while it does not. damaged: chunks whose checksum is wrong, which are passed over.
    metadata: by name the newest record of values that stands before the message that was given last.
    All are of the pass that was last begun.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.cut = ""
        self.damaged = 0
        self.metadata: dict[str, dict[str, str]] = {}

    def __iter__(self) -> Iterator[Recorded]:
        """Yield all messages from the first on.

        Raises: ConfigError for a file that cannot be read or is no recording.
        """
        self.cut, self.damaged, self.metadata = "", 0, {}
        schemas: dict[int, Schema] = {}
        channels: dict[int, Channel] = {}
        try:
            with self.path.open("rb") as file:
                if file.read(len(_MAGIC)) != _MAGIC:
                    raise ConfigError(f"{self.path} is no whole recording (it does not begin as MCAP)", "record again")
                for record in self._records(file):
                    if isinstance(record, Schema):
                        schemas[record.id] = record
                    elif isinstance(record, Channel):
                        channels[record.id] = record
                    elif isinstance(record, Metadata):
                        self.metadata[record.name] = record.metadata
                    elif isinstance(record, Message) and (channel := channels.get(record.channel_id)):
                        schema = schemas.get(channel.schema_id)
                        yield Recorded(
                            channel.topic,
                            schema.name if schema else "",
                            channel.message_encoding,
                            record.sequence,
                            record.log_time,
                            record.publish_time,
                            record.data,
                        )
        except OSError as exc:
            raise ConfigError(
                f"cannot read {self.path} ({exc.strerror})", "check the path and its permissions"
            ) from exc

    def _records(self, file: BinaryIO) -> Iterator[McapRecord]:
        """Yield what stands behind the first bytes, also from within chunks."""
        left = os.fstat(file.fileno()).st_size - file.tell()
        while True:
            head = file.read(_HEAD_BYTES)
            opcode, length = (head[0], int.from_bytes(head[1:], "little")) if len(head) == _HEAD_BYTES else (0, 0)
            left -= _HEAD_BYTES + length
            if len(head) < _HEAD_BYTES or left < 0:
                self.cut = "its end is missing"
                return
            body = file.read(length)
            if opcode == Opcode.FOOTER:
                self.cut = "" if file.read(len(_MAGIC)) == _MAGIC else "its last bytes are missing"
                return
            if opcode not in _TAKEN:
                continue
            try:
                stream = ReadDataStream(BytesIO(body))
                record = Message.read(stream, length) if opcode == Opcode.MESSAGE else _TAKEN[opcode].read(stream)
                inside = breakup_chunk(record, validate_crc=True) if isinstance(record, Chunk) else [record]
            except BROKEN:
                self.damaged += 1
                continue
            yield from inside


def recordings_in(folder: Path) -> list[Path]:
    """Return the recordings of a folder, by name."""
    return sorted(folder.glob("*.mcap"))


def has_pictures(recorded: Recorded) -> bool:
    """Return whether a message is of a type that holds a compressed picture, of Foxglove or of ROS."""
    return recorded.schema.endswith("CompressedImage")


def picture_in(data: bytes) -> np.ndarray | None:
    """Return (H, W, 3) uint8 BGR, a new array, or None where a message holds none that can be decoded."""
    starts = [at for at in (data.find(signature) for signature in _SIGNATURES) if at >= 0]
    if not starts:
        return None
    try:
        return cv2.imdecode(np.frombuffer(data, np.uint8)[min(starts) :], cv2.IMREAD_COLOR)
    except cv2.error:
        return None
