"""When the controller stops, and what it never does: act on what is old, take silence for an empty road."""

import msgspec
import pytest
from golden_messages import T_NS, messages

from edge.wire.encoder import encode
from edge.wire.framing import framed
from edge.wire.messages import ClockMessage, DetectionRecord, Message

SECOND = 1_000_000


def frame(name: str, **changes: object) -> bytes:
    return on_the_line(msgspec.structs.replace(messages()[name], **changes))


def on_the_line(message: Message) -> bytes:
    return framed(encode(message), True, True)


@pytest.fixture(params=[0, 5_000, 0xFFFFFFFF - 300_000, 0x7FFFFFFF - 300_000], ids=lambda t: f"from-{t:08x}")
def start_us(request) -> int:
    """When the test begins: also shortly before the controller's counter wraps."""
    return request.param


def test_nothing_yet(small, start_us):
    assert small.tick(start_us) == "waiting"
    assert small.tick(start_us + 20 * SECOND) == "waiting"
    assert small.stops == ["waiting"]
    assert small.tell("count") == 0


def test_seeing_nothing_and_being_dead_differ(small, start_us):
    small.feed(frame("detections-one", age_ms=10), start_us)
    assert small.tick(start_us) == "seeing"
    small.feed(frame("detections-none", age_ms=10), start_us + 100_000)
    assert small.tick(start_us + 100_000) == "clear"
    assert small.stops == []
    small.feed(frame("heartbeat"), start_us + 200_000)
    assert small.tick(start_us + 600_000) == "stale"  # 510 ms old
    assert small.tick(start_us + 1_074_000) == "stale"
    assert small.tick(start_us + 1_076_000) == "dead"  # 3.5 periods of 250 ms without a sign of life
    assert small.stops == ["stale", "dead"]


def test_a_result_expires_by_its_age_and_the_time_since_its_first_byte(small, start_us):
    data = frame("detections-one", age_ms=100, ttl_ms=300)
    small.feed(data[:20], start_us)
    small.feed(data[20:], start_us + 50_000)  # the line was slow
    assert small.tick(start_us + 50_000) == "seeing"
    assert small.tell("age_us", start_us + 50_000) == 150_000
    assert small.tick(start_us + 200_000) == "seeing"
    assert small.tick(start_us + 200_001) == "stale"
    assert small.tell("count") == 0
    assert small.tell("age_us", start_us + 200_001) == 0xFFFFFFFF


def test_a_result_that_was_too_old_when_it_came_is_never_believed(small, start_us):
    small.feed(frame("detections-one", age_ms=501, ttl_ms=500), start_us)
    assert small.tick(start_us) == "stale"
    small.feed(frame("detections-edges"), start_us)  # an age of over an hour
    assert small.tick(start_us) == "stale"


def test_a_loop_that_slept_finds_old_results_old(small, start_us):
    """Time counts from the interrupt, not from when the loop looks."""
    assert small.tick(start_us) == "waiting"
    small.interrupt(frame("detections-one", age_ms=10, ttl_ms=300), start_us + 1000)
    assert small.tick(start_us + 400_000) == "stale"
    assert small.tell("is_new") == 1
    assert small.stops == ["waiting", "stale"]


@pytest.mark.parametrize("minutes", [30, 36, 50, 71])
def test_a_loop_that_stood_still_for_long_finds_everything_old(small, start_us, minutes):
    """Also when nobody looked for more than half of the counter's 71.6 minutes."""
    later = start_us + minutes * 60 * SECOND & 0xFFFFFFFF
    small.feed(frame("detections-one", age_ms=10), start_us)
    assert small.tick(start_us) == "seeing"
    small.interrupt(frame("heartbeat"), start_us + 1000)
    small.interrupt(frame("detections-one", age_ms=10), start_us + 1000)
    assert small.tick(later) == "dead"
    assert small.stops == ["dead"]
    assert small.tell("count") == 0


@pytest.mark.parametrize("ttl_ms", [0, 65535])
def test_the_controllers_own_limit_holds(small, start_us, ttl_ms):
    small.feed(frame("detections-one", age_ms=0, ttl_ms=ttl_ms), start_us)
    assert small.tick(start_us + 1_000_000) == "seeing"
    assert small.tick(start_us + 1_000_001) != "seeing"


def test_what_is_over_stays_over_when_the_counter_wraps(small):
    small.feed(frame("detections-one", age_ms=10), 1000)
    small.feed(frame("heartbeat"), 1000)
    assert small.tick(1000) == "seeing"
    for minutes in range(1, 150, 10):
        assert small.tick((minutes * 60 * SECOND) & 0xFFFFFFFF) == "dead"
    assert small.tick((1 << 32) + 1000 & 0xFFFFFFFF) == "dead"  # the very number at which it arrived
    assert small.stops == ["dead"]


def test_a_time_read_just_before_the_interrupt_expires_nothing(small, start_us):
    small.interrupt(frame("detections-one", age_ms=10), start_us + 500)
    assert small.tick(start_us) == "seeing"


def test_words_are_no_signs_of_a_running_loop(small, start_us):
    """A state may be told by whatever outlives the loop."""
    for name in ("status", "hello", "labels"):
        small.feed(frame(name), start_us)
        assert small.tick(start_us) == "waiting"


def test_it_goes_on_when_harrier_is_back(small, start_us):
    small.feed(frame("detections-one", age_ms=10), start_us)
    assert small.tick(start_us) == "seeing"
    assert small.tick(start_us + 10 * SECOND) == "dead"
    small.feed(frame("heartbeat-nothing-yet"), start_us + 11 * SECOND)
    assert small.tick(start_us + 11 * SECOND) == "stale"
    small.feed(frame("detections-none", age_ms=10, seq=0), start_us + 12 * SECOND)
    assert small.tick(start_us + 12 * SECOND) == "clear"
    assert small.stops == ["dead", "stale"]


