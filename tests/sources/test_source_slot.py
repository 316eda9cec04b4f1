"""The three-buffer slot: newest wins, nothing twice, nothing overwritten while it is read."""

import numpy as np

from edge.frame import Frame, FrameInfo
from edge.sources.slot import LatestFrame


def frame(seq: int, slot: LatestFrame, shape: tuple[int, int, int] = (4, 6, 3)) -> Frame:
    image = slot.writing
    if image is None or image.shape != shape:
        image = np.empty(shape, np.uint8)
    image[:] = seq
    return Frame(image, FrameInfo(seq, "test", seq, shape[1], shape[0]))


def test_an_empty_slot_gives_nothing() -> None:
    slot = LatestFrame()
    assert slot.take() is None
    assert slot.writing is None


def test_the_newest_is_taken_once_and_older_ones_count_as_dropped() -> None:
    slot = LatestFrame()
    for seq in range(3):
        slot.publish(frame(seq, slot))
    taken = slot.take()
    assert taken is not None
    assert taken.info.seq == 2
    assert slot.dropped == 2
    assert slot.take() is None


def test_what_is_read_is_not_written_to_before_the_next_take() -> None:
    slot = LatestFrame()
    slot.publish(frame(7, slot))
    taken = slot.take()
    assert taken is not None
    for seq in range(8, 20):
        slot.publish(frame(seq, slot))
        assert (taken.image == 7).all()
    newest = slot.take()
    assert newest is not None
    assert (newest.image == 19).all()


def test_three_buffers_are_used_in_turn_and_no_more() -> None:
    slot = LatestFrame()
    seen = set()
    for seq in range(50):
        published = frame(seq, slot)
        seen.add(published.image.ctypes.data)
        slot.publish(published)
        if seq % 3 == 0:
            slot.take()
    assert len(seen) == 3


def test_a_change_of_size_goes_through() -> None:
    slot = LatestFrame()
    for seq, shape in enumerate([(4, 6, 3), (8, 2, 3), (4, 6, 3), (8, 2, 3)]):
        slot.publish(frame(seq, slot, shape))
        taken = slot.take()
        assert taken is not None
        assert taken.image.shape == shape
        assert (taken.image == seq).all()


def test_a_forfeited_buffer_is_never_used_again() -> None:
    slot = LatestFrame()
    for seq in range(3):
        slot.publish(frame(seq, slot))
        slot.take()
    held = slot.writing
    assert held is not None
    slot.forfeit()
    for seq in range(3, 12):
        published = frame(seq, slot)
        assert published.image is not held
        slot.publish(published)
        slot.take()
