"""The thread that empties an outbox into a library: slow, failing, broken and closed ones."""

import threading
import time

from edge.errors import PublishError
from edge.publishers.threaded import ThreadedPublisher
from edge.testing import check_publisher
from edge.wire.messages import DetectionsMessage, Message, StatusMessage

DEADLINE_S = 10.0


def result(seq: int) -> DetectionsMessage:
    return DetectionsMessage(source="cam", seq=seq, t_publish_ns=0, t_capture_ns=0, age_ms=0.0, detections=[])


def status(seq: int) -> StatusMessage:
    return StatusMessage(source="cam", seq=seq, t_publish_ns=0, t_event_ns=0, state="streaming")


class Library(ThreadedPublisher):
    """Notes what is written; can be held up, and told to fail."""

    def __init__(self) -> None:
        super().__init__("a library", "json")
        self.written: list[Message] = []
        self.free = threading.Event()
        self.free.set()
        self.error: Exception | None = None
        self.lost = ""
        self.shuts = 0
        self.begin()

    def write(self, message: Message) -> bool:
        self.free.wait(DEADLINE_S)
        if self.error:
            raise self.error
        self.written.append(message)
        return True

    def look(self) -> str:
        return self.lost

    def shut(self) -> None:
        self.shuts += 1
        if self.error:
            raise self.error


def until(condition, what: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"waited {DEADLINE_S} s for {what}"
        time.sleep(0.002)


def test_it_keeps_the_contract():
    check_publisher(Library())


def test_a_slow_library_gets_the_newest_result_and_every_status():
    library = Library()
    library.free.clear()
    library.send(status(0))
    until(lambda: library._busy, "the first write")
    for seq in range(1, 100):
        library.send(result(seq))
        if seq % 10 == 0:
            library.send(status(seq))
    library.free.set()
    until(lambda: library.written and library.written[-1].seq == 99, "the last result")
    assert [m.seq for m in library.written if m.kind == "status"] == list(range(0, 100, 10))
    assert [m.seq for m in library.written if m.kind == "detections"] == [99]
    assert library.dropped == 98
    library.close()


def test_closing_writes_what_waits_and_shuts_once():
    library = Library()
    library.send(result(1))
    library.close()
    library.close()
    library.send(result(2))
    assert [m.seq for m in library.written] == [1]
    assert library.shuts == 1


def test_closing_does_not_wait_for_a_library_that_hangs():
    library = Library()
    library.free.clear()
    library.send(result(1))
    before = time.monotonic()
    library.close(drain_s=0.1)
    assert time.monotonic() - before < 3.0
    library.free.set()


def test_a_failure_is_told_counted_and_over_with_the_next_result():
    library = Library()
    library.error = PublishError("no room", "make some")
    library.send(result(1))
    until(lambda: library.failure == "no room", "the failure")
    assert (library.sent, library.dropped) == (0, 1)
    library.error = None
    library.send(status(2))
    until(lambda: library.sent == 1, "the status")
    assert library.failure == "no room"  # of results nothing is known yet
    library.send(result(3))
    until(lambda: not library.failure, "the recovery")
    library.close()


def test_what_looking_finds_is_a_failure_as_long_as_it_is_found():
    library = Library()
    library.lost = "nobody there"
    until(lambda: library.failure == "nobody there", "the failure")
    library.lost = ""
    until(lambda: not library.failure, "the recovery")
    library.close()


def test_a_defect_is_told_and_stops_nothing_else():
    library = Library()
    library.error = ZeroDivisionError("oh")
    library.send(result(1))
    until(lambda: library.failure, "the failure")
    assert library.failure == "stopped (ZeroDivisionError('oh')): report this as a defect"
    library.send(result(2))
    library.close()
