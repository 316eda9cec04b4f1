"""Many points against many polygons and lines at once: all edges of all polygons stand in one array."""

from collections.abc import Sequence

import numpy as np

__all__ = ["Lines", "Polygons"]


class Polygons:
    """Polygons given by their corners in order, each (corners, 2) float64, x right, y down; they close themselves.

    Points are (N, polygons, 2) float64: each polygon is asked about one of its own.
    """

    def __init__(self, polygons: Sequence[np.ndarray]) -> None:
        self._starts = np.cumsum([0, *(len(p) for p in polygons)])[:-1]
        self._owners = np.repeat(np.arange(len(polygons)), [len(p) for p in polygons])
        self._x1, self._y1 = np.concatenate(polygons).T
        x2, self._y2 = np.concatenate([np.roll(p, -1, axis=0) for p in polygons]).T
        self._dx, self._dy = x2 - self._x1, self._y2 - self._y1
        self._length2 = np.maximum(self._dx**2 + self._dy**2, 1e-12)
        self._per_y = self._dx / np.where(self._dy == 0, 1.0, self._dy)  # level edges are never crossed

    def inside(self, points: np.ndarray) -> np.ndarray:
        """Return (N, polygons) bool: which hold their point, of points (N, polygons, 2) float64, by crossing number."""
        x, y = points[:, self._owners].transpose(2, 0, 1)
        crossed = (self._y1 > y) != (self._y2 > y)
        crossed &= x < self._x1 + (y - self._y1) * self._per_y
        return np.logical_xor.reduceat(crossed, self._starts, axis=1)

    def depth(self, points: np.ndarray) -> np.ndarray:
        """Return (N, polygons) float64: distances of points (N, polygons, 2) float64 to the edge, negative outside."""
        x, y = points[:, self._owners].transpose(2, 0, 1)
        x, y = x - self._x1, y - self._y1
        along = (x * self._dx + y * self._dy) / self._length2
        np.minimum(along, 1.0, out=along)
        np.maximum(along, 0.0, out=along)
        x -= along * self._dx
        y -= along * self._dy
        nearest = np.sqrt(np.minimum.reduceat(x * x + y * y, self._starts, axis=1))
        return np.where(self.inside(points), nearest, -nearest)


class Lines:
    """Lines from a first to a second point, x right, y down."""

    def __init__(self, ends: np.ndarray) -> None:
        """Take the ends, (lines, 2, 2) float64."""
        self._first = ends[:, 0]
        self._along = ends[:, 1] - ends[:, 0]
        self._length2 = np.einsum("ij,ij->i", self._along, self._along)

    def side(self, points: np.ndarray) -> np.ndarray:
        """Return (N, lines) float64: how far points (N, lines, 2) float64 are to the right, looking along the line."""
        offset = points - self._first
        turned = self._along[:, 0] * offset[:, :, 1] - self._along[:, 1] * offset[:, :, 0]
        return turned / np.sqrt(self._length2)

    def crossed(self, line: int, before: np.ndarray, after: np.ndarray) -> bool:
        """Return whether the way between two points (2,) float64 on either side passes between the line's ends."""
        (d_before,), (d_after,) = self.side(np.stack([before, after])[:, None])[:, line : line + 1]
        at = before + (after - before) * (d_before / (d_before - d_after))
        return bool(0 <= (at - self._first[line]) @ self._along[line] <= self._length2[line])
