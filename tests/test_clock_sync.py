"""Clock comparison on fake clocks and a fake way: whatever they do, the true time lies within the stated error."""

import itertools
import random

import pytest

from edge.clock_sync import ClockSync
from edge.wire.messages import ClockMessage

MS, S = 1_000_000, 1_000_000_000
EPOCH_NS = 1_700_000_000 * S


class FakePublisher:
    """A publisher's Unix clock that runs wrong, seen by true time, which is the reader's clock."""

    def __init__(self, skew_ppm: float, wander: random.Random) -> None:
        self.skew_ppm, self.wander, self.stepped_ns = skew_ppm, wander, 0
        self._t_ns, self._unix_ns = 0, float(EPOCH_NS)

    def at(self, t_ns: int) -> int:
        """The clock at true time t_ns, which must not go back; its rate wanders by 50 ppm."""
        rate = 1 + (self.skew_ppm + self.wander.uniform(-50, 50)) / 1e6
        self._unix_ns += (t_ns - self._t_ns) * rate
        self._t_ns = t_ns
        return int(self._unix_ns) + self.stepped_ns


def ways(kind: str, rng: random.Random) -> tuple[int, int]:
    """Delays there and back in ns."""
    if kind == "even":
        return 200_000, 200_000
    if kind == "jittered":
        return tuple(int(rng.lognormvariate(0, 1.2) * MS) for _ in range(2))  # type: ignore[return-value]
    if kind == "one-sided":
        return int(rng.uniform(8, 30) * MS), int(rng.uniform(0.1, 0.3) * MS)
    return int(rng.uniform(0.1, 0.3) * MS), int(rng.uniform(8, 30) * MS)  # "other-sided"


def exchange(sync: ClockSync, publisher: FakePublisher, t_ns: int, there_ns: int, back_ns: int) -> int:
    """Ask and answer; return the time of the answer's arrival."""
    question = sync.question(t_ns)
    receive = publisher.at(t_ns + there_ns)
    reply = publisher.at(t_ns + there_ns + 40_000)
    arrival = t_ns + there_ns + 40_000 + back_ns
    publisher.at(arrival)
    sync.take(
        ClockMessage(reply=True, t_request_ns=question.t_request_ns, t_receive_ns=receive, t_reply_ns=reply), arrival
    )
    return arrival


