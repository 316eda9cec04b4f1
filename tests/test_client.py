"""The receiving side over real sockets: fresh results for the slow, every state, reconnecting, and plain errors."""

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import edge
from edge.client import line_of, listen, print_messages
from edge.clock import monotonic_ns
from edge.detections import Detections
from edge.errors import ConfigError, SourceOpenError, SourceTimeoutError, WireError
from edge.frame import FrameInfo
from edge.publishers.tcp import TcpPublisher
from edge.uri import parse_uri
from edge.wire.building import Stream, greeting, heartbeat_of, message_of, status_of
from edge.wire.jsonl import encode
from edge.wire.messages import DetectionsMessage

STREAM = Stream(source="cam", model="m", labels=("cat", "dog"))
DEADLINE_S = 20.0


def result(seq: int, source: str = "cam") -> DetectionsMessage:
    message = message_of(FrameInfo(seq, source, monotonic_ns(), 64, 48), Detections(1), STREAM)
    assert isinstance(message, DetectionsMessage)
    return message


def wait_until(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not true():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.005)


@pytest.fixture
def publisher() -> Iterator[TcpPublisher]:
    one = TcpPublisher(parse_uri("tcp://127.0.0.1:0"))
    yield one
    one.close(0)


def publish(publisher: TcpPublisher, count: int, interval_s: float) -> threading.Thread:
    def run() -> None:
        wait_until(lambda: publisher.client_count)
        for seq in range(count):
            publisher.send(result(seq))
            if seq % 20 == 0:
                publisher.send(status_of(STREAM, seq, "streaming", "", monotonic_ns(), "null"))
            time.sleep(interval_s)
        publisher.close()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def test_a_slow_reader_gets_fresh_results_and_every_status(publisher):
    thread = publish(publisher, 100, 0.01)
    seqs, statuses = [], []
    for message in listen(publisher.address):
        if message.kind == "status":
            statuses.append(message.seq)
            continue
        seqs.append(message.seq)
        time.sleep(0.1)
    thread.join()
    assert statuses == [0, 20, 40, 60, 80]
    assert seqs == sorted(set(seqs))
    assert seqs[-1] == 99
    assert len(seqs) < 60  # a backlog would have been a hundred, the last of them ten seconds old


def test_every_message_can_be_had(publisher):
    with edge.connect(publisher.address, every=True) as connection:
        wait_until(lambda: publisher.client_count)
        for seq in range(50):
            publisher.send(result(seq))
            wait_until(lambda: (newest := connection.latest(60_000)) and newest.seq == seq)  # noqa: B023
        assert [connection.read(DEADLINE_S).seq for _ in range(50)] == list(range(50))
        assert connection.dropped == 0


def test_errors_reach_the_reader():
    with pytest.raises(SourceTimeoutError, match="nobody answers"):
        next(listen("tcp://127.0.0.1:9", timeout_s=0.2))
    with pytest.raises(ConfigError, match=r"host 'a\.\.b' cannot be"):
        next(listen("tcp://a..b:9", timeout_s=0.2))
    with pytest.raises(ConfigError, match="cannot listen to 'http'"):
        listen("http://127.0.0.1:9")
    with pytest.raises(ConfigError, match=r"no kind 'hartbeat'.*'heartbeat'"):
        edge.connect("tcp://127.0.0.1:9", kinds=("hartbeat",))


@pytest.mark.parametrize(
    ("said", "error"),
    [(b"HTTP/1.1 400 Bad Request\r\n", "not a Harrier message"), (b"\x15\x03\x03\0\x02\x02\x46", r"tls=yes")],
)
def test_who_is_no_harrier_is_named(said, error):
    with socket.create_server(("127.0.0.1", 0)) as server:
        sender = threading.Thread(target=lambda: server.accept()[0].sendall(said))
        sender.start()
        with edge.connect(f"tcp://127.0.0.1:{server.getsockname()[1]}") as connection:
            with pytest.raises(WireError, match=error):
                connection.read(DEADLINE_S)
            assert connection.state == "failed"
        sender.join()


