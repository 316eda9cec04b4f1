"""The receiving side: a slow reader stays fresh, statuses arrive, and what is no message is refused."""

import socket
import threading
import time

import pytest

from edge.client import line_of, listen
from edge.clock import monotonic_ns
from edge.detections import Detections
from edge.errors import ConfigError, SourceTimeoutError, WireError
from edge.frame import FrameInfo
from edge.publishers.tcp import TcpPublisher
from edge.uri import parse_uri
from edge.wire.jsonl import encode, message_of, status_of


def result(seq: int) -> bytes:
    return encode(message_of(FrameInfo(seq, "cam", monotonic_ns(), 64, 48), Detections(1), [], "m"))


def publish(publisher: TcpPublisher, count: int, interval_s: float) -> threading.Thread:
    def run() -> None:
        while publisher.client_count == 0:
            time.sleep(0.01)
        for seq in range(count):
            publisher.send(result(seq))
            if seq % 20 == 0:
                publisher.send(encode(status_of("cam", seq, "streaming", "", monotonic_ns())), keep=True)
            time.sleep(interval_s)
        publisher.close()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def test_a_slow_reader_gets_fresh_results_and_every_status():
    publisher = TcpPublisher(parse_uri("tcp://127.0.0.1:0"))
    thread = publish(publisher, 100, 0.01)
    ages_ms, seqs, statuses = [], [], 0
    for message in listen(publisher.address):
        if message.kind == "status":
            statuses += 1
            continue
        ages_ms.append(message.age_now_ms())
        seqs.append(message.seq)
        time.sleep(0.1)
    thread.join()
    assert statuses == 5
    assert len(seqs) < 40  # one in ten or so, not all hundred
    assert seqs == sorted(seqs)
    assert seqs[-1] == 99
    assert sorted(ages_ms)[len(ages_ms) // 2] < 100  # in order they would lag by up to nine seconds


def test_every_message_can_be_had():
    publisher = TcpPublisher(parse_uri("tcp://127.0.0.1:0"))
    thread = publish(publisher, 50, 0.005)
    seqs = [message.seq for message in listen(publisher.address, every=True) if message.kind == "detections"]
    thread.join()
    assert seqs == list(range(50))


def test_errors_reach_the_reader():
    with pytest.raises(SourceTimeoutError, match="nobody answers"):
        next(listen("tcp://127.0.0.1:9", timeout_s=0.2))
    with pytest.raises(SourceTimeoutError, match="nobody answers"):
        next(listen("tcp://a..b:9", timeout_s=0.2))
    with pytest.raises(ConfigError, match="cannot listen to 'mqtt'"):
        listen("mqtt://127.0.0.1:9")
    with socket.create_server(("127.0.0.1", 0)) as server:
        messages = listen(f"tcp://127.0.0.1:{server.getsockname()[1]}", timeout_s=5)
        sender = threading.Thread(target=lambda: server.accept()[0].sendall(result(3) + b"nonsense\n"))
        sender.start()
        assert next(messages).seq == 3
        with pytest.raises(WireError):
            next(messages)
        sender.join()


def test_a_silent_sender_is_told():
    with socket.create_server(("127.0.0.1", 0)) as server:
        messages = listen(f"tcp://127.0.0.1:{server.getsockname()[1]}", timeout_s=0.3)
        with pytest.raises(SourceTimeoutError, match=r"nothing came from tcp://.* for 0.3 s"):
            next(messages)


def test_a_line_carries_nothing_a_terminal_would_obey():
    message = message_of(FrameInfo(1, "cam\x1b[2J", monotonic_ns(), 8, 8), Detections(1), [], "m")
    assert "\x1b" not in line_of(message)
    assert "cam?[2J" in line_of(message)