@pytest.mark.parametrize("skew_ppm", [-400, -20, 0, 35, 400])
@pytest.mark.parametrize("kind", ["even", "jittered", "one-sided", "other-sided"])
def test_the_true_time_lies_within_the_stated_error(kind, skew_ppm):
    rng = random.Random(f"{kind} {skew_ppm}")
    publisher, sync = FakePublisher(skew_ppm, rng), ClockSync()
    t_ns, checked, errors_ms = 5 * S, 0, []
    while t_ns < 120 * S:
        t_ns += sync.due_in_ns(t_ns)
        if rng.random() < 0.2:  # the question or its answer is lost
            sync.question(t_ns)
            t_ns += int(rng.uniform(0.3, 1.5) * S)
        else:
            t_ns = exchange(sync, publisher, t_ns, *ways(kind, rng))
        for _ in range(3):
            t_ns += int(rng.uniform(1, 300) * MS)
            local = sync.local(publisher.at(t_ns), t_ns)
            if local is not None:
                assert abs(local.t_ns - t_ns) <= local.error_ns
                errors_ms.append(local.error_ns / MS)
                checked += 1
    assert checked > 100
    assert sync.restarts == 0
    # half the least round trip of eight, and the drift of the seconds since
    assert sorted(errors_ms)[len(errors_ms) // 2] < {"even": 1.2, "jittered": 3}.get(kind, 9)


def test_nothing_is_claimed_before_the_first_answer_and_after_a_silent_minute():
    publisher, sync = FakePublisher(0, random.Random(1)), ClockSync()
    assert sync.local(EPOCH_NS, 0) is None
    arrival = exchange(sync, publisher, 1 * S, 100_000, 100_000)
    assert sync.local(publisher.at(arrival + 59 * S), arrival + 59 * S).error_ns > 59 * 500_000
    assert sync.local(publisher.at(arrival + 61 * S), arrival + 61 * S) is None


def test_the_error_is_half_the_round_trip_and_the_drift_since():
    publisher, sync = FakePublisher(0, random.Random(2)), ClockSync()
    arrival = exchange(sync, publisher, 1 * S, 3 * MS, 1 * MS)
    at_once = sync.local(publisher.at(arrival), arrival).error_ns
    assert at_once == pytest.approx(2 * MS, rel=0.01)
    later = sync.local(publisher.at(arrival + 10 * S), arrival + 10 * S).error_ns
    assert later - at_once == pytest.approx(10 * 500_000, rel=0.01)
    exchange(sync, publisher, arrival + 10 * S, 30 * MS, 30 * MS)  # a slow exchange makes nothing worse
    after = sync.local(publisher.at(arrival + 10 * S + 60 * MS + 40_000), arrival + 10 * S + 60 * MS + 40_000)
    assert after.error_ns <= later + 100_000


@pytest.mark.parametrize("step_ns", [-3 * S, -5 * MS, 5 * MS, 3600 * S])
def test_a_clock_that_was_set_is_noticed_with_the_next_answer(step_ns):
    publisher, sync = FakePublisher(30, random.Random(3)), ClockSync()
    t_ns = S
    for _ in range(12):
        t_ns = exchange(sync, publisher, t_ns + sync.due_in_ns(t_ns), 200_000, 300_000)
    assert sync.due_in_ns(t_ns) > 900 * MS
    publisher.stepped_ns = step_ns
    t_ns = exchange(sync, publisher, t_ns + S, 250_000, 200_000)
    assert sync.restarts == 1
    assert sync.due_in_ns(t_ns) == 0
    local = sync.local(publisher.at(t_ns), t_ns)
    assert abs(local.t_ns - t_ns) <= local.error_ns < MS


def test_a_clock_set_between_the_two_times_of_one_answer_is_passed_over():
    sync = ClockSync()
    sync.question(S)
    sync.take(ClockMessage(reply=True, t_request_ns=S, t_receive_ns=EPOCH_NS, t_reply_ns=EPOCH_NS - S), S + MS)
    assert sync.local(EPOCH_NS, S + MS) is None
    sync.question(2 * S)
    sync.take(ClockMessage(reply=True, t_request_ns=2 * S, t_receive_ns=EPOCH_NS, t_reply_ns=EPOCH_NS + S), 2 * S + MS)
    assert sync.local(EPOCH_NS, 2 * S + MS) is None


def test_only_answers_to_own_questions_count_and_each_once():
    sync = ClockSync()
    foreign = ClockMessage(reply=True, t_request_ns=7, t_receive_ns=EPOCH_NS, t_reply_ns=EPOCH_NS)
    sync.take(foreign, S)
    sync.take(ClockMessage(reply=False, t_request_ns=S), S)
    assert sync.local(EPOCH_NS, S) is None
    sync.question(7)
    sync.take(foreign, MS)
    assert sync.local(EPOCH_NS, MS) is not None
    sync.restart()
    sync.take(foreign, MS)
    assert sync.local(EPOCH_NS, MS) is None


def test_questions_come_quickly_at_first_then_every_second_and_one_at_a_time():
    publisher, sync = FakePublisher(0, random.Random(4)), ClockSync()
    assert sync.due_in_ns(S) == 0
    asked, t_ns = [], S
    for _ in range(11):
        t_ns += sync.due_in_ns(t_ns)
        asked.append(t_ns)
        t_ns = exchange(sync, publisher, t_ns, 100_000, 100_000)
    gaps_ms = [(b - a) // MS for a, b in itertools.pairwise(asked)]
    assert gaps_ms == [50] * 7 + [1000] * 3
    sync.question(t_ns)
    assert sync.due_in_ns(t_ns) == S  # unanswered: a slow line is not filled with questions
