"""Where things are expected when a result is published, on motion that is known, with latency that is known."""

from collections.abc import Callable

import numpy as np
import pytest
from tracked import FRAME_S, Watched

from edge.config import TrackingSection
from edge.detections import Classification
from edge.frame import FrameInfo
from edge.tracking.camera_motion import carry_along, homography_of_rotation
from edge.wire import building, jsonl
from edge.wire.building import Stream, message_of, restamped

LATENCY_S = 0.08
STREAM = Stream(source="made", model="none")
SIZE = np.array([60.0, 120.0])
FIRST_NS = 10**12

Path = Callable[[float], tuple[float, float]]

PATHS: dict[str, Path] = {
    "straight": lambda t: (100 + 320 * t, 300 + 60 * t),
    "swinging": lambda t: (600 + 260 * np.sin(2 * t), 300 + 40 * np.cos(2 * t)),
    "circling": lambda t: (600 + 200 * np.cos(1.7 * t), 360 + 200 * np.sin(1.7 * t)),
    "braking and back": lambda t: (100 + 500 * t - 130 * t * t, 300),
}


def clock_at(monkeypatch: pytest.MonkeyPatch, t_ns: int) -> None:
    """Stop the clock of what makes messages."""
    monkeypatch.setattr(building, "monotonic_ns", lambda: t_ns)


def published(monkeypatch, path: Path, latency_s: float, noise_px: float = 2.0, seconds: float = 3.0):
    """Every message of a thing on its path, and where it truly was when its message was published."""
    rng = np.random.default_rng(21)
    watched = Watched()
    for i in range(round(seconds / FRAME_S)):
        centre = np.array(path(i * FRAME_S))
        corners = np.concatenate([centre - SIZE / 2, centre + SIZE / 2])
        watched.see([corners + rng.normal(size=4) * noise_px])
        t_capture_ns = FIRST_NS + round(i * FRAME_S * 1e9)
        clock_at(monkeypatch, t_capture_ns + round(latency_s * 1e9))
        info = FrameInfo(i, "made", t_capture_ns, 1280, 720)
        yield message_of(info, watched.into, STREAM), np.array(path(i * FRAME_S + latency_s))


def centre_of(box) -> np.ndarray:
    return np.array([box[0] + box[2], box[1] + box[3]]) / 2


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
@pytest.mark.parametrize("latency_s", [0.05, 0.08, 0.15])
def test_the_error_is_at_least_halved(monkeypatch, path, latency_s):
    stale, predicted, sigmas = [], [], []
    for message, truth in list(published(monkeypatch, path, latency_s))[15:]:
        record = message.detections[0]
        stale.append(np.linalg.norm(centre_of(record.box) - truth))
        predicted.append(np.linalg.norm(centre_of(record.predicted_box) - truth))
        sigmas.append(record.predicted_sigma_px)
    assert np.sqrt(np.mean(np.square(predicted))) < 0.5 * np.sqrt(np.mean(np.square(stale)))
    within = np.mean(np.array(predicted) < 2.45 * np.array(sigmas))  # 95 % of a round normal distribution
    assert within > 0.8
    assert np.mean(sigmas) < 3 * np.sqrt(np.mean(np.square(predicted)))  # and no more doubt than there is reason for


def test_a_thing_at_rest_stays_where_it_is(monkeypatch):
    for message, truth in list(published(monkeypatch, lambda t: (300, 300), LATENCY_S, noise_px=1))[15:]:
        record = message.detections[0]
        assert np.abs(centre_of(record.predicted_box) - truth).max() < 5
        assert np.abs(record.velocity_px_s).max() < 3 * record.velocity_sigma_px_s


def test_velocity_on_the_wire(monkeypatch):
    *_, (message, _) = published(monkeypatch, PATHS["straight"], LATENCY_S)
    record = message.detections[0]
    assert record.velocity_px_s == pytest.approx((320, 60), abs=3 * record.velocity_sigma_px_s)
    assert record.unseen_ms is None
    again = jsonl.decode(jsonl.encode(message)).detections[0]
    for name in ("predicted_box", "velocity_px_s"):
        assert getattr(again, name) == tuple(getattr(record, name))
    assert (again.predicted_sigma_px, again.track_id) == (record.predicted_sigma_px, 1)


