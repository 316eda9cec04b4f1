"""Intrinsics from views of a board, how sure they are, and when a set of views is not good enough.

The solver is OpenCV's (Zhang 2000; Kannala and Brandt 2006 for fisheye). The covariance is that of least squares,
s^2 (J^T J)^-1 over intrinsics and all board poses (Hartley and Zisserman, 2nd ed., chapter 5), for either model.
"""

from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np

from edge.errors import ConfigError
from edge.geometry.board import BoardView
from edge.geometry.views import covered_cells, tilt_of

__all__ = ["FEWEST_VIEWS", "Calibration", "calibrate"]

FEWEST_VIEWS = 8
_FEWEST_TILTED = 3
_TILTED_RAD = np.radians(10)
_LEAST_COVERED = 0.5
_MOST_FOCAL_SIGMA = 0.01
_MOST_RMS_PARTS = 1 / 1000  # of the picture's width: 1.3 px at 1280
_OUTLIER = 2.5  # times the median error
_ROUNDS = 4
_FLAGS: Any = cv2 if hasattr(cv2, "CALIB_RECOMPUTE_EXTRINSIC") else cv2.fisheye  # OpenCV 5 moved them
_COEFFICIENTS = {"opencv": 5, "rational": 8, "fisheye": 4}


@dataclass(slots=True)
class Calibration:
    """What was found. parameters (P,) float64: fx, fy, cx, cy, coefficients; covariance (P, P) float64.

    views and errors_px (N,) float64: the views used and the rms error of each; residuals_px: one (corners, 2) float64
    per view; dropped: views that did not fit, with their errors.
    """

    model: str
    size_wh: tuple[int, int]
    parameters: np.ndarray
    covariance: np.ndarray
    views: list[BoardView]
    errors_px: np.ndarray
    residuals_px: list[np.ndarray]
    dropped: list[tuple[BoardView, float]] = field(default_factory=list)

    @property
    def rms_px(self) -> float:
        """Root mean square of the distances of all corners used."""
        return _rms(np.concatenate(self.residuals_px))


def calibrate(views: list[BoardView], size_wh: tuple[int, int], model: str = "opencv") -> Calibration:
    """Return the calibration of pictures of size_wh px; model: opencv (5 coefficients), rational (8) or fisheye (4).

    Raises: ConfigError for a set of views that is not good enough, saying what it lacks.
    """
    _check_views(views, size_wh)
    kept = list(views)
    dropped: list[tuple[BoardView, float]] = []
    for _ in range(_ROUNDS):
        found = _solve(kept, size_wh, model)
        limit = max(_OUTLIER * float(np.median(found.errors_px)), 0.1)
        bad = np.flatnonzero(found.errors_px > limit).tolist()
        if not bad or len(kept) - len(bad) < FEWEST_VIEWS or len(dropped) + len(bad) > len(views) / 3:
            break
        dropped += [(kept[i], float(found.errors_px[i])) for i in bad]
        kept = [view for i, view in enumerate(kept) if i not in bad]
    found.dropped = dropped
    _check_result(found)
    return found


def _solve(views: list[BoardView], size_wh: tuple[int, int], model: str) -> Calibration:
    boards = [view.board_m.reshape(1, -1, 3).astype(np.float64) for view in views]
    pixels = [view.image_px.reshape(1, -1, 2).astype(np.float64) for view in views]
    try:
        if model == "fisheye":
            flags = _FLAGS.CALIB_RECOMPUTE_EXTRINSIC | _FLAGS.CALIB_FIX_SKEW
            stop = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 100, 1e-8)
            _, matrix, bent, turns, places = cv2.fisheye.calibrate(
                boards, pixels, size_wh, np.eye(3), np.zeros((4, 1)), flags=flags, criteria=stop
            )
        else:
            flags = cv2.CALIB_RATIONAL_MODEL if model == "rational" else 0
            _, matrix, bent, turns, places = cv2.calibrateCamera(
                [b.astype(np.float32) for b in boards],
                [p.astype(np.float32) for p in pixels],
                size_wh,
                None,
                None,
                flags=flags,
            )
    except cv2.error as exc:
        raise ConfigError(
            f"no {model} lens fits these views ({exc.err})", "take other views, tilted and at the edges of the picture"
        ) from exc
    coefficients = bent.ravel()[: _COEFFICIENTS[model]]
    residuals, jacobians = [], []
    for board, pixel, turn, place in zip(boards, pixels, turns, places, strict=True):
        seen, of_lens, of_pose = _projected(board, turn, place, matrix, coefficients, model == "fisheye")
        residuals.append(seen.reshape(-1, 2) - pixel.reshape(-1, 2))
        jacobians.append((of_lens, of_pose))
    parameters = np.array([matrix[0, 0], matrix[1, 1], matrix[0, 2], matrix[1, 2], *coefficients])
    errors = np.array([_rms(r) for r in residuals])
    return Calibration(model, size_wh, parameters, _covariance(residuals, jacobians), views, errors, residuals)


