"""Box arithmetic taken off the end of a graph where Harrier's decoder does it on the survivors alone.

Exponentials and grids stretch a tensor's range far past what 8 bits resolve. Which tensor is the raw one is not read
off node names: every ancestor of the boxes that could be it is run on real pictures and decoded, and only one whose
decoded values are the boxes themselves is taken.
"""

from collections.abc import Sequence

import numpy as np
from onnx import ModelProto

from convert.surgery.graph import Graph, prune, renamed
from convert.surgery.running import outputs_of, with_outputs
from convert.surgery.slicing import columns
from edge.decoders.heads import grid_cells

__all__ = ["cut_yolox_decode"]

_CLOSE = 1e-4  # of the largest box coordinate
_DEEPEST = 40  # nodes above the output


def cut_yolox_decode(
    model: ModelProto, boxes: str, size_wh: tuple[int, int], strides: Sequence[int], inputs: np.ndarray
) -> tuple[ModelProto, str]:
    """Return the model with `boxes`, decoded cxcywh px, replaced by what the YOLOX decoder reads, and what was done.

    boxes: an output of its own. inputs (N, ...) float32: what the proof is run on.
    """
    model = ModelProto.FromString(model.SerializeToString())
    graph = Graph.of(model)
    cells = grid_cells(size_wh, strides)
    raw = {name: axis for name in _ancestors(graph, boxes) if (axis := _box_axis(graph, name, len(cells))) is not None}
    parts = {name: part for name, axis in raw.items() if (part := columns(graph, name, axis, 0, 4))}
    parts = {name: part for name, part in parts.items() if part != boxes}
    if not parts:
        return model, ""
    candidates = with_outputs(model, list(dict.fromkeys(parts.values())))
    prune(candidates)
    values = outputs_of(candidates, inputs)
    wanted = _rows(values[boxes], len(cells))
    for part in parts.values():
        found = _decoded(_rows(values[part], len(cells)), cells)
        if np.abs(found - wanted).max() <= _CLOSE * np.abs(wanted).max():
            _replace_output(model, graph, boxes, part)
            return model, "cut the grid and exponential off the boxes: the decoder does both"
    return model, ""


def _ancestors(graph: Graph, name: str) -> list[str]:
    """Tensors above one, nearest first."""
    found, level = [], [name]
    for _ in range(_DEEPEST):
        above = [
            source
            for name in level
            if (node := graph.producer.get(name))
            for source in node.input
            if source and source not in graph.constants
        ]
        level = [name for name in dict.fromkeys(above) if name not in found]
        found += level
    return found


def _box_axis(graph: Graph, name: str, cells: int) -> int | None:
    """The axis of (1, cells, channels) or (1, channels, cells) that counts channels, 4 or more of them."""
    shape = graph.shapes.get(name, ())
    if len(shape) != 3 or cells not in shape[1:] or min(shape[1:]) < 4:
        return None
    return 2 if shape[1] == cells else 1


def _rows(values: np.ndarray, cells: int) -> np.ndarray:
    """(N, cells, 4) float64 of (N, cells, 4) or (N, 4, cells) of any float dtype."""
    return (values if values.shape[1] == cells else values.transpose(0, 2, 1)).astype(np.float64)


def _decoded(raw: np.ndarray, cells: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        sizes = np.exp(np.minimum(raw[..., 2:], 60.0))
    return np.concatenate([raw[..., :2] + cells[:, :2], sizes], axis=-1) * cells[:, 2:]


def _replace_output(model: ModelProto, graph: Graph, old: str, new: str) -> None:
    for output in model.graph.output:
        if output.name == old:
            output.name = new
            for dim, size in zip(output.type.tensor_type.shape.dim, graph.shapes[new], strict=True):
                dim.dim_value = size
    prune(model)
    renamed(model, new, old)
