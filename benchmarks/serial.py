"""How much of a serial line the publisher uses, and how old what arrives is, over a pty that is as slow as a UART."""

import multiprocessing
import os
import select
import time
import tty
from multiprocessing.connection import Connection

import numpy as np

from edge.clock import monotonic_ns, unix_ns_from_monotonic_ns
from edge.publishers.serial import SerialPublisher
from edge.uri import parse_uri
from edge.wire.building import Stream, greeting, heartbeat_of
from edge.wire.decoder import decode
from edge.wire.encoder import encode
from edge.wire.framing import SerialDeframer, framed
from edge.wire.messages import DetectionRecord, DetectionsMessage

DETECTIONS = 10
SECONDS = 10.0
WARM_UP_S = 1.0
TICK_S = 0.0002
JUDGED_BAUD, LEAST_SHARE, MOST_FRAME_TIMES = 115_200, 0.95, 2.0
BAUDS, COUNTS = (57_600, 115_200, 230_400, 460_800, 921_600, 2_000_000), (0, 1, 5, 10, 20, 33)
STREAM = Stream(source="bench", model="bench", labels=tuple(f"class {i}" for i in range(80)))


def measure() -> bool:
    """Measure at two baud rates, with a camera faster and one slower than the line; return whether targets are kept."""
    _print_rates()
    frame_bytes = _frame_bytes(DETECTIONS)
    print(f"\n{DETECTIONS} detections a frame, {frame_bytes} bytes on the wire; heartbeats and greetings beside them")
    print(f"{'baud':>7} {'camera':>9} {'line':>9} {'carried':>9} {'share':>7}   age p50, p99, most in frame times")
    kept = True
    for baud in (115_200, 921_600):
        line_hz = baud / 10 / frame_bytes
        for camera_hz in (line_hz / 2, 2 * line_hz):
            carried_hz, ages_ms = _carried(baud, camera_hz)
            possible_hz = min(camera_hz, line_hz)
            share = carried_hz / possible_hz
            p50, p99, most = np.percentile(ages_ms, [50, 99, 100]) * line_hz / 1000
            verdict = ""
            if baud == JUDGED_BAUD:
                good = p99 < MOST_FRAME_TIMES and (camera_hz < line_hz or share >= LEAST_SHARE)
                kept, verdict = kept and good, "kept" if good else "MISSED"
            print(
                f"{baud:>7} {camera_hz:>6.1f}/s {line_hz:>6.1f}/s {carried_hz:>6.1f}/s {share:>6.1%}   "
                f"{p50:.2f}, {p99:.2f}, {most:.2f} ({p99 / line_hz * 1000:.1f} ms) {verdict}"
            )
    print(f"targets at {JUDGED_BAUD} baud: share at least {LEAST_SHARE:.0%}, p99 of the age under {MOST_FRAME_TIMES:g}")
    return kept


def result(seq: int, count: int = DETECTIONS) -> DetectionsMessage:
    """Return a result with a frame captured at this moment."""
    now = monotonic_ns()
    return DetectionsMessage(
        source=STREAM.source,
        seq=seq,
        t_publish_ns=unix_ns_from_monotonic_ns(now),
        t_capture_ns=unix_ns_from_monotonic_ns(now),
        t_capture_local_ns=now,
        age_ms=0.0,
        ttl_ms=500,
        frame=(1280, 720),
        model_id=STREAM.model_id,
        detections=[
            DetectionRecord("x", i, 0.9 - i / 50, (100.5 + i, 50.25, 300.125 + i, 200.5)) for i in range(count)
        ],
    )


def _frame_bytes(count: int) -> int:
    return len(framed(encode(result(0, count)), binary=True, serial=True))


def _print_rates() -> None:
    """What the layout allows, as the table of docs/serial.md."""
    print("| detections | bytes | " + " | ".join(f"{baud:,} baud" for baud in BAUDS) + " |")
    print("|---" * (len(BAUDS) + 2) + "|")
    for count in COUNTS:
        size = _frame_bytes(count)
        print(f"| {count} | {size} | " + " | ".join(f"{baud / 10 / size:,.0f}" for baud in BAUDS) + " |")


def _carried(baud: int, camera_hz: float) -> tuple[float, list[float]]:
    """Results a second that came through, and the age in ms of each when its last byte was there."""
    context = multiprocessing.get_context("spawn")  # hardware does not share our interpreter
    here, there = context.Pipe()
    pump = context.Process(target=_pump, args=(there, baud, WARM_UP_S + SECONDS), daemon=True)
    pump.start()
    publisher = SerialPublisher(parse_uri(f"serial://{here.recv()}?baud={baud}"))
    assert not publisher.failure, publisher.failure
    for message in greeting(STREAM, (1280, 720)):
        publisher.send(message)
    start = time.monotonic()
    here.send("go")
    seq, next_beat = 0, start
    while not here.poll():
        publisher.send(result(seq))
        seq += 1
        if time.monotonic() >= next_beat:
            next_beat += STREAM.heartbeat_ms / 1000
            publisher.send(heartbeat_of(STREAM, seq, "streaming", monotonic_ns(), monotonic_ns()))
        time.sleep(max(0.0, start + seq / camera_hz - time.monotonic()))
    arrivals = here.recv()
    publisher.close()
    pump.join(10)
    settled = [(t, age_ms) for t, age_ms in arrivals if t >= WARM_UP_S]
    return (len(settled) - 1) / (settled[-1][0] - settled[0][0]), [age_ms for _, age_ms in settled]


def _pump(there: Connection, baud: int, seconds: float) -> None:
    """Take bytes from a pty as a UART would send them, and tell when each result was complete, and how old.

    What the publisher wrote too early waits in the pty, as it would in a driver, and is seen in the age.
    """
    master, slave = os.openpty()
    tty.setraw(slave)
    there.send(os.ttyname(slave))
    there.recv()
    deframer, arrivals = SerialDeframer(), []
    byte_s = 10 / baud
    start = time.monotonic()
    sent_until = 0.0  # when the last byte taken had left
    idle = True
    poller = select.poll()
    poller.register(master, select.POLLIN)
    while (now := time.monotonic()) - start < seconds:
        if not poller.poll(0):
            idle = True
            poller.poll(1)
            continue
        if idle:  # a byte that came to a quiet line begins to leave now, not earlier
            sent_until, idle = max(sent_until, now), False
        count = int((now - sent_until) / byte_s)
        if count < 1:
            time.sleep(TICK_S)
            continue
        block = os.read(master, count)
        sent_until += len(block) * byte_s
        for payload in deframer.feed(block):
            message = decode(payload)
            if isinstance(message, DetectionsMessage):
                arrivals.append((now - start, (time.time_ns() - message.t_capture_ns) / 1e6))
    there.send(arrivals)
