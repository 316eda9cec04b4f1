"""The reader's end of a serial line, against the publisher itself over two ptys and a thread between them."""

import os
import select
import threading
import time
from collections.abc import Iterator

import pytest

pytest.importorskip("serial", reason="pyserial is not installed (extra serial)")

from edge.errors import ConfigError, EndOfStreamError, PublishError
from edge.links.serial import SerialLink
from edge.publishers.serial import SerialPublisher
from edge.registry import resolve
from edge.uri import parse_uri
from edge.wire.decoder import decode
from edge.wire.encoder import encode
from edge.wire.framing import SerialDeframer, framed
from edge.wire.messages import ClockMessage, DetectionsMessage

DEADLINE_S = 10.0


class Cable:
    """Two serial ports, each of which hears the other."""

    def __init__(self) -> None:
        self._pairs = [os.openpty(), os.openpty()]
        self.paths = [os.ttyname(slave) for _, slave in self._pairs]
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._carry, daemon=True)
        self._thread.start()

    def _carry(self) -> None:
        masters = [master for master, _ in self._pairs]
        while not self._stop.is_set():
            for master in select.select(masters, [], [], 0.02)[0]:
                os.write(masters[1 - masters.index(master)], os.read(master, 4096))

    def cut(self) -> None:
        """Unplug both ends."""
        self._stop.set()
        self._thread.join(DEADLINE_S)
        for pair in self._pairs:
            for fd in pair:
                os.close(fd)
        self._pairs = []


@pytest.fixture
def cable() -> Iterator[Cable]:
    made = Cable()
    yield made
    made.cut()


def read_kind(link: SerialLink, kind: str):
    deframer, deadline = SerialDeframer(), time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        for payload in deframer.feed(link.receive(0.1)):
            if (message := decode(payload)).kind == kind:
                return message
    raise AssertionError(f"no {kind} within {DEADLINE_S} s")


def test_a_message_and_the_answer_to_a_question(cable):
    publisher = SerialPublisher(parse_uri(f"serial://{cable.paths[0]}?baud=921600"))
    link = SerialLink(parse_uri(f"serial://{cable.paths[1]}?baud=921600"))
    link.open(1.0)
    assert link.receive(0.0) == b""
    publisher.send(DetectionsMessage(source="camera", seq=3, t_publish_ns=1, t_capture_ns=1, age_ms=0.0, detections=[]))
    assert read_kind(link, "detections").seq == 3
    link.send(framed(encode(ClockMessage(reply=False, t_request_ns=55)), binary=True, serial=True))
    assert read_kind(link, "clock").t_request_ns == 55
    link.close()
    publisher.close()


def test_an_unplugged_port_is_the_end_and_it_can_be_opened_again(tmp_path):
    name = tmp_path / "port"
    link = SerialLink(parse_uri(f"serial://{name}"))
    with pytest.raises(PublishError, match="there is no port"):
        link.open(1.0)
    first = Cable()
    name.symlink_to(first.paths[0])
    link.open(1.0)
    first.cut()
    with pytest.raises(EndOfStreamError, match="was unplugged: plug it in again"):
        link.receive(DEADLINE_S)
    link.send(b"into nothing")
    link.close()
    link.close()
    with pytest.raises(EndOfStreamError, match="is not open"):
        link.receive(0.0)
    second = Cable()
    name.unlink()
    name.symlink_to(second.paths[0])
    link.open(1.0)
    master = second._pairs[0][0]
    os.write(master, b"hello")
    assert link.receive(DEADLINE_S) == b"hello"
    link.close()
    second.cut()


def test_sending_never_waits_for_a_line_that_takes_nothing():
    master, slave = os.openpty()
    link = SerialLink(parse_uri(f"serial://{os.ttyname(slave)}"))
    link.open(1.0)
    start = time.monotonic()
    for _ in range(1000):
        link.send(b"x" * 1000)
    assert time.monotonic() - start < 2.0
    link.close()
    os.close(master)
    os.close(slave)


def test_the_port_is_locked(cable):
    links = [SerialLink(parse_uri(f"serial://{cable.paths[0]}")) for _ in range(2)]
    links[0].open(1.0)
    with pytest.raises(PublishError, match="is used by"):
        links[1].open(1.0)
    links[0].close()
    links[1].open(1.0)
    links[1].close()


def test_what_it_says_of_itself():
    link = resolve("links", "serial")(parse_uri("serial:///dev/ttyNOT"))
    assert (link.framing, link.two_way) == ("serial", True)


@pytest.mark.parametrize(
    ("uri", "says"),
    [("serial://ttyUSB0", "names no device"), ("serial:///dev/x?baud=1", "baud"), ("serial:///dev/x?speed=1", "speed")],
)
def test_wrong_uris_are_errors_before_anything_is_opened(uri, says):
    with pytest.raises(ConfigError, match=says):
        SerialLink(parse_uri(uri))
