"""Where detections are, seen from the robot, as a struct of arrays beside `Detections`. It knows no camera."""

from typing import NamedTuple

import numpy as np

__all__ = ["Location", "Locations"]


class Location(NamedTuple):
    """One row of `Locations` for a message, None for what is absent; angles in rad, lengths in m, rounded."""

    bearing_rad: tuple[float, float] | None = None
    bearing_sigma_rad: float | None = None
    range_m: float | None = None
    range_sigma_m: float | None = None


class Locations:
    """Bearing, range and position of the entries of a `Detections` of the same capacity; NaN is absent.

    All are (K,) float32; only the first `count` entries mean anything. The owner refills the arrays for every frame.

    azimuth_rad (right positive) and elevation_rad (up positive): of the box's anchor, from the optical axis.
    angle_sigma_rad: one standard deviation of either. range_m: horizontal distance from the camera;
    range_sigma_m: one standard deviation.
    position_m (K, 3) float32: the anchor in the base frame, x forward, y left, z up.
    """

    __slots__ = (
        "angle_sigma_rad",
        "azimuth_rad",
        "count",
        "elevation_rad",
        "position_m",
        "range_m",
        "range_sigma_m",
    )

    def __init__(self, capacity: int) -> None:
        self.count = 0
        self.azimuth_rad = np.full(capacity, np.nan, np.float32)
        self.elevation_rad = np.full(capacity, np.nan, np.float32)
        self.angle_sigma_rad = np.full(capacity, np.nan, np.float32)
        self.range_m = np.full(capacity, np.nan, np.float32)
        self.range_sigma_m = np.full(capacity, np.nan, np.float32)
        self.position_m = np.full((capacity, 3), np.nan, np.float32)

    def __len__(self) -> int:
        return self.count

    def rows(self) -> list[Location]:
        """Return one Location for each of the `count` entries; angles to 0.1 mrad, lengths to 1 mm."""
        n = self.count
        columns = (self.azimuth_rad, self.elevation_rad, self.angle_sigma_rad, self.range_m, self.range_sigma_m)
        found = []
        for azimuth, elevation, sigma, distance, range_sigma in zip(*(c[:n].tolist() for c in columns), strict=True):
            seen, ranged = azimuth == azimuth, distance == distance  # NaN differs from itself
            found.append(
                Location(
                    (round(azimuth, 4), round(elevation, 4)) if seen else None,
                    round(sigma, 4) if seen else None,
                    round(distance, 3) if ranged else None,
                    round(range_sigma, 3) if ranged else None,
                )
            )
        return found
