"""The reader's end of `mqtt://` against the real publisher and a real broker."""

import time
from collections.abc import Iterator

import pytest
from brokers import Mosquitto, free_port

from edge.errors import ConfigError, EndOfStreamError, SourceTimeoutError
from edge.links.base import Link
from edge.registry import resolve
from edge.uri import parse_uri
from edge.wire import decoder, jsonl
from edge.wire.messages import DetectionsMessage, HelloMessage, LabelsMessage, Message, StatusMessage
from edge.wire.names import Names

paho = pytest.importorskip("paho.mqtt.client", reason="the extra 'mqtt' is not installed")

DEADLINE_S = 20.0
LABELS = ["face", "hand"]


@pytest.fixture
def broker(tmp_path) -> Iterator[Mosquitto]:
    made = Mosquitto(tmp_path)
    made.start()
    yield made
    made.stop()


def publisher_of(broker: Mosquitto, path: str):
    publisher = resolve("publishers", "mqtt")(parse_uri(f"mqtt://{broker.address}/{path}"))
    publisher.send(HelloMessage(source="test", model="m", model_id=9))
    publisher.send(LabelsMessage(source="test", model_id=9, first=0, total=2, labels=LABELS))
    publisher.send(StatusMessage(source="test", t_publish_ns=0, t_event_ns=0, state="streaming"))
    return publisher


def result(seq: int) -> DetectionsMessage:
    return DetectionsMessage(
        source="test", seq=seq, t_publish_ns=0, t_capture_ns=0, age_ms=0.0, model="m", model_id=9, detections=[]
    )


def link_to(address: str) -> Link:
    return resolve("links", "mqtt")(parse_uri(address))


def next_message(link: Link, names: Names) -> Message:
    deadline = time.monotonic() + DEADLINE_S
    while not (data := link.receive(0.1)):
        assert time.monotonic() < deadline, "nothing came"
    return jsonl.decode(data) if data[:1] == b"{" else decoder.decode(data, names)


def until(link: Link, names: Names, kind: str, seq: int = 0) -> list[Message]:
    found = [next_message(link, names)]
    while (found[-1].kind, found[-1].seq) != (kind, seq):
        found.append(next_message(link, names))
    return found


@pytest.mark.parametrize("format", ["json", "binary"])
def test_a_late_reader_learns_names_then_gets_results(broker, format):
    publisher = publisher_of(broker, f"robot/front?format={format}")
    link = link_to(f"mqtt://{broker.address}/robot/front")
    assert (link.framing, link.two_way) == ("message", False)
    link.send(b"nobody hears this")
    for start in (0, 100):  # after closing it can be opened again
        names = Names()
        link.open(DEADLINE_S)
        publisher.send(result(start))
        greeting = until(link, names, "detections", start)
        assert {"hello", "labels", "status"} <= {message.kind for message in greeting}
        for seq in range(start + 1, start + 50):
            publisher.send(result(seq))
            assert until(link, names, "detections", seq)[-1].model == "m"
        assert link.receive(0.0) == b""
        link.close()
        link.close()
    publisher.close()


def test_other_topics_are_left_alone(broker):
    link = link_to(f"mqtt://{broker.address}/robot/front")
    link.open(DEADLINE_S)
    other = publisher_of(broker, "robot/front/left")
    own = publisher_of(broker, "robot/front")
    other.send(result(1))
    stranger = paho.Client(paho.CallbackAPIVersion.VERSION2)
    stranger.connect("127.0.0.1", broker.port)
    stranger.loop_start()
    stranger.publish("robot/front/note", b"not ours", qos=1).wait_for_publish(DEADLINE_S)
    stranger.publish("robot/front/labels/5", b"", qos=1, retain=True).wait_for_publish(DEADLINE_S)  # clears it
    own.send(result(2))
    found = until(link, Names(), "detections", 2)
    assert [message.kind for message in found] == ["hello", "labels", "status", "detections"]
    for each in (own, other, link):
        each.close()
    stranger.disconnect()
    stranger.loop_stop()


def test_a_broker_that_goes_ends_it(broker):
    link = link_to(f"mqtt://{broker.address}/robot")
    link.open(DEADLINE_S)
    broker.stop()
    with pytest.raises(EndOfStreamError, match=broker.address):
        next_message(link, Names())
    link.close()
    with pytest.raises(EndOfStreamError, match="closed"):
        link.receive(0.0)


def test_no_broker():
    port = free_port()
    link = link_to(f"mqtt://127.0.0.1:{port}/robot")
    with pytest.raises(SourceTimeoutError, match=f"127.0.0.1:{port}"):
        link.open(1.0)
    link.close()


def test_a_stranger_is_refused(tmp_path):
    broker = Mosquitto(tmp_path, "allow_anonymous false")
    broker.start()
    link = link_to(f"mqtt://ann:hidden@{broker.address}/robot")
    with pytest.raises(ConfigError, match="refuses") as caught:
        link.open(DEADLINE_S)
    assert "hidden" not in str(caught.value)
    link.close()
    broker.stop()
