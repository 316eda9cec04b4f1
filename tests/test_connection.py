"""A connection on a fake link: what it sends, how it comes back, when vision counts as dead."""

import queue
import time
from collections.abc import Callable

import msgspec
import pytest

from edge import feed as feed_module
from edge.client import connect
from edge.connection import Connection
from edge.errors import (
    ConfigError,
    EndOfStreamError,
    PublishError,
    SourceOpenError,
    SourceTimeoutError,
    WireVersionError,
)
from edge.publishers.tcp import TcpPublisher
from edge.uri import parse_uri
from edge.wire.decoder import decode
from edge.wire.encoder import encode
from edge.wire.layout import crc16
from edge.wire.messages import DetectionsMessage, HeartbeatMessage, HelloMessage, Message, StatusMessage

DEADLINE_S = 20.0
MS, S = 1_000_000, 1_000_000_000


class FakeLink:
    """What `said` holds comes out of receive, or is raised; `opening` holds errors for the next calls of open."""

    framing = "message"
    two_way = True

    def __init__(self, *opening: Exception) -> None:
        self.opening = list(opening)
        self.said: queue.Queue[bytes | Exception] = queue.Queue()
        self.sent: list[Message] = []
        self.opened = self.closed = 0

    def open(self, timeout_s: float) -> None:
        self.opened += 1
        if self.opening:
            raise self.opening.pop(0)

    def receive(self, timeout_s: float) -> bytes:
        try:
            item = self.said.get(timeout=min(timeout_s, 0.01))
        except queue.Empty:
            return b""
        if isinstance(item, Exception):
            raise item
        return item

    def send(self, data: bytes) -> None:
        self.sent.append(decode(data))

    def close(self) -> None:
        self.closed += 1

    def say(self, *messages: Message) -> None:
        for message in messages:
            self.said.put(encode(message))

    def sent_kinds(self) -> list[str]:
        return [message.kind for message in self.sent if message.kind != "clock"]


def seen(seq: int) -> DetectionsMessage:
    return DetectionsMessage(seq=seq, t_publish_ns=0, t_capture_ns=0, age_ms=1, detections=[])


def beat(period_ms: int = 100, newest_age_ms: float | None = None) -> HeartbeatMessage:
    return HeartbeatMessage(
        t_publish_ns=0, uptime_ms=1, period_ms=period_ms, state="streaming", newest_age_ms=newest_age_ms
    )


def status(seq: int) -> StatusMessage:
    return StatusMessage(seq=seq, t_publish_ns=0, t_event_ns=0, state="lost")


def wait_until(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not true():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.002)


@pytest.fixture
def now(monkeypatch) -> Callable[[int], None]:
    """Sets the clock of the connection, in ns; it stands still otherwise."""
    t_ns = [100 * S]
    monkeypatch.setattr(feed_module, "monotonic_ns", lambda: t_ns[0])

    def set_to(value: int) -> None:
        t_ns[0] = 100 * S + value

    return set_to


def test_vision_is_dead_after_three_periods_without_result_or_heartbeat(now):
    link = FakeLink()
    with Connection(link, "fake") as connection:
        assert not connection.alive  # nothing was heard yet
        link.say(beat(period_ms=100))
        wait_until(lambda: connection.alive)
        now(300 * MS)
        assert connection.alive
        now(301 * MS)
        assert not connection.alive
        link.say(seen(1))  # sees nothing, but sees
        wait_until(lambda: connection.alive)
        assert connection.read(DEADLINE_S).detections == []
        now(602 * MS)
        assert not connection.alive
        link.say(status(1))  # a state is no sign of a running loop
        assert connection.read(DEADLINE_S).kind == "status"
        assert not connection.alive


def test_the_heartbeat_period_is_the_publishers(now):
    link = FakeLink()
    with Connection(link, "fake") as connection:
        link.say(HelloMessage(heartbeat_ms=1000), seen(1))
        wait_until(lambda: connection.alive)
        now(2999 * MS)
        assert connection.alive
        now(3001 * MS)
        assert not connection.alive


def test_it_connects_again_and_says_why_it_had_to():
    nobody = SourceTimeoutError("nobody answers", "start it")
    link = FakeLink(nobody, PublishError("no such device", "plug it in"))
    with Connection(link, "fake", token="s") as connection:
        wait_until(lambda: connection.state == "connected")
        assert connection.error == "no such device: plug it in"  # until something came
        link.say(seen(1))
        assert connection.read(DEADLINE_S).seq == 1
        assert connection.error == ""
        link.said.put(EndOfStreamError("it hung up", "look"))
        wait_until(lambda: link.opened == 4)
        link.say(seen(2))
        assert connection.read(DEADLINE_S).seq == 2
        assert link.sent_kinds() == ["hello", "hello"]
        assert {message.token for message in link.sent if message.kind == "hello"} == {"s"}
    assert connection.state == "closed"
    assert link.closed >= 4


