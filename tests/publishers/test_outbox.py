"""What waits for a reader: statuses in order, of the results only the newest."""

from hypothesis import given
from hypothesis import strategies as st

from edge.publishers.outbox import Outbox


def drained(outbox: Outbox) -> list[bytes]:
    taken = []
    while (item := outbox.take()) is not None:
        taken.append(item[0])
    return taken


def test_results_replace_each_other_and_statuses_stay():
    outbox = Outbox()
    for payload, keep in ((b"1", False), (b"lost", True), (b"2", False), (b"streaming", True), (b"3", False)):
        outbox.put(payload, keep)
    assert len(outbox) == 3
    assert outbox.dropped == 2
    assert drained(outbox) == [b"lost", b"streaming", b"3"]


def test_a_flood_of_statuses_is_bounded_and_the_newest_stay():
    outbox = Outbox()
    for i in range(200):
        outbox.put(b"%d" % i, keep=True)
    assert drained(outbox) == [b"%d" % i for i in range(136, 200)]
    assert outbox.dropped == 136


@given(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=60))
def test_order_is_kept_and_nothing_is_lost_uncounted(actions):
    outbox, put, taken = Outbox(), 0, []
    for keep, take in actions:
        outbox.put(b"%d" % put, keep)
        put += 1
        if take:
            taken.append(int(outbox.take()[0]))
    taken += [int(payload) for payload in drained(outbox)]
    assert taken == sorted(taken)
    assert len(taken) + outbox.dropped == put
