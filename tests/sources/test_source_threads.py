"""FrameSource over captures made for the purpose: hanging, failing, changing size, fast and slow."""

import threading
import time
import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest

from edge.clock import monotonic_ns
from edge.errors import EndOfStreamError, SourceError, SourceOpenError, SourceTimeoutError
from edge.sources.base import FrameSource
from edge.sources.capture import BadFrameError, Grabbed, SourceOptions

QUICK = SourceOptions(open_timeout_s=0.4, read_timeout_s=0.3, backoff_s=0.01, backoff_max_s=0.04)


class Script:
    """A capture that follows a script: each item is a frame's shape, an exception, or an Event to hang on."""

    note = ""

    def __init__(self, items: list, live: bool = True, options: SourceOptions = QUICK, every_s: float = 0.0) -> None:
        self.items = list(items)
        self.live = live
        self.options = options
        self.every_s = every_s
        self.opened = self.closed = self.interrupted = 0
        self.value = 0

    def open(self) -> None:
        self.opened += 1
        if self.items and isinstance(self.items[0], tuple) and self.items[0][0] == "open":
            self._play(self.items.pop(0)[1])

    def grab(self, into: np.ndarray | None) -> Grabbed:
        time.sleep(self.every_s)
        if not self.items:
            raise EndOfStreamError("the script ended", "write a longer one")
        item = self.items.pop(0)
        if not isinstance(item, tuple):
            self._play(item)
            item = (4, 4, 3)
        image = into if into is not None and into.shape == item else np.empty(item, np.uint8)
        image[:] = self.value % 256
        self.value += 1
        return Grabbed(image, monotonic_ns(), "arrival")

    def _play(self, item: object) -> None:
        if isinstance(item, Exception):
            raise item
        if isinstance(item, threading.Event):
            item.wait(60)

    def close(self) -> None:
        self.closed += 1

    def interrupt(self) -> None:
        self.interrupted += 1


def one_after_another(*captures: Script) -> Callable[[], Script]:
    waiting = iter(captures)
    return lambda: next(waiting)


def read_all(source: FrameSource) -> list[tuple[int, int]]:
    got = []
    while True:
        try:
            frame = source.read(5)
        except EndOfStreamError:
            return got
        got.append((frame.info.seq, int(frame.image[0, 0, 0])))


FRAME = (4, 4, 3)


def test_lossless_delivers_every_frame_once_in_order() -> None:
    with FrameSource(lambda: Script([FRAME] * 200, live=False), "test") as source:
        assert read_all(source) == [(i, i) for i in range(200)]
        assert (source.stats.captured, source.stats.delivered, source.stats.dropped) == (200, 200, 0)
        assert source.state == "ended"


