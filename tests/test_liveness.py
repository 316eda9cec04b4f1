"""What readers learn of the loop itself: that it lives, that nothing new comes, that it was asked to rest."""

import threading
import time
from itertools import pairwise

import numpy as np
import pytest

from edge import parts
from edge import run as run_module
from edge.bench.throttle import Throttle
from edge.config import RunConfig, WireSection
from edge.errors import SourceTimeoutError
from edge.model import open_model
from edge.pipeline import Pipeline
from edge.run import run
from edge.sources.base import SourceEvent
from edge.testing import MemoryPublisher, MemorySource
from edge.throttle_watch import ThrottleWatch, throttle_reason

NULL = '[[inputs]]\nname = "x"\nshape = [1, 4, 4, 3]\nlayout = "NHWC"\n[[outputs]]\nname = "y"\nshape = [1, 2]\n'


class SilentSource(MemorySource):
    """Gives its frames, then nothing, and does not end."""

    events: tuple[SourceEvent, ...] = ()

    def read(self, timeout_s):
        try:
            return super().read(timeout_s)
        except Exception as exc:
            raise SourceTimeoutError("no frame came", "wait") from exc

    def poll_events(self):
        events, self.events = list(self.events), ()
        return events


@pytest.fixture
def pipeline_of(tmp_path):
    """Make a pipeline of a silent source with so many frames, and its publisher."""
    (tmp_path / "m.null").write_text(NULL)
    config = RunConfig(frame_timeout_s=0.01, wire=WireSection(ttl_ms=60, heartbeat_ms=20))
    model = open_model(str(tmp_path / "m.null"), config.engine)

    def make(frames: int) -> tuple[Pipeline, MemoryPublisher]:
        publisher = MemoryPublisher()
        images = [np.zeros((8, 12, 3), np.uint8)]
        return Pipeline(SilentSource(images, frames=frames), model, [publisher], config), publisher

    yield make
    model.close()


def kinds(publisher: MemoryPublisher) -> list[str]:
    return [message.kind for message in publisher.messages]


def test_nothing_seen_and_nothing_coming_are_told_apart(pipeline_of):
    pipeline, publisher = pipeline_of(frames=1)
    pipeline.step()
    assert kinds(publisher) == ["heartbeat", "hello", "classification"]  # the model has no labels
    assert publisher.messages[-1].flags == ()
    publisher.messages.clear()
    deadline = time.monotonic() + 5
    while len(publisher.messages) < 6 and time.monotonic() < deadline:
        with pytest.raises(SourceTimeoutError):
            pipeline.step(0.005)
        pipeline.relay_events()
    assert kinds(publisher) == ["heartbeat"] * 6
    ages = [beat.newest_age_ms for beat in publisher.messages]
    assert ages == sorted(ages)
    assert ages[-1] > 60
    assert publisher.messages[-1].flags == ("stale",)  # the newest result has outlived its time to live
    assert publisher.messages[0].flags == (("stale",) if ages[0] > 60 else ())
    assert all(beat.period_ms == 20 for beat in publisher.messages)
    uptimes = [beat.uptime_ms for beat in publisher.messages]
    assert all(later - earlier >= 19 for earlier, later in pairwise(uptimes))


def test_a_loop_that_does_not_turn_sends_no_sign_of_life(pipeline_of):
    pipeline, publisher = pipeline_of(frames=0)
    pipeline.relay_events()
    count = len(publisher.messages)
    time.sleep(0.1)  # five periods
    assert len(publisher.messages) == count, "a heartbeat must come from the loop, not from a timer"


def test_before_the_first_frame_there_is_no_newest_result(pipeline_of):
    pipeline, publisher = pipeline_of(frames=0)
    pipeline.relay_events()
    assert publisher.messages[0].newest_age_ms is None
    assert publisher.messages[0].flags == ("stale",)
    assert publisher.messages[0].state == "connecting"


def test_a_status_names_the_engine_and_changes_the_state_of_the_heartbeats(pipeline_of):
    pipeline, publisher = pipeline_of(frames=0)
    pipeline.source.events = (SourceEvent("lost", "unplugged", time.monotonic_ns()),)
    pipeline.relay_events()
    status, beat = publisher.messages
    assert (status.kind, status.state, status.reason, status.engine) == ("status", "lost", "unplugged", "null")
    assert beat.state == "lost"


