"""The Zenoh publisher with real sessions over loopback: keys, who comes late, who is not there, the time."""

import socket
import threading
import time

import pytest

pytest.importorskip("zenoh", reason="the extra zenoh is not installed")

import zenoh

from edge.errors import ConfigError, PublishError
from edge.publishers import zenoh as zenoh_publisher
from edge.publishers.zenoh import ZenohPublisher
from edge.publishers.zenoh_session import open_session
from edge.testing import check_publisher
from edge.uri import parse_uri
from edge.wire import decoder, encoder, jsonl
from edge.wire.messages import (
    ClockMessage,
    DetectionsMessage,
    HelloMessage,
    LabelsMessage,
    Message,
    RegionMessage,
    StatusMessage,
)
from edge.wire.names import Names

DEADLINE_S = 10.0


def free_endpoint() -> str:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return f"tcp/127.0.0.1:{sock.getsockname()[1]}"


def result(seq: int) -> DetectionsMessage:
    return DetectionsMessage(source="cam", seq=seq, t_publish_ns=seq, t_capture_ns=seq, age_ms=0.0, detections=[])


def status(seq: int, state="streaming") -> StatusMessage:
    return StatusMessage(source="cam", seq=seq, t_publish_ns=0, t_event_ns=0, state=state)


GREETING: list[Message] = [
    HelloMessage(source="cam", model="m", model_id=7, class_count=3),
    LabelsMessage(source="cam", model_id=7, first=0, total=3, labels=["cat", "dog"]),
    LabelsMessage(source="cam", model_id=7, first=2, total=3, labels=["bird"]),
]


class Reader:
    """A plain Zenoh session that notes every sample below the prefix."""

    def __init__(self, endpoint: str, prefix: str = "harrier", mode: str = "client", listen: str = "") -> None:
        self.got: list[tuple[str, bytes]] = []
        self.changed = threading.Condition()
        self.session = open_session(mode, endpoint, listen, "", DEADLINE_S)
        self.subscriber = self.session.declare_subscriber(f"{prefix}/**", self.take)

    def take(self, sample: zenoh.Sample) -> None:
        with self.changed:
            self.got.append((str(sample.key_expr), sample.payload.to_bytes()))
            self.changed.notify_all()

    def wait(self, condition, what: str) -> None:
        with self.changed:
            assert self.changed.wait_for(condition, DEADLINE_S), f"waited {DEADLINE_S} s for {what}: {self.got}"


@pytest.fixture
def endpoint() -> str:
    return free_endpoint()


def until_seen(publisher: ZenohPublisher, reader: Reader) -> None:
    """Discovery takes a moment: publish until something arrives, then forget that."""
    deadline = time.monotonic() + DEADLINE_S
    while not reader.got:
        assert time.monotonic() < deadline, f"nothing arrived within {DEADLINE_S} s"
        publisher.send(result(0))
        time.sleep(0.02)
    publisher.send(last := result(999_999))  # behind it nothing of this is still on its way
    forms = (encoder.encode(last), jsonl.encode(last))
    reader.wait(lambda: reader.got[-1][1] in forms, "the last of them")
    reader.got.clear()


def test_the_publisher_keeps_the_contract(endpoint):
    check_publisher(ZenohPublisher(parse_uri(f"zenoh://harrier?listen={endpoint}")))


@pytest.mark.parametrize("form", ["binary", "json"])
def test_each_kind_has_its_key_and_its_bytes(endpoint, form):
    publisher = ZenohPublisher(parse_uri(f"zenoh://robot1/front/detections?listen={endpoint}&format={form}"))
    reader = Reader(endpoint, "robot1/front")
    until_seen(publisher, reader)
    door = {"source": "cam", "t_publish_ns": 0, "t_event_ns": 0, "age_ms": 0.0, "region": "door", "index": 0}
    event = RegionMessage(**door, event="enter", track_id=7, class_id=0, label="cat")
    messages: list[Message] = [*GREETING, status(1), result(5), event]
    for message in messages:
        publisher.send(message)
    reader.wait(lambda: len(reader.got) == 6, "six messages")
    encode = jsonl.encode if form == "json" else encoder.encode
    names = ("hello", "labels/0", "labels/2", "status", "detections", "region")
    expected = [(f"robot1/front/{name}", encode(m)) for name, m in zip(names, messages, strict=True)]
    assert reader.got == expected
    publisher.close()
    reader.session.close()


