"""Recordings: MCAP files, read message by message; one that a crash cut short gives what is whole in it.

Whoever wrote them: what encodes a picture's message (protobuf, CDR) does not matter, for a JPEG or PNG is found in it
by its signature, and OpenCV passes over what follows. Format: https://mcap.dev/spec.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
from mcap.exceptions import McapError
from mcap.records import Channel, Chunk, McapRecord, Message, Schema
from mcap.stream_reader import StreamReader, breakup_chunk
from zstandard import ZstdError

from edge.errors import ConfigError

__all__ = ["BROKEN", "Recorded", "Recording", "has_pictures", "picture_in"]

BROKEN = (McapError, EOFError, ValueError, struct.error, RuntimeError, OverflowError, MemoryError, ZstdError)
"""What the reader and its decompressors raise where bytes are missing or damaged."""

_MAGIC = b"\x89MCAP0\r\n"
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
    Both are of the pass that was last begun.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.cut = ""
        self.damaged = 0

    def __iter__(self) -> Iterator[Recorded]:
        """Yield all messages from the first on.

        Raises: ConfigError for a file that cannot be read or is no recording.
        """
        self.cut, self.damaged = "", 0
        schemas: dict[int, Schema] = {}
        channels: dict[int, Channel] = {}
        try:
            with self.path.open("rb") as file:
                if file.read(len(_MAGIC)) != _MAGIC:
                    raise ConfigError(f"{self.path} is no whole recording (it does not begin as MCAP)", "record again")
                file.seek(0)
                for record in self._records(file):
                    if isinstance(record, Schema):
                        schemas[record.id] = record
                    elif isinstance(record, Channel):
                        channels[record.id] = record
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
        records = StreamReader(file, emit_chunks=True).records
        while True:
            try:
                record = next(records)
            except StopIteration:
                return
            except BROKEN as exc:
                self.cut = str(exc) or "its end is missing"
                return
            if not isinstance(record, Chunk):
                yield record
                continue
            try:
                inside = breakup_chunk(record, validate_crc=True)
            except BROKEN:
                self.damaged += 1
                continue
            yield from inside


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
