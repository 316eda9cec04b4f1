"""Publishers with real readers: slow, gone, many; and what they say when they cannot start."""

import json
import os
import subprocess
import sys

import pytest
from stream_readers import DEADLINE_S, result, status, wait_for

from edge.errors import ConfigError, PublishError
from edge.publishers.stream import FilePublisher
from edge.publishers.tcp import TcpPublisher
from edge.publishers.udp import UdpPublisher
from edge.publishers.unix import UnixPublisher
from edge.testing import check_publisher
from edge.uri import parse_uri
from edge.wire.decoder import decode
from edge.wire.framing import StreamDeframer
from edge.wire.messages import HeartbeatMessage, HelloMessage, LabelsMessage
from edge.wire.names import Names


@pytest.mark.parametrize(
    "make",
    [
        lambda folder: FilePublisher(parse_uri(f"file://{folder}/out.jsonl")),
        lambda folder: TcpPublisher(parse_uri("tcp://127.0.0.1:0")),
        lambda folder: UnixPublisher(parse_uri(f"unix://{folder}/x.sock")),
        lambda folder: UdpPublisher(parse_uri("udp://127.0.0.1:9")),
    ],
    ids=["file", "tcp", "unix", "udp"],
)
def test_each_publisher_keeps_the_contract(make, tmp_path):
    check_publisher(make(tmp_path))


def test_file_keeps_every_message_and_appends(tmp_path):
    for start in (0, 500):
        publisher = FilePublisher(parse_uri(f"file://{tmp_path}/out.jsonl"))
        for i in range(start, start + 500):
            publisher.send(result(i))
        publisher.close(DEADLINE_S)
        assert publisher.dropped == 0
    lines = (tmp_path / "out.jsonl").read_bytes().splitlines()
    assert [json.loads(line).get("seq", 0) for line in lines] == list(range(1000))


GREETING = [HelloMessage(source="test", model="m"), LabelsMessage(model_id=0, first=0, total=1, labels=["face"])]


def test_lines_say_their_names_themselves_and_binary_files_say_them_first(tmp_path):
    beat = HeartbeatMessage(source="test", t_publish_ns=0, uptime_ms=0, period_ms=250, state="streaming")
    for name in ("json", "binary"):
        publisher = FilePublisher(parse_uri(f"file://{tmp_path}/{name}?format={name}"))
        for message in (*GREETING, status(1), beat, result(2)):
            publisher.send(message)
        publisher.close(DEADLINE_S)
    kinds = [json.loads(line)["kind"] for line in (tmp_path / "json").read_bytes().splitlines()]
    assert kinds == ["status", "detections"]
    names = Names()
    payloads = StreamDeframer().feed((tmp_path / "binary").read_bytes())
    messages = [decode(payload, names) for payload in payloads]
    assert [message.kind for message in messages] == ["hello", "labels", "status", "detections"]
    assert messages[-1].source == "test"


def test_a_message_too_large_for_its_format_does_not_stop_a_file(tmp_path):
    publisher = FilePublisher(parse_uri(f"file://{tmp_path}/x?format=binary"))
    publisher.send(LabelsMessage(model_id=0, first=0, total=99, labels=["x" * 200] * 99))
    wait_for(lambda: publisher.failure, "the failure")
    publisher.send(result(1))
    wait_for(lambda: not publisher.failure, "the recovery")
    publisher.close(DEADLINE_S)
    assert (publisher.sent, publisher.dropped) == (1, 1)


def test_a_defect_is_told_and_does_not_stop_the_loop(tmp_path):
    publisher = FilePublisher(parse_uri(f"file://{tmp_path}/x"))
    publisher.encode = lambda message: 1 // 0
    publisher.send(result(1))
    wait_for(lambda: publisher.failure, "the failure")
    assert "report this as a defect" in publisher.failure
    for i in range(2000):
        publisher.send(result(i))
    publisher.close(0.1)


