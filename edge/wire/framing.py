"""Where a message begins and ends on streams that know no messages.

Serial lines: COBS (Cheshire and Baker, "Consistent Overhead Byte Stuffing", 1999) between two zero bytes; the zero in
front keeps a damaged zero behind the message before from costing two. Sockets: a prefix of sync byte, length (u16,
little-endian) and a check byte, the exclusive or of those three and 0xFF, so that a damaged length is noticed at once.
JSON lines end with a newline.
"""

from abc import ABC, abstractmethod

from edge.errors import WireLengthError
from edge.wire.layout import MAX_MESSAGE_BYTES, STREAM_SYNC, crc16

__all__ = ["Deframer", "LineDeframer", "SerialDeframer", "StreamDeframer", "cobs_decode", "cobs_encode", "framed"]

_PREFIX_BYTES = 4
_LEAST_BYTES = 14
_MAX_LINE_BYTES = 1 << 20
_MAX_COBS_BYTES = MAX_MESSAGE_BYTES + MAX_MESSAGE_BYTES // 254 + 2


def cobs_encode(data: bytes) -> bytes:
    """Return the bytes without any zero, one longer for every 254 begun."""
    out = bytearray()
    runs = data.split(b"\0")
    last = len(runs) - 1
    for i, run in enumerate(runs):
        while len(run) > 254 or (len(run) == 254 and i < last):
            out.append(255)
            out += run[:254]
            run = run[254:]
        if len(run) == 254:  # the end, without a zero behind it
            out.append(255)
        else:
            out.append(len(run) + 1)
        out += run
    return bytes(out)


def cobs_decode(data: bytes) -> bytes:
    """Return what was encoded.

    Raises: WireLengthError for bytes that no encoder writes.
    """
    out = bytearray()
    at, size = 0, len(data)
    while at < size:
        code = data[at]
        last = at + code
        if code == 0 or last > size:
            raise WireLengthError("a message is torn", "check cable and baud rate")
        out += data[at + 1 : last]
        at = last
        if code < 255 and at < size:
            out.append(0)
    return bytes(out)


def framed(payload: bytes, binary: bool, serial: bool) -> bytes:
    """Return a message as it goes on a stream; a line of text needs nothing more."""
    if not binary:
        return payload
    if serial:
        return b"\0" + cobs_encode(payload) + b"\0"
    low, high = len(payload) & 0xFF, len(payload) >> 8
    return bytes((STREAM_SYNC, low, high, STREAM_SYNC ^ low ^ high ^ 0xFF)) + payload


class Deframer(ABC):
    """Bytes in, whole messages out. damaged counts messages that were begun and are not whole."""

    def __init__(self) -> None:
        self.damaged = 0
        self._pending = bytearray()

    @abstractmethod
    def feed(self, block: bytes) -> list[bytes]:
        """Return the messages that are complete with this block."""


class SerialDeframer(Deframer):
    """COBS between zeros, checksum checked."""

    def feed(self, block: bytes) -> list[bytes]:
        """Return the undamaged messages that are complete with this block."""
        self._pending += block
        *parts, rest = self._pending.split(b"\0")
        if len(rest) > _MAX_COBS_BYTES:
            self.damaged += 1
            del rest[:]
        self._pending = rest
        found = []
        for part in parts:
            if not part:
                continue
            try:
                message = cobs_decode(bytes(part))
            except WireLengthError:
                self.damaged += 1
                continue
            if _whole(message):
                found.append(message)
            else:
                self.damaged += 1
        return found


class StreamDeframer(Deframer):
    """A prefix before each message, checksum checked; after damage it looks for the next prefix."""

    def __init__(self) -> None:
        super().__init__()
        self._in_step = True

    def feed(self, block: bytes) -> list[bytes]:
        """Return the undamaged messages that are complete with this block."""
        pending, first_open = self._pending, -1
        pending += block
        found: list[bytes] = []
        at = 0
        while at + _PREFIX_BYTES <= len(pending):
            end = _end(pending, at)
            if end > len(pending):
                if self._in_step:
                    break
                if first_open < 0:  # perhaps false: look at what follows before waiting for all it claims
                    first_open = at
            elif end and _whole(message := bytes(pending[at + _PREFIX_BYTES : end])):
                found.append(message)
                at, first_open, self._in_step = end, -1, True
                continue
            else:
                self.damaged += self._in_step
                self._in_step = False
            following = pending.find(STREAM_SYNC, at + 1)
            at = len(pending) if following < 0 else following
        del pending[: at if first_open < 0 else first_open]
        return found


class LineDeframer(Deframer):
    """Lines of text, without their newline; empty ones are passed over."""

    def feed(self, block: bytes) -> list[bytes]:
        """Return the lines that are complete with this block.

        Raises: WireLengthError when a line does not end.
        """
        self._pending += block
        *lines, self._pending = self._pending.split(b"\n")
        if len(self._pending) > _MAX_LINE_BYTES:
            raise WireLengthError("a line of over 1 MB arrived", "check that the sender is harrier run")
        return [bytes(line) for line in lines if line]


def _end(pending: bytearray, at: int) -> int:
    """Where the message ends whose prefix is at `at`; 0 where there is no prefix."""
    sync, low, high, check = pending[at : at + _PREFIX_BYTES]
    size = low | high << 8
    right = sync == STREAM_SYNC and check == sync ^ low ^ high ^ 0xFF and size <= MAX_MESSAGE_BYTES
    return at + _PREFIX_BYTES + size if right else 0


def _whole(message: bytes) -> bool:
    return len(message) >= _LEAST_BYTES and crc16(message[:-2]) == message[-2] | message[-1] << 8
