"""Estimates of a range where one of them is not known."""

import numpy as np
import pytest

from edge.geometry.ranging import ABSENT, fuse, range_of


@pytest.mark.parametrize("variance", [1e-3, 1e-5, 1e-8])
def test_what_is_absent_leaves_the_other_estimate_as_it_is(variance):
    known, absent = (np.array([0.1]), np.array([variance])), (np.array([0.3]), np.array([ABSENT]))
    for pair in ((known, absent), (absent, known)):
        value, fused = fuse(*pair, covariance=variance / 2)
        assert value[0] == pytest.approx(0.1, rel=1e-6)
        assert fused[0] == pytest.approx(variance, rel=1e-6)


def test_two_that_agree_are_weighed_by_their_variances():
    value, variance = fuse((np.array([0.10]), np.array([1e-4])), (np.array([0.11]), np.array([3e-4])))
    assert value[0] == pytest.approx(0.1025)
    assert variance[0] == pytest.approx(0.75e-4)


def test_no_range_behind_the_camera_or_too_unsure():
    with np.errstate(divide="ignore"):
        distance, sigma = range_of((np.array([0.1, -0.1, 0.0, 0.1]), np.array([1e-4, 1e-4, 1e-4, 1e-2])), 0.5)
    assert distance[0] == pytest.approx(10)
    assert sigma[0] == pytest.approx(1.0, rel=0.05)
    assert np.isnan(distance[1:]).all()
    assert np.isnan(sigma[1:]).all()
