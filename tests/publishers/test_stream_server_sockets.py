"""tcp:// and unix:// with real sockets: slow, stalled, rude and many readers."""

import contextlib
import os
import resource
import socket
import stat
import struct
import subprocess
import sys
import threading
import time

import pytest
from stream_readers import DEADLINE_S, Reader, on_stream, result, status, wait_for

from edge.clock import monotonic_ns
from edge.errors import ConfigError, PublishError
from edge.publishers.access import ListenOptions
from edge.publishers.session import Channel
from edge.publishers.stream_client import StreamClient
from edge.publishers.tcp import TcpPublisher
from edge.publishers.unix import UnixPublisher
from edge.uri import parse_uri
from edge.wire import jsonl
from edge.wire.messages import ClockMessage, ControlMessage, CreditMessage, HelloMessage

LONG = "x" * 60_000  # fills the kernel's buffers soon
GARBAGE = [b"GET / HTTP/1.1\r\n\r\n", b"\x00", b"\xc8", os.urandom(3000), b"{" * 3000 + b"\n", b"\xc8" * 3000]
GARBAGE += [b'{"kind":"hello","more":' + b"[" * 3000 + b"\n"]  # deeper than the interpreter goes


@pytest.fixture
def serve(tmp_path):
    """Start publishers by the options in their URI; all are closed at the end, and none may have failed."""
    started = []

    def start(options: str = "", kind: str = "tcp"):
        if kind == "tcp":
            publisher = TcpPublisher(parse_uri(f"tcp://127.0.0.1:0{options}"))
        else:
            publisher = UnixPublisher(parse_uri(f"unix://{tmp_path}/{len(started)}.sock{options}"))
        started.append(publisher)
        return publisher

    yield start
    for publisher in started:
        publisher.close(0.1)
    assert [publisher.failure for publisher in started] == [""] * len(started)


def read_by(publisher, count: int, binary: bool = True) -> list[Reader]:
    readers = [Reader(publisher, binary) for _ in range(count)]
    wait_for(lambda: publisher.client_count == count, "the connections")
    return readers


@pytest.mark.parametrize("kind", ["tcp", "unix"])
@pytest.mark.parametrize("binary", [True, False])
def test_every_reader_gets_whole_messages(serve, kind, binary):
    publisher = serve("" if binary else "?format=json", kind)
    readers = read_by(publisher, 3, binary)
    for i in range(5):
        publisher.send(result(i))
        wait_for(lambda i=i: publisher.sent == 3 * (i + 1), "the message to be sent")
    publisher.close()
    for reader in readers:
        with reader:
            assert [message.seq for message in reader.rest()] == list(range(5))


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_one_stalled_reader_of_three_costs_the_others_nothing(serve, kind):
    publisher = serve("?format=json", kind)
    stalled, *quick = read_by(publisher, 3, binary=False)
    for i in range(200):
        publisher.send(result(i, LONG))
        for reader in quick:
            assert reader.next().seq == i  # every single one, though the stalled one takes nothing
    by_drops = sorted(client.dropped for client in publisher.clients)
    assert by_drops[:2] == [0, 0]
    assert by_drops[2] > 100
    wait_for(lambda: publisher.dropped == by_drops[2], "the total")
    publisher.send(status(0))
    publisher.send(result(200))
    seen = [(message.kind, message.seq) for message in stalled.until("detections", 200)]
    numbers = [seq for kind, seq in seen if kind == "detections"]
    assert numbers == sorted(set(numbers))
    assert len(numbers) + by_drops[2] <= 201
    assert ("status", 0) in seen


