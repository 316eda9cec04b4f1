"""`mqtt://` with a real broker: what is retained, what a broker that is away or stalled does, and the last will."""

import contextlib
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import msgspec
import pytest
from brokers import Mosquitto, free_port
from stream_readers import DEADLINE_S, result, status, wait_for
from tls_files import certificate

from edge.clock import monotonic_ns
from edge.errors import ConfigError
from edge.publishers.base import Publisher
from edge.registry import resolve
from edge.testing import check_publisher
from edge.uri import parse_uri
from edge.wire import decoder, encoder, jsonl
from edge.wire.messages import (
    DetectionsMessage,
    HeartbeatMessage,
    HelloMessage,
    LabelsMessage,
    Message,
    RegionMessage,
)

paho = pytest.importorskip("paho.mqtt.client", reason="the extra 'mqtt' is not installed")

HELLO = HelloMessage(source="test", model="m")
LABELS = [LabelsMessage(model_id=0, first=n, total=4, labels=["a", "b"]) for n in (0, 2)]
BEAT = HeartbeatMessage(source="test", t_publish_ns=0, uptime_ms=0, period_ms=250, state="streaming")


@pytest.fixture
def broker(tmp_path) -> Iterator[Mosquitto]:
    made = Mosquitto(tmp_path)
    made.start()
    yield made
    made.stop()


@pytest.fixture
def publish() -> Iterator:
    """Make publishers that are closed in the end."""
    made: list[Publisher] = []

    def make(uri: str) -> Publisher:
        made.append(resolve("publishers", uri.partition(":")[0])(parse_uri(uri)))
        return made[-1]

    yield make
    for publisher in made:
        publisher.close(0)


class Subscriber:
    """Everything below a topic, as a plain MQTT client sees it."""

    def __init__(self, broker: Mosquitto, prefix: str = "robot", qos: int = 2) -> None:
        self.messages: list = []
        self.client = paho.Client(paho.CallbackAPIVersion.VERSION2)
        self.client.on_connect = lambda client, *_: client.subscribe(f"{prefix}/#", qos)
        subscribed = threading.Event()
        self.client.on_subscribe = lambda *_: subscribed.set()
        self.client.on_message = lambda _client, _data, message: self.messages.append(message)
        self.client.connect("127.0.0.1", broker.port)
        self.client.loop_start()
        assert subscribed.wait(DEADLINE_S)

    def __enter__(self) -> "Subscriber":
        return self

    def __exit__(self, *_) -> None:
        self.client.disconnect()
        self.client.loop_stop()

    def payloads(self, topic: str) -> list[Message]:
        return [jsonl.decode(message.payload) for message in list(self.messages) if message.topic == topic]

    def wait(self, topic: str, count: int = 1) -> list[Message]:
        wait_for(lambda: len(self.payloads(topic)) >= count, f"{count} messages on {topic}")
        return self.payloads(topic)


def greet(publisher: Publisher) -> None:
    for message in (HELLO, *LABELS, status(1)):
        publisher.send(message)


def captured_now(seq: int) -> DetectionsMessage:
    return msgspec.structs.replace(result(seq), t_capture_local_ns=monotonic_ns())


def test_it_keeps_the_contract_with_and_without_a_broker(publish, broker):
    check_publisher(publish(f"mqtt://{broker.address}/robot"))
    check_publisher(publish(f"mqtt://127.0.0.1:{free_port()}/robot"))