def test_a_query_tells_what_was_said_before(endpoint):
    publisher = ZenohPublisher(parse_uri(f"zenoh://?listen={endpoint}"))
    for message in (*GREETING, status(1, "connecting"), result(1), status(2)):
        publisher.send(message)
    session = open_session("client", endpoint, "", "", DEADLINE_S)
    deadline = time.monotonic() + DEADLINE_S
    found: dict[str, bytes] = {}
    while len(found) < 4 and time.monotonic() < deadline:
        replies = [reply.ok for reply in session.get("harrier/**", timeout=1.0)]
        found = {str(sample.key_expr): sample.payload.to_bytes() for sample in replies if sample is not None}
    assert sorted(found) == ["harrier/hello", "harrier/labels/0", "harrier/labels/2", "harrier/status"]
    assert decoder.decode(found["harrier/status"], Names()).seq == 2
    only = [reply.ok for reply in session.get("harrier/labels/*", timeout=1.0)]
    assert sorted(str(sample.key_expr) for sample in only) == ["harrier/labels/0", "harrier/labels/2"]
    publisher.send(HelloMessage(source="cam", model="other", model_id=8))
    while len(found) != 2 and time.monotonic() < deadline:
        replies = [reply.ok for reply in session.get("harrier/**", timeout=1.0)]
        found = {str(sample.key_expr): b"" for sample in replies if sample is not None}
    assert sorted(found) == ["harrier/hello", "harrier/status"]
    session.close()
    publisher.close()


@pytest.mark.parametrize("encode", [encoder.encode, jsonl.encode], ids=["binary", "json"])
def test_a_question_for_the_time_is_answered_and_nonsense_is_not(endpoint, encode):
    publisher = ZenohPublisher(parse_uri(f"zenoh://?listen={endpoint}"))
    session = open_session("client", endpoint, "", "", DEADLINE_S)

    def ask(payload: bytes) -> list[Message]:
        answers = [reply.ok for reply in session.get("harrier/clock", payload=payload, timeout=1.0)]
        return [decoder.decode(sample.payload.to_bytes(), Names()) for sample in answers if sample is not None]

    deadline = time.monotonic() + DEADLINE_S
    answers: list[Message] = []
    while not answers and time.monotonic() < deadline:
        before = time.time_ns()
        answers = ask(encode(ClockMessage(reply=False, t_request_ns=12345)))
    (answer,) = answers
    assert isinstance(answer, ClockMessage)
    assert (answer.reply, answer.t_request_ns) == (True, 12345)
    assert before <= answer.t_receive_ns <= answer.t_reply_ns <= time.time_ns()
    assert ask(b"nonsense") == []
    assert ask(encode(ClockMessage(reply=True, t_request_ns=1))) == []
    session.close()
    publisher.close()


def test_a_liveliness_token_says_that_the_publisher_is_there(endpoint):
    publisher = ZenohPublisher(parse_uri(f"zenoh://?listen={endpoint}"))
    session = open_session("client", endpoint, "", "", DEADLINE_S)
    seen: list[zenoh.SampleKind] = []
    session.liveliness().declare_subscriber("harrier/alive/*", lambda sample: seen.append(sample.kind), history=True)
    deadline = time.monotonic() + DEADLINE_S
    while not seen and time.monotonic() < deadline:
        time.sleep(0.01)
    publisher.close()
    while len(seen) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert seen == [zenoh.SampleKind.PUT, zenoh.SampleKind.DELETE]
    session.close()


def test_the_last_message_arrives_before_the_publisher_is_gone(endpoint):
    publisher = ZenohPublisher(parse_uri(f"zenoh://?listen={endpoint}"))
    reader = Reader(endpoint)
    until_seen(publisher, reader)
    publisher.send(result(1))
    publisher.send(status(2, "closed"))
    publisher.close()
    reader.wait(lambda: len(reader.got) == 2, "the last messages")
    assert [key for key, _ in reader.got] == ["harrier/detections", "harrier/status"]
    reader.session.close()