def test_doubt_grows_with_age(monkeypatch):
    sigmas = [
        list(published(monkeypatch, PATHS["straight"], latency_s, seconds=1))[-1][0].detections[0].predicted_sigma_px
        for latency_s in (0.0, 0.05, 0.1, 0.3)
    ]
    assert sigmas == sorted(sigmas)
    assert sigmas[-1] > 2 * sigmas[0]


def test_what_waited_in_a_publisher_is_predicted_anew(monkeypatch):
    *_, (message, _) = published(monkeypatch, PATHS["straight"], LATENCY_S)
    before = message.detections[0]
    later = 0.04
    clock_at(monkeypatch, message.t_capture_local_ns + round((LATENCY_S + later) * 1e9))
    after = restamped(message).detections[0]
    truth = np.array(PATHS["straight"](89 * FRAME_S + LATENCY_S + later))
    assert np.abs(centre_of(after.predicted_box) - truth).max() < 3 * after.predicted_sigma_px
    assert after.predicted_box[0] - before.predicted_box[0] == pytest.approx(before.velocity_px_s[0] * later, abs=0.02)
    assert after.predicted_sigma_px > before.predicted_sigma_px
    assert after.box == before.box
    assert message.detections[0] is before  # others still wait with what it was
    clock_at(monkeypatch, message.t_capture_local_ns + round(LATENCY_S * 1e9) + 100_000)
    assert restamped(message).detections[0] is before


def test_what_was_not_detected_says_so(monkeypatch):
    watched = Watched()
    for i in range(5):
        watched.see([(100 + i, 100, 160 + i, 220)])
    watched.see([])
    clock_at(monkeypatch, FIRST_NS)
    info = FrameInfo(0, "made", FIRST_NS, 1280, 720)
    record = message_of(info, watched.into, STREAM).detections[0]
    assert record.unseen_ms == pytest.approx(33.3)
    assert record.track_id == 1
    assert message_of(info, Classification(1), STREAM).kind == "classification"


def test_the_iou_tracker_predicts_nothing_rather_than_zero(monkeypatch):
    from edge.detections import Detections
    from edge.tracking.iou import IouTracker

    watched = Watched(TrackingSection(tracker="iou"), kind=IouTracker)
    watched.into = Detections(64)
    for _ in range(3):
        ids = watched.see([(100, 100, 160, 220)])
    clock_at(monkeypatch, FIRST_NS)
    record = message_of(FrameInfo(0, "made", FIRST_NS, 1280, 720), watched.into, STREAM).detections[0]
    assert (ids, record.track_id) == ([1], 1)
    assert (record.velocity_px_s, record.predicted_box, record.predicted_sigma_px) == (None, None, None)


def test_a_camera_that_turned_since_capture_is_in_the_prediction():
    """A thing on the right while the camera turned right for 0.1 s, more quickly than before capture."""
    watched, before = Watched(), np.eye(3)
    before[0, 2] = -2  # px a frame
    for i in range(20):
        watched.see([(700 - 2 * i, 300, 760 - 2 * i, 420)], moved=before)
    box = watched.boxes[0].astype(float)
    since = homography_of_rotation((0, 0.05, 0), 800, (640, 360))
    carry_along(watched.into, since, 0.1)
    expected = box + watched.into.motion.rates[0] * 0.1
    x, y, depth = since @ (*centre_of(box), 1)
    assert centre_of(expected) == pytest.approx((x / depth, y / depth), abs=0.5)
    assert watched.into.motion.rates[0] == pytest.approx(watched.into.motion.flow[0], abs=5)  # it stands still itself
    behind = np.array([[1.0, 0, 0], [0, 1, 0], [-0.002, 0, 1]])
    rates = watched.into.motion.rates[0].copy()
    carry_along(watched.into, behind, 0.1)
    assert watched.into.motion.rates[0] == pytest.approx(rates, abs=1e-3)
