"""How detector families are told apart by shapes: one place, so that no two claim the same tensors."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Literal

from edge.decoders.heads import cell_count, image_size_wh, planes
from edge.tensor import TensorSpec

__all__ = [
    "MOST_QUERIES",
    "STRIDE_SETS",
    "FusedHead",
    "described_cells",
    "fused_head",
    "is_cell_count",
    "split_roles",
]

P5 = (8, 16, 32)
P6 = (8, 16, 32, 64)
P2 = (4, 8, 16, 32)
STRIDE_SETS = (P5, P6, P2)
ROLE_WORDS = {
    "boxes": ("box", "det", "reg"),
    "scores": ("score", "cls", "class", "conf"),
    "logits": ("logit", "label", "score", "cls", "class"),
    "objectness": ("obj",),
}
MOST_QUERIES = 1000  # transformer and end-to-end heads propose a few hundred boxes


@dataclass(frozen=True, slots=True)
class FusedHead:
    """A single output that holds boxes and scores together, read as a family.

    strides: of its grid in px, empty where candidates are no cells. per_cell: anchors a cell.
    described: the arithmetic in plain English.
    """

    family: Literal["yolo", "yolox", "nanodet", "detr", "end_to_end"]
    candidates: int
    channels: int
    channels_first: bool
    strides: tuple[int, ...]
    per_cell: int
    described: str


def described_cells(size_wh: tuple[int, int], strides: Sequence[int], per_cell: int = 1) -> str:
    """Return words such as "3549 = 52*52+26*26+13*13 cells at strides 8, 16, 32 of a 416x416 input"."""
    cells = "+".join(f"{-(-size_wh[0] // s)}*{-(-size_wh[1] // s)}" for s in strides)
    if per_cell > 1:
        cells = f"{per_cell}*({cells})"
    count = per_cell * cell_count(size_wh, strides)
    steps = ", ".join(map(str, strides))
    return f"{count} = {cells} cells at strides {steps} of a {size_wh[0]}x{size_wh[1]} input"


def is_cell_count(count: int, size_wh: tuple[int, int]) -> bool:
    """Return whether a grid detector of this input size would have `count` candidates."""
    return any(count in (cell_count(size_wh, s), 3 * cell_count(size_wh, s)) for s in STRIDE_SETS)


def fused_head(inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> FusedHead | None:
    """Return how a model with one image and one output of two axes is read, None when it is no such head."""
    size = image_size_wh(inputs)
    if size is None or len(outputs) != 1 or not 3 <= len(outputs[0].shape) <= 4:
        return None
    pairs = planes(outputs[0].shape)
    if len(pairs) != 1:
        return None
    shape = outputs[0].shape
    for channels_first in (False, True):
        candidates, channels = reversed(pairs[0]) if channels_first else pairs[0]
        for strides, per_cell in ((P5, 3), (P6, 3), (P5, 1), (P6, 1), (P2, 1)):
            if candidates != per_cell * cell_count(size, strides) or channels < 5:
                continue
            family = _grid_family(channels, channels_first, strides, per_cell)
            if family:
                described = f"one output {shape}: {described_cells(size, strides, per_cell)}"
                return FusedHead(family, candidates, channels, channels_first, strides, per_cell, described)
    return _query_head(shape, *pairs[0])


def _grid_family(
    channels: int, channels_first: bool, strides: tuple[int, ...], per_cell: int
) -> Literal["yolo", "yolox", "nanodet"] | None:
    if per_cell == 3:
        return "yolo" if channels >= 6 else None
    # the COCO widths are known whichever way round a converter laid the tensor
    if strides != P2 and channels in (85, 112):
        return "yolox" if channels == 85 else "nanodet"
    if channels_first or channels in (5, 84):
        return "yolo"
    if strides == P5:
        return "yolox"
    return "nanodet" if strides == P6 and channels > 32 else None


def _query_head(shape: tuple[int, ...], queries: int, channels: int) -> FusedHead | None:
    if not 10 <= queries <= MOST_QUERIES or channels < 5 or channels >= queries:
        return None
    family: Literal["end_to_end", "detr"] = "end_to_end" if channels in (6, 57) else "detr"
    return FusedHead(family, queries, channels, False, (), 0, f"one output {shape}: {queries} proposals")


def split_roles(outputs: Sequence[TensorSpec], widths: Mapping[str, int | None]) -> tuple[dict[str, str], int] | None:
    """Return role -> output name, and how many candidates, when the outputs are one tensor a role, else None.

    widths: channels of each role, None for any. Where shapes leave a choice, names decide.
    """
    if len(outputs) != len(widths) or any(len(o.shape) != 3 for o in outputs):
        return None
    found = []
    for order in permutations(outputs):
        pairs = [planes(o.shape)[0] for o in order]
        for candidates in dict.fromkeys(pairs[0]):
            others = [_other(pair, candidates) for pair in pairs]
            if all(o is not None and w in (None, o) for o, w in zip(others, widths.values(), strict=True)):
                found.append(({r: o.name for r, o in zip(widths, order, strict=True)}, candidates))
    if len(found) > 1:
        found = [(roles, n) for roles, n in found if all(_names(v, r) for r, v in roles.items())]
    return found[0] if len(found) == 1 else None


def _names(name: str, role: str) -> bool:
    return any(word in name.lower() for word in ROLE_WORDS[role])


def _other(pair: tuple[int, int], candidates: int) -> int | None:
    """The channels of a tensor of so many candidates."""
    if candidates not in pair:
        return None
    return pair[1] if pair[0] == candidates else pair[0]