def test_a_stalled_reader_gets_the_newest_first_when_it_wakes_up(serve):
    publisher = serve("?format=json")
    (reader,) = read_by(publisher, 1, binary=False)
    for i in range(2000):
        publisher.send(result(i, LONG))
        if i % 100 == 0:
            time.sleep(0.001)
    wait_for(lambda: publisher.dropped > 0 and not publisher._handover, "the slot to be full")
    seqs = [message.seq for message in reader.until("detections", 1999)]
    assert len(seqs) < 500  # no backlog of 2000: what the kernel held, then the newest
    assert seqs[-2] < 1999


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_the_kernel_keeps_no_backlog_of_small_messages(serve, kind):
    publisher = serve(kind=kind)
    with Reader(publisher, receive_buffer_bytes=2048) as reader:
        wait_for(lambda: publisher.client_count == 1, "the connection")
        for i in range(3000):
            publisher.send(result(i))
            if i % 20 == 0:
                wait_for(lambda: not publisher._handover.awake, "the slot to be filled")
        seqs = [message.seq for message in reader.until("detections", 2999)]
    assert seqs == sorted(set(seqs))
    assert len(seqs) < 300  # 2,304 bytes at the reader's end, and what the kernel adds to that


def test_a_connection_whose_network_is_dead_ends(serve):
    publisher = serve()
    with Reader(publisher):
        wait_for(lambda: publisher.client_count == 1, "the connection")
        (sock,) = publisher._clients
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 120_000


def test_credits_keep_a_slow_reader_fresh(serve):
    """A reader that asks after pauses gets the last result there was when it asked, never one that waited."""
    publisher = serve()
    (reader,) = read_by(publisher, 1)
    reader.say(CreditMessage(results=0))
    wait_for(lambda: next(iter(publisher._channel.sessions.values())).credits == 0, "the first credit")
    for turn in range(20):
        for i in range(6):  # 30 results a second for a reader that takes 5
            publisher.send(result(10 * turn + i))
        wait_for(lambda: not publisher._handover and not publisher._handover.awake, "the slot to be filled")
        reader.say(CreditMessage(results=1))
        assert reader.next().seq == 10 * turn + 5
    (client,) = publisher.clients
    assert (client.sent, client.dropped) == (20, 20 * 5)
    wait_for(lambda: (publisher.sent, publisher.dropped) == (20, 20 * 5), "the totals")


def test_requests_are_answered_while_results_flow(serve):
    publisher = serve("?control=view")
    (reader,) = read_by(publisher, 1)
    before = time.time_ns()
    reader.say(ClockMessage(reply=False, t_request_ns=123))
    answer = reader.next()
    assert isinstance(answer, ClockMessage)
    assert (answer.reply, answer.t_request_ns) == (True, 123)
    assert before <= answer.t_receive_ns <= answer.t_reply_ns <= time.time_ns() + 1_000_000
    reader.say(ControlMessage(kinds=("status",)), ClockMessage(reply=False, t_request_ns=124), binary=True)
    assert reader.next().t_request_ns == 124  # the CONTROL before it has been obeyed
    publisher.send(result(1))
    publisher.send(status(2))
    assert (reader.next().kind, publisher.command) == ("status", "")


def test_a_rate_is_kept_by_a_timer_when_nothing_else_happens(serve):
    publisher = serve("?control=view")
    (reader,) = read_by(publisher, 1)
    reader.say(ControlMessage(max_rate_hz=5.0), ClockMessage(reply=False, t_request_ns=1))
    assert reader.next().kind == "clock"
    time.sleep(0.05)  # until the server waits for nothing in particular
    publisher.send(result(1))
    assert reader.next().seq == 1
    publisher.send(result(2))
    publisher.send(result(3))
    assert reader.next().seq == 3  # nobody sends any more: the server wakes up by itself


def test_json_from_the_reader_is_understood_by_a_binary_publisher(serve):
    publisher = serve("?token=sesame&control=all")
    with Reader(publisher) as reader:
        reader.say(HelloMessage(token="sesame"), ControlMessage(command="stop"), binary=False)
        wait_for(lambda: publisher.command == "stop", "the command")
        publisher.send(result(1))
        assert reader.next().seq == 1


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_a_token_opens_and_nothing_else_does(serve, kind, caplog, monkeypatch):
    monkeypatch.setattr("edge.publishers.session._TOKEN_WITHIN_NS", 500_000_000)
    publisher = serve("?token=s3same", kind)
    publisher.send(status(1))
    with Reader(publisher) as right, Reader(publisher) as wrong, Reader(publisher) as silent:
        wrong.say(HelloMessage(token="guess"))
        assert wrong.rest() == []
        right.say(HelloMessage(token="s3same"))
        assert right.next().kind == "status"
        assert silent.rest() == []
        publisher.send(result(2))
        assert right.next().seq == 2
    assert "s3same" not in caplog.text
    assert "s3same" not in publisher.address


