"""The last step of every box decoder: what is copied, and which coordinates are never let through."""

import math

import numpy as np
import pytest

from edge.decoders.heads import refill
from edge.detections import Detections

GOOD = [10.0, 20.0, 30.0, 40.0]


@pytest.mark.parametrize("bad", [1e6, -1e6, math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("column", range(4))
def test_a_coordinate_that_ran_away_takes_its_box_along_and_no_other(bad, column):
    xyxy = np.array([GOOD, GOOD, GOOD], np.float32)
    xyxy[1, column] = bad
    into = Detections(5)
    refill(into, xyxy, np.array([0.9, 0.8, 0.7], np.float32), np.array([3, 4, 5]))
    assert into.count == 2
    assert into.xyxy[:2].tolist() == [GOOD, GOOD]
    assert into.class_ids[:2].tolist() == [3, 5]


@pytest.mark.parametrize("bad", [1e6, -1e6, math.nan])
def test_all_coordinates_beyond_the_same_side_leave_nothing(bad):
    into = Detections(5)
    refill(into, np.full((2, 4), bad, np.float32), np.ones(2, np.float32), np.zeros(2, np.int64))
    assert into.count == 0


@pytest.mark.parametrize("bad", [1e6, -1e6, math.nan])
def test_a_keypoint_that_ran_away_takes_its_box_along(bad):
    keypoints = np.full((2, 3, 2), 5, np.float32)
    keypoints[0, 1, 1] = bad
    into = Detections(5, keypoint_count=3)
    refill(into, np.array([GOOD, GOOD], np.float32), np.ones(2, np.float32), np.array([6, 7]), keypoints)
    assert into.count == 1
    assert into.class_ids[0] == 7
    assert into.keypoints is not None
    assert (into.keypoints[0] == 5).all()