def test_who_comes_late_is_told_what_is_kept(publish, broker):
    publisher = publish(f"mqtt://{broker.address}/robot/front")
    with Subscriber(broker) as early:
        greet(publisher)
        publisher.send(BEAT)
        publisher.send(result(7))
        assert early.wait("robot/front/detections")[0] == result(7)
        early.wait("robot/front/heartbeat")
    assert publisher.failure == ""
    with Subscriber(broker) as late:
        wait_for(lambda: len(late.messages) == 4, "four retained messages")
        assert all(message.retain for message in late.messages)
        assert late.wait("robot/front/status")[0].state == "streaming"
        assert late.wait("robot/front/hello") == [HELLO]
        assert [late.wait(f"robot/front/labels/{n}")[0] for n in (0, 2)] == LABELS
        publisher.send(result(8))
        late.wait("robot/front/detections")
        # whoever asks for QoS 2 gets results with 0 all the same: no broker keeps them for it
        qos = {message.topic.rpartition("/")[2]: message.qos for message in late.messages}
        assert (qos["detections"], qos["status"]) == (0, 1)
    assert publisher.sent == 7
    assert publisher.dropped == 0


def test_events_are_told_once_to_those_who_are_there(publish, broker):
    publisher = publish(f"mqtt://{broker.address}/robot/front")
    events = [
        RegionMessage(
            source="test",
            t_publish_ns=0,
            t_event_ns=0,
            age_ms=0.0,
            region="door",
            index=0,
            event="enter",
            track_id=i,
            class_id=0,
            label="a",
        )
        for i in range(30)
    ]
    with Subscriber(broker) as early:
        greet(publisher)
        early.wait("robot/front/status")
        for event in events:
            publisher.send(event)
        assert early.wait("robot/front/region", 30) == events
        told = [message for message in early.messages if message.topic == "robot/front/region"]
        assert {(message.qos, message.retain) for message in told} == {(1, False)}
    with Subscriber(broker) as late:
        late.wait("robot/front/status")
        assert late.payloads("robot/front/region") == []


def test_small_messages_are_not_held_back(broker):
    module = pytest.importorskip("edge.publishers.mqtt_broker")
    connection = module.BrokerConnection(module.broker_of(parse_uri(f"mqtt://{broker.address}/robot")))
    try:
        connection.open(DEADLINE_S)
        assert connection._client.socket().getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    finally:
        connection.close(said_all=True)


def test_binary(publish, broker):
    publisher = publish(f"mqtt://{broker.address}/robot?format=binary")
    greet(publisher)
    with Subscriber(broker) as reader:
        wait_for(lambda: len(reader.messages) == 4, "four retained messages")
        assert {decoder.decode(message.payload).kind for message in reader.messages} == {"hello", "labels", "status"}


def test_a_checksum_that_ends_like_a_line_stays_whole(publish, broker):
    publisher = publish(f"mqtt://{broker.address}/robot?format=binary")
    message = next(found for seq in range(100_000) if encoder.encode(found := status(seq)).endswith(b"\n"))
    with Subscriber(broker) as reader:
        publisher.send(message)
        wait_for(lambda: reader.messages, "the message")
        assert reader.messages[0].payload == encoder.encode(message)


def test_closing_says_so_unless_the_run_did(publish, broker):
    said = publish(f"mqtt://{broker.address}/robot/said")
    unsaid = publish(f"mqtt://{broker.address}/robot/unsaid")
    greet(said)
    greet(unsaid)
    said.send(msgspec.structs.replace(status(2, "closed"), reason="end of file"))
    said.close(DEADLINE_S)
    unsaid.close(DEADLINE_S)
    with Subscriber(broker) as reader:
        last = [reader.wait(f"robot/{name}/status")[-1] for name in ("said", "unsaid")]
    assert [(message.state, message.reason) for message in last] == [("closed", "end of file"), ("closed", "stopped")]
    assert last[1].source == "test"


CHILD = """
import sys, time
from edge.registry import resolve
from edge.uri import parse_uri
from edge.wire.messages import StatusMessage
publisher = resolve("publishers", "mqtt")(parse_uri(sys.argv[1]))
publisher.send(StatusMessage(source="test", t_publish_ns=0, t_event_ns=0, state="streaming", engine="e"))
time.sleep(60)
"""


