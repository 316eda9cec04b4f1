"""A serial line, with a pty for the UART: framing, pace, what goes first, what the other end may ask, and trouble."""

import fcntl
import grp
import json
import os
import random
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("serial", reason="pyserial is not installed (extra serial)")

from edge.clock import monotonic_ns, unix_ns_from_monotonic_ns
from edge.errors import ConfigError, MissingBackendError, PublishError
from edge.publishers import line as line_module
from edge.publishers import rotation, serial_port
from edge.publishers import serial as serial_module
from edge.publishers.line import Line, Mixed
from edge.publishers.serial import SerialPublisher
from edge.registry import resolve
from edge.testing import check_publisher
from edge.uri import parse_uri
from edge.wire import jsonl
from edge.wire.building import Stream, greeting, heartbeat_of, status_of
from edge.wire.decoder import decode
from edge.wire.encoder import encode
from edge.wire.framing import SerialDeframer, framed
from edge.wire.messages import (
    ClockMessage,
    ControlMessage,
    CreditMessage,
    DetectionRecord,
    DetectionsMessage,
    LabelsMessage,
    Message,
    StatusMessage,
)
from edge.wire.names import Names

DEADLINE_S = 10.0
STREAM = Stream(source="camera", model="net", labels=("cat", "dog", "bird"))


class Pty:
    """The other end of a line that is as fast as anybody reads it."""

    def __init__(self) -> None:
        self.master, self._slave = os.openpty()
        self.path = os.ttyname(self._slave)
        self._deframer, self._names = SerialDeframer(), Names()
        self._messages: list[Message] = []

    def read(self, timeout_s: float = DEADLINE_S) -> Message:
        """The next message."""
        deadline = time.monotonic() + timeout_s
        while not self._messages:
            assert time.monotonic() < deadline, f"nothing came within {timeout_s} s"
            for payload in self._deframer.feed(self.bytes()):
                self._messages.append(decode(payload, self._names))
        return self._messages.pop(0)

    def read_kind(self, kind: str) -> Message:
        """The next message of a kind."""
        deadline = time.monotonic() + DEADLINE_S
        while (message := self.read()).kind != kind:
            assert time.monotonic() < deadline, f"no {kind} came within {DEADLINE_S} s"
        return message

    def bytes(self, timeout_s: float = 0.05) -> bytes:
        """What has arrived, b"" when nothing does."""
        readable, _, _ = select.select([self.master], [], [], timeout_s)
        return os.read(self.master, 65536) if readable else b""

    def waiting_bytes(self) -> int:
        """How much was written and not read yet."""
        return struct.unpack("i", fcntl.ioctl(self.master, termios.FIONREAD, b"\0" * 4))[0]

    def write(self, message: Message, format: str = "binary") -> None:
        """Say something to the publisher."""
        payload = encode(message) if format == "binary" else jsonl.encode(message)
        os.write(self.master, framed(payload, format == "binary", serial=True))

    def unplug(self) -> None:
        """Close everything."""
        for fd in (self.master, self._slave):
            os.close(fd)


@pytest.fixture
def pty() -> Iterator[Pty]:
    """A line that is closed after the test."""
    line = Pty()
    yield line
    line.unplug()


@pytest.fixture
def quick(monkeypatch) -> None:
    """Try again soon."""
    monkeypatch.setattr(serial_module, "_RETRY_S", 0.02)
    monkeypatch.setattr(serial_module, "_RETRY_MAX_S", 0.05)


def result(seq: int, count: int = 0, labels: bool = False) -> DetectionsMessage:
    """A result with the frame captured now and `count` detections, the strongest last."""
    now = monotonic_ns()
    return DetectionsMessage(
        source="camera",
        seq=seq,
        t_publish_ns=unix_ns_from_monotonic_ns(now),
        t_capture_ns=unix_ns_from_monotonic_ns(now),
        t_capture_local_ns=now,
        age_ms=0.0,
        model_id=STREAM.model_id,
        detections=[DetectionRecord("cat", i % 3, (i + 1) / 100, (10.0, 20.0, 30.0, 40.0)) for i in range(count)],
    )


def status(seq: int) -> StatusMessage:
    return status_of(STREAM, seq, "streaming", f"event {seq}", monotonic_ns(), "null")


def publisher_on(path: str, options: str = "baud=921600") -> SerialPublisher:
    return SerialPublisher(parse_uri(f"serial://{path}?{options}"))


