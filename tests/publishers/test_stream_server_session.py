"""One reader's side of a conversation, without sockets: tokens, credits, views, clocks, limits."""

import itertools
import time

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.clock import monotonic_ns
from edge.publishers.access import ListenOptions
from edge.publishers.session import Channel, Session
from edge.wire import decoder, encoder, jsonl
from edge.wire.messages import (
    ClassificationMessage,
    ClockMessage,
    ControlMessage,
    CreditMessage,
    DetectionRecord,
    DetectionsMessage,
    HeartbeatMessage,
    HelloMessage,
    LabelsMessage,
    Message,
    StatusMessage,
)

MS = 1_000_000


class Clock:
    """Time that stands still until it is moved."""

    def __init__(self) -> None:
        self.now_ns = 1_000 * MS

    def __call__(self) -> int:
        return self.now_ns

    def pass_ms(self, ms: float) -> None:
        self.now_ns += int(ms * MS)


def conversation(**options) -> tuple[Channel, Clock, Session]:
    clock = Clock()
    channel = Channel(ListenOptions(**options), jsonl.encode, clock)
    return channel, clock, channel.open("reader")


def result(seq: int, *class_ids: int) -> DetectionsMessage:
    records = [DetectionRecord(str(c), c, 0.5, (0.0, 0.0, 1.0, 1.0)) for c in class_ids]
    return DetectionsMessage(seq=seq, t_publish_ns=0, t_capture_ns=0, age_ms=0.0, detections=records)


def status(seq: int) -> StatusMessage:
    return StatusMessage(seq=seq, t_publish_ns=0, t_event_ns=0, state="streaming")


def heartbeat(seq: int) -> HeartbeatMessage:
    return HeartbeatMessage(seq=seq, t_publish_ns=0, uptime_ms=0, period_ms=250, state="streaming")


def say(session: Session, message: Message, binary: bool = False) -> None:
    session.receive(encoder.encode(message) if binary else jsonl.encode(message)[:-1])


def tell(channel: Channel, *messages: Message) -> None:
    for message in messages:
        item = channel.put(message)
        for session in channel.sessions.values():
            session.put(item)


def heard(session: Session) -> list[Message]:
    found = []
    while (payload := session.take()) is not None:
        found.append(jsonl.decode(payload))
    return found


def summary(session: Session) -> list[tuple[str, int]]:
    return [(message.kind, message.seq) for message in heard(session)]


def test_without_wishes_a_reader_gets_the_newest_of_everything():
    channel, _, session = conversation()
    tell(channel, status(1), result(1), heartbeat(1), result(2), heartbeat(2))
    assert summary(session) == [("status", 1), ("detections", 2), ("heartbeat", 2)]
    assert (session.sent, session.dropped, channel.sent, channel.dropped) == (3, 1, 3, 1)
    assert session.due_ns is None


def test_a_result_that_waits_for_its_reader_is_told_with_the_age_it_then_has():
    channel, clock, session = conversation()
    late = channel.open("late")
    captured_ns = monotonic_ns() - 50 * MS
    message = msgspec.structs.replace(result(1), age_ms=50.0, t_capture_local_ns=captured_ns)
    tell(channel, message)
    (first,) = heard(session)
    time.sleep(0.02)
    clock.pass_ms(20)
    (second,) = heard(late)
    assert second.age_ms >= first.age_ms + 19


def test_whoever_comes_later_is_told_the_greeting_and_the_last_state_only():
    channel, _, _ = conversation()
    labels = [LabelsMessage(model_id=1, first=i, total=200, labels=[str(i)]) for i in range(200)]
    old = LabelsMessage(model_id=9, first=777, total=778, labels=["of the model before"])
    tell(channel, status(1), HelloMessage(model="old"), old, HelloMessage(model="new"), *labels, result(1), status(2))
    late = heard(channel.open("late"))
    assert [message.seq for message in late if message.kind == "status"] == [2]
    assert [message.model for message in late if message.kind == "hello"] == ["new"]
    assert [message.first for message in late if message.kind == "labels"] == list(range(200))
    assert len(late) == 202
    assert [late[0].kind, late[-1].kind] == ["hello", "status"]  # names first: numbers alone say little


