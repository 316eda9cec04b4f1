"""Rendered scenes with known geometry, written apart from `edge.geometry`: plain matrices, forward projection only."""

import math
from dataclasses import dataclass

import numpy as np

from edge.detections import Detections


@dataclass
class TrueCamera:
    """What the camera really is. distortion: k1 k2 p1 p2 k3 k4 k5 k6, or, for a fisheye, k1 to k4."""

    width_px: int
    height_px: int
    focal_px: tuple[float, float]
    centre_px: tuple[float, float]
    distortion: tuple[float, ...]
    fisheye: bool = False
    origin_m: tuple[float, float, float] = (0.0, 0.0, 1.0)
    pan_left: float = 0.0
    tilt_down: float = 0.0
    roll_right: float = 0.0

    def axes(self) -> np.ndarray:
        """Rows: the camera's right, down and forward, each in the base frame (x forward, y left, z up)."""
        c, s = math.cos, math.sin
        p, t, r = self.pan_left, self.tilt_down, self.roll_right
        forward = np.array([c(p) * c(t), s(p) * c(t), -s(t)])
        level_right = np.array([s(p), -c(p), 0.0])
        down = np.cross(forward, level_right)
        # rolled to the right: the camera's right side goes down
        return np.stack([c(r) * level_right + s(r) * down, c(r) * down - s(r) * level_right, forward])

    def camera_points(self, points_m: np.ndarray) -> np.ndarray:
        """(..., 3) in the base frame -> (..., 3) in the optical frame."""
        return (points_m - np.array(self.origin_m)) @ self.axes().T

    def project(self, points_m: np.ndarray) -> np.ndarray:
        """(..., 3) in the base frame -> (..., 2) px, (0, 0) the middle of the first pixel."""
        x, y, z = np.moveaxis(self.camera_points(points_m), -1, 0)
        if self.fisheye:
            radius = np.maximum(np.hypot(x, y), 1e-12)
            angle = np.arctan2(radius, z)
            bent = angle + sum(k * angle ** (2 * i + 3) for i, k in enumerate(self.distortion))
            x, y = x / radius * bent, y / radius * bent
        else:
            x, y = brown(x / z, y / z, self.distortion)
        return np.stack([x * self.focal_px[0] + self.centre_px[0], y * self.focal_px[1] + self.centre_px[1]], axis=-1)


def brown(x: np.ndarray, y: np.ndarray, distortion: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Brown's model with the rational radial part, term by term."""
    k1, k2, p1, p2, k3, k4, k5, k6 = (*distortion, *[0.0] * 8)[:8]
    r2 = x**2 + y**2
    radial = (1 + k1 * r2 + k2 * r2**2 + k3 * r2**3) / (1 + k4 * r2 + k5 * r2**2 + k6 * r2**3)
    return (
        x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x**2),
        y * radial + p1 * (r2 + 2 * y**2) + 2 * p2 * x * y,
    )


def plates(feet_m: np.ndarray, heights_m: np.ndarray, widths_m: np.ndarray, origin_m: tuple) -> np.ndarray:
    """(N, 13 * 13, 3) points of upright rectangles that stand with their foot at (N, 2) and face the camera."""
    away = feet_m - np.array(origin_m[:2])
    away /= np.linalg.norm(away, axis=1, keepdims=True)
    side = np.stack([-away[:, 1], away[:, 0]], axis=1)
    u, v = (a.ravel() for a in np.meshgrid(np.linspace(-0.5, 0.5, 13), np.linspace(0, 1, 13)))
    flat = feet_m[:, None] + side[:, None] * (u[None, :, None] * widths_m[:, None, None])
    return np.concatenate([flat, (v * heights_m[:, None])[..., None]], axis=-1)


def boxes_of(camera: TrueCamera, points_m: np.ndarray) -> np.ndarray:
    """(N, 4) xyxy of point clouds (N, P, 3), counted from the edge of the first pixel as detectors do."""
    pixels = camera.project(points_m) + 0.5
    return np.concatenate([pixels.min(axis=1), pixels.max(axis=1)], axis=1)


def bearings_of(camera: TrueCamera, points_m: np.ndarray) -> np.ndarray:
    """(N, 2) rad: azimuth to the right and elevation upwards, from the optical axis, of (N, 3)."""
    x, y, z = camera.camera_points(points_m).T
    return np.stack([np.arctan2(x, z), np.arctan2(-y, np.sqrt(x**2 + z**2))], axis=1)


def detections_of(boxes: np.ndarray, class_id: int = 0) -> Detections:
    """Detections of boxes (N, 4), all of one class."""
    found = Detections(len(boxes))
    found.count = len(boxes)
    found.xyxy[:] = boxes
    found.class_ids[:] = class_id
    return found
