"""Output tensors seen as rows of candidates: orientation, grids, and the last step of every box decoder."""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np

from edge.decoders.base import DecoderContext
from edge.detections import Detections
from edge.errors import ManifestError
from edge.tensor import TensorSpec

__all__ = [
    "LARGEST_EXPONENT",
    "Columns",
    "cell_count",
    "find_columns",
    "find_head",
    "grid_cells",
    "image_size_wh",
    "planes",
    "refill",
]

FARTHEST_PX = 1e6  # no image is so large: a coordinate beyond it is a number that ran away
LARGEST_EXPONENT = np.float32(60)  # e^60 px is left out as beyond FARTHEST_PX, without an overflow on the way


@dataclass(frozen=True, slots=True)
class Columns:
    """Columns `first` to `last` (exclusive) of one output seen as (rows, channels): a row is a candidate.

    stored_shape: the two axes as they lie in memory; channels_first: the first of them counts channels.
    """

    position: int
    spec: TensorSpec
    stored_shape: tuple[int, int]
    channels_first: bool
    first: int
    last: int

    @property
    def rows(self) -> int:
        """Number of candidates."""
        return self.stored_shape[1 if self.channels_first else 0]

    @property
    def width(self) -> int:
        """Number of columns."""
        return self.last - self.first

    def part(self, first: int, last: int) -> "Columns":
        """Return columns `first` to `last` (exclusive), counted from this one's first."""
        return replace(self, first=self.first + first, last=self.first + last)

    def view(self, outputs: Sequence[np.ndarray]) -> np.ndarray:
        """Return the columns of all candidates, (N, C) in the stored dtype; a view into the output."""
        plane = outputs[self.position].reshape(self.stored_shape)
        return plane[self.first : self.last].T if self.channels_first else plane[:, self.first : self.last]

    def take(self, outputs: Sequence[np.ndarray], rows: np.ndarray) -> np.ndarray:
        """Return (M, width) float32, dequantized, of the candidates `rows` (M,) int64; a new array."""
        return self.spec.dequantize(self.view(outputs)[rows])


def planes(shape: tuple[int, ...]) -> list[tuple[int, int]]:
    """Return the ways in which a (1, ...) tensor can be read as two axes, as they lie in memory.

    (1, N) is one column; a 1 among three axes is dropped; (1, C, H, W) and (1, H, W, C) flatten their cells.
    """
    axes = shape[1:]
    if len(axes) == 1:
        return [(axes[0], 1)]
    if len(axes) == 2:
        return [(axes[0], axes[1])]
    if len(axes) != 3:
        return []
    if 1 in axes:
        i = axes.index(1)
        a, b = axes[:i] + axes[i + 1 :]
        return [(a, b)]
    return [(axes[0], axes[1] * axes[2]), (axes[0] * axes[1], axes[2])]


def find_columns(
    context: DecoderContext,
    role: str,
    rows: Collection[int] = (),
    width: int | None = None,
    channels_first: bool | None = None,
) -> Columns:
    """Return the output that plays `role` as (rows, channels), in whichever orientation fits.

    rows: the possible numbers of candidates, empty when unknown. width: of channels, None when unknown.
    Raises: ManifestError when no orientation fits, or both do and `channels_first` does not decide.
    """
    position, spec = context.output(role)
    fits = [
        Columns(position, spec, (a, b), first, 0, channels)
        for a, b in planes(spec.shape)
        for first, candidates, channels in ((False, a, b), (True, b, a))
        if (not rows or candidates in rows) and (width is None or channels == width) and channels_first in (None, first)
    ]
    if len(fits) == 1:
        return fits[0]
    said = f"the output '{spec.name}' (role '{role}') has shape {spec.shape}"
    if fits:
        raise ManifestError(
            f"{said}, which may be (1, candidates, channels) or (1, channels, candidates)",
            "set channels_first = true or false in decoder.params",
        )
    wanted = f"{' or '.join(map(str, sorted(rows))) or 'any'} candidates of {width or 'any'} channels"
    raise ManifestError(
        f"{said}, which does not hold {wanted}",
        "check decoder.family and its params, the target's outputs and the number of labels",
    )