@pytest.mark.parametrize("binary", [False, True])
def test_with_a_token_nothing_is_said_before_it(binary):
    channel, clock, session = conversation(token="sésame")
    tell(channel, status(1), result(1))
    say(session, ClockMessage(reply=False, t_request_ns=5), binary)
    say(session, CreditMessage(results=9), binary)
    assert session.take() is None
    assert not session.pending
    clock.pass_ms(1999)
    assert session.take() is None
    assert not session.ended
    say(session, HelloMessage(token="sésame"), binary)
    assert summary(session) == [("status", 1), ("detections", 1)]
    assert session.credits is None  # what it said before counts for nothing
    clock.pass_ms(10_000)
    assert session.take() is None
    assert not session.ended


@pytest.mark.parametrize("token", ["", "sesam", "sesame ", "SESAME", "sésame"])
def test_a_wrong_token_ends_it_and_so_does_silence(token):
    channel, _, session = conversation(token="sesame")
    tell(channel, status(1))
    say(session, HelloMessage(token=token))
    assert session.ended == "its token is wrong"
    assert session.take() is None
    say(session, HelloMessage(token="sesame"))  # no second try
    assert session.take() is None


def test_silence_ends_it_when_a_token_is_due():
    _, clock, session = conversation(token="sesame")
    assert session.due_ns == clock.now_ns + 2000 * MS
    clock.pass_ms(2000)
    assert session.take() is None
    assert session.ended == "it gave no token in time"


def test_results_wait_for_credits_and_the_newest_is_the_one_that_goes():
    channel, _, session = conversation()
    tell(channel, result(1))
    assert summary(session) == [("detections", 1)]
    say(session, CreditMessage(results=2))
    for seq in range(2, 6):
        tell(channel, result(seq), heartbeat(seq))
        expected = [("detections", seq)] if seq < 4 else []
        assert summary(session) == [*expected, ("heartbeat", seq)]
    assert session.credits == 0
    assert not session.pending
    say(session, CreditMessage(results=1))
    assert session.pending
    assert summary(session) == [("detections", 5)]
    assert session.dropped == 1


def test_a_slow_reader_with_credits_always_takes_the_newest_there_is():
    """5 results a second of 30: whenever it asks, what it gets is not older than one frame."""
    channel, clock, session = conversation()
    say(session, CreditMessage(results=0))
    ages_ms, captured = [], {}
    for step in range(600):  # 20 s in thirtieths of a second
        captured[step] = clock.now_ns
        tell(channel, result(step))
        if step % 6 == 5:
            clock.pass_ms(20)
            say(session, CreditMessage(results=1))
            ages_ms += [(clock.now_ns - captured[message.seq]) / MS for message in heard(session)]
            clock.pass_ms(1000 / 30 - 20)
        else:
            assert heard(session) == []
            clock.pass_ms(1000 / 30)
    assert len(ages_ms) == 100
    assert max(ages_ms) < 1000 / 30
    assert session.dropped == 600 - 100


def test_credits_add_up_to_a_limit_and_cannot_be_negative():
    _, _, session = conversation()
    for _ in range(3):
        say(session, CreditMessage(results=60_000))
    assert session.credits == 65_535
    session.receive(b'{"kind":"credit","results":-1}')
    assert "is no message" in session.ended


def test_a_result_that_waited_is_stamped_with_its_age_when_it_goes(monkeypatch):
    channel, clock, session = conversation()
    monkeypatch.setattr("edge.wire.building.monotonic_ns", clock)
    message = msgspec.structs.replace(result(1), t_capture_local_ns=clock.now_ns)
    say(session, CreditMessage(results=0))
    tell(channel, message)
    other = channel.open("another")
    other.put(channel.put(message))
    assert [m.age_ms for m in heard(other)] == [0.0]
    clock.pass_ms(150)
    say(session, CreditMessage(results=1))
    assert [m.age_ms for m in heard(session)] == [150.0]


def test_a_message_is_encoded_once_for_all_readers():
    calls = []

    def encode(message: Message) -> bytes:
        calls.append(message)
        return jsonl.encode(message)

    channel = Channel(ListenOptions(), encode, Clock())
    sessions = [channel.open(str(i)) for i in range(50)]
    tell(channel, result(1), heartbeat(1))
    assert all(len(heard(session)) == 2 for session in sessions)
    assert len(calls) == 2


def test_a_message_too_large_for_its_format_is_passed_over_and_counted():
    channel = Channel(ListenOptions(), encoder.encode, Clock())
    session = channel.open("reader")
    tell(channel, LabelsMessage(model_id=1, first=0, total=99, labels=["x" * 200] * 99), heartbeat(1))
    assert decoder.decode(session.take()).kind == "heartbeat"
    assert session.take() is None
    assert session.dropped == 1


