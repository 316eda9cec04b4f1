"""How long a result takes to another process, beside a bare socket of the same kind.

Three readers wait in processes of their own, and each round sends to one after the other, so that whatever else the
machine does meets all three: as many bytes over a bare socket; the same message encoded, sent and decoded in one
thread; and publisher and connection. Of the last, "wire" is the part from the encoded message to the bytes at the
reader, which is what a bare socket does; codec and threads come on top of it. Between two messages everybody sleeps, as
on a robot, so that all code is cold in the caches.
"""

import select
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from unittest.mock import patch

import msgspec
import numpy as np

from edge.client import connect
from edge.clock import monotonic_ns
from edge.detections import Detections
from edge.frame import FrameInfo
from edge.links.base import Link
from edge.registry import resolve
from edge.uri import parse_uri
from edge.wire import jsonl
from edge.wire.building import Stream, message_of
from edge.wire.decoder import decode
from edge.wire.encoder import encode
from edge.wire.messages import DetectionsMessage, Message

ROUNDS, WARM_UP, GAP_S = 1500, 100, 0.002
MOST_RATIO = 1.5
BLOCKS = 5
ENCODE_US, DECODE_US = 20.0, 30.0
DETECTIONS = 10
KINDS = ("tcp", "unix", "udp")
DEADLINE_S = 20.0


def measure() -> bool:
    """Measure codec and transports; return whether all targets were kept."""
    message = _message()
    kept = _codec(message)
    print(
        f"\n{ROUNDS} rounds, {DETECTIONS} detections, us    bare p50  p99   with codec p50  p99   send to read p50  p99"
    )
    for kind in KINDS:
        bare_us, codec_us, whole_us, wire_us = _transport(kind, message)
        shown = "   ".join(
            f"{statistics.median(x):8.0f} {np.percentile(x, 99):6.0f}" for x in (bare_us, codec_us, whole_us)
        )
        print(f"  {kind:<6} {shown}")
        ratios = sorted(map(_ratio, np.array_split(wire_us, BLOCKS), np.array_split(bare_us, BLOCKS)))
        ratio = statistics.median(ratios)
        kept &= ratio <= MOST_RATIO
        verdict = "kept" if ratio <= MOST_RATIO else "MISSED"
        spread = f"{ratios[0]:.2f} to {ratios[-1]:.2f} in {BLOCKS} blocks"
        print(
            f"         wire {statistics.median(wire_us):.0f} us: {ratio:.2f} x bare ({spread}), target {MOST_RATIO}: "
            f"{verdict}; send to read {_ratio(whole_us, codec_us):.2f} x bare with codec"
        )
    return kept


def _ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Of the medians."""
    return float(np.median(ours) / np.median(theirs))


def _message() -> DetectionsMessage:
    found = Detections(DETECTIONS)
    rng = np.random.default_rng(5)
    found.count = DETECTIONS
    found.xyxy[:] = np.sort(rng.uniform(0, 400, (DETECTIONS, 4)).astype(np.float32), axis=1)
    found.scores[:] = rng.uniform(0.3, 1, DETECTIONS)
    found.class_ids[:] = rng.integers(0, 80, DETECTIONS)
    stream = Stream(source="cam", model="model", labels=tuple(f"class {i}" for i in range(80)))
    message = message_of(FrameInfo(1, "cam", monotonic_ns(), 640, 480), found, stream)
    assert isinstance(message, DetectionsMessage)
    return message


def _codec(message: Message) -> bool:
    """Least of ten rounds: what the code takes, not what else the machine did."""
    print(f"{DETECTIONS} detections    encode    decode   bytes")
    best_us = {}
    for name, out, back in (("binary", encode, decode), ("json", jsonl.encode, jsonl.decode)):
        data = out(message)
        best_us[name] = _least_us(lambda o=out: o(message)), _least_us(lambda b=back, d=data: b(d))
        print(f"  {name:<10} {best_us[name][0]:8.1f} {best_us[name][1]:8.1f} us {len(data):6}")
    kept = best_us["binary"][0] < ENCODE_US and best_us["binary"][1] < DECODE_US
    print(f"  target {ENCODE_US:.0f} and {DECODE_US:.0f} us: {'kept' if kept else 'MISSED'}")
    return kept


def _least_us(call: Callable[[], object]) -> float:
    times_s = []
    for _ in range(10):
        start = time.perf_counter()
        for _ in range(500):
            call()
        times_s.append((time.perf_counter() - start) / 500)
    return min(times_s) * 1e6


def _transport(kind: str, message: DetectionsMessage) -> tuple[list[float], ...]:
    """Latencies in us: bytes over a bare socket, with codec, publisher to connection, and the wire's part of that."""
    encoded_ns: dict[int, int] = {}

    def stamping(one: Message, max_bytes: int | None = None) -> bytes:
        data = encode(one, max_bytes)
        encoded_ns[one.seq] = time.time_ns()
        return data

    with tempfile.TemporaryDirectory() as folder, patch("edge.wire.encoder.encode", stamping):
        uri = {"tcp": "tcp://127.0.0.1:0", "unix": f"unix://{folder}/harrier", "udp": f"udp://127.0.0.1:{_port()}"}[
            kind
        ]
        publisher = resolve("publishers", kind)(parse_uri(uri))
        bare, codec = (_bare_sender(kind, folder, what, len(encode(message))) for what in ("bytes", "codec"))
        readers = [bare.reader, codec.reader, _child("connect", publisher.address)]
        try:
            _wait_for(readers[2], lambda: publisher.send(msgspec.structs.replace(message, seq=0)))
            payload = encode(message)[8:]  # with the time stamp, as many bytes as the message
            for seq in range(1, ROUNDS + WARM_UP + 1):
                time.sleep(GAP_S)
                bare.send(struct.pack("<Q", time.time_ns()) + payload)
                time.sleep(GAP_S)
                codec.send(encode(msgspec.structs.replace(message, seq=seq, t_capture_ns=time.time_ns())))
                time.sleep(GAP_S)
                t_ns, now = monotonic_ns(), time.time_ns()
                publisher.send(msgspec.structs.replace(message, seq=seq, t_capture_ns=now, t_capture_local_ns=t_ns))
            bare_us, codec_us, whole = (_report(reader) for reader in readers)
        finally:
            publisher.close(0)
            for reader in readers:
                reader.kill()
                reader.wait()
    received_ns = {int(seq): int(t_ns) for seq, t_ns, _ in whole[WARM_UP:]}
    wire_us = [(t_ns - encoded_ns[seq]) / 1e3 for seq, t_ns in received_ns.items()]
    return (
        [us for (us,) in bare_us[WARM_UP:]],
        [us for (us,) in codec_us[WARM_UP:]],
        [us for *_, us in whole[WARM_UP:]],
        wire_us,
    )