def find_head(
    context: DecoderContext,
    extra_columns: int,
    rows: Collection[int],
    channels_first: bool | None,
) -> Columns:
    """Return the fused tensor of role `raw`, whose columns are `extra_columns` and one a class.

    Where the candidates' number fits both or neither orientation, the number of labels decides.
    Raises: ManifestError as find_columns does, and when no column is left for classes.
    """
    axes = {n for pair in planes(context.output("raw")[1].shape) for n in pair}
    known = axes.intersection(rows)
    width = None
    if len(known) != 1 and channels_first is None and context.class_count:
        width = context.class_count + extra_columns
    head = find_columns(context, "raw", known, width, channels_first)
    if head.width <= extra_columns:
        raise ManifestError(
            f"the output '{head.spec.name}' has {head.width} channels, {extra_columns} of which are no class",
            "check decoder.family, decoder.params and the role 'raw'",
        )
    return head


def cell_count(size_wh: tuple[int, int], strides: Sequence[int]) -> int:
    """Return how many cells the grids of these strides have together; incomplete cells count."""
    return sum(math.ceil(size_wh[0] / s) * math.ceil(size_wh[1] / s) for s in strides)


def grid_cells(size_wh: tuple[int, int], strides: Sequence[int]) -> np.ndarray:
    """Return (N, 3) float32: column, row and stride in px of each cell, stride by stride, row by row."""
    grids = []
    for stride in strides:
        columns, rows = math.ceil(size_wh[0] / stride), math.ceil(size_wh[1] / stride)
        y, x = np.mgrid[:rows, :columns]
        grids.append(np.stack([x.ravel(), y.ravel(), np.full(rows * columns, stride)], axis=1))
    return np.concatenate(grids).astype(np.float32)


def image_size_wh(inputs: Sequence[TensorSpec]) -> tuple[int, int] | None:
    """Return width and height in px of the only input when it is an image of 1 or 3 channels, else None."""
    if len(inputs) != 1 or len(inputs[0].shape) != 4:
        return None
    shape = inputs[0].shape
    if shape[3] in (1, 3) and inputs[0].layout != "NCHW":
        return shape[2], shape[1]
    if shape[1] in (1, 3) and inputs[0].layout != "NHWC":
        return shape[3], shape[2]
    return None


def refill(
    into: Detections,
    xyxy: np.ndarray,
    scores: np.ndarray,
    class_ids: np.ndarray,
    keypoints: np.ndarray | None = None,
) -> None:
    """Refill `into`, leaving out candidates with a coordinate that is not finite or beyond 1e6 px.

    xyxy (M, 4) float32, scores (M,) float32, class_ids (M,) int, keypoints (M, P, 2) float32; M is at most
    into.capacity; all are copied.
    """
    n = len(scores)
    if not (_plausible(xyxy) and (keypoints is None or _plausible(keypoints))):  # seldom
        good = (np.abs(xyxy) < FARTHEST_PX).all(axis=1)
        if keypoints is not None:
            good &= (np.abs(keypoints) < FARTHEST_PX).all(axis=(1, 2))
            keypoints = keypoints[good]
        xyxy, scores, class_ids = xyxy[good], scores[good], class_ids[good]
        n = len(scores)
    into.count = n
    into.xyxy[:n] = xyxy
    into.scores[:n] = scores
    into.class_ids[:n] = class_ids
    into.track_ids[:n] = -1
    if keypoints is not None and into.keypoints is not None:
        into.keypoints[:n] = keypoints


def _plausible(px: np.ndarray) -> bool:
    """Whether all coordinates are finite and no number has run away."""
    flat = px.ravel()
    # argmax and argmin find a NaN, and take half the time of max and min
    return not len(flat) or (flat.item(flat.argmax()) < FARTHEST_PX and flat.item(flat.argmin()) > -FARTHEST_PX)
