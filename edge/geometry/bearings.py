"""Angles of rays, and maps of the picture that say how sure they are: of pixel noise, calibration and tilt.

Errors are carried to first order, cov(angle) = J cov J^T (Hartley and Zisserman, Multiple View Geometry, 2nd ed.,
chapter 5), with Jacobians taken as central differences once, at the middles of cells; a detection looks up its cell.
"""

import msgspec
import numpy as np

from edge.geometry.camera import Camera, MountSection
from edge.geometry.lens import Lens
from edge.geometry.transforms import base_from_camera

__all__ = ["SureMaps", "angles_of", "azimuths_of", "slopes_of"]

_CELLS = 64  # per axis
_STEP_PX = 0.25
_STEP_SIGMAS = 0.1


def angles_of(rays: np.ndarray) -> np.ndarray:
    """Return (2, N) float64 rad: azimuth, right positive, and elevation, up positive, of camera rays (3, N) float64."""
    x, y, z = rays[0], rays[1], rays[2]
    found = np.empty((2, rays.shape[1]))
    np.arctan2(x, z, out=found[0])
    np.arctan2(-y, np.hypot(x, z), out=found[1])
    return found


def azimuths_of(rays: np.ndarray) -> np.ndarray:
    """Return (N,) float64 rad, left positive: azimuths of base rays (3, N) float64."""
    return np.arctan2(rays[1], rays[0])


def slopes_of(rays: np.ndarray) -> np.ndarray:
    """Return (N,) float64: tan(elevation), up positive, of base rays (3, N) float64."""
    return rays[2] / np.hypot(rays[0], rays[1])


class SureMaps:
    """For each cell of the picture, variances of camera angles, base azimuth and base slope; NaN where no ray is.

    px2 (3, C) float64: of the worse camera angle in rad^2, base azimuth in rad^2, base slope, each per px^2 of noise in
    either direction. fixed2 (3, C) float64: the same due to the calibration and the mount's tilt.
    per_px (2, 1) float64: cells to a px, across and down.
    lean2 (2, C) float64: squared slope, in the picture, of what is upright in the world, against the picture's columns,
    and of what is level, against its rows; at most 1.
    """

    def __init__(self, camera: Camera) -> None:
        self.per_px = _CELLS / np.array([[camera.width_px], [camera.height_px]], np.float64)
        self._rotation = base_from_camera(camera.mount)[:3, :3]
        middles = np.arange(_CELLS) + 0.5
        grid = np.stack(np.meshgrid(middles, middles)).reshape(2, -1) / self.per_px - 0.5
        lens = Lens(camera)
        with np.errstate(all="ignore"):
            steps = np.eye(2)[:, :, None] * _STEP_PX
            sides = [(self._figures(lens, grid + step), self._figures(lens, grid - step)) for step in steps]
            right, down = (_short_way(more - less) / (2 * _STEP_PX) for more, less in sides)
            self.px2 = _worst_of(right**2 + down**2)
            self.lean2 = np.minimum(np.stack([down[2] / right[2], right[3] / down[3]]) ** 2, 1.0)
            self.fixed2 = _worst_of(self._of_lens(camera, grid) + self._of_tilt(camera.mount, lens, grid))

    def cells(self, points: np.ndarray) -> np.ndarray:
        """Return (N,) int64 cells of points (2, N) float64, px of the calibrated size; outside is the nearest cell."""
        return self.cells_at((points + 0.5) * self.per_px)

    def cells_at(self, steps: np.ndarray) -> np.ndarray:
        """Return `cells` of points (2, N) float64 counted in cells from the picture's corner."""
        at = steps.astype(np.int64)
        return np.ravel_multi_index((at[1], at[0]), (_CELLS, _CELLS), mode="clip")

    def _of_lens(self, camera: Camera, grid: np.ndarray) -> np.ndarray:
        values, vectors = np.linalg.eigh(camera.covariance)  # independent directions, each one sigma long
        found = np.zeros((4, grid.shape[1]))
        for value, vector in zip(values, vectors.T, strict=True):
            if value > 0:
                step = vector * np.sqrt(value) * _STEP_SIGMAS
                more, less = (Lens(camera, camera.parameters + sign * step) for sign in (1, -1))
                found += (_short_way(self._figures(more, grid) - self._figures(less, grid)) / (2 * _STEP_SIGMAS)) ** 2
        return found

    def _of_tilt(self, mount: MountSection | None, lens: Lens, grid: np.ndarray) -> np.ndarray:
        found = np.zeros((4, grid.shape[1]))
        if mount is None or not mount.sigma_of_tilt_rad:
            return found
        tilt, step = mount.pan_tilt_roll_rad[1], mount.sigma_of_tilt_rad * _STEP_SIGMAS
        sides = []
        for angle in (tilt + step, tilt - step):
            tilted = msgspec.structs.replace(mount, tilt_down_deg=None, tilt_down_rad=angle)
            sides.append(self._figures(lens, grid, base_from_camera(tilted)[:3, :3]))
        return (_short_way(sides[0] - sides[1]) / (2 * _STEP_SIGMAS)) ** 2

    def _figures(self, lens: Lens, points: np.ndarray, rotation: np.ndarray | None = None) -> np.ndarray:
        """(4, N): azimuth and elevation in the camera frame, azimuth and slope in the base frame."""
        rays = lens.rays(points)
        rotation = self._rotation if rotation is None else rotation
        base_rays = rotation @ rays
        return np.stack([*angles_of(rays), azimuths_of(base_rays), slopes_of(base_rays)])


def _short_way(difference: np.ndarray) -> np.ndarray:
    """The differences of `_figures` with angles from -pi to pi."""
    difference[:3] = (difference[:3] + np.pi) % (2 * np.pi) - np.pi
    return difference


def _worst_of(squares: np.ndarray) -> np.ndarray:
    return np.stack([np.maximum(squares[0], squares[1]), squares[2], squares[3]])
