"""Calibration boards: what is typed for one, and its corners found in a picture."""

import re
from dataclasses import dataclass

import cv2
import numpy as np

from edge.errors import ConfigError
from edge.structs import did_you_mean

__all__ = ["Board", "BoardView", "find_board", "other_board", "parse_board"]

_CHESSBOARD = re.compile(r"chessboard:(\d+)x(\d+):([\d.]+)")
_CHARUCO = re.compile(r"charuco:(\d+)x(\d+):([\d.]+):([\d.]+)(?::(\w+))?")
_DICTIONARIES = {
    name: getattr(cv2.aruco, name)
    for name in dir(cv2.aruco)
    if re.fullmatch(r"DICT_(\dX\d_\d+|ARUCO_ORIGINAL|ARUCO_MIP_36h12|APRILTAG_\w+)", name)
}
_LIKELY = ("DICT_4X4_1000", "DICT_5X5_1000", "DICT_6X6_1000", "DICT_7X7_1000", "DICT_ARUCO_ORIGINAL")
_FEWEST_CORNERS = 8  # of a ChArUco board, which may stick out of the picture
_SEARCH_PX = 1280  # a chessboard is looked for in a picture of this width at most
_GUESS_PX = 640  # and one of another size, of which there are two dozen, in this: each takes a second at 1280
_WINDOW_PARTS = 0.3  # of the distance between corners: what a corner is refined in
_MOST_WINDOW_PX = 25


@dataclass(frozen=True, slots=True)
class Board:
    """A calibration board. size_wh: inner corners of a chessboard, squares of a ChArUco board. Lengths in m."""

    kind: str
    size_wh: tuple[int, int]
    square_m: float
    marker_m: float = 0.0
    dictionary: str = ""

    @property
    def inner_wh(self) -> tuple[int, int]:
        """Inner corners."""
        return self.size_wh if self.kind == "chessboard" else (self.size_wh[0] - 1, self.size_wh[1] - 1)

    def __str__(self) -> str:
        size = f"{self.size_wh[0]}x{self.size_wh[1]}"
        return f"{size} {self.kind}" + (f" with {self.dictionary}" if self.dictionary else "")


@dataclass(frozen=True, slots=True)
class BoardView:
    """A board in one picture: board_m (N, 3) float32 corners on the board, image_px (N, 2) float32 in the picture.

    edge_px: how wide the edges at the corners are, which is how blurred it is.
    """

    name: str
    board_m: np.ndarray
    image_px: np.ndarray
    edge_px: float


def parse_board(text: str) -> Board:
    """Return the board behind `chessboard:9x6:0.025` or `charuco:7x5:0.04:0.03[:DICT_4X4_50]`.

    Raises: ConfigError for anything else.
    """
    if match := _CHESSBOARD.fullmatch(text):
        board = Board("chessboard", (int(match[1]), int(match[2])), _metres(match[3]))
    elif match := _CHARUCO.fullmatch(text):
        name = match[5] or "DICT_4X4_50"
        if name not in _DICTIONARIES:
            raise ConfigError(f"there is no marker dictionary '{name}'", did_you_mean(name, list(_DICTIONARIES)))
        board = Board("charuco", (int(match[1]), int(match[2])), _metres(match[3]), _metres(match[4]), name)
        if board.marker_m >= board.square_m:
            raise ConfigError(f"the markers of '{text}' are as large as its squares", "give square, then marker, in m")
    else:
        raise ConfigError(
            f"'{text}' is no board",
            "write chessboard:9x6:0.025 (inner corners, square in m) or charuco:7x5:0.04:0.03 (squares, square and "
            "marker in m)",
        )
    if min(board.inner_wh) < 3 or max(board.inner_wh) > 60:
        raise ConfigError(f"a board of {board.inner_wh[0]}x{board.inner_wh[1]} inner corners", "3 to 60 each way")
    return board


