"""Which views of a board to keep, and what is still missing.

As in ROS's camera_calibration, a view is described by where the board is, how large, and how it is turned; one that is
too like another adds nothing.
"""

import math
from dataclasses import dataclass, field

import cv2
import numpy as np

from edge.geometry.board import BoardView

__all__ = ["GRID_WH", "ViewSet", "covered_cells", "tilt_of"]

GRID_WH = (8, 6)
"""Cells of the picture in which corners are counted."""

_NEAR = 0.16  # views whose descriptions differ by less are the same
_NEAR_PICTURES = 0.03  # pictures someone chose are only compared for being doubles
_PLACES = ("upper left corner", "top", "upper right corner", "left side", "middle", "right side")
_LOWER = ("lower left corner", "bottom", "lower right corner")
_TILTED = math.radians(15)
_TILTED_VIEWS = 3
_ENOUGH_COVERED = 0.8


@dataclass
class ViewSet:
    """The views of one camera, kept as they come. chosen: a person chose the pictures, so only doubles are left out."""

    size_wh: tuple[int, int]
    wanted: int
    chosen: bool = False
    views: list[BoardView] = field(default_factory=list)
    blurred: int = 0
    alike: int = 0
    _marks: list[np.ndarray] = field(default_factory=list)

    def offer(self, view: BoardView) -> bool:
        """Keep a view if it is sharp and adds something; return whether it was kept."""
        if view.edge_px > self.most_edge_px:
            self.blurred += 1
            return False
        mark = self._describe(view)
        near = _NEAR_PICTURES if self.chosen else _NEAR
        if any(np.abs(mark - other).max() < near for other in self._marks):
            self.alike += 1
            return False
        self.views.append(view)
        self._marks.append(mark)
        return True

    @property
    def most_edge_px(self) -> float:
        """How wide an edge may be before a view counts as blurred."""
        return max(6.0, self.size_wh[0] / 200)

    @property
    def complete(self) -> bool:
        """Whether nothing is missing any more."""
        return len(self.views) >= self.wanted and not self.missing()

    def missing(self) -> str:
        """Return what to do next, in words for the person with the board; "" when nothing is missing."""
        if not self.views:
            return "show the board"
        tilts = np.array([mark[3:] for mark in self._marks])
        ways = ("to the left", "to the right", "backwards", "forwards")
        turned = (tilts[:, 0] < -_TILTED, tilts[:, 0] > _TILTED, tilts[:, 1] < -_TILTED, tilts[:, 1] > _TILTED)
        cells = covered_cells(self.views, self.size_wh)
        if cells.mean() < _ENOUGH_COVERED:
            return f"fill the {_emptiest(cells)}"
        if sum(int(np.any(turned[i : i + 2], axis=0).sum()) for i in (0, 2)) < 2 * _TILTED_VIEWS:
            fewest = int(np.argmin([t.sum() for t in turned]))
            return f"tilt the board {ways[fewest]}"
        return "" if len(self.views) >= self.wanted else "other places, distances and tilts"

    def _describe(self, view: BoardView) -> np.ndarray:
        """Middle x and y and the square root of the area, as parts of the picture, and two tilts in rad."""
        size = np.array(self.size_wh)
        corners = view.image_px / size
        hull = cv2.contourArea(cv2.convexHull(corners.astype(np.float32)))
        return np.array([*corners.mean(axis=0), math.sqrt(hull), *tilt_of(view, self.size_wh)])


def covered_cells(views: list[BoardView], size_wh: tuple[int, int]) -> np.ndarray:
    """Return (6, 8) bool: the cells of the picture in which any view has a corner."""
    found = np.zeros(GRID_WH[::-1], bool)
    for view in views:
        at = (view.image_px / size_wh * GRID_WH).astype(int).clip(0, np.array(GRID_WH) - 1)
        found[at[:, 1], at[:, 0]] = True
    return found


def tilt_of(view: BoardView, size_wh: tuple[int, int]) -> tuple[float, float]:
    """Return by how much a board is turned sideways and up or down against the picture's plane, in rad.

    The lens is not known yet: its focal length is taken as the width of the picture, which is near enough.
    """
    width, height = size_wh
    guess = np.array([[width, 0, width / 2], [0, width, height / 2], [0, 0, 1]], np.float64)
    done, turn, place = cv2.solvePnP(view.board_m, view.image_px.astype(np.float64), guess, None)
    if not done:
        return 0.0, 0.0
    normal = cv2.Rodrigues(turn)[0][:, 2]
    normal = normal * -np.sign(normal @ place.ravel())  # to the camera
    return math.atan2(normal[0], -normal[2]), math.asin(float(np.clip(normal[1], -1, 1)))


def _emptiest(cells: np.ndarray) -> str:
    """The place, of nine, with the most empty cells."""
    names = (*_PLACES, *_LOWER)
    empty = [(~block).mean() for rows in np.array_split(cells, 3, axis=0) for block in np.array_split(rows, 3, axis=1)]
    order = (0, 2, 6, 8, 1, 3, 5, 7, 4)  # corners first: nothing else tells about the lens there
    return names[max(order, key=lambda i: (empty[i], -order.index(i)))]
