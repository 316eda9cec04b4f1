"""The filter over all tracks at once does what the textbook's 8 x 8 matrices do, one track at a time."""

import numpy as np
import pytest

from edge.detections import BoxMotion
from edge.tracking.camera_motion import Gyro, homography_of_rotation
from edge.tracking.kalman import ACCELERATION, FIRST_RATE, MEASUREMENT, BoxFilter


class Textbook:
    """Kalman's equations for one box; written apart from the code under test, with inverse and full covariance."""

    def __init__(self, xywh: np.ndarray) -> None:
        self.x = np.concatenate([xywh, np.zeros(4)])
        self.p = np.diag(self.squares(MEASUREMENT, FIRST_RATE))
        self.agility, self.doubt, self.last = 1.0, 1.0, np.zeros(2)

    def squares(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Noises in parts of the box, for centre and size and their rates, as variances."""
        return (np.repeat(np.concatenate([first, second]), 2) * self.x[2:4].mean()) ** 2

    def predict(self, dt: float) -> None:
        density = np.diag((np.repeat(ACCELERATION, 2) * self.x[2:4].mean()) ** 2)
        density[:2] *= self.agility
        f = np.eye(8)
        f[:4, 4:] = np.eye(4) * dt
        q = np.block([[density * dt**3 / 3, density * dt**2 / 2], [density * dt**2 / 2, density * dt]])
        self.x = f @ self.x
        self.p = f @ self.p @ f.T + q

    def turn(self, angle: float, zoom: float, shift: np.ndarray) -> None:
        a = zoom * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        full = np.zeros((8, 8))
        full[:2, :2] = full[4:6, 4:6] = a
        full[2:4, 2:4] = full[6:, 6:] = np.eye(2) * zoom
        self.x = full @ self.x
        self.x[:2] += shift
        self.p = full @ self.p @ full.T

    def update(self, xywh: np.ndarray, score: float) -> None:
        h = np.eye(4, 8)
        r = np.diag((np.repeat(MEASUREMENT, 2) * self.x[2:4].mean() * (2 - score)) ** 2)
        s = h @ self.p @ h.T + r
        off = ((xywh - h @ self.x) / np.sqrt(np.diag(s)))[:2]
        self.agility = float(np.clip(self.agility * np.exp(0.4 * np.clip(off @ self.last / 2, -1, 2)), 0.1, 30))
        self.doubt = float(np.clip(0.9 * self.doubt + 0.1 * min(off @ off / 2, 9), 0.1, 10))
        self.last = off
        k = self.p @ h.T @ np.linalg.inv(s)
        self.x = self.x + k @ (xywh - h @ self.x)
        self.p = (np.eye(8) - k @ h) @ self.p


def check(kalman: BoxFilter, books: list[Textbook]) -> None:
    for i, book in enumerate(books):
        assert kalman.mean[i] == pytest.approx(book.x, rel=1e-9, abs=1e-9)
        for group, axis in ((0, 0), (0, 1), (1, 2), (1, 3)):
            expected = book.p[axis, axis], book.p[axis, axis + 4], book.p[axis + 4, axis + 4]
            assert kalman.covariance[i, group] == pytest.approx(expected, rel=1e-9, abs=1e-9)
        assert kalman.sigma_px(np.array([i]))[0] == pytest.approx(np.sqrt(book.p[0, 0]))
        assert (kalman.agility[i], kalman.doubt[i]) == pytest.approx((book.agility, book.doubt))


def test_as_the_textbook_with_uneven_times_and_a_camera_that_turns():
    rng = np.random.default_rng(3)
    n = 6
    xywh = np.column_stack([rng.uniform(100, 900, (n, 2)), rng.uniform(20, 200, (n, 2))])
    kalman, books = BoxFilter(16), [Textbook(row) for row in xywh]
    kalman.start(slice(0, n), xywh)
    for _ in range(30):
        dt = rng.choice((0.0, 0.01, 0.033, 0.2))
        kalman.predict(n, dt)
        angle, zoom, shift = rng.normal() * 0.05, rng.uniform(0.95, 1.05), rng.normal(size=2) * 20
        turned = np.eye(3)
        turned[:2, :2] = zoom * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        turned[:2, 2] = shift
        kalman.warp(n, turned, dt)
        for book in books:
            book.predict(dt)
            book.turn(angle, zoom, shift)
        rows = np.flatnonzero(rng.random(n) < 0.7)
        seen = np.array([books[i].x[:4] for i in rows]).reshape(-1, 4) + rng.normal(size=(len(rows), 4)) * 4
        scores = rng.uniform(0.1, 1, len(rows))
        kalman.update(rows, seen, scores)
        for i, row, score in zip(rows, seen, scores, strict=True):
            books[i].update(row, score)
        check(kalman, books)


def test_the_variance_to_come_is_the_one_that_comes():
    kalman = BoxFilter(2)
    kalman.start(slice(0, 1), np.array([[100.0, 100, 40, 60]]))
    motion = BoxMotion(1)
    kalman.tell_motion(np.array([0]), motion)
    kalman.predict(1, 0.15)
    expected = kalman.covariance[0, 0, 0]
    assert motion.variances[0].astype(float) @ [1, 0.15, 0.15**2, 0.15**3] == pytest.approx(expected, rel=1e-5)


def test_a_homography_moves_boxes_as_it_moves_points():
    h = np.array([[1.02, 0.03, -14.0], [-0.02, 0.99, 6.0], [2e-5, -1e-5, 1.0]])
    kalman = BoxFilter(4)
    xywh = np.array([[200.0, 300, 40, 60], [900, 100, 10, 10]])
    kalman.start(slice(0, 2), xywh)
    kalman.mean[:2, 4:6] = 30.0, -20.0
    ahead = xywh[:, :2] + kalman.mean[:2, 4:6] * 1e-4  # where the velocity leads, moved as a point as well
    kalman.warp(2, h, 0.1)
    moved = [(h @ (*xy, 1.0))[:2] / (h @ (*xy, 1.0))[2] for xy in xywh[:, :2]]
    moved_ahead = [(h @ (*xy, 1.0))[:2] / (h @ (*xy, 1.0))[2] for xy in ahead]
    assert kalman.mean[:2, :2] == pytest.approx(np.array(moved))
    assert kalman.mean[:2, 4:6] == pytest.approx((np.array(moved_ahead) - moved) / 1e-4, rel=1e-4)
    assert kalman.flow[:2, :2] == pytest.approx((np.array(moved) - xywh[:, :2]) / 0.1)


def test_what_a_homography_puts_behind_the_camera_stays():
    kalman = BoxFilter(2)
    kalman.start(slice(0, 2), np.array([[10.0, 10, 5, 5], [1000, 10, 5, 5]]))
    kalman.warp(2, np.array([[1.0, 0, 0], [0, 1, 0], [-0.002, 0, 1]]), 0.1)
    assert kalman.mean[1, :4].tolist() == [1000, 10, 5, 5]
    assert kalman.mean[0, 0] == pytest.approx(10 / 0.98)
    assert np.isfinite(kalman.mean[:2]).all()
    assert np.isfinite(kalman.covariance[:2]).all()


def test_a_camera_that_turns_right_moves_the_picture_left():
    centre = homography_of_rotation((0, 0.1, 0), 800, (640, 360)) @ (640, 360, 1)
    assert centre[:2] / centre[2] == pytest.approx((640 - 800 * np.tan(0.1), 360))
    up = homography_of_rotation((0.1, 0, 0), 800, (640, 360)) @ (640, 360, 1)
    assert up[1] / up[2] == pytest.approx(360 + 800 * np.tan(0.1))  # about x, right-handed: the camera looks up
    assert homography_of_rotation((0, 0, 0), 800, (640, 360)).tolist() == np.eye(3).tolist()


def test_the_gyro_adds_up_what_it_measured_between_two_frames():
    gyro = Gyro(800, (640, 360))
    assert gyro(0, 10**9) is None
    for i in range(11):  # 100 Hz: 1 rad/s for 50 ms, then 2 rad/s
        gyro.add(i * 10_000_000, (0.0, 1.0 if i < 5 else 2.0, 0.0))
    expected = homography_of_rotation((0, 0.03 * 1 + 0.02 * 2, 0), 800, (640, 360))
    assert gyro(20_000_000, 70_000_000) == pytest.approx(expected)
    held = homography_of_rotation((0, 0.1 * 2, 0), 800, (640, 360))  # the newest holds for 0.1 s and no longer
    assert gyro(100_000_000, 900_000_000) == pytest.approx(held)
    assert gyro(500_000_000, 900_000_000) is None
    assert gyro(70_000_000, 70_000_000) is None
