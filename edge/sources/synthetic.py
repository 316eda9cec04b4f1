"""`synthetic://`: moving shapes on a textured background, with their true boxes, for tests and benchmarks."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Annotated

import cv2
import msgspec
import numpy as np

from edge.clock import monotonic_ns
from edge.errors import ConfigError, EndOfStreamError
from edge.sources.capture import Grabbed, SourceOptions
from edge.sources.stamps import Pacer
from edge.uri import Uri

__all__ = ["SHAPE_LABELS", "SyntheticOptions", "SyntheticSource", "truth"]

SHAPE_LABELS = ("rectangle", "circle", "triangle")

_SidePx = Annotated[int, msgspec.Meta(ge=32, le=8192)]
_COLOURS_BGR = ((40, 40, 230), (60, 200, 60), (230, 120, 40), (40, 220, 230), (220, 60, 200), (230, 220, 60))


class SyntheticOptions(SourceOptions, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """size: width x height in px. fps: 0 for as fast as the reader takes them.

    frames: how many, 0 for endless. shapes: how many; shape i is of class i modulo 3. seed: fixes sizes,
    paths and the background.
    """

    size: tuple[_SidePx, _SidePx] = (640, 480)
    fps: Annotated[float, msgspec.Meta(ge=0)] = 30.0
    shapes: Annotated[int, msgspec.Meta(ge=0, le=1000)] = 4
    seed: Annotated[int, msgspec.Meta(ge=0)] = 0
    frames: Annotated[int, msgspec.Meta(ge=0)] = 0


def truth(seq: int, options: SyntheticOptions) -> tuple[np.ndarray, np.ndarray]:
    """Return the boxes, (N, 4) float32 xyxy in source px, and class ids, (N,) int32, of frame `seq`.

    A box spans exactly the pixels of its whole shape, also where a later shape covers it. `seq` is
    `FrameInfo.seq`; class ids index SHAPE_LABELS. A pure function of its arguments.
    """
    boxes = np.array([_box(seq, path) for path in _paths(options)], np.float32).reshape(-1, 4)
    return boxes, np.arange(options.shapes, dtype=np.int32) % len(SHAPE_LABELS)


class SyntheticSource:
    """Draws the scene that `truth` describes; the frame's number is its frame_ref."""

    note = ""

    def __init__(self, uri: Uri) -> None:
        if uri.rest.strip("/"):
            raise ConfigError(
                f"{uri.safe_text} names something, but a synthetic scene has only options",
                "write synthetic://?size=640x480&fps=30",
            )
        self.options: SyntheticOptions = uri.options(SyntheticOptions)
        self.live = self.options.fps > 0
        self._seq = 0
        self._pacer = Pacer()

    def open(self) -> None:
        """Draw the background."""
        self._background = _background(self.options)

    def grab(self, into: np.ndarray | None) -> Grabbed:
        """Return the next frame, stamped with when it is due.

        Raises: EndOfStreamError after the last of `frames`.
        """
        if self.options.frames and self._seq >= self.options.frames:
            raise EndOfStreamError(f"all {self.options.frames} synthetic frames were drawn", "raise frames=N")
        if into is None or into.shape != self._background.shape:
            into = np.empty_like(self._background)
        np.copyto(into, self._background)
        for index, path in enumerate(_paths(self.options)):
            _draw(into, index, _box(self._seq, path))
        self._seq += 1
        t_ns = self._pacer.due_ns(int(1e9 / self.options.fps)) if self.live else monotonic_ns()
        return Grabbed(into, t_ns, "generated", str(self._seq - 1))

    def close(self) -> None:
        """Do nothing; there is no device."""

    def interrupt(self) -> None:
        """Do nothing; drawing never blocks."""


@lru_cache(maxsize=8)
def _paths(options: SyntheticOptions) -> Sequence[tuple[int, ...]]:
    """Size, start and speed in px per frame of each shape, and the free way it has in x and y."""
    width_px, height_px = options.size
    rng = np.random.default_rng(options.seed)
    short_px = min(options.size)
    paths = []
    for _ in range(options.shapes):
        w_px, h_px = (int(n) | 1 for n in rng.integers(short_px // 8, short_px // 3 + 1, 2))
        way_x, way_y = width_px - w_px, height_px - h_px
        x, y = int(rng.integers(0, way_x + 1)), int(rng.integers(0, way_y + 1))
        vx, vy = (int(n) for n in rng.integers(1, max(3, short_px // 60), 2))
        paths.append((w_px, h_px, x, y, vx, vy, way_x, way_y))
    return tuple(paths)


def _box(seq: int, path: tuple[int, ...]) -> tuple[int, int, int, int]:
    w_px, h_px, x, y, vx, vy, way_x, way_y = path
    left, top = _bounce(x + vx * seq, way_x), _bounce(y + vy * seq, way_y)
    return left, top, left + w_px, top + h_px


def _bounce(position: int, way: int) -> int:
    """A triangular wave: there and back within 0..way."""
    position %= 2 * way
    return position if position <= way else 2 * way - position


def _draw(image: np.ndarray, index: int, box: tuple[int, int, int, int]) -> None:
    colour = _COLOURS_BGR[index % len(_COLOURS_BGR)]
    x0, y0, x1, y1 = box
    kind = index % len(SHAPE_LABELS)
    if kind == 0:
        cv2.rectangle(image, (x0, y0), (x1 - 1, y1 - 1), colour, cv2.FILLED)
    elif kind == 1:  # sizes are odd, so the centre is a pixel
        centre, axes = ((x0 + x1 - 1) // 2, (y0 + y1 - 1) // 2), ((x1 - x0) // 2, (y1 - y0) // 2)
        cv2.ellipse(image, centre, axes, 0, 0, 360, colour, cv2.FILLED)
    else:
        corners = np.array(((x0, y1 - 1), (x1 - 1, y1 - 1), ((x0 + x1 - 1) // 2, y0)), np.int32)
        cv2.fillConvexPoly(image, corners, colour)


def _background(options: SyntheticOptions) -> np.ndarray:
    """A dim, coarse noise, (H, W, 3) uint8: something for a detector to ignore."""
    width_px, height_px = options.size
    rng = np.random.default_rng(options.seed)
    coarse = rng.integers(60, 120, (max(2, height_px // 16), max(2, width_px // 16), 3), dtype=np.uint8)
    return cv2.resize(coarse, options.size, interpolation=cv2.INTER_CUBIC)