def test_what_could_not_be_written_is_put_back_and_a_newer_result_takes_its_place():
    channel, clock, session = conversation(control="view")
    say(session, CreditMessage(results=1))
    say(session, ControlMessage(max_rate_hz=1.0))
    clock.pass_ms(5000)
    tell(channel, result(1))
    session.take()
    session.put_back()
    session.put_back()  # there is nothing more to put back
    assert (session.credits, session.sent, channel.sent, session.dropped) == (1, 0, 0, 0)
    tell(channel, result(2), status(1))
    assert summary(session) == [("detections", 2), ("status", 1)]
    assert (session.credits, session.sent, session.dropped) == (0, 2, 1)


def test_changes_of_state_and_answers_that_are_put_back_keep_their_place():
    channel, _, session = conversation()
    tell(channel, status(1), status(2))
    for asked in (7, 8):
        say(session, ClockMessage(reply=False, t_request_ns=asked))
    for _ in range(3):
        session.take()
        session.put_back()
    first, second, *others = heard(session)
    assert (first.t_request_ns, second.t_request_ns) == (7, 8)
    assert [message.seq for message in others] == [1, 2]


def test_a_clock_question_is_answered_at_once_with_both_times():
    channel, clock, session = conversation()
    tell(channel, status(1))
    say(session, ClockMessage(reply=False, t_request_ns=(1 << 64) - 1))
    clock.pass_ms(7)
    answer = jsonl.decode(session.take())
    assert isinstance(answer, ClockMessage)
    assert answer.reply
    assert answer.t_request_ns == (1 << 64) - 1
    assert (answer.t_reply_ns - answer.t_receive_ns) / MS == pytest.approx(7, abs=5)  # of the real wall clock
    say(session, ClockMessage(reply=True, t_request_ns=1))
    assert summary(session) == [("status", 1)]


def test_questions_of_a_reader_that_takes_no_answers_do_not_pile_up():
    _, _, session = conversation()
    for i in range(100):
        say(session, ClockMessage(reply=False, t_request_ns=i))
    assert [message.t_request_ns for message in heard(session)] == list(range(92, 100))


@pytest.mark.parametrize("control", ["off", False])
def test_control_does_nothing_unless_allowed(control):
    channel, _, session = conversation(control=control)
    say(session, ControlMessage(kinds=("heartbeat",), max_rate_hz=1.0, command="stop"))
    tell(channel, result(1))
    assert summary(session) == [("detections", 1)]
    assert (channel.command, channel.refused, session.ended) == ("", 1, "")


def test_a_view_is_of_that_reader_only_and_can_be_changed_back():
    channel, _, session = conversation(control="view")
    other = channel.open("other")
    tell(channel, status(0), heartbeat(0), result(0, 1))
    say(session, ControlMessage(kinds=("detections",), class_ids=(2, 3), command="stop"))
    tell(channel, result(1, 1, 2, 3), heartbeat(1))
    messages = heard(session)
    assert [message.kind for message in messages] == ["detections"]
    assert [record.class_id for record in messages[0].detections] == [2, 3]
    assert len(heard(other)) == 3
    assert (channel.command, channel.refused) == ("", 1)  # starting and stopping takes control=all
    say(session, ControlMessage())
    tell(channel, result(2, 1), heartbeat(2))
    assert summary(session) == [("detections", 2), ("heartbeat", 2)]


def test_classes_of_a_classification_are_filtered_as_well():
    channel, _, session = conversation(control="view")
    say(session, ControlMessage(class_ids=(7,)))
    classes = [DetectionRecord("a", 3, 0.9), DetectionRecord("b", 7, 0.1)]
    tell(channel, ClassificationMessage(t_publish_ns=0, t_capture_ns=0, age_ms=0.0, classes=classes), status(1))
    first, second = heard(session)
    assert [record.class_id for record in first.classes] == [7]
    assert second.kind == "status"


