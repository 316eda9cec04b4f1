"""Slice, Split and Gather by constants: never a TFLite GATHER."""

import numpy as np

from convert.onnx_to_tflite.graph import Node, unsupported
from convert.onnx_to_tflite.translation import NO_ACTIVATION, Translation
from convert.onnx_to_tflite.view import NHWC, View, plain_order

__all__ = ["OPS", "slice_ranges"]

_MAX_RUNS = 32


def slice_ranges(t_constants: dict[str, np.ndarray], node: Node, shape: tuple[int, ...]) -> dict[int, range] | None:
    """Return the elements a Slice node takes of each axis it touches, None when its bounds are computed."""
    found = []
    for index, key in ((1, "starts"), (2, "ends"), (3, "axes"), (4, "steps")):
        value = node.attributes.get(key)
        if len(node.inputs) > index and node.inputs[index]:
            if node.inputs[index] not in t_constants:
                return None
            value = t_constants[node.inputs[index]]
        found.append(None if value is None else [int(v) for v in value])
    starts, ends, axes, steps = found
    if starts is None or ends is None:
        return None
    axes = axes or list(range(len(starts)))
    steps = steps or [1] * len(starts)
    rank = len(shape)
    return {
        axis % rank: range(*slice(start, _end(end, step, shape[axis % rank]), step).indices(shape[axis % rank]))
        for start, end, axis, step in zip(starts, ends, axes, steps, strict=True)
    }


def _end(end: int, step: int, size: int) -> int | None:
    # ONNX's "down to the first element" lies below -size; Python's slice counts it from the end
    return None if step < 0 and end < -size else end


def _slice(t: Translation, node: Node) -> None:
    view = t.view(node.inputs[0])
    taken = slice_ranges(t.graph.constants, node, view.shape)
    if taken is None:
        raise unsupported(node, "its bounds are computed")
    t.views[node.outputs[0]] = _taken(t, view, taken, node.outputs[0], node.inputs[0])


def _cutting_order(t: Translation, view: View, axis: int | None) -> tuple[int, ...]:
    """The order in which to cut: as the memory lies, but an interleaved axis comes out first.

    A channel shuffle leaves groups interleaved: one TRANSPOSE brings each group together, and every cut is one copy.
    """
    rank = len(view.axes)
    order = view.own_order() or (NHWC if rank == 4 else plain_order(rank))
    if axis is None:
        return order
    pieces, shape = view.axes[axis], t.writer.tensors[view.tensor].shape
    if len(pieces) == 1 and pieces[0][1] == 1 and pieces[0][0] != shape[-1]:
        return (axis, *(a for a in order if a != axis))
    return order


def _compact(shape: tuple[int, ...], order: tuple[int, ...], cut: set[int]) -> list[list[int]]:
    """Neighbouring axes, in this order, joined unless they are cut; 4 dimensions or fewer stay as they are."""
    if len(order) <= 4:
        return [[axis] for axis in order]
    groups: list[list[int]] = []
    for axis in order:
        if groups and axis not in cut and not cut.intersection(groups[-1]):
            groups[-1].append(axis)
        else:
            groups.append([axis])
    return groups


def _taken(t: Translation, view: View, taken: dict[int, range], name: str, source_name: str) -> View:
    """Cut a view by one SLICE or STRIDED_SLICE."""
    shape = view.shape
    taken = {axis: part for axis, part in taken.items() if part != range(shape[axis])}
    if not taken:
        return view
    order = _cutting_order(t, view, next(iter(taken)) if len(taken) == 1 else None)
    groups = _compact(shape, order, set(taken))
    joined = View(view.tensor, tuple(tuple(piece for axis in group for piece in view.axes[axis]) for group in groups))
    sizes = joined.shape
    whole = t.fetch_view(joined, plain_order(len(groups)), source_name)
    parts = [taken.get(group[0], range(size)) for group, size in zip(groups, sizes, strict=True)]
    out = tuple(len(part) for part in parts)
    if all(part.step == 1 for part in parts):
        inputs = [whole, t.ints(part.start for part in parts), t.ints(out)]
        tensor = t.emit("SLICE", inputs, out, name, ("Slice", {}))
    else:
        masked = sum(1 << i for i, part in enumerate(parts) if part.stop < 0)  # down to the first element
        bounds = [
            t.ints(values) for values in zip(*((part.start, part.stop, part.step) for part in parts), strict=True)
        ]
        masks = {"beginMask": 0, "endMask": masked, "ellipsisMask": 0, "newAxisMask": 0, "shrinkAxisMask": 0}
        tensor = t.emit("STRIDED_SLICE", [whole, *bounds], out, name, ("StridedSlice", masks))
    result = tuple(len(taken.get(axis, range(size))) for axis, size in enumerate(shape))
    return View.over(tensor, result, order)


