"""Many boxes against many polygons and lines at once.

The point of a box that counts is linear in the box's edges, and so is its distance to the right or left of a line: one
product of the boxes and a matrix made once gives all of them.
"""

from collections.abc import Sequence

import numpy as np

__all__ = ["Lines", "Polygons", "with_one"]


def with_one(boxes: np.ndarray, out: np.ndarray) -> np.ndarray:
    """Return (N, 5) float64, part of `out` (K, 5): boxes (N, 4) xyxy with a 1 behind each, as the shapes take them."""
    found = out[: len(boxes)]
    found[:, :4] = boxes
    found[:, 4] = 1
    return found


def _point(up: np.ndarray, fixed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(5, E) each: from boxes with a one to x and y of their points, less those of the points `fixed` (E, 2)."""
    x, y = np.zeros((2, 5, len(up)))
    x[[0, 2]] = 0.5
    y[1], y[3] = up, 1 - up
    x[4], y[4] = -fixed.T
    return x, y


class Polygons:
    """Polygons given by their corners in order, each (corners, 2) float64, x right, y down; they close themselves.

    up (polygons,) float64: how far above the lower edge of a box its point is, in heights of the box. Boxes are (N, 5)
    float64, as `with_one` makes them.
    """

    def __init__(self, polygons: Sequence[np.ndarray], up: np.ndarray) -> None:
        counts = [len(p) for p in polygons]
        self._starts = np.cumsum([0, *counts])[:-1]
        ups = np.repeat(np.asarray(up, np.float64), counts)
        first = np.concatenate(polygons)
        last = np.concatenate([np.roll(p, -1, axis=0) for p in polygons])
        dx, dy = (last - first).T
        length = np.maximum(np.hypot(dx, dy), 1e-6)
        x, y = _point(ups, first)
        _, below = _point(ups, last)
        per_y = dx / np.where(dy == 0, 1.0, dy)  # level edges are never crossed
        # over both ends, left of the edge; then apart from the edge and along it, in px
        crossing = np.concatenate([y, below, x - y * per_y], axis=1)
        self._crossing = crossing.T.copy()  # boxes are columns in all that follows: numpy is quickest along rows
        self._all = np.concatenate([crossing, (x * dy - y * dx) / length, (x * dx + y * dy) / length], axis=1).T.copy()
        self._length = length[:, None]
        self._edges = len(first)

    def inside(self, boxes: np.ndarray) -> np.ndarray:
        """Return (N, polygons) bool: which hold the point of which box, by crossing number."""
        return self._inside(np.dot(self._crossing, boxes.T)).T

    def squared(self, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return `inside`, and (N, polygons) float64: squared distances to the edge, px^2."""
        figures = np.dot(self._all, boxes.T)
        apart, along = figures[3 * self._edges : 4 * self._edges], figures[4 * self._edges :]
        beyond = np.minimum(along, self._length)
        np.maximum(beyond, 0.0, out=beyond)
        beyond -= along
        beyond *= beyond
        apart *= apart
        apart += beyond
        return self._inside(figures).T, np.minimum.reduceat(apart, self._starts, axis=0).T

    def _inside(self, figures: np.ndarray) -> np.ndarray:
        n = self._edges
        over = figures[: 3 * n] < 0
        crossed = over[:n] != over[n : 2 * n]
        crossed &= over[2 * n :]
        return np.logical_xor.reduceat(crossed, self._starts, axis=0)


class Lines:
    """Lines from a first to a second point, x right, y down."""

    def __init__(self, ends: np.ndarray, up: np.ndarray) -> None:
        """Take the ends, (lines, 2, 2) float64; up (lines,) float64 and boxes as of `Polygons`."""
        self._first = ends[:, 0]
        self._along = ends[:, 1] - ends[:, 0]
        self._length = np.hypot(*self._along.T)
        x, y = _point(np.asarray(up, np.float64), self._first)
        self._right = (self._along[:, 0] * y - self._along[:, 1] * x) / self._length
        points = np.stack(_point(np.asarray(up, np.float64), np.zeros((len(ends), 2))), axis=2)
        self._all = np.concatenate([self._right, points.reshape(5, -1)], axis=1).T.copy()

    def side(self, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return (N, lines) float64: how far points of boxes are to the right, px; and (N, lines, 2) float64, these."""
        figures, n = np.dot(self._all, boxes.T), len(self._first)
        return figures[:n].T, figures[n:].reshape(n, 2, -1).transpose(2, 0, 1)

    def crossed(self, line: int, before: np.ndarray, after: np.ndarray) -> bool:
        """Return whether the way between two points (2,) float64 on either side passes between the line's ends."""
        along = self._along[line]
        apart = [float(along[0] * y - along[1] * x) for x, y in (before - self._first[line], after - self._first[line])]
        at = before + (after - before) * (apart[0] / (apart[0] - apart[1]))
        return bool(0 <= (at - self._first[line]) @ along <= along @ along)