def test_a_late_token_is_too_late(serve):
    publisher = serve("?token=sesame")
    with Reader(publisher) as late:
        wait_for(lambda: publisher.client_count == 1, "the connection")
        wait_for(lambda: publisher.client_count == 0, "the end of patience")
        with contextlib.suppress(ConnectionError):  # which may come now or with what is read next
            late.say(HelloMessage(token="sesame"))
        publisher.send(status(1))
        assert late.rest() == []


def test_a_person_at_a_terminal_may_press_enter(serve):
    publisher = serve("?format=json")
    with Reader(publisher, binary=False) as reader:
        reader.sock.sendall(b"\r\n  \r\n" + jsonl.encode(ClockMessage(reply=False, t_request_ns=3))[:-1] + b" \r\n")
        assert reader.next().t_request_ns == 3


@pytest.mark.parametrize(
    "garbage", GARBAGE, ids=["http", "zero", "half a prefix", "random", "braces", "sync bytes", "deep"]
)
def test_garbage_is_hung_up_on_and_disturbs_nobody(serve, garbage):
    publisher = serve()
    good = Reader(publisher)
    with good, Reader(publisher) as bad:
        wait_for(lambda: publisher.client_count == 2, "the connections")
        bad.sock.sendall(garbage)
        if garbage != b"\xc8":  # one byte of a prefix may still become a message
            wait_for(lambda: publisher.client_count == 1, "the other to be hung up on")
        publisher.send(result(1))
        assert good.next().seq == 1


@pytest.mark.parametrize(
    "flood", [b"{" + b" " * 100_000, b"\xc8\x00\x20" + bytes([0xC8 ^ 0x20 ^ 0xFF]) + b"x" * 20_000]
)
def test_a_message_without_end_is_hung_up_on(serve, flood):
    publisher = serve()
    with Reader(publisher) as reader:
        wait_for(lambda: publisher.client_count == 1, "the connection")
        with contextlib.suppress(ConnectionError):  # hung up before all of it was sent
            reader.sock.sendall(flood)
        wait_for(lambda: publisher.client_count == 0, "it to be hung up on")


@pytest.mark.parametrize("block", [on_stream(ClockMessage(reply=False, t_request_ns=1)) * 50, b"\n"])
def test_a_flood_of_requests_is_hung_up_on_while_others_are_served(serve, block, caplog):
    publisher = serve("?max_messages_hz=100")
    with Reader(publisher) as good, Reader(publisher) as flood:
        wait_for(lambda: publisher.client_count == 2, "the connections")
        flood.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.suppress(ConnectionError):
            while publisher.client_count == 2:
                flood.sock.sendall(block)
                time.sleep(0.0005)
        wait_for(lambda: publisher.client_count == 1, "it to be hung up on")
        publisher.send(result(1))
        assert good.next().seq == 1
    assert "it sent more than 100 messages a second" in caplog.text


def test_many_bad_readers_do_not_fill_the_log(serve, caplog):
    publisher = serve()
    for _ in range(20):
        with Reader(publisher) as bad:
            bad.sock.sendall(b"\x00")
            assert bad.rest() == []
    assert 1 <= caplog.text.count("hung up on") <= 5  # one a second


def test_hanging_up_takes_in_only_so_much_of_what_a_reader_goes_on_sending():
    """Else one that never stops would keep the thread that serves all others."""

    class Endless:
        family, taken, closed = socket.AF_UNIX, 0, False

        def recv(self, size: int, flags: int) -> bytes:
            self.taken += 1
            assert self.taken < 1000
            return b"x" * size

        def send(self, data: bytes) -> int:
            return len(data)

        def shutdown(self, how: int) -> None:
            pass

        def close(self) -> None:
            self.closed = True

    sock = Endless()
    StreamClient(sock, "rude", Channel(ListenOptions(), jsonl.encode)).close()
    assert sock.closed


