"""Datagrams: whole messages to one address or a group, what is too large, late readers, questions for the time."""

import json
import socket
import time
from collections.abc import Iterator

import pytest

from edge.clock import monotonic_ns, unix_ns_from_monotonic_ns
from edge.errors import ConfigError, PublishError
from edge.publishers import rotation
from edge.publishers import udp as udp_module
from edge.publishers.udp import UdpPublisher
from edge.testing import check_publisher
from edge.uri import parse_uri
from edge.wire import jsonl
from edge.wire.building import Stream, greeting
from edge.wire.decoder import decode
from edge.wire.encoder import encode
from edge.wire.messages import ClockMessage, DetectionRecord, DetectionsMessage, HelloMessage, LabelsMessage
from edge.wire.names import Names

DEADLINE_S = 10.0
GROUP = "239.255.77.88"
STREAM = Stream(source="camera", model="net", labels=("cat", "dog", "bird"))


@pytest.fixture
def reader() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(DEADLINE_S)
        yield sock


def publisher_to(reader: socket.socket, options: str = "format=binary") -> UdpPublisher:
    return UdpPublisher(parse_uri(f"udp://127.0.0.1:{reader.getsockname()[1]}?{options}"))


def result(seq: int, count: int, blocks: bool = False) -> DetectionsMessage:
    """A result with `count` detections, the strongest last; blocks: with all that a detection may have."""
    now = monotonic_ns()
    more = {"velocity_px_s": (1.0, 2.0), "bearing_rad": (0.1, 0.2), "range_m": 3.0} if blocks else {}
    return DetectionsMessage(
        source="camera",
        seq=seq,
        t_publish_ns=unix_ns_from_monotonic_ns(now),
        t_capture_ns=unix_ns_from_monotonic_ns(now),
        t_capture_local_ns=now,
        age_ms=0.0,
        detections=[
            DetectionRecord("cat", i % 3, (i + 1) / 200, (10.0, 20.0, 30.0, 40.0), **more) for i in range(count)
        ],
    )


