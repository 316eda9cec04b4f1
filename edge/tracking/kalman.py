"""A Kalman filter over all tracks at once: boxes that move at nearly constant velocity, a row a track.

Kalman (1960), with white noise acceleration (Bar-Shalom, Li, Kirubarajan, 2001, 6.2.2) in real time, so that it takes
frames as they come, late or dropped. As in SORT and DeepSORT (Wojke et al., 2017) noise goes with the size of the box.
Both axes have the same noise; so the 8 x 8 covariance falls apart into one 2 x 2 (position, rate) for the centre and
one for the size, and stays so under every turn and zoom of the camera: nothing is left out.

Each track learns from its innovations (what was seen beside what was expected): one after the other to the same side
mean that it turns or brakes harder than thought, to alternating sides that it keeps more steady (Mehra, 1970); their
mean square says how far its variances are to be believed.
"""

import numpy as np

from edge.detections import BoxMotion

__all__ = ["BoxFilter", "xywh_of", "xyxy_of"]

# In parts of the box's size (mean of width and height), for centre and size. Tuned on the scenes of
# benchmarks/tracking_scenes.py with other seeds than those reported.
MEASUREMENT = np.array([0.04, 0.05])  # standard deviation of a box detected with score 1; twice that with score 0
ACCELERATION = np.array([1.2, 0.4])  # per s^1.5: change of the rate within a second
FIRST_RATE = np.array([4.0, 0.5])  # per s: of a box seen once

AGILITY_STEP, AGILITY_RANGE = 0.4, (0.1, 30.0)  # how quickly and how far acceleration is adapted, as variance
DOUBT_STEP, DOUBT_RANGE = 0.1, (0.1, 10.0)  # likewise for how far variances are believed
LARGEST_SQUARE = 9.0  # an innovation of more than 3 sigma counts as 3 sigma

SMALLEST_PX = np.array(1.0)  # an array: a number is made into one on each call

_CORNERS = np.array([[1, 0, -0.5, 0], [0, 1, 0, -0.5], [1, 0, 0.5, 0], [0, 1, 0, 0.5]])  # of x, y, width, height
_CENTRES = np.linalg.inv(_CORNERS)
_GROUPS = ACCELERATION**2 / 4  # of the mean of width and height squared, per square of their sum


def _motion() -> np.ndarray:
    """(4, 16 * 14): for 1, dt, dt^2 and dt^3, what each of mean, covariance and noise adds to mean and covariance."""
    found = np.zeros((4, 16, 14))
    found[0, range(14), range(14)] = 1
    found[1, range(4, 8), range(4)] = 1
    for group in range(2):
        variance, shared, rate, noise = range(8 + group, 16, 2)
        found[1, shared, variance], found[2, rate, variance] = 2, 1
        found[1, rate, shared] = 1
        density = _GROUPS[group]
        found[3, noise, variance], found[2, noise, shared], found[1, noise, rate] = density / 3, density / 2, density
    return found.reshape(4, -1)


def _told() -> np.ndarray:
    """(16, 28): from a state to its box and that box's rates and flow, as xyxy, and to its variance to come."""
    found = np.zeros((28, 16))
    found[:4, :4] = found[4:8, 4:8] = found[16:20, 4:8] = found[16:20, 8:12] = _CORNERS.T
    found[8, 12], found[10, 13], found[12, 14] = 1, 2, 1
    found[2:4, 15] = ACCELERATION[0] / np.sqrt(12)
    return found.T


_MOTION, _TOLD = _motion(), _told()
_MEASUREMENT2 = MEASUREMENT[:, None] ** 2 / 4  # of the mean of width and height squared, per square of their sum
# for the agility's logarithm, from how innovations agree, and for doubt, from their square: a part of either (in the
# mean of both axes), within limits, is added to a part of what was believed, which has limits as well
_LEARNED = np.array([[AGILITY_STEP], [DOUBT_STEP]]) / 2
_LEARNED_LEAST = np.array([[-AGILITY_STEP], [0.0]])
_LEARNED_MOST = np.array([[2 * AGILITY_STEP], [DOUBT_STEP * LARGEST_SQUARE]])
_KEPT = np.array([[1.0], [1 - DOUBT_STEP]])
_LEAST, _MOST = np.array([np.log(AGILITY_RANGE), DOUBT_RANGE]).T[:, :, None]


