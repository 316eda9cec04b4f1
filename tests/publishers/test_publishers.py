"""Publishers with real readers: slow, gone, many; and what they say when they cannot start."""

import json
import os
import socket
import struct
import subprocess
import sys
import threading
import time

import pytest

from edge.clock import monotonic_ns
from edge.errors import ConfigError, PublishError
from edge.publishers.stream import FilePublisher
from edge.publishers.tcp import TcpPublisher
from edge.publishers.udp import UdpPublisher
from edge.testing import check_publisher
from edge.uri import parse_uri

DEADLINE_S = 10.0


def wait_for(condition, what: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"waited {DEADLINE_S} s for {what}"
        time.sleep(0.005)


def connect(publisher: TcpPublisher) -> socket.socket:
    before = publisher.client_count
    sock = socket.create_connection(parse_uri(publisher.address).host_port(), timeout=DEADLINE_S)
    wait_for(lambda: publisher.client_count > before, "the connection")
    return sock


@pytest.mark.parametrize(
    "make",
    [
        lambda folder: FilePublisher(parse_uri(f"file://{folder}/out.jsonl")),
        lambda folder: TcpPublisher(parse_uri("tcp://127.0.0.1:0")),
        lambda folder: UdpPublisher(parse_uri("udp://127.0.0.1:9")),
    ],
    ids=["file", "tcp", "udp"],
)
def test_each_publisher_keeps_the_contract(make, tmp_path):
    check_publisher(make(tmp_path))


def test_tcp_brings_whole_messages_to_every_client():
    publisher = TcpPublisher(parse_uri("tcp://127.0.0.1:0"))
    readers = [connect(publisher) for _ in range(3)]
    for i in range(5):
        publisher.send(b"message %d\n" % i)
        wait_for(lambda i=i: publisher.sent == 3 * (i + 1), "the message to be sent")
    publisher.close()
    for reader in readers:
        with reader, reader.makefile("rb") as lines:
            assert lines.read().split(b"\n")[:-1] == [b"message %d" % i for i in range(5)]


def test_tcp_gives_a_slow_reader_the_newest_message_and_others_everything():
    publisher = TcpPublisher(parse_uri("tcp://127.0.0.1:0"))
    slow, quick = connect(publisher), connect(publisher)
    received: list[bytes] = []
    reading = threading.Thread(target=lambda: received.extend(quick.makefile("rb")), daemon=True)
    reading.start()
    padding = b"x" * 60_000  # fills the slow reader's kernel buffers soon
    for i in range(200):
        publisher.send(b"%d %s\n" % (i, padding))
        wait_for(lambda i=i: len(received) > i, "the quick reader")
    assert publisher.dropped > 0
    publisher.close(drain_s=0.1)
    reading.join(DEADLINE_S)
    assert [int(line.split()[0]) for line in received] == list(range(200))
    with slow.makefile("rb") as lines:
        numbers = [int(line.split()[0]) for line in lines if line.endswith(b"\n")]
    assert numbers == sorted(set(numbers))
    assert len(numbers) < 200


def test_tcp_survives_readers_that_vanish():
    publisher = TcpPublisher(parse_uri("tcp://127.0.0.1:0"))
    address = parse_uri(publisher.address).host_port()
    for _ in range(5):
        socket.create_connection(address, timeout=DEADLINE_S).close()
    with socket.create_connection(address, timeout=DEADLINE_S) as stayer:
        # the server accepts in order, so once it knows the stayer the others have been there
        wait_for(lambda: publisher.client_count == 1 and not send_and_wait(publisher, stayer), "the stayer alone")
        assert publisher.client_count == 1
    wait_for(lambda: publisher.client_count == 0, "the stayer to be forgotten")
    publisher.close()


def send_and_wait(publisher: TcpPublisher, reader: socket.socket) -> bool:
    """Send a line and wait for it; whether it did not come."""
    publisher.send(b"still here\n")
    reader.settimeout(0.5)
    try:
        return reader.recv(100) != b"still here\n"
    except TimeoutError:
        return True


def test_tcp_close_delivers_the_last_message():
    publisher = TcpPublisher(parse_uri("tcp://127.0.0.1:0"))
    reader = connect(publisher)
    publisher.send(b"goodbye\n")
    publisher.close()
    assert reader.makefile("rb").read() == b"goodbye\n"


def test_a_port_in_use_is_explained():
    first = TcpPublisher(parse_uri("tcp://127.0.0.1:0"))
    with pytest.raises(PublishError, match="is in use: stop the other program"):
        TcpPublisher(parse_uri(first.address))
    first.close()


def test_udp_sends_one_datagram_per_message_and_counts_what_is_too_large():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(DEADLINE_S)
        publisher = UdpPublisher(parse_uri(f"udp://127.0.0.1:{receiver.getsockname()[1]}"))
        publisher.send(b"one\n")
        publisher.send(b"x" * 70_000)
        publisher.send(b"two\n")
        assert [receiver.recv(100) for _ in range(2)] == [b"one\n", b"two\n"]
        assert (publisher.sent, publisher.dropped) == (2, 1)
        publisher.close()


def test_file_keeps_every_message_and_appends(tmp_path):
    for start in (0, 500):
        publisher = FilePublisher(parse_uri(f"file://{tmp_path}/out.jsonl"))
        for i in range(start, start + 500):
            publisher.send(b'{"n": %d}\n' % i)
        publisher.close(DEADLINE_S)
        assert publisher.dropped == 0
    lines = (tmp_path / "out.jsonl").read_bytes().splitlines()
    assert [json.loads(line)["n"] for line in lines] == list(range(1000))


def test_file_that_cannot_be_written_is_explained(tmp_path):
    with pytest.raises(PublishError, match="cannot write .*there is no folder .*mkdir"):
        FilePublisher(parse_uri(f"file://{tmp_path}/nowhere/out.jsonl"))


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
def test_a_full_disk_is_a_failure_that_is_told_and_counted():
    publisher = FilePublisher(parse_uri("file:///dev/full"))
    publisher.send(b"x" * 100_000)
    wait_for(lambda: publisher.failure, "the failure")
    publisher.send(b"more\n")
    wait_for(lambda: publisher.dropped == 2, "the count")
    assert "No space left" in publisher.failure
    publisher.close()


def test_stdout_never_blocks_when_the_reader_stops_reading():
    script = (
        "import time\n"
        "from edge.publishers.stream import StdoutPublisher\n"
        "from edge.uri import parse_uri\n"
        "import sys\n"
        "publisher = StdoutPublisher(parse_uri('stdout://'))\n"
        "start = time.monotonic()\n"
        "for _ in range(3000): publisher.send(b'x' * 1000)\n"
        "sys.stderr.write(f'{time.monotonic() - start} {publisher.dropped}')\n"
        "sys.stderr.flush()\n"
        "import os; os._exit(0)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    took, dropped = child.stderr.read().split()
    child.stdout.close()
    child.wait(DEADLINE_S)
    child.stderr.close()
    assert float(took) < 1.0
    assert int(dropped) > 0


@pytest.mark.parametrize(
    ("make", "uri", "error"),
    [
        (TcpPublisher, "tcp://127.0.0.1", ConfigError),
        (TcpPublisher, "tcp://127.0.0.1:99999", ConfigError),
        (TcpPublisher, "tcp://127.0.0.1:0?fromat=json", ConfigError),
        (UdpPublisher, "udp://:7788", ConfigError),
        (TcpPublisher, "tcp://no.such.host.invalid:7788", PublishError),
        (UdpPublisher, "udp://no.such.host.invalid:7788", PublishError),
    ],
)
def test_wrong_addresses_are_explained(make, uri, error):
    with pytest.raises(error) as caught:
        make(parse_uri(uri))
    assert "\n" not in str(caught.value)


def test_sending_costs_the_loop_little_with_a_stalled_reader():
    publisher = TcpPublisher(parse_uri("tcp://127.0.0.1:0"))
    stalled = connect(publisher)
    before = monotonic_ns()
    for _ in range(1000):
        publisher.send(b"x" * 2000)
    assert (monotonic_ns() - before) / 1e9 < 1.0
    publisher.close(drain_s=0.1)
    stalled.close()


def test_tcp_goes_on_when_clients_reset_while_they_are_served():
    publisher = TcpPublisher(parse_uri("tcp://127.0.0.1:0"))
    address = parse_uri(publisher.address).host_port()
    stayer = socket.create_connection(address, timeout=DEADLINE_S)
    for _ in range(50):
        rude = [socket.create_connection(address, timeout=DEADLINE_S) for _ in range(4)]
        for sock in rude:  # close() sends a reset
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        publisher.send(b"x" * 5000 + b"\n")
        for sock in rude:
            sock.close()
        publisher.send(b"y\n")
    publisher.send(b"last\n", keep=True)
    with stayer.makefile("rb") as lines:
        assert b"last\n" in lines
    assert publisher.failure == ""
    publisher.close()


def test_tcp_tells_whoever_connects_the_state():
    publisher = TcpPublisher(parse_uri("tcp://127.0.0.1:0"))
    publisher.send(b"connecting\n", keep=True)
    publisher.send(b"lost\n", keep=True)
    with socket.create_connection(parse_uri(publisher.address).host_port(), timeout=DEADLINE_S) as late:
        assert late.makefile("rb").readline() == b"lost\n"
    publisher.close()


def test_tcp_loses_no_status_when_messages_come_at_once():
    publisher = TcpPublisher(parse_uri("tcp://127.0.0.1:0"))
    reader = connect(publisher)
    for i in range(20):
        publisher.send(b"result %d\n" % i)
        publisher.send(b"status %d\n" % i, keep=True)
    publisher.close()
    with reader, reader.makefile("rb") as lines:
        statuses = [line for line in lines if line.startswith(b"status")]
    assert statuses == [b"status %d\n" % i for i in range(20)]


def test_a_full_disk_that_has_room_again_is_written_again(tmp_path):
    class Disk:
        """Takes half a line, then is full, then has room again."""

        def __init__(self) -> None:
            self.written = b""
            self.full = False

        def write(self, data: memoryview) -> int:
            if self.full:
                raise OSError(28, "No space left on device")
            if data.tobytes().startswith(b"second"):
                self.full = True
                self.written += data[:3].tobytes()
                return 3
            self.written += data.tobytes()
            return len(data)

        def flush(self) -> None: ...
        def close(self) -> None: ...

    publisher = FilePublisher(parse_uri(f"file://{tmp_path}/x.jsonl"))
    publisher._stream.close()
    disk = publisher._stream = Disk()
    for line in (b"first\n", b"second\n"):
        publisher.send(line)
    wait_for(lambda: publisher.failure, "the failure")
    disk.full = False
    publisher.send(b"third\n")
    wait_for(lambda: not publisher.failure, "the recovery")
    publisher.close()
    assert disk.written == b"first\nsec\nthird\n"
    assert (publisher.sent, publisher.dropped) == (2, 1)


def test_a_named_pipe_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(PublishError, match="named pipe"):
        FilePublisher(parse_uri(f"file://{tmp_path}/pipe"))
