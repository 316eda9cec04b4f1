"""Pictures of calibration boards, rendered through a lens that is known: every pixel's ray is followed to the board."""

import cv2
import numpy as np
from scenes import brown

SUPER = 2  # samples per px and axis
TEXELS_PER_M = 4000


def chessboard(inner_wh: tuple[int, int], square_m: float) -> np.ndarray:
    """A chessboard with a white rim of a square; its first inner corner is two squares from the texture's corner."""
    texels = round(square_m * TEXELS_PER_M)
    squares = np.add.outer(np.arange(inner_wh[1] + 1), np.arange(inner_wh[0] + 1)) % 2
    black = np.kron(1 - squares, np.ones((texels, texels), int))
    return np.pad(np.where(black, 25, 225).astype(np.uint8), texels, constant_values=225)


def charuco(squares_wh: tuple[int, int], square_m: float, marker_m: float, dictionary: str) -> np.ndarray:
    """A ChArUco board with a white rim of a square."""
    texels = round(square_m * TEXELS_PER_M)
    known = cv2.aruco.getPredefinedDictionary(getattr(cv2.aruco, dictionary))
    board = cv2.aruco.CharucoBoard(squares_wh, square_m, marker_m, known)
    drawn = board.generateImage((squares_wh[0] * texels, squares_wh[1] * texels), marginSize=0, borderBits=1)
    return np.pad(np.where(drawn > 127, 225, 25).astype(np.uint8), texels, constant_values=225)


class Lens:
    """A lens that is known: matrix values in px and k1 k2 p1 p2 k3, or four fisheye coefficients."""

    def __init__(self, size_wh: tuple[int, int], focal: tuple, centre: tuple, bent: tuple, fisheye: bool = False):
        self.size_wh, self.focal, self.centre, self.bent, self.fisheye = size_wh, focal, centre, bent, fisheye
        w, h = size_wh
        u, v = np.meshgrid(np.arange(w, dtype=float), np.arange(h, dtype=float))
        rays = self._rays((u - centre[0]) / focal[0], (v - centre[1]) / focal[1])
        # a lens is smooth: between the middles of pixels it is straight
        self.rays = np.stack([cv2.resize(a, (w * SUPER, h * SUPER)) for a in rays]).astype(np.float32)

    def _rays(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        if self.fisheye:
            radius = np.maximum(np.hypot(x, y), 1e-9)
            angle = radius.copy()
            for _ in range(12):
                angle = radius / (1 + sum(k * angle ** (2 * i + 2) for i, k in enumerate(self.bent)))
            sine = np.sin(angle) / radius
            return np.stack([x * sine, y * sine, np.cos(angle)])
        a, b = x.copy(), y.copy()
        for _ in range(25):
            bent_x, bent_y = brown(a, b, self.bent)
            a, b = a + (x - bent_x), b + (y - bent_y)
        return np.stack([a, b, np.ones_like(a)])

    def picture(self, board: np.ndarray, turn: np.ndarray, place: np.ndarray, blur_px: float = 0.0) -> np.ndarray:
        """The board, its middle at `place` (m, optical frame), turned by the rotation vector `turn`, on grey ground."""
        rotation = cv2.Rodrigues(np.array(turn, np.float64))[0].astype(np.float32)
        right, down, normal = rotation.T
        place = np.array(place, np.float32)
        towards = np.tensordot(normal, self.rays, 1)
        reach = (normal @ place) / np.where(towards == 0, np.float32(1e-9), towards)
        hits = self.rays * reach - place[:, None, None]
        u, v = (np.tensordot(axis, hits, 1) * TEXELS_PER_M for axis in (right, down))
        h, w = board.shape
        u, v = u + np.float32(w / 2 - 0.5), v + np.float32(h / 2 - 0.5)
        u[(reach <= 0) | (self.rays[2] <= 0)] = -1e4
        fine = cv2.remap(board, u, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=128)
        if blur_px:
            fine = cv2.GaussianBlur(fine, (0, 0), blur_px * SUPER)
        return cv2.cvtColor(cv2.resize(fine, self.size_wh, interpolation=cv2.INTER_AREA), cv2.COLOR_GRAY2BGR)


def poses(count: int, seed: int, near_m: float, far_m: float, reach: tuple[float, float], tilt: float) -> list[tuple]:
    """Rotation vectors and places all over the picture; reach: how far off the axis, as parts of the distance."""
    rng = np.random.default_rng(seed)
    found = []
    for i in range(count):
        z = rng.uniform(near_m, far_m)
        x, y = np.array([(-1, -1), (1, -1), (-1, 1), (1, 1), (0, 0), (0, -1), (1, 0), (0, 1), (-1, 0)][i % 9]) * reach
        turn = rng.uniform(-1, 1, 3) * (tilt, tilt, 0.3)
        found.append((turn, (x * z * rng.uniform(0.7, 1), y * z * rng.uniform(0.7, 1), z)))
    return found
