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

SMALLEST_PX = 1.0


class BoxFilter:
    """States of up to `capacity` boxes; only the first n rows mean anything, n being the caller's.

    state (T, 22) float64 holds all of it, so that it is gathered and moved in one go; the others are views of it.
    mean (T, 8) float64: centre x, y, width, height in source px, then their rates in px/s.
    covariance (T, 2, 3) float64: for centre and size, along either axis: variance px^2, covariance with the rate
    px^2/s, variance of the rate px^2/s^2. flow (T, 4) float64: rate in px/s at which the camera's own motion moved
    centre and size at the last `warp`; the rates in `mean` are what is left beside it.
    agility (T,) float64: factor on the variance of the centre's acceleration. doubt (T,) float64: factor on the
    variances that are told to others. innovation (T, 2) float64: the last of the centre, in standard deviations.
    """

    def __init__(self, capacity: int) -> None:
        self.state = np.zeros((capacity, 22))
        self.mean, self.covariance, self.flow, self.agility, self.doubt, self.innovation = _parts(self.state)

    def start(self, rows: slice, xywh: np.ndarray) -> None:
        """Begin tracks at (K, 4) float64 boxes: at rest, with much doubt about that."""
        self.mean[rows, :4] = xywh
        np.maximum(xywh[:, 2:], SMALLEST_PX, out=self.mean[rows, 2:4])
        size = (self.mean[rows, 2:4].mean(axis=1) ** 2)[:, None]
        self.mean[rows, 4:] = 0
        self.covariance[rows, :, 0] = size * MEASUREMENT**2
        self.covariance[rows, :, 1] = 0
        self.covariance[rows, :, 2] = size * FIRST_RATE**2
        self.flow[rows] = 0
        self.agility[rows] = self.doubt[rows] = 1
        self.innovation[rows] = 0

    def predict(self, n: int, dt_s: float) -> None:
        """Move the first n boxes dt_s seconds on."""
        mean, covariance = self.mean[:n], self.covariance[:n]
        density = self._density(n)
        mean[:, :4] += dt_s * mean[:, 4:]
        np.maximum(mean[:, 2:4], SMALLEST_PX, out=mean[:, 2:4])
        variance, shared, rate = covariance[..., 0], covariance[..., 1], covariance[..., 2]
        variance += dt_s * (2 * shared + dt_s * rate) + (dt_s**3 / 3) * density
        shared += dt_s * rate + (dt_s**2 / 2) * density
        rate += dt_s * density

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
            self.flow[:n] = (mean[:, :4] - before) / dt_s

    def update(self, rows: np.ndarray, xywh: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """Take in (K, 4) float64 boxes seen with scores (K,) for tracks `rows` (K,) int64; return gains (K,) float64.

        A gain, in 0 to 1, says how much of the way from where its centre was expected to where it was seen the box
        went.
        """
        state = self.state[rows]
        mean, covariance, _, agility, doubt, innovation = _parts(state)
        variance, shared = covariance[..., 0], covariance[..., 1]
        noise = (mean[:, 2] + mean[:, 3]) * (1 - scores / 2)
        total = variance + (noise * noise)[:, None] * MEASUREMENT**2
        gain, rate_gain = variance / total, shared / total
        off = (xywh - mean[:, :4]).reshape(-1, 2, 2)
        _learn(agility, doubt, innovation, off[:, 0] / np.sqrt(total[:, :1]))
        mean[:, :4] += (gain[..., None] * off).reshape(-1, 4)
        mean[:, 4:] += (rate_gain[..., None] * off).reshape(-1, 4)
        np.maximum(mean[:, 2:4], SMALLEST_PX, out=mean[:, 2:4])
        covariance[..., 2] -= rate_gain * shared
        variance -= gain * variance
        shared -= gain * shared
        self.state[rows] = state
        return gain[:, 0]

    def tell_motion(self, rows: np.ndarray, into: BoxMotion) -> None:
        """Write how the boxes of `rows` (K,) int64 move in the picture, the camera's part in, into its first K rows."""
        mean, covariance, flow, agility, doubt, _ = _parts(self.state[rows])
        n = len(rows)
        into.rates[:n] = xyxy_of(mean[:, 4:] + flow)
        into.flow[:n] = xyxy_of(flow) if flow.any() else 0
        size = mean[:, 2] + mean[:, 3]
        variances = into.variances[:n]
        variances[:, :3] = covariance[:, 0]
        variances[:, 1] *= 2
        variances[:, 3] = size * size * agility * (ACCELERATION[0] ** 2 / 12)
        variances *= doubt[:, None]

    def sigma_px(self, rows: np.ndarray) -> np.ndarray:
        """Return (K,) float64: one standard deviation of the centres of `rows` (K,) int64 along either axis."""
        return np.sqrt(self.covariance[rows, 0, 0])

    def _density(self, n: int) -> np.ndarray:
        """(n, 2) float64 px^2/s^3 of the acceleration's white noise, for centre and size."""
        twice = self.mean[:n, 2] + self.mean[:n, 3]
        density = (twice * twice)[:, None] * (ACCELERATION**2 / 4)
        density[:, 0] *= self.agility[:n]
        return density


def _parts(state: np.ndarray) -> tuple[np.ndarray, ...]:
    """Views of (N, 22) float64 states: mean, covariance, flow, agility, doubt, innovation."""
    covariance = state[:, 8:14].reshape(-1, 2, 3)
    return state[:, :8], covariance, state[:, 14:18], state[:, 18], state[:, 19], state[:, 20:]


def _learn(agility: np.ndarray, doubt: np.ndarray, last: np.ndarray, innovation: np.ndarray) -> None:
    """Adapt (K,) agility and doubt to the (K, 2) innovations of the centres, in standard deviations, after the last."""
    same_side = (innovation * last).sum(axis=1)
    square = (innovation * innovation).sum(axis=1)
    last[:] = innovation
    same_side *= AGILITY_STEP / 2
    np.minimum(np.maximum(same_side, -AGILITY_STEP, out=same_side), 2 * AGILITY_STEP, out=same_side)
    agility *= np.exp(same_side, out=same_side)
    np.minimum(np.maximum(agility, AGILITY_RANGE[0], out=agility), AGILITY_RANGE[1], out=agility)
    doubt += DOUBT_STEP * (np.minimum(square / 2, LARGEST_SQUARE) - doubt)
    np.minimum(np.maximum(doubt, DOUBT_RANGE[0], out=doubt), DOUBT_RANGE[1], out=doubt)


def xywh_of(xyxy: np.ndarray) -> np.ndarray:
    """Return (N, 4) float64 centre, width and height of (N, 4) float32 or float64 xyxy; a new array."""
    out = np.empty(xyxy.shape)
    np.add(xyxy[:, :2], xyxy[:, 2:], out=out[:, :2])
    out[:, :2] *= 0.5
    np.subtract(xyxy[:, 2:], xyxy[:, :2], out=out[:, 2:])
    return out


def xyxy_of(xywh: np.ndarray) -> np.ndarray:
    """Return (N, 4) float64 xyxy of (N, 4) float64 centre, width and height (or of their rates); a new array."""
    half = xywh[:, 2:] * 0.5
    out = np.empty_like(xywh)
    np.subtract(xywh[:, :2], half, out=out[:, :2])
    np.add(xywh[:, :2], half, out=out[:, 2:])
    return out