def test_a_flag_is_raised_and_lowered_once_each_and_stands_in_every_message(pipeline_of):
    pipeline, publisher = pipeline_of(frames=1)
    for _ in range(3):
        pipeline.set_condition("throttled", "under-voltage")
    pipeline.step()
    for _ in range(3):
        pipeline.set_condition("throttled", "")
    told = [(m.kind, "throttled" in m.flags) for m in publisher.messages if m.kind in ("status", "classification")]
    assert told == [("status", True), ("classification", True), ("status", False)]
    assert publisher.messages[0].reason == "throttled: under-voltage"
    assert publisher.messages[-1].reason == "no longer throttled"


def test_the_board_is_watched_beside_the_loop(tmp_path):
    cooling = tmp_path / "sys/class/thermal/cooling_device0"
    cooling.mkdir(parents=True)
    (cooling / "type").write_text("cpufreq-cpu0\n")
    (cooling / "cur_state").write_text("1\n")  # as it was at the start: a setting
    flags = ["throttled=0x50000"]  # has been throttled, is not now
    with ThrottleWatch(tmp_path, lambda words: flags[0], period_s=0.01) as watch:
        time.sleep(0.1)
        assert watch.reason == ""
        (cooling / "cur_state").write_text("3\n")
        flags[0] = "throttled=0x50001"
        deadline = time.monotonic() + 10
        while "is 3" not in watch.reason and time.monotonic() < deadline:
            time.sleep(0.01)
        assert watch.reason == "under-voltage, cooling state of cpufreq-cpu0 (cooling_device0) is 3"
    limited = throttle_reason(Throttle(limits_mhz={"cpu0": 1500.0}), Throttle(limits_mhz={"cpu0": 600.0}))
    assert limited == "clock of cpu0 limited to 600 MHz"


def test_a_new_frame_size_is_told_before_its_first_result(pipeline_of):
    pipeline, publisher = pipeline_of(frames=2)
    pipeline.step()
    pipeline.source._images = [np.zeros((20, 30, 3), np.uint8)]
    pipeline.step()
    hellos = [(i, m.frame) for i, m in enumerate(publisher.messages) if m.kind == "hello"]
    assert [frame for _, frame in hellos] == [(12, 8), (30, 20)]
    assert kinds(publisher)[hellos[-1][0] + 1 :][-1] == "classification"


@pytest.mark.parametrize(("meanwhile", "expected"), [(None, "lost"), ("streaming", "streaming")])
def test_going_on_claims_no_camera_that_is_not_there(pipeline_of, meanwhile, expected):
    pipeline, publisher = pipeline_of(frames=0)
    pipeline.publish_status("lost", "unplugged", time.monotonic_ns())
    publisher.command = "stop"
    resting_from = run_module._obey(pipeline, pipeline.publishers, None)
    assert (resting_from, pipeline.state) == ("lost", "paused")
    publisher.command = "stop"
    assert run_module._obey(pipeline, pipeline.publishers, resting_from) == "lost"
    if meanwhile:
        pipeline.publish_status(meanwhile, "", time.monotonic_ns())
    publisher.command = "start"
    assert run_module._obey(pipeline, pipeline.publishers, resting_from) is None
    assert (publisher.messages[-1].kind, publisher.messages[-1].state) == ("status", expected)


def test_the_loop_rests_when_a_reader_that_may_asks_for_it(tmp_path, monkeypatch):
    (tmp_path / "m.null").write_text(NULL)
    publisher = MemoryPublisher()
    monkeypatch.setattr(parts, "resolve", lambda group, name: lambda uri: publisher)
    config = RunConfig(
        model=str(tmp_path / "m.null"),
        source="synthetic://?fps=100&size=64x48",
        publish=["x://"],
        wire=WireSection(heartbeat_ms=20),
    )
    thread = threading.Thread(target=run, args=(config,), kwargs={"seconds": 20.0, "frames": 400}, daemon=True)
    thread.start()

    def wait_for(condition, what):
        deadline = time.monotonic() + 15
        while not condition():
            assert time.monotonic() < deadline, what
            time.sleep(0.002)

    wait_for(lambda: "classification" in kinds(publisher), "the first result")
    publisher.command = "stop"
    wait_for(lambda: any(m.kind == "status" and m.state == "paused" for m in publisher.messages), "rest")
    publisher.messages.clear()
    wait_for(lambda: kinds(publisher).count("heartbeat") >= 3, "signs of life")
    assert set(kinds(publisher)) == {"heartbeat"}
    assert all(m.state == "paused" for m in publisher.messages)
    publisher.command = "start"
    wait_for(lambda: "classification" in kinds(publisher), "results again")
    thread.join(20)
    assert not thread.is_alive()
    assert publisher.messages[-1].state == "closed"
