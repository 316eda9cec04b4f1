"""Locator: from the boxes of a frame to bearings, ranges and positions, in arrays made once."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from edge.detections import Detections
from edge.errors import ConfigError
from edge.geometry.bearings import SureMaps, angles_of, azimuths_of
from edge.geometry.camera import Camera, read_camera
from edge.geometry.lens import Lens
from edge.geometry.ranging import ABSENT, Estimate, from_ground, from_height, from_width, fuse, range_of
from edge.geometry.transforms import base_from_camera
from edge.geometry_config import GeometrySection, ObjectSize
from edge.locations import Locations
from edge.structs import did_you_mean

__all__ = ["Locator", "open_locator"]

_ASPECT_TOLERANCE = 0.01
_CUT_PX = 1.5  # an edge this near the frame's is where the picture ends, not the object
_LEAN = 0.25  # an edge's variance, so that both together are off by 0.7 of what a rectangle sticks out
_SIZE_SIGMA = 0.1  # of a size whose sigma is not given
# parts of x1, x2 and of y1, y2 in each point of a box
_POINTS = {
    "center": (0.5, 0.5, 0.5, 0.5),
    "bottom": (0.5, 0.5, 0.0, 1.0),
    "top": (0.5, 0.5, 1.0, 0.0),
    "left": (1.0, 0.0, 0.5, 0.5),
    "right": (0.0, 1.0, 0.5, 0.5),
}


def open_locator(section: GeometrySection, labels: Sequence[str], capacity: int) -> "Locator | None":
    """Return the locator for a configuration, None where it names no camera.

    Raises: ConfigError for the camera file, for a class the model does not know, and for sizes without a camera.
    """
    if section.sizes and not section.camera:
        raise ConfigError("[geometry] has sizes and no camera", "add camera = FILE (`harrier camera calibrate`)")
    return Locator(read_camera(Path(section.camera)), section, labels, capacity) if section.camera else None


class Locator:
    """Fills `locations` for up to `capacity` detections a frame; the arrays are refilled by the next `locate`.

    base_from_camera (4, 4) float64: from the optical frame to the robot's, of the camera file's [mount].
    misfit: why the newest frame has no places, "" where it has.
    """

    def __init__(self, camera: Camera, section: GeometrySection, labels: Sequence[str], capacity: int) -> None:
        """Make tables and arrays.

        Raises: ConfigError for a size of a class that is not among the labels.
        """
        self.camera = camera
        self.locations = Locations(capacity)
        self.base_from_camera = base_from_camera(camera.mount)
        self._rotation, self._origin_m = self.base_from_camera[:3, :3].copy(), self.base_from_camera[:3, 3:].copy()
        self._section = section
        self._sizes = _size_tables(section.sizes, labels)
        tall = any(size.height_m for size in section.sizes.values())
        wide = any(size.width_m for size in section.sizes.values())
        # the anchor and the foot, then what the sizes need
        self._names = [section.anchor, "bottom", *(["top"] if tall else []), *(["left", "right"] if wide else [])]
        self._lens = Lens(camera)
        self._maps = maps = SureMaps(camera)
        # of the anchor the middle of two edges is surer than either; a leaning foot or outline makes the box larger
        columns = (maps.px2[0] / 2, maps.fixed2[0], maps.px2[1], maps.px2[2], maps.fixed2[2], *maps.lean2 * _LEAN)
        self._tables = np.stack(columns, axis=1)  # a cell in a row: one place in memory to look up
        self._sure = not np.isnan(self._tables[:, :2]).any()
        self._boxes = np.ones((5, capacity))  # x1, y1, x2, y2 and a one
        self._sizes[1::2] += camera.covariance[1, 1] / camera.intrinsics.fy_px**2  # a wrong focal length is one of size
        self._tilt_sigma_rad = camera.mount.sigma_of_tilt_rad if camera.mount else 0.0
        self._frame_wh = (0, 0)
        self.misfit = ""

    @property
    def frame_ids(self) -> tuple[str, str]:
        """The names of the optical frame and of the base frame, which is "" where the file has no [mount]."""
        mount = self.camera.mount
        return self.camera.frame_id, mount.base_frame_id if mount else ""

    def locate(self, detections: Detections, frame_wh: tuple[int, int]) -> Locations:
        """Fill and return `locations` for detections with xyxy in px of a frame of frame_wh (width, height) px.

        A frame of another shape than the camera file's gets none, and `misfit` says why.
        Raises: ConfigError for such a frame where there has not been a right one before.
        """
        self.misfit = "" if frame_wh == self._frame_wh else self._misfit_of(frame_wh)
        if self.misfit and self._frame_wh == (0, 0):
            raise ConfigError(self.misfit, "set the source to that shape, or calibrate with this one")
        if not self.misfit and frame_wh != self._frame_wh:
            self._fit(frame_wh)
        n = self.locations.count = 0 if self.misfit else detections.count
        if n:
            with np.errstate(all="ignore"):
                self._locate(detections, n)
        return self.locations

    def _misfit_of(self, frame_wh: tuple[int, int]) -> str:
        own = (self.camera.width_px, self.camera.height_px)
        stretch = (frame_wh[0] / own[0]) / (frame_wh[1] / own[1])
        if abs(stretch - 1) <= _ASPECT_TOLERANCE:
            return ""
        seen = f"frames of {frame_wh[0]}x{frame_wh[1]}"
        return f"{seen} have another shape than the {own[0]}x{own[1]} of the calibration of '{self.camera.frame_id}'"

    def _fit(self, frame_wh: tuple[int, int]) -> None:
        own = (self.camera.width_px, self.camera.height_px)
        self._frame_wh = frame_wh
        scale = (own[0] / frame_wh[0], own[1] / frame_wh[1])
        self._noise_px2 = np.square(scale)[:, None] * self._section.noise_px**2
        points = _points_of_boxes(self._names, scale)
        lens, lift = self._lens, np.array([0, 0, 0, 0, 1.0])
        distorted = (points - lens.centre_px[..., None] * lift) / lens.focal_px[..., None]
        cells = (points + 0.5 * lift) * self._maps.per_px[..., None]
        sides = np.array([[-scale[0], 0, scale[0], 0, 0], [0, -scale[1], 0, scale[1], 0]])
        inside = np.diag([1.0, 1, -1, -1, 0])[:4]
        inside[:, 4] = -_CUT_PX, -_CUT_PX, frame_wh[0] - _CUT_PX, frame_wh[1] - _CUT_PX
        self._linear = np.concatenate([distorted.reshape(-1, 5), cells.reshape(-1, 5), sides, inside])

    def _locate(self, detections: Detections, n: int) -> None:
        boxes, count = self._boxes[:, :n], 2 * len(self._names)
        boxes[:4] = detections.xyxy[:n].T
        figures = np.dot(self._linear, boxes)  # all that is linear in the boxes; of the anchors, of the feet, ...
        rays = self._lens.undistorted(figures[:count].reshape(2, -1))
        base_rays = np.dot(self._rotation, rays)
        cells = self._maps.cells_at(figures[count : 2 * count].reshape(2, -1))
        variances = self._tables.take(cells, axis=0).T.reshape(7, -1, n)
        sides2, inside = figures[2 * count : 2 * count + 2], figures[2 * count + 2 :]
        sides2 *= sides2
        noise2 = sides2 * self._section.noise_fraction**2
        noise2 += self._noise_px2
        self._bear(rays[:, :n], variances[:2, 0], noise2)
        sides2 *= variances[:4:-1, 0]  # what leans in the picture, or has a leaning foot, gets a larger box
        noise2 += sides2[::-1]
        across = np.hypot(base_rays[0], base_rays[1])
        slopes = (base_rays[2] / across).reshape(-1, n)
        ranged = self._range(inside < 0, base_rays, slopes, variances[2:5], noise2, detections.class_ids[:n])
        if ranged and self.camera.mount:
            self._place(base_rays[:, :n], across[:n], slopes[0])

    def _bear(self, rays: np.ndarray, variances: np.ndarray, noise2: np.ndarray) -> None:
        found, n = self.locations, rays.shape[1]
        upright = noise2[1] if self._section.anchor == "center" else noise2[1] * 2
        variance = variances[0] * np.maximum(noise2[0], upright)
        variance += variances[1]
        sigma = np.sqrt(variance, out=variance)
        angles = angles_of(rays)
        if not self._sure:
            angles += sigma * 0  # what cannot be sure is absent
        found.values[:2, :n] = angles
        found.angle_sigma_rad[:n] = sigma

    def _range(
        self,
        cut: np.ndarray,
        base_rays: np.ndarray,
        slopes: np.ndarray,
        variances: np.ndarray,
        noise2: np.ndarray,
        class_ids: np.ndarray,
    ) -> bool:
        """Fill range_m and range_sigma_m; return False where nothing tells a range."""
        n, mount = len(class_ids), self.camera.mount
        upright2 = variances[1] * noise2[1]
        found: Estimate | None = None
        if mount and mount.height_m:
            found = from_ground(slopes[1], upright2[1] + variances[2, 1], mount.height_m, mount.height_sigma_m)
            np.putmask(found[1], cut[3], ABSENT)
        if len(self._names) > 2:
            sizes = self._sizes.take(class_ids, axis=1, mode="clip")
        if "top" in self._names:
            tall = self._from_height(slopes, upright2, sizes, cut[1] | cut[3])
            # the foot's error is in both
            found = fuse(found, tall, upright2[1] / (mount.height_m * sizes[0])) if found and mount else tall
        if "left" in self._names:
            left, right = azimuths_of(base_rays[:, -2 * n :]).reshape(2, n)
            angle2 = (variances[0, -2] + variances[0, -1]) * noise2[0]
            wide = from_width(left - right, angle2, sizes[2], sizes[3])
            np.putmask(wide[1], cut[0] | cut[2], ABSENT)
            found = fuse(found, wide) if found else wide
        if found is None:
            return False
        ranges = self.locations.values[3:5, :n]
        ranges[0], ranges[1] = range_of(found, self._section.max_range_sigma)
        return True

    def _from_height(self, slopes: np.ndarray, upright2: np.ndarray, sizes: np.ndarray, cut: np.ndarray) -> Estimate:
        foot, top = slopes[1], slopes[2]
        nod = (top * top - foot * foot) * self._tilt_sigma_rad
        nod *= nod
        nod += upright2[1]
        nod += upright2[2]
        found = from_height((top, foot), nod, sizes[0], sizes[1])
        np.putmask(found[1], cut, ABSENT)
        return found

    def _place(self, base_rays: np.ndarray, across: np.ndarray, slopes: np.ndarray) -> None:
        """Fill position_m and its sigma, to first order: of the range along the ray, of the angles across it."""
        found, n = self.locations, len(across)
        distance = found.range_m[:n]
        sigma = np.maximum(found.range_sigma_m[:n], distance * found.angle_sigma_rad[:n])
        sigma *= np.hypot(slopes, 1.0)  # how much longer the ray is than its range
        places = base_rays * (distance / across)
        places += self._origin_m
        found.values[5:8, :n] = places
        found.position_sigma_m[:n] = sigma


def _points_of_boxes(names: Sequence[str], scale: tuple[float, float]) -> np.ndarray:
    """(2, points, 5): this @ boxes (5, N) in frame px, with a one = x of each point, then y of each.

    These are px of the calibration from the middle of its first pixel; a box counts from that pixel's edge.
    """
    found = np.zeros((2, len(names), 5))
    found[:, :, 4] = -0.5
    for i, name in enumerate(names):
        x1, x2, y1, y2 = _POINTS[name]
        found[0, i, 0:4:2] = np.array([x1, x2]) * scale[0]
        found[1, i, 1:4:2] = np.array([y1, y2]) * scale[1]
    return found


def _size_tables(sizes: Mapping[str, ObjectSize], labels: Sequence[str]) -> np.ndarray:
    """(4, classes + 1): height, its squared relative sigma, width, its squared relative sigma; the last is no class."""
    found = np.tile(np.array([[1.0], [ABSENT]] * 2), len(labels) + 1)
    for label, size in sizes.items():
        if label not in labels:
            raise ConfigError(f"[geometry.sizes] names the class '{label}'", did_you_mean(label, list(labels)))
        at = list(labels).index(label)
        for row, metres, sigma_m in ((0, size.height_m, size.height_sigma_m), (2, size.width_m, size.width_sigma_m)):
            if metres is not None:
                part = _SIZE_SIGMA if sigma_m is None else sigma_m / metres
                found[row : row + 2, at] = metres, part**2
    return found
