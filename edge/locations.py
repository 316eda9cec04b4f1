"""Where detections are, seen from the robot, as a struct of arrays beside `Detections`. It knows no camera."""

from typing import NamedTuple

import numpy as np

__all__ = ["Location", "Locations"]


_PARTS = np.array([1e4] * 3 + [1e3] * 6)  # of what is rounded to 0.1 mrad or 1 mm


class Location(NamedTuple):
    """One row of `Locations` for a message, None for what is absent; angles in rad, lengths in m, rounded."""

    bearing_rad: tuple[float, float] | None = None
    bearing_sigma_rad: float | None = None
    range_m: float | None = None
    range_sigma_m: float | None = None
    position_m: tuple[float, float, float] | None = None
    position_sigma_m: float | None = None


class Locations:
    """Bearing, range and position of the entries of a `Detections` of the same capacity; NaN is absent.

    All are (K,) float32; only the first `count` entries mean anything. The owner refills the arrays for every frame.

    azimuth_rad (right positive) and elevation_rad (up positive): of the box's anchor, from the optical axis.
    angle_sigma_rad: one standard deviation of either. range_m: horizontal distance from the camera;
    range_sigma_m: one standard deviation.
    position_m (K, 3) float32: the anchor in the base frame, x forward, y left, z up; position_sigma_m: one standard
    deviation along the axis that is least sure. They are known where the range is, and the camera is mounted.
    values (9, K) float32: all of them, in this order; the others are views of it.
    """

    __slots__ = (
        "angle_sigma_rad",
        "azimuth_rad",
        "count",
        "elevation_rad",
        "position_m",
        "position_sigma_m",
        "range_m",
        "range_sigma_m",
        "values",
    )

    def __init__(self, capacity: int) -> None:
        self.count = 0
        self.values = values = np.full((9, capacity), np.nan, np.float32)
        self.azimuth_rad, self.elevation_rad, self.angle_sigma_rad, self.range_m, self.range_sigma_m = values[:5]
        self.position_m, self.position_sigma_m = values[5:8].T, values[8]

    def __len__(self) -> int:
        return self.count

    def rows(self) -> list[Location]:
        """Return one Location for each of the `count` entries; angles to 0.1 mrad, lengths to 1 mm."""
        values = self.values[:, : self.count].T.astype(np.float64)  # float32 would print 17 digits
        values *= _PARTS
        np.rint(values, out=values)
        values /= _PARTS
        return [
            Location(
                (azimuth, elevation) if azimuth == azimuth else None,  # NaN differs from itself
                sigma if azimuth == azimuth else None,
                distance if distance == distance else None,
                distance_sigma if distance == distance else None,
                (x, y, z) if x == x else None,
                place_sigma if x == x else None,
            )
            for azimuth, elevation, sigma, distance, distance_sigma, x, y, z, place_sigma in values.tolist()
        ]