def test_the_broker_tells_when_the_publisher_was_killed(broker):
    with Subscriber(broker) as reader:
        child = subprocess.Popen([sys.executable, "-c", CHILD, f"mqtt://{broker.address}/robot"])
        try:
            assert reader.wait("robot/status")[0].state == "streaming"
        finally:
            os.kill(child.pid, signal.SIGKILL)
            child.wait(20)
        will = reader.wait("robot/status", 2)[1]
    assert (will.state, will.reason, will.source) == ("closed", "lost connection", "test")
    assert abs(will.t_event_ns - time.time_ns()) < 60e9  # of connecting
    with Subscriber(broker) as late:
        assert late.wait("robot/status")[0].reason == "lost connection"


def test_a_broker_may_come_later_and_go_and_come_back(publish, tmp_path):
    broker = Mosquitto(tmp_path)
    publisher = publish(f"mqtt://{broker.address}/robot")
    greet(publisher)
    for seq in range(100):
        publisher.send(result(seq))
    wait_for(lambda: publisher.failure, "the failure")
    assert broker.address in publisher.failure
    assert "start it" in publisher.failure
    for _ in range(2):
        broker.start()
        try:
            with Subscriber(broker) as reader:
                publisher.send(result(100))
                assert [message.seq for message in reader.wait("robot/detections")] == [100]
                assert reader.wait("robot/hello") == [HELLO]
                assert reader.wait("robot/status")[0].state == "streaming"
                assert publisher.failure == ""
        finally:
            broker.stop()
        wait_for(lambda: publisher.failure, "the failure")
    assert publisher.dropped == 100


def test_a_stalled_broker_leaves_no_backlog(publish, broker):
    publisher = publish(f"mqtt://{broker.address}/robot")
    greet(publisher)
    with Subscriber(broker) as reader:
        publisher.send(captured_now(0))
        reader.wait("robot/detections")
        broker.stall()
        try:
            for seq in range(1, 1001):
                publisher.send(captured_now(seq))
                time.sleep(0.001)
            wait_for(lambda: publisher.failure, "the failure")
            assert "does not take" in publisher.failure
        finally:
            broker.resume()
        wait_for(lambda: publisher.failure == "", "the end of the failure")
        publisher.send(captured_now(1001))
        wait_for(lambda: reader.payloads("robot/detections")[-1].seq == 1001, "the newest")
        seqs = [message.seq for message in reader.payloads("robot/detections")]
    # one was on its way when the broker stalled; of all others only the newest waited
    assert seqs[0] == 0
    assert set(seqs) <= {0, 1, 1000, 1001}, seqs
    assert publisher.dropped >= 998


def test_closing_waits_for_no_stalled_broker_and_leaves_the_word_to_it(publish, broker):
    publisher = publish(f"mqtt://{broker.address}/robot")
    greet(publisher)
    with Subscriber(broker) as reader:
        reader.wait("robot/status")
        broker.stall()
        try:
            began = time.monotonic()
            publisher.close(0.2)
            assert time.monotonic() - began < 1.5
        finally:
            broker.resume()
        wait_for(lambda: reader.payloads("robot/status")[-1].state == "closed", "the status closed")
        assert reader.payloads("robot/status")[-1].reason in ("stopped", "lost connection")


@pytest.fixture
def locked(tmp_path) -> Iterator[Mosquitto]:
    """A broker that knows one user."""
    program = shutil.which("mosquitto_passwd")
    if program is None:
        pytest.skip("mosquitto_passwd is not installed")
    passwords = tmp_path / "passwords"
    subprocess.run([program, "-b", "-c", str(passwords), "ann", "s/e@t"], check=True, timeout=60)
    made = Mosquitto(tmp_path, f"allow_anonymous false\npassword_file {passwords}")
    made.start()
    yield made
    made.stop()


def test_passwords(publish, locked, tmp_path):
    file = tmp_path / "secret"
    file.write_text("s/e@t\n")
    for login, options in (("ann:s%2Fe%40t", ""), ("ann", f"?password_file={file}")):
        publisher = publish(f"mqtt://{login}@{locked.address}/robot{options}")
        publisher.send(status(1))
        wait_for(lambda: publisher.sent == 1, "the status")  # noqa: B023
        assert "s/e" not in publisher.address + publisher.failure
    for login in ("ann:wrong@", ""):
        publisher = publish(f"mqtt://{login}{locked.address}/robot")
        publisher.send(status(1))
        wait_for(lambda: publisher.failure, "the failure")  # noqa: B023
        assert "refuses" in publisher.failure
        assert locked.address in publisher.failure
        assert "wrong" not in publisher.failure