def wait_for(condition, what: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"waited {DEADLINE_S} s for {what}"
        time.sleep(0.005)


def test_the_publisher_keeps_the_contract(reader):
    check_publisher(publisher_to(reader))


def test_each_message_is_one_datagram(reader):
    publisher = publisher_to(reader)
    names = Names()
    for message in greeting(STREAM, (640, 480)):
        publisher.send(message)
    assert isinstance(decode(reader.recv(2000), names), HelloMessage)
    assert isinstance(decode(reader.recv(2000), names), LabelsMessage)
    publisher.send(result(5, 1))
    received = decode(reader.recv(2000), names)
    assert (received.source, received.seq, len(received.detections)) == ("camera", 5, 1)
    wait_for(lambda: publisher.sent == 3, "the count")
    assert (publisher.dropped, publisher.failure) == (0, "")
    publisher.close()


@pytest.mark.parametrize("blocks", [False, True])
def test_fifty_detections_fit_one_ethernet_frame(reader, blocks):
    publisher = publisher_to(reader)
    publisher.send(result(1, 50, blocks))
    data = reader.recv(65535)
    assert len(data) <= 1452
    received = decode(data)
    assert (len(received.detections), received.omitted) == (50, 0)
    publisher.close()


def test_the_weakest_of_too_many_are_left_out_and_counted(reader):
    publisher = publisher_to(reader)
    publisher.send(result(1, 150))
    data = reader.recv(65535)
    received = decode(data)
    assert len(data) <= 1472
    assert len(received.detections) == (1472 - 41) // 14
    assert received.omitted == 150 - len(received.detections)
    assert min(r.score for r in received.detections) == pytest.approx((151 - len(received.detections)) / 200, abs=1e-4)
    publisher.close()


def test_json_that_is_too_large_is_cut_to_the_strongest(reader):
    publisher = publisher_to(reader, "format=json")
    publisher.send(result(1, 150))
    data = reader.recv(65535)
    told = json.loads(data)
    kept = len(told["detections"])
    assert 5 < kept < 50
    assert told["omitted"] == 150 - kept
    assert [d["score"] for d in told["detections"]] == [(i + 1) / 200 for i in range(150 - kept, 150)]
    one_more = len(json.dumps(told["detections"][0], separators=(",", ":"))) + 1
    assert 1472 - one_more - 2 <= len(data) <= 1472, "as many as fit"
    publisher.close()


def test_more_bytes_can_be_allowed(reader):
    publisher = publisher_to(reader, "format=json&max_bytes=60000")
    publisher.send(result(1, 150))
    assert len(json.loads(reader.recv(65535))["detections"]) == 150
    publisher.close()


def test_who_comes_later_learns_the_names(reader, monkeypatch):
    monkeypatch.setattr(rotation, "_PERIOD_S", 0.02)
    publisher = publisher_to(reader)
    for message in greeting(STREAM, (640, 480)):
        publisher.send(message)
    kinds = [decode(reader.recv(2000)).kind for _ in range(8)]
    assert kinds[:2] == ["hello", "labels"]
    assert kinds[2:] == ["labels", "hello"] * 3
    publisher.close()


def test_the_greeting_comes_about_once_a_second():
    turns = rotation.Rotation()
    assert turns.wait_s(5.0, idle=True) == float("inf")
    hello, labels = greeting(STREAM, (640, 480))
    turns.put(labels)
    turns.put(hello)
    assert turns.wait_s(5.0, idle=True) == 0
    assert turns.take(5.0) is hello, "the model first, then its labels"
    assert turns.wait_s(5.0, idle=False) == pytest.approx(0.1)
    assert turns.take(5.1) is labels
    assert turns.wait_s(5.1, idle=True) == pytest.approx(1.0)
    assert turns.wait_s(5.1, idle=False) == pytest.approx(5.0)
    assert [turns.take(6.0 + i) for i in range(3)] == [labels, hello, labels]
    turns.put(greeting(STREAM, (640, 480))[1])
    assert turns.wait_s(8.0, idle=True) == pytest.approx(1.0), "the same again is no news"
    other = Stream(source="camera", model="other")
    turns.put(greeting(other, (640, 480))[0])
    assert turns.wait_s(8.0, idle=True) == 0
    assert [turns.take(9.0 + i).model_id for i in range(3)] == [other.model_id] * 3, "the old labels are forgotten"
    turns.restart()
    assert turns.wait_s(11.0, idle=True) == 0


@pytest.mark.parametrize("format", ["binary", "json"])
def test_a_question_for_the_time_is_answered(reader, format):
    publisher = publisher_to(reader, f"format={format}")
    publisher.send(result(1, 0))
    _, sender = reader.recvfrom(2000)
    before = time.time_ns()
    question = ClockMessage(reply=False, t_request_ns=123)
    reader.sendto(b"nonsense", sender)
    reader.sendto(encode(question) if format == "binary" else jsonl.encode(question), sender)
    data = reader.recv(2000)
    reply = decode(data) if format == "binary" else jsonl.decode(data)
    assert (reply.reply, reply.t_request_ns) == (True, 123)
    assert before <= reply.t_receive_ns <= reply.t_reply_ns <= time.time_ns()
    assert publisher.failure == ""
    publisher.close()


def test_strangers_and_those_who_ask_too_often_are_not_answered(reader, monkeypatch):
    monkeypatch.setattr(udp_module, "_MOST_QUESTIONS_HZ", 5)
    publisher = publisher_to(reader)
    publisher.send(result(1, 0))
    _, sender = reader.recvfrom(2000)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        stranger.bind(("127.0.0.2", 0))
        stranger.sendto(encode(ClockMessage(reply=False, t_request_ns=1)), sender)
        for i in range(20):
            reader.sendto(encode(ClockMessage(reply=False, t_request_ns=100 + i)), sender)
        answers = [decode(reader.recv(2000)).t_request_ns for _ in range(5)]
        assert answers == [100, 101, 102, 103, 104]
        publisher.send(result(2, 0))
        assert decode(reader.recv(2000)).kind == "detections", "no more answers"
        stranger.settimeout(0.05)
        with pytest.raises(TimeoutError):
            stranger.recv(2000)
    publisher.close()


def test_ipv6_and_its_smaller_datagrams():
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as reader:
        try:
            reader.bind(("::1", 0))
        except OSError as exc:
            pytest.skip(f"there is no IPv6 here ({exc})")
        reader.settimeout(DEADLINE_S)
        publisher = UdpPublisher(parse_uri(f"udp://[::1]:{reader.getsockname()[1]}"))
        assert publisher.address == f"udp://[::1]:{reader.getsockname()[1]}"
        publisher.send(result(1, 150))
        data, sender = reader.recvfrom(65535)
        assert 1452 - 14 < len(data) <= 1452
        reader.sendto(encode(ClockMessage(reply=False, t_request_ns=9)), sender)
        assert decode(reader.recv(2000)).t_request_ns == 9
        publisher.close()


@pytest.mark.parametrize("interface", ["127.0.0.1", "lo"])
def test_a_group_is_reached_through_the_interface_given(interface):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as reader:
        reader.bind(("", 0))
        reader.settimeout(DEADLINE_S)
        try:
            reader.setsockopt(
                socket.IPPROTO_IP,
                socket.IP_ADD_MEMBERSHIP,
                socket.inet_aton(GROUP) + socket.inet_aton("127.0.0.1"),
            )
            publisher = UdpPublisher(parse_uri(f"udp://{GROUP}:{reader.getsockname()[1]}?interface={interface}&ttl=0"))
        except OSError as exc:
            pytest.skip(f"this kernel has no multicast on loopback ({exc})")
        publisher.send(result(1, 2))
        data, sender = reader.recvfrom(2000)
        assert len(decode(data).detections) == 2
        reader.sendto(encode(ClockMessage(reply=False, t_request_ns=9)), sender)
        assert decode(reader.recv(2000)).t_request_ns == 9, "in a group anybody may ask"
        publisher.close()


def test_a_whole_network_is_reached_only_when_asked_for():
    publisher = UdpPublisher(parse_uri("udp://127.255.255.255:9"))
    publisher.send(result(1, 1))
    wait_for(lambda: publisher.failure, "the failure")
    assert "broadcast=yes" in publisher.failure
    assert publisher.dropped == 1
    publisher.close()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as reader:
        reader.bind(("127.255.255.255", 0))
        reader.settimeout(DEADLINE_S)
        allowed = UdpPublisher(parse_uri(f"udp://127.255.255.255:{reader.getsockname()[1]}?broadcast=yes"))
        allowed.send(result(1, 1))
        assert decode(reader.recv(2000)).seq == 1
        allowed.close()


def test_what_cannot_be_sent_is_a_failure_until_it_works_again(reader):
    publisher = publisher_to(reader, "format=json&max_bytes=64")
    publisher.send(result(1, 0))
    wait_for(lambda: publisher.failure, "the failure")
    assert "max_bytes" in publisher.failure
    publisher.send(greeting(STREAM, (640, 480))[0])
    wait_for(lambda: publisher.sent == 1, "the greeting")
    assert publisher.failure == ""
    publisher.close()


def test_closing_sends_what_waits(reader):
    publisher = publisher_to(reader)
    publisher.send(result(1, 1))
    publisher.close()
    assert decode(reader.recv(2000)).seq == 1
    publisher.send(result(2, 1))  # does nothing, raises nothing


@pytest.mark.parametrize(
    ("uri", "error", "says"),
    [
        ("udp://:7788", ConfigError, "names nobody to send to"),
        ("udp://127.0.0.1:0", ConfigError, "names nobody to send to"),
        ("udp://127.0.0.1", ConfigError, "no host and port"),
        ("udp://127.0.0.1:7788?ttl=300", ConfigError, "ttl"),
        ("udp://127.0.0.1:7788?fromat=json", ConfigError, "fromat"),
        ("udp://no.such.host.invalid:7788", PublishError, "is not known"),
        ("udp://239.1.2.3:7788?interface=nosuch0", PublishError, "check the interface"),
        ("udp://239.1.2.3:7788?interface=203.0.113.7", PublishError, "check the interface"),
    ],
)
def test_wrong_addresses_are_explained(uri, error, says):
    with pytest.raises(error, match=says) as caught:
        UdpPublisher(parse_uri(uri))
    assert "\n" not in str(caught.value)