def test_readers_that_reset_while_they_are_served_disturb_nobody(serve):
    publisher = serve("?format=json")
    stayer = Reader(publisher, binary=False)
    for i in range(50):
        rude = [Reader(publisher, binary=False) for _ in range(4)]
        publisher.send(result(i, LONG))
        for reader in rude:  # close() sends a reset
            reader.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            reader.sock.close()
        publisher.send(result(1000 + i))
    publisher.send(status(7))
    assert stayer.until("status", 7)
    wait_for(lambda: publisher.client_count == 1, "the others to be forgotten")


def test_a_reader_that_closes_its_half_is_gone(serve):
    publisher = serve()
    with Reader(publisher) as reader:
        wait_for(lambda: publisher.client_count == 1, "the connection")
        reader.sock.shutdown(socket.SHUT_WR)
        wait_for(lambda: publisher.client_count == 0, "it to be forgotten")


def test_what_is_pending_is_delivered_at_close_even_to_a_reader_that_talks(serve):
    publisher = serve()
    readers = read_by(publisher, 2)
    readers[1].say(*[CreditMessage(results=1)] * 20)
    publisher.send(status(9, "closed"))
    publisher.close()
    for reader in readers:
        with reader:
            assert [message.seq for message in reader.rest()] == [9]


def test_close_does_not_wait_for_readers_that_may_have_nothing(serve):
    publisher = serve("?token=sesame")
    with Reader(publisher):
        wait_for(lambda: publisher.client_count == 1, "the connection")
        publisher.send(status(1))
        start = monotonic_ns()
        publisher.close(drain_s=DEADLINE_S)
        assert (monotonic_ns() - start) / 1e9 < 1.9  # before its patience with the reader ends


def test_changes_of_state_come_in_order_whatever_else_is_said(serve):
    publisher = serve()
    (reader,) = read_by(publisher, 1)
    for i in range(40):
        publisher.send(result(i))
        publisher.send(status(i))
    publisher.close()
    assert [message.seq for message in reader.rest() if message.kind == "status"] == list(range(40))


def test_sending_costs_the_loop_little_with_a_stalled_reader(serve):
    publisher = serve("?format=json")
    with Reader(publisher, binary=False, receive_buffer_bytes=2048):
        wait_for(lambda: publisher.client_count == 1, "the connection")
        before = monotonic_ns()
        for i in range(1000):
            publisher.send(result(i, "x" * 2000))
        assert (monotonic_ns() - before) / 1e9 < 1.0


def test_no_more_readers_than_allowed(serve):
    publisher = serve("?max_clients=2")
    first, second = read_by(publisher, 2)
    with Reader(publisher) as third:
        assert third.rest() == []
    first.sock.close()
    wait_for(lambda: publisher.client_count == 1, "the first to be forgotten")
    with Reader(publisher) as fourth:
        publisher.send(status(1))
        assert fourth.next().seq == second.next().seq == 1


def test_without_descriptors_left_those_who_are_there_are_served():
    publisher = TcpPublisher(parse_uri("tcp://127.0.0.1:0"))
    (here,) = read_by(publisher, 1)
    late = socket.socket()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        with here, late:
            # no number under the limit is free: what is open stays open, accept() has nothing to give
            resource.setrlimit(resource.RLIMIT_NOFILE, (1, hard))
            late.connect(parse_uri(publisher.address).host_port())
            wait_for(lambda: publisher.failure, "the failure")
            assert "ulimit -n" in publisher.failure
            for i in range(5):
                publisher.send(result(i))
                assert here.next().seq == i
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            wait_for(lambda: publisher.client_count == 2, "the late one")
            wait_for(lambda: not publisher.failure, "the recovery")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        publisher.close(0.1)


