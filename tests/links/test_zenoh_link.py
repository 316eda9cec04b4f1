"""The reader's end over Zenoh: greeted first, told when the publisher goes, answered for the time."""

import socket
import threading
import time

import pytest

pytest.importorskip("zenoh", reason="the extra zenoh is not installed")

from edge.errors import ConfigError, EndOfStreamError, SourceTimeoutError
from edge.links.zenoh import ZenohLink
from edge.publishers.zenoh import ZenohPublisher
from edge.publishers.zenoh_session import open_session
from edge.uri import parse_uri
from edge.wire import decoder, encoder
from edge.wire.messages import ClockMessage, DetectionsMessage, HelloMessage, LabelsMessage, StatusMessage
from edge.wire.names import Names

DEADLINE_S = 10.0

HELLO = HelloMessage(source="cam", model="m", model_id=7, class_count=2)
LABELS = LabelsMessage(source="cam", model_id=7, first=0, total=2, labels=["cat", "dog"])
STATUS = StatusMessage(source="cam", seq=1, t_publish_ns=0, t_event_ns=0, state="streaming")


def result(seq: int) -> DetectionsMessage:
    return DetectionsMessage(source="cam", seq=seq, t_publish_ns=seq, t_capture_ns=seq, age_ms=0.0, detections=[])


@pytest.fixture
def endpoint() -> str:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return f"tcp/127.0.0.1:{sock.getsockname()[1]}"


def publisher_at(endpoint: str, way: str = "listen") -> ZenohPublisher:
    publisher = ZenohPublisher(parse_uri(f"zenoh://robot?{way}={endpoint}"))
    for message in (HELLO, LABELS, STATUS):
        publisher.send(message)
    deadline = time.monotonic() + DEADLINE_S
    while publisher.sent < 3 and way == "listen":
        assert time.monotonic() < deadline
        time.sleep(0.005)
    return publisher


def receive(link: ZenohLink) -> bytes:
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        if data := link.receive(0.1):
            return data
    raise AssertionError(f"nothing came within {DEADLINE_S} s")


def read_to_the_end(link: ZenohLink) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        link.receive(0.1)


def kinds_of(link: ZenohLink, count: int) -> list[str]:
    return [decoder.decode(receive(link), Names()).kind for _ in range(count)]


def test_whoever_comes_late_is_greeted_first(endpoint):
    publisher = publisher_at(endpoint)
    link = ZenohLink(parse_uri(f"zenoh://robot?connect={endpoint}"))
    link.open(DEADLINE_S)
    assert kinds_of(link, 3) == ["hello", "labels", "status"]
    publisher.send(result(4))
    assert receive(link) == encoder.encode(result(4))
    assert link.receive(0.01) == b""
    link.close()
    link.close()
    publisher.close()


def test_a_link_can_be_opened_again_after_the_publisher_went(endpoint):
    publisher = publisher_at(endpoint)
    link = ZenohLink(parse_uri(f"zenoh://robot?connect={endpoint}"))
    link.open(DEADLINE_S)
    assert kinds_of(link, 3) == ["hello", "labels", "status"]
    publisher.close()
    with pytest.raises(EndOfStreamError, match="hung up"):
        read_to_the_end(link)
    link.close()
    again = publisher_at(endpoint)
    link.open(DEADLINE_S)
    assert kinds_of(link, 3) == ["hello", "labels", "status"]
    link.close()
    again.close()


def test_through_a_router_a_publisher_that_comes_later_is_told_too(endpoint):
    router = open_session("router", "", endpoint, "")
    first = publisher_at(endpoint, "connect")
    link = ZenohLink(parse_uri(f"zenoh://robot?connect={endpoint}"))
    link.open(DEADLINE_S)
    second = publisher_at(endpoint, "connect")
    deadline = time.monotonic() + DEADLINE_S
    hellos = 0
    while hellos < 2 and time.monotonic() < deadline:
        data = link.receive(0.1)
        hellos += bool(data) and decoder.decode(data, Names()).kind == "hello"
    assert hellos >= 2
    first.close()
    second.close()
    with pytest.raises(EndOfStreamError):
        read_to_the_end(link)
    link.close()
    router.close()


def test_the_publisher_answers_for_the_time(endpoint):
    publisher = publisher_at(endpoint)
    link = ZenohLink(parse_uri(f"zenoh://robot?connect={endpoint}"))
    link.open(DEADLINE_S)
    assert link.two_way
    assert link.framing == "message"
    assert kinds_of(link, 3) == ["hello", "labels", "status"]
    link.send(encoder.encode(ClockMessage(reply=False, t_request_ns=99)))
    answer = decoder.decode(receive(link), Names())
    assert isinstance(answer, ClockMessage)
    assert (answer.reply, answer.t_request_ns) == (True, 99)
    link.close()
    link.send(b"nobody hears")  # after closing it is dropped
    publisher.close()


def test_a_reader_that_stops_reading_keeps_the_newest(endpoint):
    publisher = publisher_at(endpoint)
    link = ZenohLink(parse_uri(f"zenoh://robot?connect={endpoint}"))
    link.open(DEADLINE_S)
    deadline = time.monotonic() + DEADLINE_S
    last = 2000
    for seq in range(1, last + 1):
        before = publisher.sent
        publisher.send(result(seq))
        while publisher.sent == before and time.monotonic() < deadline:
            time.sleep(0)
    data, held = receive(link), 1
    while more := link.receive(0.5):
        data, held = more, held + 1
    assert decoder.decode(data, Names()).seq == last
    assert held < last / 2  # 256 wait at most, and some were still on their way
    link.close()
    publisher.close()


def test_nobody_there_is_explained(endpoint):
    link = ZenohLink(parse_uri(f"zenoh://robot?connect={endpoint}"))
    with pytest.raises(SourceTimeoutError, match=f"nobody answers at {endpoint}: start harrier run"):
        link.open(0.2)
    other = publisher_at(endpoint)
    wrong = ZenohLink(parse_uri(f"zenoh://other?connect={endpoint}"))
    with pytest.raises(SourceTimeoutError, match="nobody publishes other"):
        wrong.open(0.5)
    other.close()


def test_opening_waits_for_a_publisher(endpoint):
    link = ZenohLink(parse_uri(f"zenoh://robot?connect={endpoint}"))
    found: list[ZenohPublisher] = []
    later = threading.Timer(0.3, lambda: found.append(publisher_at(endpoint)))
    later.start()
    link.open(DEADLINE_S)
    later.join(DEADLINE_S)
    assert found
    link.close()
    found[0].close()


@pytest.mark.parametrize("uri", ["zenoh://a*", "zenoh://?listen=tcp/127.0.0.1:1", "zenoh://?config=/nowhere"])
def test_wrong_uris_are_explained(uri):
    with pytest.raises(ConfigError):
        ZenohLink(parse_uri(uri)).open(0.1)