def wait_for(condition, what: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"waited {DEADLINE_S} s for {what}"
        time.sleep(0.005)


def test_the_line_is_free_when_its_bytes_are_out():
    line = Line(1000)  # 10 ms a byte
    assert line.wait_s(5.0, 0) <= 0
    line.wrote(100, 5.0)
    assert line.wait_s(5.0, 0) == pytest.approx(0.999)  # 1 ms early, for a thread never wakes on time
    assert line.wait_s(5.5, 0, exactly=True) == pytest.approx(0.5)
    assert line.wait_s(5.5, 80) == pytest.approx(0.799)  # the driver knows better
    line.wrote(100, 5.9)  # before the first is out
    assert line.free_at_s == pytest.approx(7.0)
    line.wrote(1, 9.0)  # a rest is not saved up
    assert line.free_at_s == pytest.approx(9.01)


def test_a_short_frame_is_never_overlapped_by_more_than_a_quarter():
    line = Line(1_000_000)  # 10 us a byte
    line.wrote(40, 5.0)
    assert line.wait_s(5.0, 0) == pytest.approx(0.0003)


def test_the_publisher_keeps_the_contract(pty):
    check_publisher(publisher_on(pty.path))


def test_messages_arrive_with_their_names(pty):
    publisher = publisher_on(pty.path)
    for message in greeting(STREAM, (640, 480)):
        publisher.send(message)
    assert [pty.read().kind, pty.read().kind] == ["hello", "labels"]
    publisher.send(result(7, count=3))
    received = pty.read_kind("detections")
    assert (received.source, received.model, received.seq) == ("camera", "net", 7)
    assert [record.label for record in received.detections] == ["cat", "dog", "bird"]
    wait_for(lambda: publisher.sent >= 3, "the count")
    assert publisher.failure == ""
    publisher.close()


def test_no_more_than_one_frame_is_ever_ahead_of_the_line(pty):
    baud = 9600
    publisher = publisher_on(pty.path, f"baud={baud}")
    frame = len(framed(encode(result(0, 10)), binary=True, serial=True))
    start = time.monotonic()
    seq = 0
    while (elapsed := time.monotonic() - start) < 1.0:
        publisher.send(result(seq, 10))
        seq += 1
        written = pty.waiting_bytes()
        could_leave = (time.monotonic() - start) * baud / 10
        assert written <= could_leave + frame + 2, f"{written} bytes after {elapsed:.3f} s"
        time.sleep(0.005)
    assert pty.waiting_bytes() > 2 * frame, "it goes on writing"
    assert publisher.dropped > 0
    publisher.close(0.0)


def test_the_newest_result_is_taken_at_the_last_moment_with_its_age_of_then(pty):
    publisher = publisher_on(pty.path, "baud=600")  # 0.75 s for a result without detections
    publisher.send(result(0))
    pty.read()
    for seq in range(1, 21):
        publisher.send(result(seq))
    received = pty.read()
    assert received.seq == 20
    assert received.age_ms > 300, "it waited for its turn"
    assert publisher.dropped == 19
    publisher.close(0.0)


def test_the_weakest_detections_are_left_out_and_counted(pty):
    publisher = publisher_on(pty.path, "baud=921600&max_bytes=200")
    publisher.send(result(1, count=50))
    received = pty.read()
    assert len(received.detections) == (200 - 41) // 14
    assert received.omitted == 50 - len(received.detections)
    assert min(r.score for r in received.detections) == pytest.approx((51 - len(received.detections)) / 100, abs=1e-4)
    publisher.close()


def test_json_lines_are_cut_to_the_strongest_too(pty):
    publisher = publisher_on(pty.path, "baud=921600&format=json")
    publisher.send(result(1, count=50))
    line = b""
    deadline = time.monotonic() + DEADLINE_S
    while not line.endswith(b"\n"):
        assert time.monotonic() < deadline
        line += pty.bytes()
    told = json.loads(line)
    kept = len(told["detections"])
    assert 2 < kept < 50
    assert told["omitted"] == 50 - kept
    assert [d["score"] for d in told["detections"]] == [(i + 1) / 100 for i in range(50 - kept, 50)]
    assert len(line) <= 1024
    publisher.close()


def test_a_limit_that_nothing_fits_is_a_failure_that_names_the_cure(pty):
    publisher = publisher_on(pty.path, "baud=921600&format=json&max_bytes=64")
    publisher.send(result(1))
    wait_for(lambda: publisher.failure, "the failure")
    assert "max_bytes" in publisher.failure
    assert publisher.dropped == 1
    publisher.close()


def test_every_status_comes_in_order_and_before_what_waits(pty):
    publisher = publisher_on(pty.path, "baud=9600")
    for seq in range(5):
        publisher.send(status(seq))
    received = [pty.read().reason for _ in range(5)]
    assert received == [f"event {i}" for i in range(5)]
    publisher.close()


def test_who_starts_later_learns_the_names(pty, monkeypatch):
    monkeypatch.setattr(rotation, "_PERIOD_S", 0.05)
    publisher = publisher_on(pty.path)
    for message in greeting(STREAM, (640, 480)):
        publisher.send(message)
    publisher.send(result(1, 1))
    pty.read_kind("detections")
    pty.bytes()
    later = Pty.__new__(Pty)  # knows nothing of what was said before
    later.master, later._deframer, later._names, later._messages = pty.master, SerialDeframer(), Names(), []
    assert later.read_kind("labels").labels == ["cat", "dog", "bird"]
    assert later.read_kind("hello").model == "net"
    publisher.close()


def test_names_are_told_on_a_line_that_is_never_idle(pty, monkeypatch):
    monkeypatch.setattr(rotation, "_PATIENCE_S", 0.1)
    publisher = publisher_on(pty.path, "baud=115200")
    for message in greeting(STREAM, (640, 480)):
        publisher.send(message)
    labels, seq, deadline = 0, 0, time.monotonic() + DEADLINE_S
    while labels < 3:
        assert time.monotonic() < deadline, "the names never came again"
        publisher.send(result(seq, 10))
        seq += 1
        labels += sum(isinstance(decode(p), LabelsMessage) for p in pty._deframer.feed(pty.bytes(0.001)))
    publisher.close()


@pytest.mark.parametrize("format", ["binary", "json"])
def test_a_question_for_the_time_is_answered(pty, format):
    publisher = publisher_on(pty.path)
    before = time.time_ns()
    pty.write(ClockMessage(reply=False, t_request_ns=123), format)
    reply = pty.read_kind("clock")
    assert (reply.reply, reply.t_request_ns) == (True, 123)
    assert before <= reply.t_receive_ns <= reply.t_reply_ns <= time.time_ns()
    publisher.close()


def test_an_answer_goes_before_results_and_greetings(pty):
    publisher = publisher_on(pty.path, "baud=2400")  # 0.2 s for the answer, 0.8 s for a result
    publisher.send(result(0, 10))
    pty.read()
    pty.write(ClockMessage(reply=False, t_request_ns=5))
    time.sleep(0.2)  # while the line is busy with the first
    for message in (*greeting(STREAM, (640, 480)), result(1, 10)):
        publisher.send(message)
    assert pty.read().kind == "clock"
    publisher.close(0.0)


def test_an_answer_is_stamped_when_it_begins_to_leave(pty, monkeypatch):
    monkeypatch.setattr(line_module, "_LEAD_S", 0.3)  # a result would be written so much before the line is free
    monkeypatch.setattr(line_module, "_LEAD_SHARE", 0.9)
    publisher = publisher_on(pty.path, "baud=600")
    start_ns = time.time_ns()
    publisher.send(result(0))
    pty.read()
    pty.write(ClockMessage(reply=False, t_request_ns=5))
    frame = len(framed(encode(result(0)), binary=True, serial=True))
    assert pty.read_kind("clock").t_reply_ns - start_ns >= frame * 10 / 600 * 1e9
    publisher.close(0.0)


def test_with_credit_a_result_comes_only_against_one(pty, monkeypatch):
    publisher = publisher_on(pty.path)
    pty.write(CreditMessage(results=1))
    wait_for(lambda: publisher._session.credits == 1, "the credit")
    for seq in range(3):
        publisher.send(result(seq))
        publisher.send(status(seq))
        assert pty.read_kind("status").seq == seq
    assert publisher._session.credits == 0
    pty.write(CreditMessage(results=1))
    assert pty.read_kind("detections").seq == 2, "the newest waits"
    # whoever gave credit is gone; nobody hangs up on a line
    monkeypatch.setattr(serial_module, "_CREDIT_HOLDS_S", 0.0)
    publisher.send(result(9))
    assert pty.read_kind("detections").seq == 9
    publisher.close()


def test_control_is_off_unless_it_is_allowed(pty):
    publisher = publisher_on(pty.path)
    pty.write(ControlMessage(class_ids=(1,), command="stop"))
    wait_for(lambda: publisher.refused == 1, "the refusal")
    publisher.send(result(1, 3))
    assert len(pty.read_kind("detections").detections) == 3
    assert publisher.command == ""
    publisher.close()


def test_control_chooses_classes_and_commands_where_it_is_allowed(pty):
    publisher = publisher_on(pty.path, "baud=921600&control=all")
    pty.write(ControlMessage(class_ids=(1,), command="stop"))
    wait_for(lambda: publisher.command == "stop", "the command")
    publisher.send(result(1, 3))
    assert [d.class_id for d in pty.read_kind("detections").detections] == [1]
    publisher.close()


def test_noise_from_the_other_end_does_no_harm(pty):
    publisher = publisher_on(pty.path)
    noise = random.Random(3)
    os.write(pty.master, bytes(noise.randrange(256) for _ in range(2000)) + b'\n{"kind":"nonsense"}\n\0')
    pty.write(ClockMessage(reply=False, t_request_ns=77))
    assert pty.read_kind("clock").t_request_ns == 77
    assert publisher.failure == ""
    assert publisher.refused >= 1
    publisher.close()


def test_frames_and_lines_are_told_apart_in_any_pieces():
    frame = framed(encode(CreditMessage(results=10)), binary=True, serial=True)
    text = jsonl.encode(CreditMessage(results=20))
    stream = frame + text + frame + frame + text + text + frame
    for size in (1, 3, 7, len(stream)):
        mixed, found = Mixed(), []
        for at in range(0, len(stream), size):
            found += mixed.feed(stream[at : at + size])
        texts = [one for one in found if one.startswith(b"{")]
        assert texts == [text.rstrip()] * 3
        assert len(found) >= 5, "a frame may be lost beside a line, not more"


def sent_frames(count: int) -> list[bytes]:
    return [framed(encode(result(seq, 3)), binary=True, serial=True) for seq in range(count)]


def received_seqs(stream: bytes) -> list[int]:
    return [decode(payload).seq for payload in SerialDeframer().feed(stream)]


def test_any_lost_or_flipped_byte_costs_one_frame_and_never_two():
    frames = sent_frames(3)
    stream = b"".join(frames)
    for at in range(len(stream)):
        for damaged in (stream[:at] + stream[at + 1 :], stream[:at] + bytes([stream[at] ^ 0x40]) + stream[at + 1 :]):
            seqs = received_seqs(damaged)
            assert seqs in ([0, 1, 2], [1, 2], [0, 2], [0, 1]), f"byte {at}: {seqs}"


def test_ten_percent_of_bytes_corrupted_lose_frames_and_invent_none():
    noise = random.Random(11)
    frames = [framed(encode(CreditMessage(results=i)), binary=True, serial=True) for i in range(2000)]
    damaged = bytearray(b"".join(frames))
    for at in range(len(damaged)):
        if noise.random() < 0.1:
            damaged[at] = noise.randrange(256)
    payloads = SerialDeframer().feed(bytes(damaged))
    numbers = [decode(payload).results for payload in payloads]
    assert numbers == sorted(set(numbers)), "each at most once, in order"
    assert len(numbers) > 100


def test_an_unplugged_port_is_taken_up_again(tmp_path, quick, monkeypatch):
    monkeypatch.setattr(rotation, "_PERIOD_S", 1000.0)  # not by turns, but because somebody new may be there
    link = tmp_path / "port"
    first = Pty()
    link.symlink_to(first.path)
    publisher = publisher_on(str(link))
    for message in (*greeting(STREAM, (640, 480)), status(1), status(2)):
        publisher.send(message)
    assert {first.read().kind for _ in range(4)} == {"hello", "labels", "status"}
    first.unplug()
    wait_for(lambda: publisher.failure, "the failure")
    assert "unplugged" in publisher.failure or "no port" in publisher.failure
    link.unlink()
    wait_for(lambda: "there is no port" in publisher.failure, "the port to be missed")
    for seq in range(50):
        publisher.send(result(seq))
    second = Pty()
    link.symlink_to(second.path)
    told = {message.kind: message for message in (second.read() for _ in range(3))}
    assert set(told) == {"hello", "labels", "status"}
    assert told["status"].reason == "event 2", "old changes of state are not news"
    publisher.send(result(100))
    assert second.read().seq == 100, "nothing that waited while nobody was there"
    wait_for(lambda: publisher.failure == "", "the recovery")
    assert publisher.dropped == 50, "each of them is counted, the one that waited too"
    assert len(publisher._channel.sessions) == 1
    publisher.close()
    second.unplug()


def test_a_port_that_comes_later_is_waited_for(tmp_path, quick):
    link = tmp_path / "port"
    publisher = publisher_on(str(link))
    assert f"there is no port {link}" in publisher.failure
    late = Pty()
    link.symlink_to(late.path)
    wait_for(lambda: publisher.failure == "", "the port")
    publisher.send(status(1))
    assert late.read_kind("status").reason == "event 1"
    publisher.close()
    late.unplug()


def test_a_reader_that_stalls_is_told_and_gets_the_newest_when_it_wakes(pty):
    publisher = publisher_on(pty.path, "baud=10000000&write_timeout_s=0.1")
    seq = 0
    while not publisher.failure:
        assert seq < 20_000, "writing into a line that nobody reads goes on"
        publisher.send(result(seq, 10))
        seq += 1
        time.sleep(0.0005)
    assert "took nothing for 0.1 s" in publisher.failure
    while pty.bytes(0.3):
        pass  # what the kernel held
    publisher.send(result(1_000_000, 1))
    wait_for(lambda: publisher.failure == "", "the recovery")
    while pty.read_kind("detections").seq != 1_000_000:
        pass
    publisher.close()


def test_a_line_held_by_flow_control_is_told_until_it_moves(pty, monkeypatch):
    held = [0]  # what a driver says it still has; a pty says nothing
    monkeypatch.setattr(serial_port.serial.Serial, "out_waiting", property(lambda self: held[0]))
    publisher = publisher_on(pty.path, "baud=921600&write_timeout_s=0.1&rtscts=yes")
    held[0] = 500
    for seq in range(3):
        publisher.send(result(seq))
    wait_for(lambda: "took nothing for 0.1 s: check CTS" in publisher.failure, "the failure")
    held[0] = 0
    publisher.send(result(100))
    while pty.read().seq != 100:
        pass
    wait_for(lambda: publisher.failure == "", "the recovery")
    held[0] = 500
    publisher.send(result(101))
    start = time.monotonic()
    publisher.close(0.05)
    assert time.monotonic() - start < 1.0


def test_closing_does_not_wait_for_a_reader_that_stalls(pty):
    publisher = publisher_on(pty.path, "baud=10000000&write_timeout_s=5")
    deadline = time.monotonic() + 5
    while pty.waiting_bytes() < 4000 and time.monotonic() < deadline:
        publisher.send(result(1, 10))
        time.sleep(0.0005)
    start = time.monotonic()
    publisher.close(0.1)
    assert time.monotonic() - start < 1.0
    assert not publisher._thread.is_alive()


def test_closing_lets_the_last_message_out(pty):
    publisher = publisher_on(pty.path, "baud=9600")
    publisher.send(heartbeat_of(STREAM, 1, "streaming", monotonic_ns(), None))
    publisher.send(status(9))
    publisher.close()
    assert pty.read_kind("status").reason == "event 9"


def test_a_missing_port_lists_those_there_are(monkeypatch):
    class Port:
        device = "/dev/ttyUSB7"

    monkeypatch.setattr(serial_port.list_ports, "comports", lambda: [Port()])
    with pytest.raises(PublishError, match=r"there is no port /dev/ttyNOT: plug it in, or use one of .*/dev/ttyUSB7"):
        SerialPublisher.check(parse_uri("serial:///dev/ttyNOT"))


def test_a_forbidden_port_names_the_group(pty, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    os.chmod(pty.path, 0o600)
    with pytest.raises(PublishError, match=r"no permission for .*: sudo chgrp dialout .* && sudo chmod g\+rw"):
        SerialPublisher.check(parse_uri(f"serial://{pty.path}"))  # its group has no rights: joining it is no cure
    os.chmod(pty.path, 0o660)
    try:
        os.chown(pty.path, -1, grp.getgrnam("dialout").gr_gid)
    except (PermissionError, KeyError):
        pytest.skip("only root can give the port to the group dialout, where there is one")
    with pytest.raises(PublishError, match=r"no permission for .*: sudo usermod -aG \w+ \$USER, then log in again"):
        SerialPublisher.check(parse_uri(f"serial://{pty.path}"))
    publisher = publisher_on(pty.path)
    assert "sudo usermod" in publisher.failure, "udev may still be about to change it: the run goes on trying"
    publisher.close()


def test_a_port_in_use_names_the_program(pty):
    script = (
        "import serial, sys, time\n"
        f"port = serial.Serial({pty.path!r}, exclusive=True)\n"
        "print('open', flush=True); time.sleep(60)\n"
    )
    other = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    try:
        assert other.stdout is not None
        assert other.stdout.readline() == b"open\n"
        with pytest.raises(PublishError, match=rf"is used by .* \(process {other.pid}\): stop it: kill {other.pid}"):
            serial_port.open_port(pty.path, 115200)
    finally:
        other.kill()
        other.wait(DEADLINE_S)
        other.stdout.close()


def test_the_lock_holds_within_one_process_too(pty):
    publisher = publisher_on(pty.path)
    second = publisher_on(pty.path)
    assert "is used by another program" in second.failure
    second.close()
    publisher.close()


@pytest.mark.parametrize(
    ("name", "user", "cure"),
    [
        ("ttyTHS1", (812, "agetty"), "sudo systemctl disable --now nvgetty"),
        ("ttyTHS1", None, "sudo systemctl disable --now nvgetty"),
        ("ttyS0", (5, "agetty"), "sudo systemctl disable --now serial-getty@ttyS0"),
        ("ttyACM0", (7, "ModemManager"), "sudo systemctl disable --now ModemManager"),
        ("ttyACM0", (7, "minicom"), "kill 7"),
        ("ttyACM0", None, "sudo fuser -v /dev/ttyACM0"),
    ],
)
def test_a_busy_port_has_a_cure_for_each_user(name, user, cure):
    error = serial_port._busy(f"/dev/{name}", user)
    assert cure in error.cure
    assert f"/dev/{name} is used by" in error.cause


def test_a_console_on_the_port_is_refused_though_it_takes_no_lock(pty, monkeypatch):
    monkeypatch.setattr(serial_port, "_users", lambda path: [(3, "cat"), (812, "agetty")])
    with pytest.raises(PublishError, match="agetty"):
        serial_port.open_port(pty.path, 115200)


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("serial://", "names no device"),
        ("serial://ttyUSB0", "names no device"),
        ("serial:///dev/ttyUSB0?baud=fast", "baud"),
        ("serial:///dev/ttyUSB0?baud=0", "baud"),
        ("serial:///dev/ttyUSB0?bauds=9600", "bauds"),
        ("serial:///dev/ttyUSB0?control=on", "control=view"),
        ("serial:///dev/ttyUSB0?format=cbor", "cbor"),
        ("serial:///dev/ttyUSB0?max_bytes=3", "max_bytes"),
    ],
)
def test_wrong_uris_are_errors_at_once(uri, says):
    for use in (SerialPublisher.check, SerialPublisher):
        with pytest.raises(ConfigError, match=says):
            use(parse_uri(uri))


def test_what_is_no_serial_port_is_an_error_at_once(tmp_path: Path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path, tmp_path / "file"):
        with pytest.raises(ConfigError, match="is not a serial port"):
            publisher_on(str(path))


def test_a_baud_rate_the_driver_does_not_have_is_an_error_at_once(pty, monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise ValueError("Failed to set custom baud rate (1234567)")

    monkeypatch.setattr(serial_port.serial, "Serial", refuse)
    with pytest.raises(ConfigError, match="does not do 1234567 baud"):
        publisher_on(pty.path, "baud=1234567")


def test_a_device_without_a_line_is_explained():
    publisher = publisher_on("/dev/null")
    assert "no working port behind it" in publisher.failure
    publisher.close()


def test_without_pyserial_the_install_line_is_given(monkeypatch):
    monkeypatch.setitem(sys.modules, "serial", None)
    for name in ("edge.publishers.serial", "edge.publishers.serial_port"):
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(MissingBackendError, match=r"pip install 'harrier-edge\[serial\]'"):
        resolve("publishers", "serial")