def test_file_that_cannot_be_written_is_explained(tmp_path):
    with pytest.raises(PublishError, match="cannot write .*there is no folder .*mkdir"):
        FilePublisher(parse_uri(f"file://{tmp_path}/nowhere/out.jsonl"))


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
def test_a_full_disk_is_a_failure_that_is_told_and_counted():
    publisher = FilePublisher(parse_uri("file:///dev/full"))
    publisher.send(result(1, "x" * 100_000))
    wait_for(lambda: publisher.failure, "the failure")
    publisher.send(result(2))
    wait_for(lambda: publisher.dropped == 2, "the count")
    assert "No space left" in publisher.failure
    publisher.close()


def test_stdout_never_blocks_when_the_reader_stops_reading():
    script = (
        "import os, sys, time\n"
        "from edge.publishers.stream import StdoutPublisher\n"
        "from edge.uri import parse_uri\n"
        "from stream_readers import result\n"
        "publisher = StdoutPublisher(parse_uri('stdout://'))\n"
        "start = time.monotonic()\n"
        "for i in range(3000): publisher.send(result(i, 'x' * 1000))\n"
        "sys.stderr.write(f'{time.monotonic() - start} {publisher.dropped}')\n"
        "sys.stderr.flush()\n"
        "os._exit(0)\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.path.dirname(__file__)},
    )
    took, dropped = child.stderr.read().split()
    child.stdout.close()
    child.wait(DEADLINE_S)
    child.stderr.close()
    assert float(took) < 5.0
    assert int(dropped) > 0


@pytest.mark.parametrize(
    ("make", "uri", "error"),
    [
        (TcpPublisher, "tcp://127.0.0.1", ConfigError),
        (TcpPublisher, "tcp://127.0.0.1:99999", ConfigError),
        (TcpPublisher, "tcp://127.0.0.1:0?fromat=json", ConfigError),
        (UdpPublisher, "udp://:7788", ConfigError),
        (TcpPublisher, "tcp://no.such.host.invalid:7788?insecure=true", PublishError),
        (UdpPublisher, "udp://no.such.host.invalid:7788", PublishError),
    ],
)
def test_wrong_addresses_are_explained(make, uri, error):
    with pytest.raises(error) as caught:
        make(parse_uri(uri))
    assert "\n" not in str(caught.value)


def test_a_full_disk_that_has_room_again_is_written_again(tmp_path):
    class Disk:
        """Takes half of the second line, then is full, then has room again."""

        def __init__(self) -> None:
            self.written = b""
            self.full = False

        def write(self, data: memoryview) -> int:
            if self.full:
                raise OSError(28, "No space left on device")
            if b'"seq":2' in data.tobytes():
                self.full = True
                self.written += data[:20].tobytes()
                return 20
            self.written += data.tobytes()
            return len(data)

        def flush(self) -> None: ...
        def close(self) -> None: ...

    publisher = FilePublisher(parse_uri(f"file://{tmp_path}/x.jsonl"))
    publisher._stream.close()
    disk = publisher._stream = Disk()
    for seq in (1, 2):
        publisher.send(status(seq))
    wait_for(lambda: publisher.failure, "the failure")
    disk.full = False
    publisher.send(status(3))
    wait_for(lambda: not publisher.failure, "the recovery")
    publisher.close()
    first, torn, third = disk.written.splitlines()
    assert [json.loads(line)["seq"] for line in (first, third)] == [1, 3]
    assert len(torn) == 20
    assert (publisher.sent, publisher.dropped) == (2, 1)


@pytest.mark.parametrize(
    ("there", "left"), [(b"", 0), (b'{"whole":1}\n', 1), (b'{"whole":1}\n{"cut', 2), (b'{"cut', 1)]
)
def test_a_line_that_a_power_cut_left_costs_no_other(tmp_path, there, left):
    path = tmp_path / "x.jsonl"
    path.write_bytes(there)
    publisher = FilePublisher(parse_uri(f"file://{path}"))
    publisher.send(status(1))
    publisher.send(status(2))
    publisher.close()
    lines = path.read_bytes().splitlines()
    assert len(lines) == left + 2
    assert [json.loads(line)["seq"] for line in lines[left:]] == [1, 2]
    assert path.read_bytes().startswith(there)


def test_a_named_pipe_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(PublishError, match="named pipe"):
        FilePublisher(parse_uri(f"file://{tmp_path}/pipe"))