def test_a_silent_connection_is_given_up_and_made_again(now):
    link = FakeLink()
    with Connection(link, "fake", timeout_s=5) as connection:
        wait_until(lambda: connection.state == "connected")
        wait_until(lambda: link.sent)  # it receives by now
        now(6 * S)
        wait_until(lambda: link.opened == 2)
        assert connection.error == "nothing came from fake for 5 s: check that the sender runs"


def test_noise_is_silence_that_names_the_baud_rate(now):
    link = FakeLink()
    with Connection(link, "fake", timeout_s=5, reconnect=False) as connection:
        wait_until(lambda: connection.state == "connected")
        link.said.put(b"noise")
        wait_until(lambda: connection.damaged == 1)
        now(6 * S)
        link.said.put(b"noise")
        with pytest.raises(SourceTimeoutError, match="nothing whole came from fake for 5 s, 2 damaged: .* baud rate"):
            connection.read(DEADLINE_S)


def test_a_result_that_was_overtaken_is_not_the_newest():
    link = FakeLink()
    with Connection(link, "fake", every=True) as connection:
        late = seen(1)
        late.age_ms = 50.0
        link.say(seen(2), late)
        assert [connection.read(DEADLINE_S).seq for _ in range(2)] == [2, 1]
        assert connection.latest(float("inf")).seq == 2


@pytest.mark.parametrize(
    ("link", "said", "error"),
    [
        (FakeLink(PublishError("in use", "choose another")), None, PublishError),
        (FakeLink(ConfigError("not trusted", "give ca=")), None, ConfigError),
        (FakeLink(), EndOfStreamError("it hung up", "look"), SourceOpenError),
    ],
)
def test_without_reconnecting_the_first_trouble_is_told(link, said, error):
    if said is not None:
        link.said.put(said)
    with Connection(link, "fake", reconnect=False) as connection:
        for _ in range(2):  # nobody who calls again waits for ever
            with pytest.raises(error):
                connection.read(DEADLINE_S)
        assert connection.state == "failed"
        assert link.opened == 1


def test_what_no_retry_mends_is_told_at_once_also_to_who_only_looks():
    link = FakeLink()
    data = bytearray(encode(seen(1))[:-2])
    data[1] = 2
    for _ in range(3):
        link.said.put(bytes(data) + crc16(bytes(data)).to_bytes(2, "little"))
    with Connection(link, "fake") as connection:
        with pytest.raises(WireVersionError, match="run the same version"):
            for _ in connection:
                pass
        with pytest.raises(WireVersionError):
            connection.latest(100)
        assert (connection.state, link.opened) == ("failed", 1)
        assert "version 2" in connection.error


def test_a_defect_in_a_link_is_told_and_ends_whoever_reads():
    link = FakeLink(ZeroDivisionError("oops"))
    with Connection(link, "fake") as connection, pytest.raises(PublishError, match="oops.*report this as a defect"):
        connection.read(DEADLINE_S)


def test_the_newest_result_is_surely_not_older_than_asked_for():
    """What is not known of its age counts as age."""
    with Connection(FakeLink(), "fake") as connection:
        message = seen(1)
        message.ttl_ms, message.t_capture_local_ns = 5000, time.monotonic_ns() - 1 * S
        connection._feed.newest = message
        assert connection.latest() is connection.latest(5000) is message
        message.clock_error_ms = 10_000.0
        assert connection.latest() is None
        assert connection.latest(5000) is None
        assert connection.latest(60_000) is message


def test_whoever_is_slow_gets_the_newest_result_and_every_state_in_order():
    link = FakeLink()
    with Connection(link, "fake") as connection:
        link.say(seen(1), status(10), seen(2), status(11), seen(3), beat(), seen(4))
        wait_until(lambda: connection.latest(float("inf")) and connection.latest(float("inf")).seq == 4)
        assert [connection.read(DEADLINE_S).seq for _ in range(3)] == [10, 11, 4]
        assert connection.read(0) is None
        assert connection.dropped == 3


def test_kinds_choose_what_is_read_and_nothing_else():
    link = FakeLink()
    with Connection(link, "fake", kinds=("heartbeat",), every=True) as connection:
        link.say(HelloMessage(source="cam", model="m", model_id=1), seen(1), beat(), status(1), beat())
        assert [connection.read(DEADLINE_S).kind for _ in range(2)] == ["heartbeat"] * 2
        assert connection.read(0.05) is None
        assert connection.hello.model == "m"
        assert connection.latest(float("inf")).seq == 1


def test_credit_is_given_for_one_result_and_again_when_it_was_taken():
    link = FakeLink()
    with Connection(link, "fake", credit=True) as connection:
        credits = lambda: [message.results for message in link.sent if message.kind == "credit"]  # noqa: E731
        wait_until(lambda: credits() == [0])  # nothing unasked, and nobody asks yet
        assert connection.read(0) is None
        assert credits() == [0, 1]
        assert connection.read(0) is None
        assert credits() == [0, 1]  # one is under way
        link.say(seen(1))
        wait_until(lambda: connection._feed.newest is not None)
        assert credits() == [0, 1]  # not before it was taken
        assert connection.read(0).seq == 1
        assert credits() == [0, 1]
        assert connection.read(0) is None
        assert credits() == [0, 1, 1]