class _BareSender:
    """A connected socket, and the process that reads from it."""

    def __init__(self, sock: socket.socket, reader: subprocess.Popen) -> None:
        self.send, self.reader = sock.send, reader


def _bare_sender(kind: str, folder: str, what: str, size: int) -> _BareSender:
    if kind == "udp":
        address = ("127.0.0.1", _port())
        reader = _child(what, str(size), "udp", f"{address[0]}:{address[1]}")
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.connect(address)
        _wait_for(reader, lambda: None)
        return _BareSender(sock, reader)
    with socket.socket(socket.AF_UNIX if kind == "unix" else socket.AF_INET) as server:
        server.bind(f"{folder}/{what}" if kind == "unix" else ("127.0.0.1", 0))
        server.listen()
        name = server.getsockname()
        reader = _child(what, str(size), kind, name if kind == "unix" else f"{name[0]}:{name[1]}")
        sock, _ = server.accept()
    if kind == "tcp":
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    _wait_for(reader, lambda: None)
    return _BareSender(sock, reader)


def _port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _child(*arguments: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "benchmarks.transport", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _wait_for(reader: subprocess.Popen, nudge: Callable[[], object]) -> None:
    """Nudge until the reader says, by its first line, that it is there."""
    deadline = time.monotonic() + DEADLINE_S
    while not select.select([reader.stdout], [], [], 0.05)[0]:
        nudge()
        if time.monotonic() > deadline:
            raise SystemExit("transport: a reader did not come up")
    reader.stdout.readline()  # type: ignore[union-attr]


def _report(reader: subprocess.Popen) -> list[list[float]]:
    out, errors = reader.communicate(timeout=DEADLINE_S)
    if reader.returncode:
        raise SystemExit(f"transport: a reader failed: {errors}")
    return [[float(word) for word in line.split()] for line in out.splitlines()]


def _read_bare(what: str, size: str, kind: str, where: str) -> None:
    """Print when it is there, then the latencies in us of all messages, each of so many bytes."""
    host, _, port = where.rpartition(":")
    family = socket.AF_UNIX if kind == "unix" else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM)
    if kind == "udp":
        sock.bind((host, int(port)))
    else:
        sock.connect(where if kind == "unix" else (host, int(port)))
    print("here", flush=True)
    times_us = []
    for _ in range(ROUNDS + WARM_UP):
        data = sock.recv(int(size), socket.MSG_WAITALL)
        if what == "codec":
            message = decode(data)
            assert isinstance(message, DetectionsMessage)
            times_us.append((time.time_ns() - message.t_capture_ns) / 1e3)
        else:
            times_us.append((time.time_ns() - struct.unpack_from("<Q", data)[0]) / 1e3)
    print("\n".join(map(str, times_us)))


def _read_connection(address: str) -> None:
    """Print when something came; then of each message its number, when its bytes came (ns), and its latency in us."""
    link_class = resolve("links", parse_uri(address).scheme)
    receive = link_class.receive
    came_ns = 0

    def stamping(link: Link, timeout_s: float) -> bytes:
        nonlocal came_ns
        data: bytes = receive(link, timeout_s)
        came_ns = time.time_ns()
        return data

    found, there = [], False
    with patch.object(link_class, "receive", stamping), connect(address) as connection:
        while not found or found[-1][0] < ROUNDS + WARM_UP:
            message, came = connection.read(DEADLINE_S), came_ns
            now = time.time_ns()
            if not isinstance(message, DetectionsMessage):
                raise SystemExit(f"{message} came")
            if not there:
                print("here", flush=True)
                there = True
            if message.seq:
                found.append((message.seq, came, (now - message.t_capture_ns) / 1e3))
    print("\n".join(" ".join(map(str, row)) for row in found))


if __name__ == "__main__":
    if sys.argv[1] == "connect":
        _read_connection(sys.argv[2])
    else:
        _read_bare(*sys.argv[1:])
