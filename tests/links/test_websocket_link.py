"""The reader's end of `ws://` against the real publisher."""

import threading
import time

import pytest
from brokers import free_port
from tls_files import certificate

from edge.errors import ConfigError, EndOfStreamError, SourceTimeoutError
from edge.links.base import Link
from edge.registry import resolve
from edge.uri import parse_uri
from edge.wire import decoder, encoder, jsonl
from edge.wire.messages import ClockMessage, CreditMessage, DetectionsMessage, HelloMessage, Message, StatusMessage

pytest.importorskip("aiohttp", reason="the extra 'web' is not installed")

DEADLINE_S = 20.0
STATUS = StatusMessage(source="test", t_publish_ns=0, t_event_ns=0, state="streaming")


def result(seq: int) -> DetectionsMessage:
    return DetectionsMessage(source="test", seq=seq, t_publish_ns=0, t_capture_ns=0, age_ms=0.0, detections=[])


def publisher_of(options: str = ""):
    return resolve("publishers", "ws")(parse_uri(f"ws://127.0.0.1:0{options}"))


def link_to(address: str) -> Link:
    return resolve("links", address.partition(":")[0])(parse_uri(address))


def next_message(link: Link) -> Message:
    deadline = time.monotonic() + DEADLINE_S
    while not (data := link.receive(0.1)):
        assert time.monotonic() < deadline, "nothing came"
    return jsonl.decode(data) if data[:1] == b"{" else decoder.decode(data)


@pytest.mark.parametrize("format", ["json", "binary"])
def test_it_brings_whole_messages_and_carries_questions(format):
    publisher = publisher_of(f"?format={format}&token=sesame")
    publisher.send(STATUS)
    link = link_to(publisher.address)
    assert (link.framing, link.two_way) == ("message", True)
    encode = jsonl.encode if format == "json" else encoder.encode
    for _ in range(2):  # after closing it can be opened again
        link.open(DEADLINE_S)
        for message in (HelloMessage(token="sesame"), ClockMessage(reply=False, t_request_ns=5)):
            link.send(encode(message))
        kinds = {next_message(link).kind for _ in range(2)}
        assert kinds == {"status", "clock"}
        for seq in range(300):
            publisher.send(result(seq))
            assert next_message(link).seq == seq
        assert link.receive(0.0) == b""
        link.close()
        link.close()
    publisher.close(0)


def test_sending_from_another_thread_reaches_the_publisher_while_it_waits():
    publisher = publisher_of()
    link = link_to(publisher.address)
    link.open(DEADLINE_S)
    asking = threading.Timer(0.2, link.send, [encoder.encode(ClockMessage(reply=False, t_request_ns=5))])
    asking.start()
    began = time.monotonic()
    assert jsonl.decode(link.receive(DEADLINE_S)).t_request_ns == 5
    assert time.monotonic() - began < DEADLINE_S / 2
    asking.join()
    link.close()
    link.send(encoder.encode(CreditMessage(results=1)))  # too late, and no harm
    publisher.close(0)


def test_the_end_is_told_with_its_reason():
    publisher = publisher_of("?token=sesame")
    link = link_to(publisher.address)
    link.open(DEADLINE_S)
    link.send(encoder.encode(HelloMessage(token="open")))
    with pytest.raises(EndOfStreamError, match="its token is wrong"):
        next_message(link)
    link.close()
    link.open(DEADLINE_S)
    publisher.close(0)
    with pytest.raises(EndOfStreamError, match="the run has ended"):
        next_message(link)
    link.close()
    with pytest.raises(EndOfStreamError, match="closed"):
        link.receive(0.0)


def test_nobody_there():
    link = link_to(f"ws://127.0.0.1:{free_port()}")
    with pytest.raises(SourceTimeoutError, match="nobody answers"):
        link.open(1.0)
    link.close()


def test_a_full_publisher_says_so():
    publisher = publisher_of("?max_clients=1")
    first, second = link_to(publisher.address), link_to(publisher.address)
    first.open(DEADLINE_S)
    with pytest.raises(SourceTimeoutError, match="as many readers"):
        second.open(DEADLINE_S)
    first.close()
    second.close()
    publisher.close(0)


def test_tls_is_checked(tmp_path):
    cert, key = certificate(tmp_path, "own")
    publisher = publisher_of(f"?cert={cert}&key={key}")
    publisher.send(STATUS)
    trusting = link_to(f"{publisher.address}?ca={cert}")
    trusting.open(DEADLINE_S)
    assert next_message(trusting) == STATUS
    trusting.close()
    doubting = link_to(publisher.address)
    with pytest.raises(ConfigError, match="not trusted"):
        doubting.open(DEADLINE_S)
    doubting.close()
    plain = link_to(publisher.address.replace("wss:", "ws:"))
    with pytest.raises(SourceTimeoutError):
        plain.open(2.0)
    plain.close()
    publisher.close(0)


@pytest.mark.parametrize(
    ("address", "cause"),
    [
        ("ws://127.0.0.1", "no host and port"),
        ("ws://127.0.0.1:1?cookie=x", "unknown"),
        ("ws://127.0.0.1:1?ca=x", "without TLS"),
        ("wss://127.0.0.1:1?ca=/nowhere", "no certificate"),
    ],
)
def test_wrong_addresses_are_refused_at_once(address, cause):
    with pytest.raises(ConfigError, match=cause):
        link_to(address)
