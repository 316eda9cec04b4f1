"""Recordings that a crash cut short are finished: what is whole in them gets its index, the torn rest goes."""

import fcntl
import os
from collections import defaultdict
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from mcap.data_stream import ReadDataStream, RecordBuilder
from mcap.opcode import Opcode
from mcap.records import (
    Channel,
    Chunk,
    ChunkIndex,
    DataEnd,
    Footer,
    Message,
    MessageIndex,
    Metadata,
    MetadataIndex,
    Schema,
    Statistics,
)
from mcap.stream_reader import get_chunk_data_stream

from edge.recording import BROKEN

__all__ = ["MAGIC", "finish_cut"]

MAGIC = b"\x89MCAP0\r\n"

_HEAD_BYTES = 9  # opcode and length of a record
_KNOWN = (Opcode.HEADER, Opcode.CHUNK, Opcode.MESSAGE_INDEX, Opcode.METADATA)


def finish_cut(path: Path) -> bool:
    """Give a recording of ours without an end its end; return whether it had none. One being written is let be.

    Nothing that can be read is touched: new bytes are written behind the last whole record.
    Raises: OSError when that failed; the recording is then as readable as before.
    """
    with path.open("r+b", buffering=0) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        size = os.fstat(file.fileno()).st_size
        if size < 2 * len(MAGIC) or file.read(len(MAGIC)) != MAGIC:
            return False
        file.seek(-len(MAGIC), os.SEEK_END)
        if file.read(len(MAGIC)) == MAGIC:
            return False
        whole = _Whole(file, size)
        end = whole.end()
        try:
            at = 0
            while at < len(end):
                at += os.pwrite(file.fileno(), end[at:], whole.size_bytes + at)
        except OSError:
            with suppress(OSError):
                os.ftruncate(file.fileno(), whole.size_bytes)
            raise
        os.ftruncate(file.fileno(), whole.size_bytes + len(end))
        os.fsync(file.fileno())
    return True


class _Whole:
    """What is whole in a recording, size_bytes of it, and what an index says of that."""

    def __init__(self, file: BinaryIO, size_bytes: int) -> None:
        self.size_bytes = len(MAGIC)
        self._schemas: dict[int, Schema] = {}
        self._channels: dict[int, Channel] = {}
        self._chunks: list[ChunkIndex] = []
        self._counts: dict[int, int] = defaultdict(int)
        self._indexes: dict[int, MessageIndex] = {}  # of the last chunk
        self._metadata: list[MetadataIndex] = []
        file.seek(at := self.size_bytes)
        sound = True  # until a damaged chunk, and again from the next whole one on
        while True:
            head = file.read(_HEAD_BYTES)
            length = int.from_bytes(head[1:], "little")
            if len(head) < _HEAD_BYTES or head[0] not in _KNOWN or at + _HEAD_BYTES + length > size_bytes:
                return
            body = file.read(length)
            if head[0] == Opcode.CHUNK:
                sound = self._take_chunk(body, at)
            elif sound and head[0] == Opcode.MESSAGE_INDEX:
                self._take_index(MessageIndex.read(ReadDataStream(BytesIO(body))), at, len(head) + length)
            elif sound and head[0] == Opcode.METADATA:
                self._take_metadata(body, at)
            at += len(head) + length
            if sound:
                self.size_bytes = at

    def end(self) -> bytes:
        """The records that end the file; where the last chunk's indexes are torn, they come first, anew."""
        made = RecordBuilder()
        if self._chunks and len(self._chunks[-1].message_index_offsets) < len(self._indexes):
            last = self._chunks[-1]
            self.size_bytes = last.chunk_start_offset + last.chunk_length
            for channel, index in self._indexes.items():
                last.message_index_offsets[channel] = self.size_bytes + made.count
                index.write(made)
            last.message_index_length = made.count
        DataEnd(0).write(made)
        start = self.size_bytes + made.count
        for record in (
            *self._schemas.values(),
            *self._channels.values(),
            self._statistics(),
            *self._chunks,
            *self._metadata,
        ):
            record.write(made)
        Footer(summary_start=start, summary_offset_start=0, summary_crc=0).write(made)
        return made.end() + MAGIC

    def _take_chunk(self, body: bytes, at: int) -> bool:
        """Take note of the chunk at this offset; False where it is damaged, or says nothing without one that is."""
        try:
            chunk = Chunk.read(ReadDataStream(BytesIO(body)))
            stream, length = get_chunk_data_stream(chunk, validate_crc=True)
        except BROKEN:
            return False
        indexes: dict[int, MessageIndex] = {}
        while stream.count < length:
            place, opcode, size = stream.count, stream.read1(), stream.read8()
            if opcode == Opcode.SCHEMA:
                schema = Schema.read(stream)
                self._schemas[schema.id] = schema
            elif opcode == Opcode.CHANNEL:
                channel = Channel.read(stream)
                self._channels[channel.id] = channel
            elif opcode == Opcode.MESSAGE:
                message = Message.read(stream, size)
                index = indexes.setdefault(message.channel_id, MessageIndex(message.channel_id, []))
                index.records.append((message.log_time, place))
            else:
                stream.read(size)
        if not indexes.keys() <= self._channels.keys():
            return False
        self._indexes = indexes
        for channel, index in indexes.items():
            self._counts[channel] += len(index.records)
        self._chunks.append(
            ChunkIndex(
                chunk_start_offset=at,
                chunk_length=_HEAD_BYTES + len(body),
                compression=chunk.compression,
                compressed_size=len(chunk.data),
                uncompressed_size=chunk.uncompressed_size,
                message_start_time=chunk.message_start_time,
                message_end_time=chunk.message_end_time,
                message_index_offsets={},
                message_index_length=0,
            )
        )
        return True

    def _take_index(self, index: MessageIndex, at: int, size_bytes: int) -> None:
        if self._chunks:
            self._chunks[-1].message_index_offsets[index.channel_id] = at
            self._chunks[-1].message_index_length += size_bytes

    def _take_metadata(self, body: bytes, at: int) -> None:
        with suppress(*BROKEN):  # one that nobody can read needs no index
            name = Metadata.read(ReadDataStream(BytesIO(body))).name
            self._metadata.append(MetadataIndex(at, _HEAD_BYTES + len(body), name))

    def _statistics(self) -> Statistics:
        return Statistics(
            attachment_count=0,
            channel_count=len(self._channels),
            channel_message_counts=dict(self._counts),
            chunk_count=len(self._chunks),
            message_count=sum(self._counts.values()),
            message_start_time=min((chunk.message_start_time for chunk in self._chunks), default=0),
            message_end_time=max((chunk.message_end_time for chunk in self._chunks), default=0),
            metadata_count=len(self._metadata),
            schema_count=len(self._schemas),
        )
