"""A reader in a process of its own, as a robot's would be, and the age of information it sees.

`python -m edge.bench.subscriber HOST PORT` notes every message, JSON lines or binary, and writes the notes to its
standard output at the end. It reads no more of a message than its capture time, so it stays light.
"""

import json
import os
import socket
import struct
import subprocess
import sys
import time
from array import array

from edge.errors import WireLengthError
from edge.wire.framing import LineDeframer, StreamDeframer
from edge.wire.layout import FORMAT_HASH, HEADER, LAYOUTS

__all__ = ["Subscriber", "ages_at_ticks_ms", "collect_stamps"]

_READY = b"ready\n"
_RESULTS = {one.number for one in LAYOUTS if one.body.names[0] == "t_capture_ns"}
_CAPTURED = struct.Struct("<" + HEADER.codes + "Q")


class Subscriber:
    """The child process, deaf to Ctrl-C, connected to `tcp://host:port` before the constructor returns."""

    def __init__(self, address: str) -> None:
        host, _, port = address.partition("://")[2].rpartition(":")
        command = [sys.executable, "-m", "edge.bench.subscriber", host.strip("[]"), port]
        self._child = subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True)
        assert self._child.stdout is not None
        self.pid = self._child.pid
        self.connected = self._child.stdout.readline() == _READY

    def stamps_ns(self) -> array:
        """Return t_capture, t_receive, t_capture ... in CLOCK_MONOTONIC ns, once the publisher has hung up."""
        stamps = array("q")
        try:
            data, _ = self._child.communicate(timeout=10)
            stamps.frombytes(data[: len(data) // 16 * 16])
        except subprocess.TimeoutExpired:
            self.kill()
        return stamps

    def end_on_error(self, kind: type[BaseException] | None, exc: object, traceback: object) -> None:
        """End the child when what it was started for failed; an exit callback for ExitStack.push."""
        if kind is not None:
            self.kill()

    def kill(self) -> None:
        """End the child, whatever it does."""
        if self._child.poll() is None:
            self._child.kill()
        self._child.communicate()


def collect_stamps(host: str, port: int) -> array:
    """Return the stamps of every message with a capture time until the publisher hangs up."""
    stamps = array("q")
    with socket.create_connection((host, port), timeout=10) as sock:
        sys.stdout.buffer.write(_READY)
        sys.stdout.buffer.flush()
        sock.settimeout(None)
        deframer: LineDeframer | StreamDeframer | None = None
        while True:
            try:
                block = sock.recv(65536)
            except OSError:
                break
            t_receive_ns = time.monotonic_ns()
            if not block:
                break
            deframer = deframer or (LineDeframer() if block.startswith(b"{") else StreamDeframer())
            try:
                messages = deframer.feed(block)
            except WireLengthError:  # no line ends: something else than Harrier speaks there
                break
            for message in messages:
                t_capture_ns = _capture_time_ns(message)
                if t_capture_ns is not None:
                    stamps.extend((t_capture_ns + time.monotonic_ns() - time.time_ns(), t_receive_ns))
    return stamps


def _capture_time_ns(message: bytes) -> int | None:
    """The sender's Unix time at which the frame of a result was taken; None of any other message."""
    if message.startswith(b"{"):
        t_capture_ns: int | None = json.loads(message).get("t_capture_ns")
        return t_capture_ns
    if len(message) < _CAPTURED.size:
        return None
    _, _, number, _, table, _, _, captured_ns = _CAPTURED.unpack_from(message)
    return captured_ns if number in _RESULTS and table == FORMAT_HASH else None


def ages_at_ticks_ms(stamps: array, spans_ns: list[tuple[int, int]], tick_ns: int = 5_000_000) -> list[float]:
    """Return the age in ms of the newest message at every tick of a fixed clock within the spans.

    Between messages the age grows; this is what a controller that runs at its own rate works with.
    """
    ages: list[float] = []
    count, index = len(stamps) // 2, 0
    for t_start_ns, t_end_ns in spans_ns:
        for t_ns in range(t_start_ns, t_end_ns, tick_ns):
            while index < count and stamps[2 * index + 1] <= t_ns:
                index += 1
            if index and stamps[2 * index - 1] >= t_start_ns:
                ages.append((t_ns - stamps[2 * index - 2]) / 1e6)
    return ages


def _main() -> None:
    try:
        sys.stdout.buffer.write(collect_stamps(sys.argv[1], int(sys.argv[2])).tobytes())
        sys.stdout.buffer.flush()
    except OSError:  # who started this is gone, and nobody wants the notes
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else the flush at exit fails


if __name__ == "__main__":
    _main()
