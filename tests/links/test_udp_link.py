"""The reader's end of datagrams, against the publisher itself."""

import socket
import struct
from collections.abc import Iterator

import pytest

from edge.errors import ConfigError, EndOfStreamError, PublishError
from edge.links.udp import UdpLink
from edge.publishers.udp import UdpPublisher
from edge.registry import resolve
from edge.uri import parse_uri
from edge.wire.decoder import decode
from edge.wire.encoder import encode
from edge.wire.messages import ClockMessage, DetectionsMessage

DEADLINE_S = 10.0
GROUP, GROUP6 = "239.255.77.89", "ff01::77"


@pytest.fixture
def port() -> int:
    """A port nobody uses just now."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


@pytest.fixture
def opened() -> Iterator:
    """Open a link, or with publisher=True a publisher; all are closed after the test."""
    made = []

    def make(text: str, publisher: bool = False):
        made.append((UdpPublisher if publisher else UdpLink)(parse_uri(text)))
        if not publisher:
            made[-1].open(1.0)
        return made[-1]

    yield make
    for one in made:
        one.close()


def result(seq: int) -> DetectionsMessage:
    return DetectionsMessage(source="camera", seq=seq, t_publish_ns=1, t_capture_ns=1, age_ms=0.0, detections=[])


def next_of_kind(link: UdpLink, kind: str):
    for _ in range(20):
        data = link.receive(DEADLINE_S)
        assert data, f"no {kind} within {DEADLINE_S} s"
        if (message := decode(data)).kind == kind:
            return message
    raise AssertionError(f"20 messages and no {kind}")


@pytest.mark.parametrize("host", ["", "127.0.0.1", "localhost"])
def test_a_message_and_the_answer_to_a_question(port, opened, host):
    link = opened(f"udp://{host}:{port}")
    assert link.receive(0.0) == b""
    link.send(b"nobody is there yet")
    publisher = opened(f"udp://127.0.0.1:{port}", publisher=True)
    publisher.send(result(1))
    assert next_of_kind(link, "detections").seq == 1
    link.send(encode(ClockMessage(reply=False, t_request_ns=55)))
    assert next_of_kind(link, "clock").t_request_ns == 55


def test_two_readers_of_a_group_each_get_their_own_answers(port, opened):
    try:
        links = [opened(f"udp://{GROUP}:{port}?interface=127.0.0.1") for _ in range(2)]
        publisher = opened(f"udp://{GROUP}:{port}?interface=127.0.0.1", publisher=True)
    except PublishError as exc:
        pytest.skip(f"this kernel has no multicast on loopback: {exc}")
    publisher.send(result(1))
    for number, link in enumerate(links):
        assert next_of_kind(link, "detections").seq == 1
        link.send(encode(ClockMessage(reply=False, t_request_ns=number)))
    for number, link in enumerate(links):
        assert next_of_kind(link, "clock").t_request_ns == number
        assert link.receive(0.02) == b"", "not the other's answer"


def ipv6_group_fails() -> str:
    """Why sockets without any of our code cannot use a group on loopback, "" when they can."""
    index = socket.if_nametoindex("lo")
    with (
        socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as reader,
        socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as writer,
    ):
        reader.settimeout(0.5)
        try:
            reader.bind((GROUP6, 0, 0, index))
            request = socket.inet_pton(socket.AF_INET6, GROUP6) + struct.pack("@I", index)
            reader.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, request)
            writer.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
            writer.sendto(b"x", (GROUP6, reader.getsockname()[1]))
            reader.recv(10)
        except OSError as exc:
            return str(exc)
    return ""


def test_a_group_of_ipv6(port, opened):
    if why := ipv6_group_fails():
        pytest.skip(f"this kernel has no IPv6 multicast on loopback ({why})")
    link = opened(f"udp://[{GROUP6}]:{port}?interface=lo")
    publisher = opened(f"udp://[{GROUP6}]:{port}?interface=lo", publisher=True)
    publisher.send(result(1))
    assert next_of_kind(link, "detections").seq == 1
    link.send(encode(ClockMessage(reply=False, t_request_ns=3)))
    assert next_of_kind(link, "clock").t_request_ns == 3


def test_the_newest_sender_is_asked(port, opened):
    link = opened(f"udp://127.0.0.1:{port}")
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as first,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as second,
    ):
        for number, sock in enumerate((first, second)):
            sock.settimeout(DEADLINE_S)
            sock.sendto(b"%d" % number, ("127.0.0.1", port))
            assert link.receive(DEADLINE_S) == b"%d" % number
            link.send(b"you?")
            assert sock.recv(100) == b"you?"


def test_it_can_be_opened_again(port, opened):
    link = opened(f"udp://127.0.0.1:{port}")
    link.close()
    link.close()
    with pytest.raises(EndOfStreamError):
        link.receive(0.0)
    link.open(1.0)
    publisher = opened(f"udp://127.0.0.1:{port}", publisher=True)
    publisher.send(result(4))
    assert next_of_kind(link, "detections").seq == 4


def test_what_it_says_of_itself(port):
    link = resolve("links", "udp")(parse_uri(f"udp://:{port}"))
    assert (link.framing, link.two_way) == ("message", True)


def test_a_port_in_use_is_explained(port, opened):
    opened(f"udp://127.0.0.1:{port}")
    with pytest.raises(PublishError, match="another program listens on"):
        opened(f"udp://127.0.0.1:{port}")


@pytest.mark.parametrize(
    ("uri", "error", "says"),
    [
        ("udp://:0", ConfigError, "names no port"),
        ("udp://127.0.0.1", ConfigError, "no host and port"),
        ("udp://:7788?interfaces=lo", ConfigError, "interfaces"),
        ("udp://no.such.host.invalid:7788", ConfigError, "is not known"),
        ("udp://203.0.113.7:7788", PublishError, "no interface has the address"),
        ("udp://239.1.2.3:7788?interface=nosuch0", PublishError, "nosuch0"),
    ],
)
def test_wrong_addresses_are_explained(uri, error, says):
    with pytest.raises(error, match=says) as caught:
        UdpLink(parse_uri(uri)).open(1.0)
    assert "\n" not in str(caught.value)