def test_tls(publish, tmp_path, caplog):
    cert, key = certificate(tmp_path, "own")
    broker = Mosquitto(tmp_path, f"allow_anonymous true\ncertfile {cert}\nkeyfile {key}")
    broker.start()
    try:
        trusted = publish(f"mqtts://{broker.address}/robot/trusted?ca={cert}")
        trusted.send(status(1))
        for seq in range(100):
            trusted.send(result(seq, "x" * 20_000))
            wait_for(lambda seq=seq: trusted.sent == seq + 2, "the result")
        doubted = publish(f"mqtts://{broker.address}/robot/doubted")
        doubted.send(status(1))
        wait_for(lambda: "not trusted" in doubted.failure and "ca=FILE" in doubted.failure, "the failure")
        plain = publish(f"mqtt://{broker.address}/robot/plain")
        plain.send(status(1))
        wait_for(lambda: "mqtts" in plain.failure, "the failure")
        with caplog.at_level(logging.WARNING, "harrier"):
            careless = publish(f"mqtts://{broker.address}/robot/careless?insecure=true")
        careless.send(status(1))
        wait_for(lambda: careless.sent == 1, "the status")
        assert "insecure" in caplog.text
    finally:
        broker.stop()


def test_a_password_that_travels_readable_is_warned_of(publish, caplog):
    with caplog.at_level(logging.WARNING, "harrier"):
        publish("mqtt://ann:secret@broker.invalid/robot")
    assert "readable" in caplog.text
    assert "secret" not in caplog.text


@pytest.mark.parametrize(
    ("uri", "cause"),
    [
        ("mqtt://127.0.0.1:1883", "names no topic"),
        ("mqtt:///robot", "names no broker"),
        ("mqtt://127.0.0.1:70000/robot", "no host and port"),
        ("mqtt://127.0.0.1/robot/%23", "cannot be a topic"),
        ("mqtt://127.0.0.1/a/+/b", "cannot be a topic"),
        ("mqtt://127.0.0.1/robot?qos=1", "unknown"),
        ("mqtt://127.0.0.1/robot?insecure=true", "are for mqtts"),
        ("mqtt://:hidden@127.0.0.1/robot", "no user"),
        ("mqtt://ann:hidden@127.0.0.1/robot?password_file=x", "two passwords"),
        ("mqtt://ann@127.0.0.1/robot?password_file=/nowhere", "cannot read"),
        ("mqtts://127.0.0.1/robot?ca=/nowhere", "no certificate"),
        ("mqtts://127.0.0.1/robot?cert=/nowhere", "half of a client certificate"),
        ("mqtts://127.0.0.1/robot?cert=/nowhere&key=/nowhere", "are no pair"),
    ],
)
def test_wrong_uris_are_refused_before_the_start(uri, cause):
    with pytest.raises(ConfigError, match=cause) as caught:
        resolve("publishers", "mqtt").check(parse_uri(uri))
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize(
    ("uri", "address"),
    [
        ("mqtt://host/a", "mqtt://host:1883/a"),
        ("mqtts://host/a/b/", "mqtts://host:8883/a/b"),
        ("mqtt://[::1]/a", "mqtt://[::1]:1883/a"),
        ("mqtt://u:p%40%2F@[::1]:99/a%20b", "mqtt://[::1]:99/a b"),
    ],
)
def test_ports_may_be_left_out(uri, address):
    broker_of = pytest.importorskip("edge.publishers.mqtt_broker").broker_of
    with contextlib.nullcontext(broker_of(parse_uri(uri))) as broker:
        assert broker.address == address