def _split(t: Translation, node: Node) -> None:
    view = t.view(node.inputs[0])
    shape = view.shape
    axis = node.attributes.get("axis", 0) % len(shape)
    sizes = [t.shape(name)[axis] if name else 0 for name in node.outputs]
    if not all(node.outputs) or len(set(sizes)) > 1 or len(shape) > 4 or len(sizes) == 1:
        start = 0
        for name, size in zip(node.outputs, sizes, strict=True):
            t.views[name] = _taken(t, view, {axis: range(start, start + size)}, name, node.inputs[0])
            start += size
        return
    order = _cutting_order(t, view, axis)
    whole = t.fetch_view(view, order, node.inputs[0])
    part = tuple(sizes[0] if a == axis else shape[a] for a in order)
    dtype = t.writer.tensors[whole].dtype
    tensors = [t.writer.tensor(name, part, dtype) for name in node.outputs]
    position = t.writer.constant(np.array(order.index(axis), np.int32), "axis")
    t.writer.operator("SPLIT", [position, whole], tensors, ("Split", {"numSplits": len(sizes)}))
    for name, tensor in zip(node.outputs, tensors, strict=True):
        t.place(name, tensor, t.shape(name), order)


def _gather(t: Translation, node: Node) -> None:
    indices = t.graph.constant(node, 1)
    if indices is None:
        raise unsupported(node, "its indices are computed")
    view, name = t.view(node.inputs[0]), node.outputs[0]
    axis = node.attributes.get("axis", 0) % len(view.axes)
    wanted = [int(i) % view.shape[axis] for i in indices.reshape(-1)]
    runs = _runs(wanted)
    if len(runs) > _MAX_RUNS:
        raise unsupported(node, f"{len(runs)} separate runs of indices")
    label = name if len(runs) == 1 else f"{name}/run"
    parts = [_taken(t, view, {axis: run}, label, node.inputs[0]) for run in runs]
    seen = parts[0]
    if len(parts) > 1:
        order = parts[0].own_order() or plain_order(len(view.axes))
        tensors = [t.fetch_view(part, order, name) for part in parts]
        shape = tuple(len(wanted) if a == axis else view.shape[a] for a in range(len(view.axes)))
        options = ("Concatenation", {"axis": order.index(axis), "fusedActivationFunction": NO_ACTIVATION})
        out = tuple(shape[a] for a in order)
        seen = View.over(t.emit("CONCATENATION", tensors, out, name, options), shape, order)
    if indices.ndim != 1:
        seen = t.reshaped(seen, t.shape(name), name)
    t.views[name] = seen


def _runs(indices: list[int]) -> list[range]:
    """The indices as runs of one step each, as few as greed finds."""
    runs: list[range] = []
    left = indices
    while left:
        step = left[1] - left[0] if len(left) > 1 else 1
        count = 1
        while step and count < len(left) and left[count] - left[count - 1] == step:
            count += 1
        if count == 2 and step != 1:  # two elements by chance
            count = 1
        step = step if count > 1 else 1
        runs.append(range(left[0], left[0] + count * step, step))
        left = left[count:]
    return runs


OPS = {"Slice": _slice, "Split": _split, "Gather": _gather}