def test_the_source_may_be_lost_while_the_loop_lives(small, start_us):
    small.feed(frame("detections-one", age_ms=10), start_us)
    small.feed(frame("status"), start_us)
    for i in range(1, 40):
        small.feed(frame("heartbeat", state="lost"), start_us + i * 250_000)
        assert small.tick(start_us + i * 250_000) == ("seeing" if i == 1 else "stale")
    assert small.stops == ["stale"]
    assert small.tell("source_state") == 3


def test_damaged_messages_are_no_signs_of_life(small, start_us):
    good = frame("detections-one", age_ms=10)
    bad = good[:30] + bytes((good[30] ^ 1,)) + good[31:]
    small.feed(good, start_us)
    for i in range(100):
        small.feed(bad, start_us + i * 10_000)
    assert small.tick(start_us + 1_000_000) == "stale"
    assert small.tick(start_us + 3_600_000) == "dead"  # without a heartbeat the period is taken for a second
    assert small.counts["bad"] == 100


def test_silence_stops_it_before_a_long_time_to_live_is_over(small, start_us):
    small.feed(frame("heartbeat", period_ms=50), start_us)
    small.feed(frame("detections-one", age_ms=0, ttl_ms=1000), start_us)
    assert small.tick(start_us + 175_000) == "seeing"
    assert small.tick(start_us + 175_001) == "dead"
    assert small.tell("count") == 0
    small.feed(frame("heartbeat", period_ms=50), start_us + 200_000)
    assert small.tick(start_us + 200_000) == "stale"  # what was given up is not taken up again


def test_the_newest_result_is_the_one_that_is_read(small):
    for seq in range(20):
        small.interrupt(frame("detections-one", seq=seq, age_ms=1), seq * 1000)
    assert small.tick(20_000) == "seeing"
    assert (small.tell("seq"), small.tell("is_new")) == (19, 1)
    assert small.tick(20_000) == "seeing"
    assert (small.tell("seq"), small.tell("is_new")) == (19, 0)


def test_the_result_in_hand_stays_while_others_come(small):
    small.interrupt(frame("detections-one", seq=1, age_ms=1), 0)
    small.tick(0)
    for seq in range(2, 50):
        data = frame("detections-ten", seq=seq, age_ms=1)
        small.interrupt(data[:100], 0)
        assert (small.tell("seq"), small.tell("count")) == (1, 1)
        small.interrupt(data[100:], 0)
        assert (small.tell("seq"), small.tell("count")) == (1, 1)
    small.tick(0)
    assert (small.tell("seq"), small.tell("count")) == (49, 10)


def test_the_best_of_a_class_and_where_it_is(small):
    boxes = {0: (0.0, 0.0, 64.0, 9.0), 1: (288.0, 0.0, 352.0, 9.0), 2: (608.0, 0.0, 8000.0, 9.0)}
    records = [DetectionRecord(str(c), c, (c + 1) / 4, box) for c, box in boxes.items()]
    small.feed(frame("detections-one", detections=[records[0], records[2], records[1]], age_ms=1), 0)
    small.tick(0)
    assert small.tell("best", 0xFFFF) == round(0.75 * 65535)
    assert [small.tell("best", c) for c in (0, 1, 9)] == [round(65535 / 4), round(65535 / 2), -1]
    assert [small.tell("offset", c) for c in (0, 1, 2, 9)] == [-900, 0, 1000, 0]


def test_the_clock(small, start_us):
    def answer(asked_us: int, arrives_us: int, receive_ns: int, reply_ns: int) -> None:
        asked_us &= 0xFFFFFFFF
        reply = ClockMessage(
            reply=True, t_request_ns=asked_us * 1000, t_receive_ns=receive_ns, t_reply_ns=reply_ns, source="front"
        )
        small.feed(on_the_line(reply), arrives_us)

    small.tick(start_us)
    assert small.tell("unix_ns", start_us) == 0
    answer(start_us, start_us + 10_000, T_NS + 5_000_000, T_NS + 6_000_000)  # 10 ms, 1 of them spent at the sender
    small.tick(start_us + 10_000)
    assert small.tell("unix_ns", start_us + 10_000) == T_NS + 6_000_000 + 4_500_000
    assert small.tell("unix_error_us", start_us + 10_000) == 4500 + 1
    assert small.tell("unix_ns", start_us + 1_010_000) == T_NS + 10_500_000 + 1_000_000_000
    assert small.tell("unix_error_us", start_us + 1_010_000) == 4500 + 5000 + 1  # 0.5 % of a second

    answer(start_us, start_us + 200_000, T_NS, T_NS)  # a slow answer, far off, soon after: not taken
    small.tick(start_us + 200_000)
    assert small.tell("unix_ns", start_us + 10_000) == T_NS + 10_500_000
    answer(start_us + 300_000, start_us + 302_000, T_NS + 7, T_NS + 7)  # a quick one is
    small.tick(start_us + 302_000)
    assert small.tell("unix_ns", start_us + 302_000) == T_NS + 7 + 1_000_000
    answer(start_us - 5 * SECOND, start_us + 302_000, T_NS, T_NS)  # an answer to nobody's question
    small.tick(start_us + 302_000)
    assert small.tell("unix_ns", start_us + 302_000) == T_NS + 7 + 1_000_000
    for minutes in range(1, 40):
        small.tick(start_us + minutes * 60 * SECOND)
    assert small.tell("unix_ns", start_us + 2400 * SECOND) == 0