def test_a_slow_reader_of_a_live_source_misses_frames_and_gets_fresh_ones() -> None:
    ages_ms, seqs = [], []
    with FrameSource(lambda: Script([FRAME] * 150, every_s=0.005), "test") as source:
        try:
            while True:
                frame = source.read(5)
                ages_ms.append((monotonic_ns() - frame.info.t_capture_ns) / 1e6)
                seqs.append(frame.info.seq)
                time.sleep(0.05)
        except EndOfStreamError:
            pass
        stats = source.stats
    assert seqs == sorted(set(seqs))
    assert stats.dropped > 0
    assert stats.captured == 150
    assert stats.captured - len(seqs) == stats.dropped  # every gap in seq is a counted drop
    assert sorted(ages_ms)[len(ages_ms) // 2] < 50


def test_the_same_frame_is_never_read_twice(until: Callable[..., None]) -> None:
    hang = threading.Event()
    with FrameSource(lambda: Script([FRAME, hang]), "test") as source:
        assert source.read(5).info.seq == 0
        with pytest.raises(SourceTimeoutError):
            source.read(0.05)
        hang.set()


def test_a_read_before_start_says_so() -> None:
    source = FrameSource(lambda: Script([FRAME]), "test")
    with pytest.raises(SourceTimeoutError, match=r"start\(\)"):
        source.read(0.01)
    source.close()


def test_a_stall_is_noticed_without_reading_and_the_hung_capture_is_replaced(
    until: Callable[..., None],
) -> None:
    hang = threading.Event()
    first, second = Script([FRAME, hang]), Script([FRAME] * 3 + [threading.Event()])
    source = FrameSource(one_after_another(first, second), "test")
    source.start()
    until(lambda: source.stats.reconnects == 1)
    states = [event.state for event in source.poll_events()]
    assert states == ["connecting", "streaming", "stalled", "lost", "connecting", "streaming"]
    assert first.interrupted == 1
    assert source.stats.abandoned == 1
    captured = source.stats.captured
    hang.set()
    until(lambda: first.closed == 1)
    assert source.stats.captured in (captured, 4)  # the late frame of the first one was ignored
    source.close()


def test_a_hiccup_is_a_stall_but_no_loss(until: Callable[..., None]) -> None:
    hang = threading.Event()
    options = SourceOptions(read_timeout_s=0.3, open_timeout_s=5, backoff_s=0.01)
    with FrameSource(lambda: Script([FRAME, hang, FRAME, threading.Event()], options=options), "test") as source:
        until(lambda: source.state == "stalled")
        hang.set()
        until(lambda: source.state == "streaming")
        assert [event.state for event in source.poll_events()] == [
            "connecting",
            "streaming",
            "stalled",
            "streaming",
        ]
        assert source.stats.abandoned == 0


@pytest.mark.parametrize("where", ["open", "grab"])
def test_close_takes_less_than_a_second_while_the_device_hangs(where: str, until: Callable[..., None]) -> None:
    hang = threading.Event()
    options = SourceOptions(open_timeout_s=30, read_timeout_s=30)
    script = Script([("open", hang)] if where == "open" else [FRAME, hang], options=options)
    source = FrameSource(lambda: script, "test")
    source.start()
    until(lambda: script.opened == 1 and (where == "open" or source.stats.captured == 1))
    t_s = time.monotonic()
    source.close()
    assert time.monotonic() - t_s < 1.0
    assert source.state == "closed"
    source.close()
    with pytest.raises(EndOfStreamError, match="closed"):
        source.read(1)
    hang.set()
    until(lambda: script.closed == 1)


def test_close_ends_a_read_that_waits_in_another_thread(until: Callable[..., None]) -> None:
    hang = threading.Event()
    source = FrameSource(lambda: Script([("open", hang)]), "test")
    source.start()
    caught: list[Exception] = []

    def read() -> None:
        try:
            source.read(30)
        except EndOfStreamError as exc:
            caught.append(exc)

    thread = threading.Thread(target=read)
    thread.start()
    source.close()
    thread.join(5)
    assert len(caught) == 1
    hang.set()


def test_close_ends_a_lossless_capture_that_waits_for_the_reader(until: Callable[..., None]) -> None:
    script = Script([FRAME] * 10, live=False)
    source = FrameSource(lambda: script, "test")
    source.start()
    until(lambda: source.stats.captured == 1)
    source.close()
    until(lambda: script.closed == 1)
    assert script.interrupted <= 1
    assert source.stats.abandoned == 0


def test_abandoned_threads_are_bounded(until: Callable[..., None]) -> None:
    hang = threading.Event()
    made: list[Script] = []

    def make() -> Script:
        made.append(Script([("open", hang)], options=SourceOptions(open_timeout_s=0.05, backoff_s=0.01)))
        return made[-1]

    with FrameSource(make, "test") as source:
        until(lambda: source.stats.abandoned == 3)
        time.sleep(0.3)
        assert len(made) == 3
        hang.set()
        until(lambda: len(made) > 3)


def test_a_lost_device_is_tried_again_with_growing_capped_waits(until: Callable[..., None]) -> None:
    t_opened_s: list[float] = []

    class Absent(Script):
        def open(self) -> None:
            t_opened_s.append(time.monotonic())
            raise SourceError("no camera", "plug it in")

    with FrameSource(lambda: Absent([]), "test") as source:
        with pytest.raises(SourceTimeoutError, match=r"lost: no camera|connecting: no camera") as caught:
            source.read(0.2)
        assert isinstance(caught.value.__cause__, SourceError)
        assert caught.value.cure == "plug it in"
        until(lambda: len(t_opened_s) >= 8)
    waits_s = np.diff(t_opened_s)
    assert (waits_s >= [QUICK.wait_s(i) for i in range(len(waits_s))]).all()


def test_backoff_doubles_up_to_its_cap() -> None:
    options = SourceOptions(backoff_s=0.5, backoff_max_s=10.0)
    assert [options.wait_s(i) for i in range(7)] == [0.5, 1, 2, 4, 8, 10, 10]
    assert options.wait_s(10**6) == 10


def test_what_no_waiting_cures_ends_at_once() -> None:
    scripts = [Script([("open", SourceOpenError("no such element", "correct it"))])]
    with FrameSource(one_after_another(*scripts), "test") as source:
        for _ in range(2):
            with pytest.raises(SourceOpenError, match="no such element: correct it"):
                source.read(5)
        assert source.state == "lost"


def test_with_reconnect_off_a_failed_open_and_a_loss_are_final() -> None:
    off = SourceOptions(reconnect=False)
    with (
        FrameSource(lambda: Script([("open", SourceError("absent", "plug"))], options=off), "test") as source,
        pytest.raises(SourceOpenError, match="absent"),
    ):
        source.read(5)
    with FrameSource(lambda: Script([FRAME, SourceError("unplugged", "plug")], options=off), "test") as source:
        source.read(5)
        with pytest.raises(SourceError, match="unplugged") as caught:
            source.read(5)
        assert type(caught.value) is SourceError


def test_an_os_error_is_a_loss_and_a_defect_is_final(until: Callable[..., None]) -> None:
    scripts = [Script([FRAME, OSError(5, "Input/output error")]), Script([FRAME, ZeroDivisionError("oops")])]
    with FrameSource(one_after_another(*scripts), "test") as source:
        until(lambda: source.stats.captured == 2)
        with pytest.raises(SourceOpenError, match="ZeroDivisionError"):
            read_all(source)
        assert any("Input/output error" in e.reason for e in source.poll_events())


def test_bad_frames_are_counted_reported_and_not_numbered() -> None:
    bad = BadFrameError("frame 1 is torn", "clean the lens")
    with FrameSource(lambda: Script([FRAME, bad, FRAME], live=False), "test") as source:
        assert [seq for seq, _ in read_all(source)] == [0, 1]
        assert source.stats.corrupt == 1
        assert ("streaming", "frame 1 is torn") in [(e.state, e.reason) for e in source.poll_events()]


def test_the_size_may_change_in_mid_stream() -> None:
    shapes = [(4, 6, 3), (4, 6, 3), (10, 2, 3), (4, 6, 3)] * 5
    with FrameSource(lambda: Script(shapes, live=False), "test") as source:
        for shape in shapes:
            frame = source.read(5)
            assert frame.image.shape == shape
            assert (frame.info.height_px, frame.info.width_px) == shape[:2]


def test_events_are_bounded(until: Callable[..., None]) -> None:
    bad = BadFrameError("torn", "")
    with FrameSource(lambda: Script([FRAME] + [bad] * 500 + [FRAME], live=False), "test") as source:
        assert len(read_all(source)) == 2
        assert len(source.poll_events()) == 64
        assert source.poll_events() == []


def test_a_frame_from_the_future_is_held_back_until_it_is_due() -> None:
    class Late(Script):
        def grab(self, into: np.ndarray | None) -> Grabbed:
            return Grabbed(np.zeros(FRAME, np.uint8), monotonic_ns() + 200_000_000, "generated")

    with FrameSource(lambda: Late([]), "test") as source:
        frame = source.read(5)
        assert monotonic_ns() >= frame.info.t_capture_ns


def test_capture_times_never_go_back() -> None:
    class Estimating(Script):
        def grab(self, into: np.ndarray | None) -> Grabbed:
            grabbed = super().grab(into)
            return Grabbed(grabbed.image, 10**6 - 1000 * self.value + 3000 * (self.value % 2), "pts")

    with FrameSource(lambda: Estimating([FRAME] * 20, live=False), "test") as source:
        stamps_ns = [source.read(5).info.t_capture_ns for _ in range(20)]
    assert stamps_ns == sorted(stamps_ns)


def test_the_read_loop_allocates_no_pixels_and_does_not_grow() -> None:
    big = (480, 640, 3)  # 900 KiB
    with FrameSource(lambda: Script([big] * 400, live=False), "test") as source:
        for _ in range(50):
            source.read(5)
        tracemalloc.start()
        try:
            for _ in range(50):
                source.read(5)
            before, _ = tracemalloc.get_traced_memory()
            tracemalloc.reset_peak()
            for _ in range(200):
                source.read(5)
            after, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak - before < 64 * 1024
    assert after - before < 16 * 1024