def test_a_rate_spaces_results_and_sends_the_newest_when_it_is_time():
    channel, clock, session = conversation(control="view")
    say(session, ControlMessage(max_rate_hz=10.0))
    times_ms, start_ns = [], clock.now_ns
    for tick in range(2000):  # 2 s in ms; a result every 33 ms, and the timer whenever it is due
        if tick % 33 == 0:
            tell(channel, result(tick))
        if tick % 33 == 0 or (session.due_ns is not None and session.due_ns <= clock.now_ns):
            times_ms += [((clock.now_ns - start_ns) / MS, message.seq) for message in heard(session)]
        clock.pass_ms(1)
    assert len(times_ms) in (19, 20, 21)
    gaps = [later[0] - sooner[0] for sooner, later in itertools.pairwise(times_ms)]
    assert min(gaps) >= 99
    assert all(at - seq < 33 for at, seq in times_ms)


@pytest.mark.parametrize("rate", [1e-300, 1e-9, 1e300])
def test_rates_beyond_reason_do_no_harm(rate):
    channel, _, session = conversation(control="view")
    say(session, ControlMessage(max_rate_hz=rate))
    tell(channel, result(1))
    assert summary(session) == [("detections", 1)]
    tell(channel, result(2))
    assert session.due_ns is None or session.due_ns < 1 << 62


def test_start_and_stop_need_control_all():
    channel, _, session = conversation(control="all")
    say(session, ControlMessage(command="stop"))
    assert channel.command == "stop"
    say(session, ControlMessage(command="start"))
    assert (channel.command, channel.refused) == ("start", 0)


def test_too_many_messages_end_it_and_a_steady_rate_does_not():
    _, clock, session = conversation(max_messages_hz=50)
    for i in range(500):
        say(session, ClockMessage(reply=False, t_request_ns=i))
        clock.pass_ms(20)
    assert not session.ended
    for i in range(51):
        say(session, ClockMessage(reply=False, t_request_ns=i))
    assert session.ended == "it sent more than 50 messages a second"


def test_a_message_too_large_ends_it():
    _, _, session = conversation(max_message_bytes=100)
    say(session, HelloMessage(token="x" * 200))
    assert session.ended == "it sent a message of more than 100 bytes"


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"{",
        b"hello",
        b"H",
        b'{"kind":"dance"}',
        b'{"kind":"credit"}',
        b'{"kind":"clock","reply":false,"t_request_ns":18446744073709551616}',
        b'{"kind":"clock","reply":false,"t_request_ns":-1}',
        b'{"kind":"hello","token":"\xff"}',
        encoder.encode(CreditMessage(results=1))[:-1] + b"?",
    ],
)
def test_what_is_no_message_ends_it(payload):
    _, _, session = conversation()
    session.receive(payload)
    assert "is no message" in session.ended


def test_a_message_that_no_reader_has_reason_to_send_changes_nothing():
    channel, _, session = conversation()
    for message in (status(1), result(1), heartbeat(1), HelloMessage(token="not asked for")):
        say(session, message)
    assert (heard(session), session.ended, channel.command) == ([], "", "")


def test_totals_outlive_readers():
    channel, _, session = conversation()
    tell(channel, result(1), result(2))
    heard(session)
    channel.missed(3)
    assert [(c.address, c.sent, c.dropped) for c in channel.clients] == [("reader", 1, 4)]
    channel.close(session)
    channel.close(session)
    assert (channel.clients, channel.sent, channel.dropped) == ([], 1, 4)


@given(st.lists(st.one_of(st.binary(max_size=60), st.text(max_size=30).map(lambda s: b"{" + s.encode())), max_size=8))
def test_no_bytes_break_a_session(payloads):
    channel, _, session = conversation(control="all")
    for payload in payloads:
        session.receive(payload)
    tell(channel, result(1))
    heard(session)


_ANY = st.one_of(st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=5), st.booleans())
_KEYS = ["results", "token", "reply", "t_request_ns", "kinds", "max_rate_hz", "class_ids", "command", "seq"]


@given(
    st.sampled_from(["hello", "clock", "credit", "control"]),
    st.dictionaries(st.sampled_from(_KEYS), st.one_of(_ANY, st.lists(_ANY, max_size=3)), max_size=6),
)
def test_no_numbers_break_a_session_nor_its_answers(kind, values):
    channel, clock, session = conversation(control="all")
    channel.encode = encoder.encode
    try:
        session.receive(msgspec.json.encode({"kind": kind, "reply": False, "t_request_ns": 0, **values}))
    except OverflowError:
        return  # msgspec cannot write such a number, so this test cannot send it
    tell(channel, result(1, 1))
    while session.take() is not None:
        pass
    clock.pass_ms(1)
    assert session.due_ns is None or session.due_ns < 1 << 63