class BoxFilter:
    """States of up to `capacity` boxes; only the first n rows mean anything, n being the caller's.

    state (T, 28) float64 holds all of it, so that it is gathered and moved in one go; the others are views of it.
    mean (T, 8) float64: centre x, y, width, height in source px, then their rates in px/s.
    covariance (T, 2, 3) float64: for centre and size, along either axis: variance px^2, covariance with the rate
    px^2/s, variance of the rate px^2/s^2. flow (T, 4) float64: rate in px/s at which the camera's own motion moved
    centre and size at the last `warp`; the rates in `mean` are what is left beside it.
    agility (T,) float64: factor on the variance of the centre's acceleration. doubt (T,) float64: factor on the
    variances that are told to others. innovations (T, 4) float64: the last but one of the centre and the last, in
    standard deviations. score (T,) float64: of the last detection. state[:, 14:16]: the acceleration's noise, for
    centre and size, that the last prediction began with.
    """

    def __init__(self, capacity: int) -> None:
        self.state = state = np.zeros((capacity, 28))
        self.mean, self.flow, self.innovations = state[:, :8], state[:, 16:20], state[:, 23:27]
        self.covariance = state[:, 8:14].reshape(-1, 3, 2).transpose(0, 2, 1)
        self.agility, self._log_agility, self.doubt, self.score = (state[:, at] for at in (20, 21, 22, 27))
        self._flows = False

    def start(self, rows: slice, xywh: np.ndarray, scores: np.ndarray | float = 1.0) -> None:
        """Begin tracks at (K, 4) float64 boxes, seen with scores (K,): at rest, with much doubt about that."""
        self.score[rows] = scores
        self.mean[rows, :4] = xywh
        np.maximum(xywh[:, 2:], SMALLEST_PX, out=self.mean[rows, 2:4])
        size = (self.mean[rows, 2:4].mean(axis=1) ** 2)[:, None]
        self.mean[rows, 4:] = 0
        self.covariance[rows, :, 0] = size * MEASUREMENT**2
        self.covariance[rows, :, 1] = 0
        self.covariance[rows, :, 2] = size * FIRST_RATE**2
        self.flow[rows] = 0
        self.agility[rows] = self.doubt[rows] = 1
        self._log_agility[rows] = 0
        self.innovations[rows] = 0

    def predict(self, n: int, dt_s: float) -> None:
        """Move the first n boxes dt_s seconds on."""
        state = self.state[:n]
        width, height, square = state[:, 2], state[:, 3], state[:, 15]
        np.add(width, height, out=square)
        square *= square
        np.multiply(square, state[:, 20], out=state[:, 14])
        # numpy's calls cost more than its arithmetic: one product instead of twenty sums
        state[:, :14] = np.dot(state[:, :16], np.dot((1.0, dt_s, dt_s**2, dt_s**3), _MOTION).reshape(16, 14))
        np.maximum(width, SMALLEST_PX, out=width)
        np.maximum(height, SMALLEST_PX, out=height)

    def stand(self, n: int) -> None:
        """Say of the first n boxes that the camera's own motion is not known."""
        if self._flows:
            self.flow[:n] = 0
            self._flows = False

    def warp(self, n: int, current_from_previous: np.ndarray, dt_s: float) -> None:
        """Move the first n boxes as a camera that turned moves the picture.

        current_from_previous: (3, 3) float64 homography, px to px. Boxes it would put behind the camera stay.
        """
        h, mean = current_from_previous, self.mean[:n]
        depth = mean[:, :2] @ h[2, :2] + h[2, 2]
        seen = depth > 1e-3
        depth[~seen] = 1
        centre = (mean[:, :2] @ h[:2, :2].T + h[:2, 2]) / depth[:, None]
        slope = (h[:2, :2] - centre[:, :, None] * h[2, :2]) / depth[:, None, None]  # d current / d previous
        zoom = np.sqrt(np.abs(slope[:, 0, 0] * slope[:, 1, 1] - slope[:, 0, 1] * slope[:, 1, 0]))
        centre[~seen], slope[~seen], zoom[~seen] = mean[~seen, :2], np.eye(2), 1
        before = mean[:, :4].copy()
        mean[:, :2] = centre
        mean[:, 2:4] *= zoom[:, None]
        mean[:, 4:6] = (slope * mean[:, None, 4:6]).sum(axis=2)
        mean[:, 6:] *= zoom[:, None]
        self.covariance[:n] *= (zoom**2)[:, None, None]
        if dt_s > 0:
            self._flows = True
            self.flow[:n] = (mean[:, :4] - before) / dt_s

    def update(self, rows: np.ndarray, xywh: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """Take in (K, 4) float64 boxes seen with scores (K,) for tracks `rows` (K,) int64; return gains (K,) float64.

        A gain, in 0 to 1, says how much of the way from where its centre was expected to where it was seen the box
        went.
        """
        state = self.state.take(rows, axis=0).T.copy()  # numpy is quickest along rows, so a box is a column here
        covariance = state[8:14].reshape(3, 2, -1)  # of centre and size: variance, shared with the rate, of the rate
        size = state[2:4]
        noise = 2 - scores
        noise *= size[0] + size[1]
        noise *= noise
        total = _MEASUREMENT2 * noise
        total += covariance[0]
        gains = covariance[:2] / total  # of position and rate, for centre and size
        off = xywh.T - state[:4]
        state[23:25] = state[25:27]
        np.divide(off[:2], np.sqrt(total[0]), out=state[25:27])
        _learn(state[21:23], state[23:27])
        np.exp(state[21], out=state[20])
        moved = state[:8].reshape(2, 2, 2, -1)  # position or rate, centre or size, axis
        moved += gains[:, :, None] * off.reshape(2, 2, -1)
        np.maximum(size, SMALLEST_PX, out=size)
        covariance[2] -= gains[1] * covariance[1]
        covariance[:2] *= 1 - gains[0]
        state[27] = scores
        self.state[rows] = state.T
        return gains[0, 0]

    def tell_motion(self, rows: np.ndarray, into: BoxMotion) -> np.ndarray:
        """Write how the boxes of `rows` (K,) int64 move in the picture, the camera's part in, into its first K rows.

        Return the boxes, (K, 4) float64 xyxy.
        """
        state = self.state.take(rows, axis=0).T
        told = np.dot(_TOLD, state)
        noise = told[15]
        noise *= noise
        noise *= state[20]
        told[12:] *= state[22]
        into.told[: len(rows)] = told[4:].T
        return told[:4].T

    def corners(self, n: int) -> np.ndarray:
        """Return (4, n) float64: x1, y1, x2 and y2 of the first n boxes, a row each; a new array."""
        return np.dot(_CORNERS, self.state[:n, :4].T)

    def sigma_px(self, rows: np.ndarray) -> np.ndarray:
        """Return (K,) float64: one standard deviation of the centres of `rows` (K,) int64 along either axis."""
        return np.sqrt(self.covariance[rows, 0, 0])


def _learn(belief: np.ndarray, innovations: np.ndarray) -> None:
    """Adapt (2, K), the agility's logarithm and doubt, to innovations (4, K) of x and y: the last but one, the last."""
    products = innovations.reshape(2, 2, -1) * innovations[2:]
    learned = products[:, 0]
    learned += products[:, 1]  # how the last two agree, and the square of the last
    learned *= _LEARNED
    np.minimum(learned, _LEARNED_MOST, out=learned)
    np.maximum(learned, _LEARNED_LEAST, out=learned)
    belief *= _KEPT
    belief += learned
    np.maximum(belief, _LEAST, out=belief)
    np.minimum(belief, _MOST, out=belief)


def xywh_of(xyxy: np.ndarray) -> np.ndarray:
    """Return (N, 4) float64 centre, width and height of (N, 4) float32 or float64 xyxy; a new array."""
    return np.dot(xyxy, _CENTRES.T)


def xyxy_of(xywh: np.ndarray) -> np.ndarray:
    """Return (N, 4) float64 xyxy of (N, 4) float64 centre, width and height (or of their rates); a new array."""
    return np.dot(xywh, _CORNERS.T)