def test_the_same_port_can_be_taken_again_at_once():
    first = TcpPublisher(parse_uri("tcp://127.0.0.1:0"))
    with Reader(first) as reader:
        wait_for(lambda: first.client_count == 1, "the connection")
        with pytest.raises(PublishError, match="is in use: stop the other program"):
            TcpPublisher(parse_uri(first.address))
        first.close()
        second = TcpPublisher(parse_uri(first.address))
        assert reader.rest() == []
        with Reader(second) as again:
            second.send(status(1))
            assert again.next().seq == 1
        second.close()


def test_it_listens_on_ipv6():
    try:
        publisher = TcpPublisher(parse_uri("tcp://[::1]:0"))
    except PublishError as exc:
        pytest.skip(f"no IPv6 here: {exc}")
    with Reader(publisher) as reader:
        publisher.send(status(1))
        assert reader.next().seq == 1
        assert publisher.clients[0].address.startswith("[::1]:")
    publisher.close()


def test_the_socket_file_is_for_owner_and_group_and_goes_at_close(serve, tmp_path):
    publisher = serve(kind="unix")
    path = tmp_path / "0.sock"
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    with Reader(publisher):
        wait_for(lambda: publisher.client_count == 1, "the connection")
        assert publisher.clients[0].address == f"pid {os.getpid()}"
    publisher.close()
    publisher.close()
    assert not path.exists()


def test_a_socket_left_behind_is_replaced_and_a_live_one_is_not(tmp_path):
    uri = parse_uri(f"unix://{tmp_path}/x.sock")
    script = f"from edge.publishers.unix import *; from edge.uri import *; import os; \
        p = UnixPublisher(parse_uri({uri.text!r})); os._exit(9)"
    assert subprocess.run([sys.executable, "-c", script], timeout=60).returncode == 9
    assert (tmp_path / "x.sock").exists()
    publisher = UnixPublisher(uri)
    with pytest.raises(PublishError, match=r"x\.sock is in use"):
        UnixPublisher(uri)
    with Reader(publisher) as reader:
        publisher.send(status(1))
        assert reader.next().seq == 1
    publisher.close()


def test_a_socket_put_there_by_another_run_is_left_alone(tmp_path):
    uri = parse_uri(f"unix://{tmp_path}/x.sock")
    first = UnixPublisher(uri)
    (tmp_path / "x.sock").rename(tmp_path / "old.sock")
    second = UnixPublisher(uri)
    first.close()
    assert (tmp_path / "x.sock").exists()
    second.close()


def test_a_file_is_not_replaced_by_a_socket(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(PublishError, match="is no socket"):
        UnixPublisher(parse_uri(f"unix://{tmp_path}/notes.txt"))
    assert (tmp_path / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("path", "error", "words"),
    [
        ("", ConfigError, "names no socket"),
        ("/tmp/" + "x" * 200, ConfigError, "longer than"),
        ("/nowhere/at/all/x.sock", PublishError, "mkdir -p"),
        ("/tmp/x.sock?cert=a&key=b", ConfigError, "cert=a is not a file"),
    ],
)
def test_wrong_socket_names_are_explained(path, error, words):
    with pytest.raises(error, match=words):
        UnixPublisher.check(parse_uri(f"unix://{path}"))


def test_many_readers_that_come_and_go_leave_nothing_behind(serve):
    publisher = serve()
    before, files = threading.active_count(), len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        readers = read_by(publisher, 40)
        publisher.send(result(1))
        for reader in readers:
            reader.sock.close()
        wait_for(lambda: publisher.client_count == 0, "all to be gone")
    assert threading.active_count() == before
    wait_for(lambda: len(os.listdir("/proc/self/fd")) == files, "the descriptors")
    assert publisher.clients == []
    assert not publisher._timed


def test_a_json_line_is_one_line(serve):
    publisher = serve("?format=json")
    (reader,) = read_by(publisher, 1, binary=False)
    publisher.send(status(3))
    assert jsonl.decode(reader.sock.makefile("rb").readline()).seq == 3
