"""The life of tracks, and what keeps their numbers the same."""

import tracemalloc

import numpy as np
import pytest
from tracked import Watched, box, filled

from benchmarks.tracking_scenes import Scene, make
from edge.config import TrackingSection
from edge.detections import Detections
from edge.tracking.bytetrack import ByteTracker
from edge.tracking.camera_motion import homography_of_rotation


def test_tentative_confirmed_coasting_lost_found_and_removed():
    watched = Watched(TrackingSection(coast_s=0.05, max_lost_s=1.0))
    assert watched.see([box(100, 200)]) == []  # tentative
    for i in range(1, 10):
        assert watched.see([box(100 + 4 * i, 200)]) == [1]
        assert watched.into.motion.unseen_s[0] == 0
    assert watched.see() == [1]  # expected there, and said to be so
    assert watched.into.motion.unseen_s[0] == pytest.approx(1 / 30)
    assert watched.boxes[0] == pytest.approx(box(140, 200), abs=1.5)
    assert watched.into.scores[0] == np.float32(0.9)
    assert watched.see() == []  # lost, for longer than coast_s
    for _ in range(15):
        assert watched.see() == []
    assert watched.see([box(100 + 4 * 27, 200)]) == [1]  # found where its velocity took it
    assert watched.see(dt_s=1.1) == []
    assert watched.see([box(212, 200)]) == []
    assert watched.see([box(216, 200)]) == [2]  # removed: that is another one


@pytest.mark.parametrize(("gap_s", "number"), [(0.9, 1), (1.1, 2)])
def test_max_lost_s_is_how_long_a_number_is_kept(gap_s, number):
    watched = Watched(TrackingSection(max_lost_s=1.0, coast_s=0))
    for i in range(10):
        watched.see([box(100 + 4 * i, 200)])
    there = box(136 + 120 * gap_s, 200)  # right where its velocity leads
    watched.see([there], dt_s=gap_s)
    assert watched.see([there]) == [number]


def test_a_false_alarm_takes_no_number():
    watched = Watched()
    watched.see([box(100, 200)])
    watched.see([])
    watched.see([box(400, 200)])
    assert watched.see([box(402, 200)]) == [1]


def test_min_hits_of_one_publishes_at_once():
    watched = Watched(TrackingSection(min_hits=1))
    assert watched.see([box(100, 200), box(300, 200)]) == [1, 2]
    assert watched.see([box(300, 200), box(100, 200), box(500, 200)]) == [2, 1, 3]


def test_two_that_cross_keep_their_numbers():
    """They meet in the middle, where the farther one is not detected for ten frames."""
    watched = Watched()
    for i in range(60):
        near, far = box(100 + 8 * i, 300, 80, 160), box(580 - 8 * i, 280, 60, 120)
        hidden = 24 <= i <= 34
        ids = watched.see([near] if hidden else [near, far])
    centres = dict(zip(ids, watched.boxes[:, 0] + 40, strict=True))
    assert set(ids) == {1, 2}
    assert centres[1] > centres[2]


def test_weak_detections_keep_a_track_but_begin_none():
    watched = Watched(TrackingSection(coast_s=0))
    for i in range(40):
        ids = watched.see([box(100 + 3 * i, 200), box(600, 400)], [0.9 if i < 3 else 0.15, 0.45])
    assert ids == [1]
    assert watched.into.scores[0] == np.float32(0.15)
    deaf = Watched(TrackingSection(coast_s=0, low_score=0.2))
    for i in range(5):
        ids = deaf.see([box(100, 200)], [0.9 if i < 3 else 0.15])
    assert ids == []


def test_a_weak_detection_does_not_bring_back_who_was_lost():
    """It keeps a track going that is being seen; of one that is not it is no proof (Zhang et al., section 3)."""
    watched = Watched(TrackingSection(coast_s=0))
    for _ in range(5):
        watched.see([box(100, 200)])
    assert watched.see([box(100, 200)], [0.3]) == [1]
    assert watched.see([]) == []
    assert watched.see([box(100, 200)], [0.3]) == []
    assert watched.see([box(100, 200)], [0.9]) == [1]


def test_what_is_found_again_near_by_has_about_its_size():
    def number(part: float) -> int:
        watched = Watched(TrackingSection(coast_s=0))
        for i in range(10):
            watched.see([box(100 + 4 * i, 200, 40, 40)])
        watched.see(dt_s=0.3)
        again = box(178, 200, 40 * part, 40 * part)
        watched.see([again], dt_s=0.3)
        return watched.see([again])[0]

    assert [number(part) for part in (0.8, 1.0, 1.25)] == [1, 1, 1]
    assert [number(part) for part in (0.6, 1.5)] == [2, 2]


