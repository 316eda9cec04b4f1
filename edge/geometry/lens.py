"""Rays of pixels: single points are undistorted, never pictures.

The models are OpenCV's: Brown's radial and tangential terms (as in Zhang, A flexible new technique for camera
calibration, 2000), their rational form (Claus and Fitzgibbon, 2005), and the fisheye of Kannala and Brandt (2006). The
radial part is inverted once, as a table over the radius; the small tangential part by fixed-point iteration.
"""

import numpy as np

from edge.geometry.camera import Camera

__all__ = ["Lens"]

_NODES = 8192
_SPARE = 1.05  # of the radius of the picture's farthest corner
_MOST_ROUNDS = 12
_EXACT_PX = 0.02
_GRID = 24


class Lens:
    """Turns pixels into rays of one camera."""

    def __init__(self, camera: Camera, parameters: np.ndarray | None = None) -> None:
        """Take the camera's parameters, or others of its distortion model: (4 + coefficients,) float64."""
        p = camera.parameters if parameters is None else parameters
        self.focal_px, self.centre_px, coefficients = p[:2, None], p[2:4, None], p[4:]
        self._fisheye = camera.distortion.model == "fisheye"
        self._tangential = np.zeros((2, 1)) if self._fisheye else coefficients[3:1:-1, None].copy()
        self._twice_tangential = 2 * self._tangential.T
        whole = np.array([[camera.width_px], [camera.height_px]])
        corners = np.array([(0, 1, 0, 1), (0, 0, 1, 1)]) * whole
        farthest = np.hypot(*((corners - self.centre_px) / self.focal_px)).max()
        self._table, self._steps = _even(*_tables(self._fisheye, coefficients, _SPARE * farthest))
        self._rounds = 0
        if self._tangential.any():
            across = np.linspace(0, 1, _GRID)
            self._rounds = self._rounds_for(np.stack(np.meshgrid(across, across)).reshape(2, -1) * whole)

    def rays(self, points: np.ndarray) -> np.ndarray:
        """Return rays (3, N) float64, camera frame, of any length, of `points` (2, N) float64; NaN where none is.

        points: px of the calibrated size, (0, 0) the middle of the first pixel.
        """
        with np.errstate(invalid="ignore"):
            return self.undistorted((points - self.centre_px) / self.focal_px)

    def undistorted(self, distorted: np.ndarray) -> np.ndarray:
        """Return `rays` of points (2, N) float64 less the centre, in focal lengths."""
        found = np.empty((3, distorted.shape[1]))
        plane = found[:2]
        figures = self._figures(distorted)
        np.multiply(distorted, figures[0], out=plane)
        q, twice_q = self._tangential, self._twice_tangential
        for _ in range(self._rounds):  # the tangential shift of X is 2 (q X) X + (X X) q with q = (p2, p1)
            shift = plane * np.dot(twice_q, plane)
            squares = plane * plane
            shift += q * (squares[0] + squares[1])
            np.subtract(distorted, shift, out=shift)
            figures = self._figures(shift)
            np.multiply(shift, figures[0], out=plane)
        found[2] = figures[1] if self._fisheye else 1.0
        return found

    def _figures(self, distorted: np.ndarray) -> np.ndarray:
        """(2, N): the factor to the ray's x and y, and the ray's z."""
        at = np.hypot(distorted[0], distorted[1])
        at *= self._steps
        lines = self._table.take(at.astype(np.int64), axis=0, mode="clip").T
        figures = lines[2:] * at
        figures += lines[:2]
        return figures

    def _rounds_for(self, points: np.ndarray) -> int:
        """How many rounds it takes until one more moves nothing in the picture."""
        before = self.rays(points)
        for rounds in range(_MOST_ROUNDS):
            self._rounds = rounds + 1
            after = self.rays(points)
            moved = np.abs(after - before)[:2] * self.focal_px
            if not np.nanmax(moved, initial=0.0) > _EXACT_PX:
                return rounds
            before = after
        return _MOST_ROUNDS


def _even(radii: np.ndarray, ratios: np.ndarray, depths: np.ndarray) -> tuple[np.ndarray, float]:
    """A table with even steps of the radius, in which nothing is searched for, and how many there are to a radius of 1.

    (_NODES + 1, 4): in step i the factor is t[i, 0] + t[i, 2] s, the ray's z t[i, 1] + t[i, 3] s, s in steps.
    """
    even = np.linspace(0.0, radii[-1], _NODES + 1)
    values = np.stack([np.interp(even, radii, figures) for figures in (ratios, depths)], axis=1)
    rise = np.diff(values, axis=0)
    level = values[:-1] - rise * np.arange(_NODES)[:, None]
    return np.concatenate([np.hstack([level, rise]), np.full((1, 4), np.nan)]), _NODES / float(radii[-1])


def _distorted_radius(fisheye: bool, coefficients: np.ndarray, angles: np.ndarray) -> np.ndarray:
    """Return (N,) float64 radii on the plane z = 1 of rays at `angles` (N,) float64 rad from the axis.

    The tangential terms of `coefficients` (4 to 8,) float64 are left out.
    """
    if fisheye:
        squared = angles**2
        return angles * (1 + squared * np.polyval(coefficients[::-1], squared))
    radius = np.tan(angles)
    squared = radius**2
    k = np.zeros(8)
    k[: len(coefficients)] = coefficients
    above = 1 + squared * (k[0] + squared * (k[1] + squared * k[4]))
    below = 1 + squared * (k[5] + squared * (k[6] + squared * k[7]))
    return radius * above / below


def _tables(fisheye: bool, coefficients: np.ndarray, needed: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distorted radius -> factor to the ray's x and y, and the ray's z, as far as the radius grows with the angle."""
    farthest = np.pi if fisheye else np.radians(89.5)
    for _ in range(2):  # once to see how far the picture reaches, once more finely
        angles = np.linspace(0.0, farthest, _NODES)
        radii = _distorted_radius(fisheye, coefficients, angles)
        falls = np.flatnonzero(~(np.diff(radii) > 0))
        end = int(falls[0]) if len(falls) else _NODES - 1
        enough = int(np.searchsorted(radii[: end + 1], needed))
        farthest = float(angles[min(end, enough)])
    last = min(end, enough) + 1
    angles, radii = angles[:last], radii[:last]
    across, depths = (np.sin(angles), np.cos(angles)) if fisheye else (np.tan(angles), np.ones(last))
    ratios = np.ones(last)
    ratios[1:] = across[1:] / radii[1:]
    return radii, ratios, depths
