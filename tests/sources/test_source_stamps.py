"""Time stamps, due times, addresses and hidden passwords: the parts without a device."""

import pytest

from edge.errors import SourceOpenError
from edge.sources.address import source_uri
from edge.sources.stamps import Pacer, PtsClock
from edge.uri import mask_secrets

MS = 1_000_000


def test_jitter_of_arrival_does_not_reach_the_stamps() -> None:
    clock = PtsClock()
    delays_ms = [5, 30, 9, 60, 5, 12]
    stamps = [clock.capture_ns(i * 33 * MS, 10**12 + (i * 33 + d) * MS) for i, d in enumerate(delays_ms)]
    ideal = [10**12 + (i * 33 + 5) * MS for i in range(6)]
    assert stamps == pytest.approx(ideal, abs=0.1 * MS)


def test_a_stamp_is_never_later_than_its_arrival() -> None:
    clock = PtsClock()
    for i, delay_ms in enumerate([50, 40, 30, 20, 10, 5, 0]):
        t_arrival_ns = 10**12 + (i * 33 + delay_ms) * MS
        assert clock.capture_ns(i * 33 * MS, t_arrival_ns) <= t_arrival_ns


def test_a_camera_clock_that_runs_slow_is_followed() -> None:
    clock = PtsClock()
    for i in range(100_000):  # an hour at 30 Hz, 100 ppm slow: 330 ms in all
        t_arrival_ns = i * 33 * MS
        t_ns = clock.capture_ns(int(t_arrival_ns * (1 - 100e-6)), t_arrival_ns)
    assert t_arrival_ns - t_ns < 1 * MS


@pytest.mark.parametrize("pts_ns", [0, 10**15])
def test_a_stream_that_starts_anew_is_anchored_anew(pts_ns: int) -> None:
    clock = PtsClock()
    clock.capture_ns(500 * 10**9, 10**12)
    assert clock.capture_ns(pts_ns, 10**12 + 40 * MS) == 10**12 + 40 * MS


def test_due_times_are_a_gap_apart() -> None:
    pacer = Pacer()
    due_ns = [pacer.due_ns(20 * MS) for _ in range(5)]
    assert [b - due_ns[0] for b in due_ns] == [0, 20 * MS, 40 * MS, 60 * MS, 80 * MS]


def test_who_falls_behind_runs_slower_instead_of_ever_later(monkeypatch: pytest.MonkeyPatch) -> None:
    now_ns = [0]
    monkeypatch.setattr("edge.sources.stamps.monotonic_ns", lambda: now_ns[0])
    pacer = Pacer()
    for _ in range(100):
        late_ns = now_ns[0] - pacer.due_ns(20 * MS)
        now_ns[0] += 100 * MS
        assert late_ns <= 500 * MS


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("rtsp://joe:secret@cam/live", "rtsp://joe:***@cam/live"),
        (
            "rtspsrc location=rtsp://joe:secret@cam user-pw=secret ! x",
            "rtspsrc location=rtsp://joe:***@cam user-pw=*** ! x",
        ),
        (
            "rtsp://cam/live?user=joe&password=secret&channel=1",
            "rtsp://cam/live?user=joe&password=***&channel=1",
        ),
        ("file:///a/b.mp4", "file:///a/b.mp4"),
    ],
)
def test_passwords_are_masked(text: str, shown: str) -> None:
    assert mask_secrets(text) == shown


def test_a_name_that_is_nothing_is_refused_with_advice() -> None:
    with pytest.raises(SourceOpenError, match=r"no file 'clip_that_is_not_there\.mp4'.*rtsp://"):
        source_uri("clip_that_is_not_there.mp4")
    with pytest.raises(SourceOpenError):
        source_uri("")
