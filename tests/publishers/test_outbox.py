"""What waits for a reader: changes of state in order, of the rest only the newest."""

from hypothesis import given
from hypothesis import strategies as st

from edge.publishers.outbox import Outbox


def drained(outbox: Outbox) -> list:
    taken = []
    while (item := outbox.take()) is not None:
        taken.append(item[1])
    return taken


def filled(*kinds: str) -> Outbox:
    outbox: Outbox = Outbox()
    for i, kind in enumerate(kinds):
        outbox.put(kind, i)
    return outbox


def test_results_replace_each_other_and_statuses_stay():
    outbox = filled("detections", "status", "detections", "status", "detections")
    assert (len(outbox), outbox.dropped) == (3, 2)
    assert drained(outbox) == [1, 3, 4]


def test_a_heartbeat_replaces_a_heartbeat_only_and_is_no_loss():
    outbox = filled("heartbeat", "detections", "heartbeat", "classification")
    assert outbox.dropped == 0
    assert drained(outbox) == [1, 2, 3]


def test_a_flood_of_statuses_is_bounded_and_the_newest_stay():
    outbox = filled(*["status"] * 200)
    assert outbox.dropped == 136
    assert drained(outbox) == list(range(136, 200))
    outbox.put("status", "after")
    assert drained(outbox) == ["after"]


def test_statuses_that_were_taken_count_no_more():
    outbox: Outbox = Outbox()
    for i in range(200):
        outbox.put("status", i)
        kind, item = outbox.take()
        outbox.put_back(kind, item)
        assert outbox.take() == ("status", i)
    for i in range(64):
        outbox.put("status", i)
    assert drained(outbox) == list(range(64))
    assert outbox.dropped == 0


def test_a_greeting_waits_whole_however_long_and_a_newer_one_takes_its_place():
    outbox = filled("hello", *["labels"] * 300, "status")
    assert len(outbox) == 302
    outbox.put("hello", "new")
    outbox.put("labels", "names")
    assert drained(outbox) == [301, "new", "names"]
    assert outbox.dropped == 0


def test_results_can_be_left_waiting():
    outbox = filled("detections", "heartbeat")
    assert outbox.has(results=False)
    assert outbox.take(results=False) == ("heartbeat", 1)
    assert not outbox.has(results=False)
    assert outbox.take(results=False) is None
    assert outbox.has()
    assert outbox.take() == ("detections", 0)
    assert not outbox.has()


@given(st.lists(st.tuples(st.sampled_from(["status", "detections"]), st.booleans()), max_size=100))
def test_order_is_kept_and_nothing_is_lost_uncounted(actions):
    outbox, taken = Outbox(), []
    for i, (kind, take) in enumerate(actions):
        outbox.put(kind, i)
        if take:
            taken.append(outbox.take()[1])
    taken += drained(outbox)
    assert taken == sorted(taken)
    assert len(taken) + outbox.dropped == len(actions)