def test_a_lost_credit_is_given_again(now):
    link = FakeLink()
    with Connection(link, "fake", credit=True, kinds=("detections", "heartbeat"), every=True) as connection:
        wait_until(lambda: link.sent_kinds() == ["credit"])
        assert connection.read(0) is None
        now(900 * MS)
        link.say(beat(newest_age_ms=1))  # there was one, which may still be on its way
        assert connection.read(DEADLINE_S).kind == "heartbeat"
        assert link.sent_kinds() == ["credit", "credit"]
        now(2 * S)
        link.say(beat(newest_age_ms=2500))  # no result since
        assert connection.read(DEADLINE_S).kind == "heartbeat"
        assert link.sent_kinds() == ["credit", "credit"]
        link.say(beat(newest_age_ms=100))  # there was one, and it did not come
        assert connection.read(DEADLINE_S).kind == "heartbeat"
        wait_until(lambda: link.sent_kinds() == ["credit"] * 3)


def test_wishes_are_sent_and_sent_again_to_whoever_answers_next():
    link = FakeLink()
    with Connection(link, "fake") as connection:
        wait_until(lambda: connection.state == "connected")
        connection.subscribe(kinds=("detections",), max_rate_hz=5, class_ids=(0, 3))
        (wish,) = [message for message in link.sent if message.kind == "control"]
        assert set(wish.kinds) == {"detections", "status", "heartbeat", "hello", "labels", "clock"}
        assert (wish.max_rate_hz, wish.class_ids, wish.command) == (5.0, (0, 3), "")
        link.say(seen(1))
        link.said.put(EndOfStreamError("it hung up", "look"))
        wait_until(lambda: link.sent_kinds() == ["control"] * 2)
        assert [message for message in link.sent if message.kind == "control"] == [wish, wish]
        wait_until(lambda: connection.state == "connected")
        connection.command("stop")
        command = [message for message in link.sent if message.kind == "control"][-1]
        assert (command.command, command.class_ids) == ("stop", (0, 3))  # the wishes stay as they were
        with pytest.raises(ConfigError, match="no command 'jump'"):
            connection.command("jump")
    with pytest.raises(PublishError, match=r"not connected \(closed\)"):
        connection.command("stop")


def test_questions_for_the_time_are_sent_at_once_and_not_over_one_way_links():
    link = FakeLink()
    with Connection(link, "fake"):
        wait_until(lambda: any(message.kind == "clock" and not message.reply for message in link.sent))
    one_way = FakeLink()
    one_way.two_way = False
    with Connection(one_way, "fake") as connection:
        one_way.say(seen(1))
        assert connection.read(DEADLINE_S).clock_error_ms is None
        with pytest.raises(ConfigError, match="goes one way"):
            connection.subscribe(max_rate_hz=1)
        with pytest.raises(ConfigError, match="goes one way"):
            connection.command("stop")
        with pytest.raises(ConfigError, match="goes one way: leave out token and credit"):
            Connection(one_way, "fake", token="x")
        with pytest.raises(ConfigError, match="goes one way"):
            Connection(one_way, "fake", credit=True)
    assert one_way.sent == []


def seen_now(seq: int) -> DetectionsMessage:
    return msgspec.structs.replace(seen(seq), t_capture_ns=time.time_ns(), t_capture_local_ns=time.monotonic_ns())


def test_who_only_asks_for_the_newest_gets_a_new_one_for_every_credit():
    """The inbox that nobody empties must not stop the asking; and nothing is sent before somebody wants it."""
    publisher = TcpPublisher(parse_uri("tcp://127.0.0.1:0"))
    with connect(publisher.address, credit=True) as vision:
        deadline = time.monotonic() + DEADLINE_S
        while vision.state != "connected" or not publisher.client_count:
            assert time.monotonic() < deadline
            time.sleep(0.005)
        time.sleep(0.1)
        publisher.send(seen_now(1))
        time.sleep(0.1)
        assert vision._feed.newest is None
        found = set()
        for seq in range(2, 12):
            publisher.send(seen_now(seq))
            while (newest := vision.latest(60_000)) is None or newest.seq in found:
                assert time.monotonic() < deadline
                time.sleep(0.002)
            found.add(newest.seq)
        assert len(found) == 10
    publisher.close()
    assert vision.latest(60_000) is None
    assert not vision.alive


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_rate_hz": 0.04},
        {"max_rate_hz": -1.0},
        {"max_rate_hz": float("nan")},
        {"class_ids": (-1,)},
        {"class_ids": (70_000,)},
        {"class_ids": ("face",)},
        {"class_ids": tuple(range(300))},
    ],
)
def test_what_cannot_be_asked_for_is_refused(wrong):
    with Connection(FakeLink(), "fake") as connection, pytest.raises(ConfigError):
        connection.subscribe(**wrong)
