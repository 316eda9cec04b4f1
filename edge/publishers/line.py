"""A serial line: when it has sent what was written to it, and the messages in what it brings."""

from edge.wire.framing import SerialDeframer

__all__ = ["Line", "Mixed"]

_LEAD_S = 0.001  # the next frame is written this long before the one before is out, for threads do not wake on time
_LEAD_SHARE = 0.25  # but not while more than this share of it waits
_MOST_TEXT_BYTES = 4096


class Line:
    """When a line has sent what was written to it, by its baud rate: start bit, 8 bits, stop bit. Times: monotonic s.

    Waiting for the driver with tcdrain() would leave gaps: it looks only every few ms; and a driver's own count of
    what it holds, where it has one, leaves out what is in the chip.
    """

    def __init__(self, baud: int) -> None:
        self.byte_s = 10 / baud
        self.free_at_s = 0.0
        self.in_flight = False
        self._lead_s = 0.0

    def wrote(self, count_bytes: int, now_s: float) -> None:
        """Count what was just written."""
        frame_s = count_bytes * self.byte_s
        self.free_at_s = max(now_s, self.free_at_s) + frame_s
        self._lead_s = min(_LEAD_S, frame_s * _LEAD_SHARE)
        self.in_flight = True

    def emptied(self) -> None:
        """Forget what was written: it was thrown away."""
        self.free_at_s, self.in_flight = 0.0, False

    def wait_s(self, now_s: float, held_bytes: int, exactly: bool = False) -> float:
        """Return how long until the next frame may be written, 0 or less for now.

        held_bytes: what the driver says it still holds. exactly: not before the line is quiet.
        """
        lead_s = 0.0 if exactly else self._lead_s
        return max(self.free_at_s - now_s, held_bytes * self.byte_s) - lead_s


class Mixed:
    """Bytes in, messages out, frames and JSON lines as they come; noise between them costs what it touches."""

    def __init__(self) -> None:
        self._frames = SerialDeframer()
        self._text = b""

    def feed(self, block: bytes) -> list[bytes]:
        """Return the messages that are complete with this block."""
        *lines, rest = (self._text + block).split(b"\n")
        self._text = rest[-_MOST_TEXT_BYTES:]
        texts = [line.rpartition(b"\0")[2] for line in lines]  # no JSON has a zero: what is before it were frames
        return self._frames.feed(block) + [text for text in texts if text.startswith(b"{")]