def test_what_stood_still_while_hidden_is_found_near_by():
    """Hidden for 0.6 s, it is nearly a width from where its velocity leads: no overlap, which the paper asks for."""

    def numbers(reach: float) -> set[int]:
        watched = Watched(TrackingSection(reach=reach, coast_s=0))
        found = [watched.see([box(100 + 4 * i, 200, 40, 40)]) for i in range(10)]
        watched.see(dt_s=0.3)
        found += [watched.see([box(178, 200, 40, 40)], dt_s=0.3), watched.see([box(178, 200, 40, 40)])]
        return {number for numbers in found for number in numbers}

    assert numbers(1.0) == {1}
    assert numbers(0) == {1, 2}


def test_classes_are_kept_apart():
    def numbers(class_aware: bool) -> set[int]:
        watched = Watched(TrackingSection(class_aware=class_aware, coast_s=0))
        seen = [watched.see([box(100, 200)], class_ids=[i // 5]) for i in range(10)]
        return {number for numbers in seen for number in numbers}

    assert numbers(True) == {1, 2}
    assert numbers(False) == {1}


def test_real_time_not_frames_says_where_things_are():
    """After a gap of 0.4 s a thing at 450 px/s is three widths on: found, since the clock says so."""
    watched = Watched()
    for i in range(15):
        watched.see([box(100 + 15 * i, 200)])
    assert watched.see([box(100 + 15 * 14 + 180, 200)], dt_s=0.4) == [1]
    assert watched.velocity[0] == pytest.approx((450, 0), abs=20)


def test_the_same_stamp_twice_changes_nothing_for_the_worse():
    watched = Watched()
    for i in range(10):
        watched.see([box(100 + 5 * i, 200)])
    before = watched.boxes
    assert watched.see([box(145, 200)], dt_s=0) == [1]
    assert watched.boxes == pytest.approx(before, abs=1.5)


def pan_of(i: int) -> np.ndarray:
    """Each frame a camera with 800 px of focal length turns by a tenth of a radian, there and back."""
    return homography_of_rotation((0, 0.1 if i % 10 < 5 else -0.1, 0), 800, (640, 360))


def test_a_turning_camera_is_followed_where_its_motion_is_given():
    def numbers(told: bool) -> set[int]:
        watched, spot = Watched(TrackingSection(coast_s=0, reach=0)), np.array([640.0, 300, 1])
        seen: set[int] = set()
        for i in range(20):
            if i:
                spot = pan_of(i) @ spot
                spot /= spot[2]
            seen |= set(watched.see([box(spot[0], spot[1])], moved=pan_of(i) if told and i else None))
        return seen

    assert numbers(told=True) == {1}
    assert numbers(told=False) != {1}


def test_velocity_is_that_in_the_picture_also_under_a_turning_camera():
    watched, shift = Watched(), np.eye(3)
    shift[0, 2] = -10
    for i in range(30):  # stands still in the world; the picture moves left by 10 px a frame
        watched.see([box(900 - 10 * i, 300)], moved=shift)
    assert watched.velocity[0] == pytest.approx((-300, 0), abs=3)


def test_keypoints_go_along_and_are_smoothed():
    rng = np.random.default_rng(5)
    watched, errors = Watched(keypoints=2), []
    for i in range(60):
        x = 100 + 6 * i
        true = np.array([[x - 10, 160], [x + 10, 160]], float)
        watched.see([box(x, 200)], keypoints=[true + rng.normal(size=(2, 2)) * 3])
        if i > 10:
            errors.append(watched.into.keypoints[0] - true)
    assert np.sqrt(np.mean(np.square(errors))) < 2.0  # of 3 px that were put in
    watched.see([])
    moved = true + np.array([6, 0])
    assert watched.into.keypoints[0] == pytest.approx(moved, abs=5)


def test_boxes_are_smoother_than_they_were_detected():
    rng = np.random.default_rng(6)
    smooth, raw = Watched(), Watched(TrackingSection(smooth=False))
    errors = []
    for i in range(80):
        true = np.array(box(100 + 6 * i, 200, 100, 100))
        seen = true + rng.normal(size=4) * 4
        smooth.see([seen])
        raw.see([seen])
        if i > 10:
            errors.append((smooth.boxes[0] - true, raw.boxes[0] - true))
        if i > 0:
            assert raw.boxes[0] == pytest.approx(seen, abs=1e-3)
    filtered, detected = np.sqrt(np.mean(np.square(errors), axis=(0, 2)))
    assert filtered < 0.7 * detected


def test_more_objects_than_room():
    watched = Watched(TrackingSection(max_tracks=4, coast_s=0))
    many = [box(100 * i, 200) for i in range(1, 8)]
    watched.see(many)
    assert watched.see(many) == [1, 2, 3, 4]  # the best: detections come best first
    watched.see([])
    others = [box(100 * i, 600) for i in range(1, 8)]
    watched.see(others)
    assert watched.see(others) == [5, 6, 7, 8]  # the lost make room


def test_numbers_leave_out_what_the_wire_says_for_none():
    watched = Watched(TrackingSection(min_hits=1))
    watched.tracker.next_id = 0xFFFE
    assert watched.see([box(100 * i, 200) for i in range(1, 4)]) == [0xFFFE, 0x10000, 0x10001]


def test_degenerate_boxes_do_no_harm():
    watched = Watched(TrackingSection(min_hits=1))
    for _ in range(4):
        watched.see([(10, 10, 10, 10), (50, 50, 40, 40), (0, 0, 1e6, 1e6), (-1e6, 5, -1e6, 5)])
        assert np.isfinite(watched.boxes).all()
        assert np.isfinite(watched.into.motion.rates[: watched.into.count]).all()
        assert (watched.into.motion.variances[: watched.into.count, 0] > 0).all()


def tracked_over(shots, settings=None, motion=False) -> list[tuple[np.ndarray, np.ndarray]]:
    watched = Watched(settings)
    out = []
    for shot in shots:
        found = filled(shot.xyxy, shot.scores, shot.class_ids)
        watched.tracker.update(found, watched.into, shot.t_ns, shot.current_from_previous if motion else None)
        out.append((watched.boxes, watched.into.track_ids[: watched.into.count].copy()))
    return out


def changes_and_recall(shots, out) -> tuple[int, float]:
    """How often a truth's number changed, and the part of the truth that had one; by best overlap above a half."""
    last: dict[int, int] = {}
    changes = hits = total = 0
    for shot, (boxes, ids) in zip(shots, out, strict=True):
        total += len(shot.ids)
        if not len(ids):
            continue
        low = np.maximum(shot.boxes[:, None, :2], boxes[:, :2])
        high = np.minimum(shot.boxes[:, None, 2:], boxes[:, 2:])
        inter = np.maximum(high - low, 0).prod(axis=2)
        sizes, own_sizes = (np.prod(some[:, 2:] - some[:, :2], axis=1) for some in (shot.boxes, boxes))
        iou = inter / (sizes[:, None] + own_sizes - inter)
        for truth, best, overlap in zip(shot.ids.tolist(), iou.argmax(axis=1), iou.max(axis=1), strict=True):
            if overlap > 0.5:
                hits += 1
                changes += last.get(truth, ids[best]) != ids[best]
                last[truth] = ids[best]
    return changes, hits / total


@pytest.mark.parametrize(
    ("scene", "most_changes", "least_recall"),
    [
        (Scene("street", objects=8, seconds=8), 8, 0.94),
        (Scene("noisy", objects=8, seconds=8, jitter=0.06, miss=0.15, clutter=2.0), 8, 0.90),
        (Scene("turning", objects=8, seconds=8, pan_px_s=600.0), 8, 0.94),
        (Scene("drops", objects=8, seconds=8, drop=0.4), 8, 0.90),
    ],
    ids=lambda value: value.name if isinstance(value, Scene) else "",
)
def test_scenes_with_truth(scene, most_changes, least_recall):
    shots = make(scene, seed=11)
    changes, recall = changes_and_recall(shots, tracked_over(shots, motion=True))
    assert changes <= most_changes
    assert recall >= least_recall


def test_the_same_frames_give_the_same_tracks():
    shots = make(Scene("crowd", objects=25, seconds=3, clutter=2), seed=12)
    first, second = tracked_over(shots), tracked_over(shots)
    for (boxes, ids), (others, other_ids) in zip(first, second, strict=True):
        assert np.array_equal(boxes, others)
        assert np.array_equal(ids, other_ids)


def test_an_hour_of_tracking_takes_no_more_memory_than_a_minute():
    """Nothing is kept from frame to frame, and what a frame takes meanwhile is bounded; 50 objects with keypoints."""
    shots = make(Scene("crowd", objects=50, seconds=4, clutter=2), seed=13)
    tracker, into = ByteTracker(TrackingSection(), 128, 17), Detections(128, 17, moving=True)
    found = Detections(128, 17)

    def frames(t_ns: int) -> None:
        for shot in shots:
            n = found.count = len(shot.scores)
            found.xyxy[:n], found.scores[:n], found.class_ids[:n] = shot.xyxy, shot.scores, shot.class_ids
            found.keypoints[:n] = shot.xyxy[:, None, :2]
            tracker.update(found, into, t_ns + shot.t_ns)

    frames(0)
    tracemalloc.start()
    frames(10**10)
    kept, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 128 * 1024
    assert kept < 8 * 1024