def _projected(
    board: np.ndarray, turn: np.ndarray, place: np.ndarray, matrix: np.ndarray, coefficients: np.ndarray, fisheye: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The corners in px, and their derivatives by the lens and by the board's pose."""
    if fisheye:
        seen, jacobian = cv2.fisheye.projectPoints(board, turn, place, matrix, coefficients)
        return seen, jacobian[:, :8], jacobian[:, 8:14]  # f, c, k, turn, place, skew
    seen, jacobian = cv2.projectPoints(board, turn, place, matrix, coefficients)
    return seen, jacobian[:, 6:], jacobian[:, :6]


def _covariance(residuals: list[np.ndarray], jacobians: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Of the intrinsics, with the poses eliminated (Schur's complement)."""
    size = jacobians[0][0].shape[1]
    information = np.zeros((size, size))
    for of_lens, of_pose in jacobians:
        mixed = of_lens.T @ of_pose
        information += of_lens.T @ of_lens - mixed @ np.linalg.pinv(of_pose.T @ of_pose) @ mixed.T
    squares = sum(float((r**2).sum()) for r in residuals)
    free = sum(r.size for r in residuals) - size - 6 * len(residuals)
    scale = 1 / np.sqrt(np.maximum(np.diag(information), 1e-300))  # px and coefficients differ by many powers of ten
    inverse = np.linalg.pinv(information * np.outer(scale, scale), hermitian=True)
    return inverse * np.outer(scale, scale) * squares / max(free, 1)


def _check_views(views: list[BoardView], size_wh: tuple[int, int]) -> None:
    if len(views) < FEWEST_VIEWS:
        raise ConfigError(
            f"{len(views)} usable views are too few", f"take {FEWEST_VIEWS} or more, better 20, from many sides"
        )
    covered = covered_cells(views, size_wh).mean()
    if covered < _LEAST_COVERED:
        raise ConfigError(
            f"the corners cover only {100 * covered:.0f} % of the picture",
            "move the board to its edges and corners, and nearer",
        )
    tilts = np.array([tilt_of(view, size_wh) for view in views])
    if (np.abs(tilts).max(axis=1) > _TILTED_RAD).sum() < _FEWEST_TILTED:
        raise ConfigError(
            "the board faces the camera squarely in all views, so distance and focal length cannot be told apart",
            "tilt it by 20 to 45 degrees, each way",
        )


def _check_result(found: Calibration) -> None:
    width = found.size_wh[0]
    sigma = np.sqrt(np.diag(found.covariance))
    fx, _, cx, cy = found.parameters[:4]
    if found.rms_px > width * _MOST_RMS_PARTS:
        raise ConfigError(
            f"the corners miss the lens model by {found.rms_px:.2f} px",
            "is the board flat and its size right, the focus fixed? For very wide lenses: --lens fisheye",
        )
    if not (0 < cx < width and 0 < cy < found.size_wh[1]) or not np.isfinite(found.parameters).all():
        raise ConfigError("the lens that fits best has its axis outside the picture", "take more tilted views")
    if not sigma[0] / fx < _MOST_FOCAL_SIGMA:
        raise ConfigError(
            f"the focal length is known only to {100 * sigma[0] / fx:.1f} %", "add views with the board tilted more"
        )


def _rms(residuals: np.ndarray) -> float:
    return float(np.sqrt((residuals**2).sum(axis=1).mean()))