def test_a_damaged_line_is_counted_and_passed_over():
    lines = encode(result(3)) + b"{nonsense\n" + encode(result(4))
    with socket.create_server(("127.0.0.1", 0)) as server:
        accepted = []
        sender = threading.Thread(target=lambda: accepted.append(server.accept()[0]) or accepted[0].sendall(lines))
        sender.start()
        address = f"tcp://127.0.0.1:{server.getsockname()[1]}"
        with edge.connect(address, every=True) as connection:
            assert [connection.read(DEADLINE_S).seq for _ in range(2)] == [3, 4]
            assert connection.damaged == 1
        sender.join()
        accepted[0].close()


def test_a_silent_sender_is_told():
    with socket.create_server(("127.0.0.1", 0)) as server:
        messages = listen(f"tcp://127.0.0.1:{server.getsockname()[1]}", timeout_s=0.3)
        with pytest.raises(SourceTimeoutError, match=r"nothing came from tcp://.* for 0.3 s"):
            next(messages)


def test_a_connection_comes_up_with_the_publisher_and_again_after_it_was_gone():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with edge.connect(f"tcp://127.0.0.1:{port}") as connection:
        wait_until(lambda: "nobody answers" in connection.error)
        assert connection.state == "connecting"
        assert connection.latest() is None
        for seq in (1, 2):
            publisher = TcpPublisher(parse_uri(f"tcp://127.0.0.1:{port}"))
            wait_until(lambda: publisher.client_count)  # noqa: B023
            publisher.send(result(seq))
            assert connection.read(DEADLINE_S).seq == seq
            assert (connection.state, connection.error) == ("connected", "")
            publisher.close()
            wait_until(lambda: connection.state == "lost")
            assert "hung up" in connection.error


def test_the_newest_result_is_had_at_once_or_not_at_all(publisher):
    with edge.connect(publisher.address) as connection:
        assert connection.latest(1000) is None
        wait_until(lambda: publisher.client_count)
        publisher.send(result(5))
        wait_until(lambda: connection.latest(60_000))
        message = connection.latest(60_000)
        assert message.seq == 5
        assert connection.latest(60_000) is message  # looking does not take it
        wait_until(lambda: message.age_now_ms() > 30)
        assert connection.latest(30) is None
        assert connection.latest(60_000) is message
        wait_until(message.expired)
        assert connection.latest() is None  # past its time to live


def test_names_and_labels_are_learned(publisher):
    for message in greeting(STREAM, (64, 48)):
        publisher.send(message)
    with edge.connect(publisher.address, kinds=("hello", "labels")) as connection:
        assert [connection.read(DEADLINE_S).kind for _ in range(2)] == ["hello", "labels"]
        assert connection.labels == {0: "cat", 1: "dog"}
        assert (connection.hello.model, connection.hello.frame) == ("m", (64, 48))


def test_the_clocks_are_compared_and_the_age_says_how_well(publisher):
    with edge.connect(publisher.address, every=True) as connection:
        wait_until(lambda: publisher.client_count)
        deadline = time.monotonic() + DEADLINE_S
        message = None
        while message is None or message.clock_error_ms is None:
            assert time.monotonic() < deadline
            sent = result(1)
            publisher.send(sent)
            message = connection.read(DEADLINE_S)
        difference_ms = abs(message.t_capture_local_ns - sent.t_capture_local_ns) / 1e6
        assert difference_ms <= message.clock_error_ms + 0.05  # one clock, but time.time and monotonic are read apart


def test_a_connection_is_a_stream_for_asyncio(publisher):
    async def follow() -> list[int]:
        seqs: list[int] = []
        async with edge.connect(publisher.address) as connection:
            assert await connection.read_async(0.01) is None
            task = asyncio.create_task(asyncio.to_thread(wait_until, lambda: publisher.client_count))
            await task
            publisher.send(result(0))
            async for message in connection:
                seqs.append(message.seq)
                if len(seqs) == 3:
                    break
                publisher.send(result(len(seqs)))
        with pytest.raises(edge.EdgeError, match="the connection is closed"):
            await connection.read_async()
        return seqs

    assert asyncio.run(asyncio.wait_for(follow(), DEADLINE_S)) == [0, 1, 2]


def test_closing_ends_whoever_reads(publisher):
    connection = edge.connect(publisher.address)
    found: list[object] = []
    reader = threading.Thread(target=lambda: found.extend(connection))
    reader.start()
    connection.close()
    connection.close()
    reader.join(DEADLINE_S)
    assert not reader.is_alive()
    assert (found, connection.state) == ([], "closed")


