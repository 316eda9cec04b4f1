"""Reshape, Transpose and their kin: a change of view, no operator; what copies data: Pad, Tile, Expand, Concat."""

from math import prod

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from convert.onnx_to_tflite.graph import Node, unsupported
from convert.onnx_to_tflite.translation import NO_ACTIVATION, Translation
from convert.onnx_to_tflite.view import NHWC, View, plain_order

__all__ = ["OPS"]


def _identity(t: Translation, node: Node) -> None:
    t.views[node.outputs[0]] = t.view(node.inputs[0])


def _reshape(t: Translation, node: Node) -> None:
    t.views[node.outputs[0]] = t.reshaped(t.view(node.inputs[0]), t.shape(node.outputs[0]), node.inputs[0])


def _transpose(t: Translation, node: Node) -> None:
    view = t.view(node.inputs[0])
    order = node.attributes.get("perm", list(reversed(range(len(view.axes)))))
    t.views[node.outputs[0]] = view.transposed(tuple(order))


def _concat(t: Translation, node: Node) -> None:
    shape, name = t.shape(node.outputs[0]), node.outputs[0]
    rank = len(shape)
    names = [item for item in node.inputs if prod(t.shape(item))]
    order = t.order_for(names, rank)
    axis = order.index(node.attributes["axis"] % rank)
    parts = [t.fetch(item, order) for item in names]
    options = ("Concatenation", {"axis": axis, "fusedActivationFunction": NO_ACTIVATION})
    if len(parts) == 1:
        t.place(name, parts[0], shape, order)
        return
    tensor = t.emit("CONCATENATION", parts, tuple(shape[a] for a in order), name, options)
    t.place(name, tensor, shape, order)


def _pad(t: Translation, node: Node) -> None:
    shape, name = t.shape(node.inputs[0]), node.outputs[0]
    rank = len(shape)
    pads = t.graph.constant(node, 1)
    pads = node.attributes.get("pads") if pads is None else pads
    if pads is None:
        raise unsupported(node, "its pads are computed")
    given = t.graph.constant(node, 3)
    axes = list(range(rank)) if given is None else [int(axis) % rank for axis in given]
    wanted = np.zeros((rank, 2), np.int32)
    wanted[axes] = np.array(pads, np.int32).reshape(2, -1).T
    if np.any(wanted < 0):
        raise unsupported(node, "it crops (negative pads)")
    order = t.order_for(node.inputs[:1], rank)
    source = t.fetch(node.inputs[0], order)
    op, inputs, options = _pad_operator(t, node, wanted)
    rows = t.writer.constant(np.ascontiguousarray(wanted[list(order)]), "pads")
    out = t.shape(name)
    tensor = t.emit(op, [source, rows, *inputs], tuple(out[axis] for axis in order), name, options)
    t.place(name, tensor, out, order)


def _pad_operator(t: Translation, node: Node, pads: np.ndarray):
    mode = node.attributes.get("mode", "constant")
    if mode == "reflect":
        return "MIRROR_PAD", [], ("MirrorPad", {"mode": schema.MirrorPadMode.REFLECT})
    if mode == "edge" and np.all(pads <= 1):  # a mirror that repeats its border is the border itself
        return "MIRROR_PAD", [], ("MirrorPad", {"mode": schema.MirrorPadMode.SYMMETRIC})
    if mode != "constant":
        raise unsupported(node, f"mode {mode}")
    value = t.graph.constant(node, 2)
    if value is None and len(node.inputs) > 2 and node.inputs[2]:
        raise unsupported(node, "its value is computed")
    number = float(node.attributes.get("value", 0) if value is None else value.reshape(()))
    if number == 0:
        return "PAD", [], ("Pad", {})
    return "PADV2", [t.floats(number, "pad_value")], ("PadV2", {})


def _tile(t: Translation, node: Node) -> None:
    repeats = t.graph.constant(node, 1)
    if repeats is None:
        raise unsupported(node, "its repeats are computed")
    _repeat(t, node, t.view(node.inputs[0]), [int(n) for n in repeats])


def _expand(t: Translation, node: Node) -> None:
    view, out = t.view(node.inputs[0]), t.shape(node.outputs[0])
    view = View(view.tensor, ((),) * (len(out) - len(view.axes)) + view.axes)
    _repeat(t, node, view, [wanted // own for wanted, own in zip(out, view.shape, strict=True)])


def _repeat(t: Translation, node: Node, view: View, repeats: list[int]) -> None:
    rank, name = len(view.axes), node.outputs[0]
    order = view.own_order() or (NHWC if rank == 4 else plain_order(rank))
    if all(n == 1 for n in repeats):
        t.views[name] = view
        return
    out = t.shape(name)
    source = t.fetch_view(view, order, node.inputs[0])
    counts = t.ints(repeats[axis] for axis in order)
    tensor = t.emit("TILE", [source, counts], tuple(out[axis] for axis in order), name, ("Tile", {}))
    t.place(name, tensor, out, order)


def _depth_to_space(t: Translation, node: Node) -> None:
    name, block = node.outputs[0], node.attributes["blocksize"]
    batch, channels, height, width = t.shape(name)
    if node.attributes.get("mode", "DCR") == "DCR":
        source = t.fetch(node.inputs[0], NHWC)
        shape = (batch, height, width, channels)
        t.image(name, t.emit("DEPTH_TO_SPACE", [source], shape, name, ("DepthToSpace", {"blockSize": block})))
        return
    small = (height // block, width // block)
    view = t.reshaped(t.view(node.inputs[0]), (batch, channels, block, block, *small), node.inputs[0])
    view = view.transposed((0, 1, 4, 2, 5, 3))
    t.views[name] = t.reshaped(view, (batch, channels, height, width), name)


def _space_to_depth(t: Translation, node: Node) -> None:
    name, block = node.outputs[0], node.attributes["blocksize"]
    batch, channels, height, width = t.shape(name)
    source = t.fetch(node.inputs[0], NHWC)
    shape = (batch, height, width, channels)
    t.image(name, t.emit("SPACE_TO_DEPTH", [source], shape, name, ("SpaceToDepth", {"blockSize": block})))


OPS = {
    **dict.fromkeys(("Identity", "Dropout"), _identity),
    **dict.fromkeys(("Reshape", "Flatten", "Squeeze", "Unsqueeze"), _reshape),
    "Transpose": _transpose,
    "Concat": _concat,
    "Pad": _pad,
    "Tile": _tile,
    "Expand": _expand,
    "DepthToSpace": _depth_to_space,
    "SpaceToDepth": _space_to_depth,
}