def test_a_router_that_is_not_there_is_a_failure_until_it_comes(endpoint):
    publisher = ZenohPublisher(parse_uri(f"zenoh://?connect={endpoint}"))
    deadline = time.monotonic() + DEADLINE_S
    while not publisher.failure and time.monotonic() < deadline:
        time.sleep(0.01)
    assert publisher.failure == f"nobody answers at {endpoint}"
    publisher.send(result(1))
    while not publisher.dropped and time.monotonic() < deadline:
        time.sleep(0.01)
    assert (publisher.sent, publisher.dropped) == (0, 1)
    router = open_session("router", "", endpoint, "")
    while publisher.failure and time.monotonic() < deadline:
        time.sleep(0.01)
    assert publisher.failure == ""
    reader = Reader(endpoint)
    until_seen(publisher, reader)
    publisher.send(result(9))
    reader.wait(lambda: reader.got, "a result through the router")
    assert reader.got == [("harrier/detections", encoder.encode(result(9)))]
    publisher.close()
    reader.session.close()
    router.close()


def test_without_endpoints_it_listens_where_routers_do_on_loopback(endpoint, monkeypatch):
    assert zenoh_publisher.ROUTER == "tcp/127.0.0.1:7447"
    monkeypatch.setattr(zenoh_publisher, "ROUTER", endpoint)
    publisher = ZenohPublisher(parse_uri("zenoh://"))
    assert publisher.address == f"zenoh://harrier ({endpoint})"
    reader = Reader(endpoint)
    until_seen(publisher, reader)
    publisher.close()
    reader.session.close()


def test_an_address_in_use_is_explained(endpoint):
    first = ZenohPublisher(parse_uri(f"zenoh://?listen={endpoint}"))
    with pytest.raises(PublishError, match=f"{endpoint} is in use: connect to what runs there: connect={endpoint}"):
        ZenohPublisher(parse_uri(f"zenoh://?listen={endpoint}"))
    first.close()


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("zenoh://a*b", "cannot be a Zenoh key"),
        ("zenoh://a//b", "cannot be a Zenoh key"),
        ("zenoh://?listen=tcp/0.0.0.0:7447", "anybody who can reach 0.0.0.0:7447: add insecure=true"),
        ("zenoh://?listen=tcp/127.0.0.1:1,tcp/[::]:7447", "anybody who can reach"),
        ("zenoh://?conect=tcp/127.0.0.1:7447", "did you mean 'connect'"),
        ("zenoh://?format=xml", "there is no format 'xml'"),
        ("zenoh://?config=/nowhere.json5", "is not a file"),
        ("zenoh://?connect=nonsense", "Zenoh does not take nonsense"),
    ],
)
def test_wrong_uris_are_explained(uri, says):
    with pytest.raises(ConfigError) as caught:
        ZenohPublisher(parse_uri(uri))
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_listening_elsewhere_is_warned_of(caplog):
    ZenohPublisher.check(parse_uri("zenoh://?listen=tcp/0.0.0.0:7447&insecure=yes"))
    assert "insecure, whoever reaches 0.0.0.0:7447 can read it" in caplog.text


def test_a_configuration_file_says_where(endpoint, tmp_path):
    path = tmp_path / "zenoh.json5"
    path.write_text(
        f'{{mode: "peer", listen: {{endpoints: ["{endpoint}"]}}, scouting: {{multicast: {{enabled: false}}}}}}'
    )
    publisher = ZenohPublisher(parse_uri(f"zenoh://?config={path}"))
    reader = Reader(endpoint)
    until_seen(publisher, reader)
    publisher.close()
    reader.session.close()


def test_a_file_that_is_no_configuration_is_explained(tmp_path):
    path = tmp_path / "zenoh.json5"
    path.write_text("mode: nonsense")
    with pytest.raises(ConfigError, match="Zenoh does not take"):
        ZenohPublisher(parse_uri(f"zenoh://?config={path}"))