def test_a_token_opens_the_publisher_and_a_wrong_one_is_told():
    publisher = TcpPublisher(parse_uri("tcp://127.0.0.1:0?token=s3cret"))
    try:
        with edge.connect(publisher.address, token="s3cret") as right:
            wait_until(lambda: right.state == "connected")
            deadline = time.monotonic() + DEADLINE_S
            while right.read(0.1) is None:
                publisher.send(result(1))
                assert time.monotonic() < deadline
        with edge.connect(publisher.address, token="guess", reconnect=False) as wrong:
            with pytest.raises(SourceOpenError, match="hung up without a word: check the token"):
                wrong.read(DEADLINE_S)
            assert "s3cret" not in wrong.error
    finally:
        publisher.close(0)


def test_credit_asks_for_one_result_at_a_time(publisher):
    with edge.connect(publisher.address, credit=True) as connection:
        sessions = publisher._clients.values()
        wait_until(lambda: [one for one in sessions if one.session and one.session.credits is not None])  # it has asked
        got = []
        for seq in range(40):
            publisher.send(result(seq))
            if seq % 10 == 9:
                got.append(connection.read(DEADLINE_S).seq)
        assert got == sorted(set(got))
        assert connection.dropped == 0  # they waited at the publisher, not here


def test_a_line_carries_nothing_a_terminal_would_obey():
    assert "\x1b" not in line_of(result(1, "cam\x1b[2J"))
    assert "cam?[2J" in line_of(result(1, "cam\x1b[2J"))


def test_lines_say_what_matters():
    message = result(7)
    message.flags = ("stale", "fallback")
    message.t_capture_local_ns -= 700_000_000
    message.clock_error_ms = 0.42
    line = line_of(message)
    assert line.startswith("cam #7  age 70")
    assert "±0.4  EXPIRED  nothing  [stale fallback]" in line
    status = status_of(STREAM, 3, "lost", "unplugged", monotonic_ns(), "litert", ("degraded",))
    assert line_of(status) == "cam #3  lost  litert  unplugged  [degraded]"
    assert "newest result none yet" in line_of(heartbeat_of(STREAM, 1, "streaming", 0, None))
    hello, labels = greeting(STREAM, (64, 48))
    assert "model m, 64x48 px, time to live 500 ms" in line_of(hello)
    assert line_of(labels) == "cam #0  labels 0 to 1  cat, dog"


def test_the_first_recipe_drives_on_fresh_results_and_stops_without_them(publisher):
    page = (Path(__file__).parents[1] / "docs" / "client.md").read_text()
    recipe = page.split("```python\n")[1].split("```")[0].replace("tcp://127.0.0.1:7788", publisher.address)

    class Over(Exception):
        pass

    driven: list[object] = []
    sent = threading.Event()

    def stop() -> None:
        if driven:
            raise Over
        if publisher.client_count and not sent.is_set():
            publisher.send(result(1))
            sent.set()

    with pytest.raises(Over):
        exec(recipe, {"stop": stop, "drive": driven.append})
    assert driven
    assert driven[0] == []


def test_everything_can_be_printed_and_printing_goes_on_with_the_next_publisher(capsys):
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    address = f"tcp://127.0.0.1:{port}?token=s3cret"
    over = threading.Event()

    def run_twice() -> None:
        for enough in (6, 1000):
            publisher = TcpPublisher(parse_uri(address))
            for message in greeting(STREAM, (64, 48)):
                publisher.send(message)
            while not over.is_set() and publisher.sent < enough:
                publisher.send(result(7))
                publisher.send(heartbeat_of(STREAM, 1, "streaming", 0, None))
                time.sleep(0.01)
            publisher.close(0.5)

    thread = threading.Thread(target=run_twice)
    thread.start()
    reading = {"all_kinds": True, "token": "s3cret", "reconnect": True}
    print_messages(address.partition("?")[0], count=40, timeout_s=DEADLINE_S, **reading)
    over.set()
    thread.join(DEADLINE_S)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 40
    assert {line.split()[2] for line in lines} >= {"hello", "labels", "heartbeat", "age"}
    assert sum("  hello  " in line for line in lines) == 2


def test_a_publisher_that_ends_before_enough_came_is_told(publisher):
    thread = publish(publisher, 3, 0.001)
    with pytest.raises(SourceTimeoutError, match="the publisher hung up after . of 100 messages"):
        print_messages(publisher.address, count=100, as_json=True)
    thread.join()