def find_board(board: Board, image: np.ndarray, name: str) -> BoardView | None:
    """Return the board in a picture (H, W, 3) uint8 BGR, or None where it is not, or not enough of it."""
    grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    found = _chessboard(board.size_wh, grey) if board.kind == "chessboard" else _charuco(board, grey)
    if found is None:
        return None
    ids, corners = found
    columns = board.inner_wh[0]
    across_down = np.stack([ids % columns, ids // columns, np.zeros_like(ids)], axis=1)
    on_board = (across_down * board.square_m).astype(np.float32)
    return BoardView(name, on_board, corners, _edge_width(grey, corners))


def other_board(board: Board, image: np.ndarray) -> str:
    """Return what stands in a picture (H, W, 3) uint8 BGR in place of the board, in words; "" for nothing."""
    grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    if board.kind == "charuco":
        for name in (board.dictionary, *_LIKELY):
            detector = cv2.aruco.ArucoDetector(cv2.aruco.getPredefinedDictionary(_DICTIONARIES[name]))
            ids = detector.detectMarkers(grey)[1]
            if ids is not None and len(ids) >= 4:
                return f"{len(ids)} markers of {name}"
    if grey.shape[1] > _GUESS_PX:
        height = round(grey.shape[0] * _GUESS_PX / grey.shape[1])
        grey = cv2.resize(grey, (_GUESS_PX, height), interpolation=cv2.INTER_AREA)
    columns, rows = board.inner_wh
    near = [(columns + x, rows + y) for y in (-2, -1, 0, 1, 2) for x in (-2, -1, 0, 1, 2)]
    sizes = sorted({(max(s), min(s)) for s in near} - {(max(columns, rows), min(columns, rows))}, key=lambda s: -sum(s))
    for size in sizes:
        if min(size) >= 3 and _chessboard(size, grey) is not None:
            return f"a chessboard of {size[0]}x{size[1]} inner corners"
    return ""


def _metres(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.0005 <= value <= 5:
        raise ConfigError(f"'{text}' is no length of a board in m", "a square of 25 mm is 0.025")
    return value


def _chessboard(size_wh: tuple[int, int], grey: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    scale = min(1.0, _SEARCH_PX / grey.shape[1])
    small = cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else grey
    flags = cv2.CALIB_CB_ADAPTIVE_THRESH | cv2.CALIB_CB_NORMALIZE_IMAGE | cv2.CALIB_CB_FAST_CHECK
    found, corners = cv2.findChessboardCorners(small, size_wh, flags=flags)
    if not found:
        return None
    corners = ((corners + 0.5) / np.float32(scale) - 0.5).astype(np.float32)
    grid = corners.reshape(size_wh[1], size_wh[0], 2)
    steps = [np.linalg.norm(np.diff(grid, axis=axis), axis=-1).min() for axis in (0, 1)]
    window = int(np.clip(min(steps) * _WINDOW_PARTS, 2, _MOST_WINDOW_PX))
    stop = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 50, 0.001)
    corners = cv2.cornerSubPix(grey, corners, (window, window), (-1, -1), stop)
    return np.arange(size_wh[0] * size_wh[1]), corners.reshape(-1, 2)


def _charuco(board: Board, grey: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    best: tuple[np.ndarray, np.ndarray] | None = None
    for legacy in (False, True) if board.size_wh[1] % 2 == 0 else (False,):  # they differ for even rows only
        pattern = cv2.aruco.CharucoBoard(
            board.size_wh,
            board.square_m,
            board.marker_m,
            cv2.aruco.getPredefinedDictionary(_DICTIONARIES[board.dictionary]),
        )
        pattern.setLegacyPattern(legacy)
        corners, ids, _, _ = cv2.aruco.CharucoDetector(pattern).detectBoard(grey)
        if ids is not None and len(ids) >= _FEWEST_CORNERS and (best is None or len(ids) > len(best[0])):
            best = ids.ravel(), corners.reshape(-1, 2)
    if best is None or min(len(np.unique(f(best[0], board.inner_wh[0]))) for f in (np.floor_divide, np.mod)) < 2:
        return None  # corners on one line say nothing about the board's pose
    return best


def _edge_width(grey: np.ndarray, corners: np.ndarray) -> float:
    """px over which black turns into white, the median over the corners; about 2.5 sigma of the blur."""
    widths = []
    for x, y in corners.tolist():
        others = np.hypot(*(corners - (x, y)).T)
        reach = int(np.clip(np.partition(others, 1)[1] * 0.4, 3, 40))
        left, top = max(0, round(x) - reach), max(0, round(y) - reach)
        patch = grey[top : round(y) + reach + 1, left : round(x) + reach + 1].astype(np.float32)
        if min(patch.shape) < 4:
            continue
        steps = np.hypot(np.gradient(patch, axis=0), np.gradient(patch, axis=1))
        low, high = np.quantile(patch, (0.05, 0.95))
        widths.append((high - low) / max(float(np.quantile(steps, 0.98)), 1e-3))
    return float(np.median(widths)) if widths else 0.0
