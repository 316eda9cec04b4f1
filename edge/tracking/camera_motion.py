"""What the camera's own motion does to the picture, as a homography: current px from previous px.

Angular rates are in rad/s about the camera's axes: x right, y down, z forward, right-handed. A camera that turns to
its right has a positive rate about y, and what stands still moves to the left in its picture.
"""

from collections import deque

import numpy as np

from edge.detections import Detections

__all__ = ["Gyro", "carry_along", "homography_of_rotation"]


def homography_of_rotation(
    angle_rad: tuple[float, float, float], focal_px: float, centre_px: tuple[float, float]
) -> np.ndarray:
    """Return the (3, 3) float64 homography, current from previous px, of a camera that turned.

    angle_rad: rotation vector about the camera's x, y, z. focal_px: focal length. centre_px: principal point.
    Exact for what is far away; a camera that only turns has no parallax. Rodrigues' formula.
    """
    vector = np.asarray(angle_rad, np.float64)
    angle = float(np.linalg.norm(vector))
    if angle < 1e-12:
        return np.eye(3)
    x, y, z = vector / angle
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    turn = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * (cross @ cross)
    camera = np.array([[focal_px, 0, centre_px[0]], [0, focal_px, centre_px[1]], [0, 0, 1]])
    return camera @ turn.T @ np.linalg.inv(camera)  # points turn the other way


def carry_along(detections: Detections, now_from_capture: np.ndarray, age_s: float) -> None:
    """Replace the camera's part of how boxes move, as it was up to capture, by what it has done since.

    now_from_capture: (3, 3) float64 homography, px to px, over the age_s > 0 seconds since capture. Boxes it would put
    behind the camera are left as they are.
    """
    n, motion = detections.count, detections.motion
    if not n or motion is None:
        return
    xyxy = detections.xyxy[:n].astype(np.float64)
    expected = xyxy + (motion.rates[:n] - motion.flow[:n]) * age_s
    centre = (expected[:, :2] + expected[:, 2:]) / 2
    depth = centre @ now_from_capture[2, :2] + now_from_capture[2, 2]
    ahead = depth > 1e-3
    depth[~ahead] = 1
    shift = (centre @ now_from_capture[:2, :2].T + now_from_capture[:2, 2]) / depth[:, None] - centre
    flow = np.tile(shift, 2) / age_s
    flow[~ahead] = motion.flow[:n][~ahead]
    motion.rates[:n] += flow - motion.flow[:n]
    motion.flow[:n] = flow


class Gyro:
    """Angular rates of an IMU, turned into what they did to the picture between two frames.

    Give it to `Pipeline.camera_motion` and `add` rates as they come. The newest `capacity` are kept; a rate holds until
    the next one, but not longer than hold_s.
    """

    def __init__(
        self, focal_px: float, centre_px: tuple[float, float], capacity: int = 512, hold_s: float = 0.1
    ) -> None:
        self._focal_px = focal_px
        self._centre_px = centre_px
        self._hold_ns = int(hold_s * 1e9)
        self._samples: deque[tuple[int, tuple[float, float, float]]] = deque(maxlen=capacity)

    def add(self, t_ns: int, rate_rad_s: tuple[float, float, float]) -> None:
        """Take the rate about the camera's x, y, z measured at t_ns (CLOCK_MONOTONIC), later than all before."""
        self._samples.append((t_ns, rate_rad_s))

    def __call__(self, t_previous_ns: int, t_current_ns: int) -> np.ndarray | None:
        """Return the (3, 3) float64 homography, current from previous px, or None where no rate is known."""
        angle_x = angle_y = angle_z = 0.0
        end, known = t_current_ns, False
        for t_ns, (x, y, z) in reversed(self._samples.copy()):
            held = min(end, t_ns + self._hold_ns) - max(t_ns, t_previous_ns)
            if held > 0:
                known = True
                angle_x, angle_y, angle_z = angle_x + x * held, angle_y + y * held, angle_z + z * held
            end = min(end, t_ns)
            if t_ns <= t_previous_ns:
                break
        if not known:
            return None
        angle = (angle_x / 1e9, angle_y / 1e9, angle_z / 1e9)
        return homography_of_rotation(angle, self._focal_px, self._centre_px)
