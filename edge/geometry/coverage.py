"""The coverage picture of a calibration: where the corners were, how far each is off, and what stayed empty."""

import cv2
import numpy as np

from edge.geometry.calibration import Calibration
from edge.geometry.views import GRID_WH, covered_cells

__all__ = ["coverage_picture"]

_WIDTH_PX = 1280
_ENLARGED = 50  # how much longer errors are drawn than they are
_WORST_PX = 1.0  # this error and more is drawn red
_EMPTY, _FULL, _GRID, _INK = (214, 214, 255), (250, 250, 250), (225, 225, 225), (60, 60, 60)


def coverage_picture(found: Calibration) -> np.ndarray:
    """Return the picture, (H, W, 3) uint8 BGR: corners from green to red, errors as lines, empty cells pink."""
    scale = _WIDTH_PX / found.size_wh[0]
    size = np.array((_WIDTH_PX, round(found.size_wh[1] * scale)))
    picture = np.full((size[1], size[0], 3), _FULL, np.uint8)
    cells = covered_cells(found.views, found.size_wh)
    edges = [np.linspace(0, size[axis], GRID_WH[axis] + 1).round().astype(int) for axis in (0, 1)]
    for row, column in np.argwhere(~cells).tolist():
        picture[edges[1][row] : edges[1][row + 1], edges[0][column] : edges[0][column + 1]] = _EMPTY
    for axis in (0, 1):
        for at in edges[axis][1:-1].tolist():
            picture[tuple([slice(None), at] if axis == 0 else [at])] = _GRID
    for view, residuals in zip(found.views, found.residuals_px, strict=True):
        outline = cv2.convexHull(view.image_px * np.float32(scale)).round().astype(np.int32)
        cv2.polylines(picture, [outline], True, (205, 200, 190), 1, cv2.LINE_AA)
        for (x, y), off in zip((view.image_px * scale).tolist(), residuals, strict=True):
            part = min(1.0, float(np.hypot(*off)) / _WORST_PX)
            colour = (40, round(170 * (1 - part)), round(60 + 180 * part))
            end = (round(x + off[0] * scale * _ENLARGED), round(y + off[1] * scale * _ENLARGED))
            cv2.line(picture, (round(x), round(y)), end, colour, 1, cv2.LINE_AA)
            cv2.circle(picture, (round(x), round(y)), 2, colour, -1, cv2.LINE_AA)
    return np.vstack([picture, _legend(found, cells)])


def _legend(found: Calibration, cells: np.ndarray) -> np.ndarray:
    strip = np.full((40, _WIDTH_PX, 3), 255, np.uint8)
    text = (
        f"{len(found.views)} views, {100 * cells.mean():.0f} % of the cells covered, rms {found.rms_px:.3f} px; "
        f"lines: errors, {_ENLARGED} times as long; red: {_WORST_PX:g} px and more; pink: no corner"
    )
    cv2.putText(strip, text, (10, 26), cv2.FONT_HERSHEY_SIMPLEX, 0.5, _INK, 1, cv2.LINE_AA)
    return strip
