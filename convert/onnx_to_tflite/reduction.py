"""Means, sums and extremes over axes, and the normalizations composed of them."""

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from convert.onnx_to_tflite.elementwise import arithmetic, scaled, unary
from convert.onnx_to_tflite.graph import Node, unsupported
from convert.onnx_to_tflite.translation import NO_ACTIVATION, Translation
from convert.onnx_to_tflite.view import NHWC, View, plain_order

__all__ = ["OPS"]

_REDUCERS = {
    "ReduceMean": "MEAN",
    "ReduceSum": "SUM",
    "ReduceMax": "REDUCE_MAX",
    "ReduceMin": "REDUCE_MIN",
    "ReduceProd": "REDUCE_PROD",
    "GlobalAveragePool": "MEAN",
    "GlobalMaxPool": "REDUCE_MAX",
}


def _reduce(t: Translation, node: Node) -> None:
    view, name = t.view(node.inputs[0]), node.outputs[0]
    rank = len(view.axes)
    if node.op.startswith("Global"):
        axes, keep = list(range(2, rank)), True
    else:
        given = t.graph.constant(node, 1)
        given = node.attributes.get("axes") if given is None else given
        if given is None and len(node.inputs) > 1 and node.inputs[1]:
            raise unsupported(node, "its axes are computed")
        if (given is None or not len(given)) and node.attributes.get("noop_with_empty_axes"):
            t.views[name] = view
            return
        axes = [int(axis) % rank for axis in given] if given is not None and len(given) else list(range(rank))
        keep = bool(node.attributes.get("keepdims", 1))
    order = t.order_for(node.inputs[:1], rank)
    source = t.fetch(node.inputs[0], order)
    tensor = _reduced(t, _REDUCERS[node.op], source, [order.index(axis) for axis in axes], name)
    kept = tuple(1 if axis in axes else size for axis, size in enumerate(view.shape))
    seen = View.over(tensor, kept, order)
    if not keep:
        seen = View(seen.tensor, tuple(pieces for axis, pieces in enumerate(seen.axes) if axis not in axes))
    t.views[name] = seen


def _reduced(t: Translation, op: str, source: int, axes: list[int], name: str) -> int:
    """Reduce a physical tensor over dimensions, which stay with size 1."""
    shape = tuple(1 if i in axes else size for i, size in enumerate(t.writer.tensors[source].shape))
    return t.emit(op, [source, t.ints(sorted(axes))], shape, name, ("Reducer", {"keepDims": True}))


def _arg(t: Translation, node: Node) -> None:
    view, name = t.view(node.inputs[0]), node.outputs[0]
    rank = len(view.axes)
    if node.attributes.get("select_last_index"):
        raise unsupported(node, "select_last_index")
    axis = node.attributes.get("axis", 0) % rank
    order = t.order_for(node.inputs[:1], rank)
    source = t.fetch(node.inputs[0], order)
    left = tuple(view.shape[a] for a in order if a != axis)
    op = "ARG_MAX" if node.op == "ArgMax" else "ARG_MIN"
    position = t.writer.constant(np.array(order.index(axis), np.int32), "axis")
    options = ("ArgMax" if node.op == "ArgMax" else "ArgMin", {"outputType": schema.TensorType.INT64})
    tensor = t.emit(op, [source, position], left, name, options, "int64")
    kept = tuple(1 if a == axis else size for a, size in enumerate(view.shape))
    seen = View.over(tensor, kept, order)
    if not node.attributes.get("keepdims", 1):
        seen = View(seen.tensor, seen.axes[:axis] + seen.axes[axis + 1 :])
    t.views[name] = seen


def _top_k(t: Translation, node: Node) -> None:
    view = t.view(node.inputs[0])
    rank = len(view.axes)
    count = t.graph.constant(node, 1)
    axis = node.attributes.get("axis", -1) % rank
    if count is None or not node.attributes.get("largest", 1):
        raise unsupported(node, "its k is computed, or it wants the smallest")
    order = (*(a for a in range(rank) if a != axis), axis)
    source = t.fetch(node.inputs[0], order)
    shape = tuple(int(count.reshape(())) if a == axis else view.shape[a] for a in range(rank))
    physical = tuple(shape[a] for a in order)
    values = t.writer.tensor(node.outputs[0], physical, t.writer.tensors[source].dtype)
    indices = t.writer.tensor(f"{node.outputs[1]}/int32", physical, "int32")
    number = t.writer.constant(np.array(shape[axis], np.int32), "k")
    t.writer.operator("TOPK_V2", [source, number], [values, indices], ("TopKV2", {}))
    t.place(node.outputs[0], values, shape, order)
    if t.graph.readers(node.outputs[1]) or node.outputs[1] in t.graph.outputs:
        indices = t.emit("CAST", [indices], physical, node.outputs[1], ("Cast", {}), "int64")
        t.place(node.outputs[1], indices, shape, order)


def _standardized(t: Translation, source: int, axes: list[int], epsilon: float, name: str) -> int:
    """(x - mean) / sqrt(variance + epsilon) over dimensions of a physical tensor."""
    mean = _reduced(t, "MEAN", source, axes, f"{name}/mean")
    centred = arithmetic(t, "SUB", [source, mean], f"{name}/centred")
    square = arithmetic(t, "MUL", [centred, centred], f"{name}/square")
    variance = _reduced(t, "MEAN", square, axes, f"{name}/variance")
    variance = scaled(t, variance, 1, epsilon, f"{name}/epsilon", NO_ACTIVATION)
    return arithmetic(t, "MUL", [centred, unary(t, "RSQRT", variance, f"{name}/rsqrt")], f"{name}/standard")


def _affine(t: Translation, source: int, scale: np.ndarray | None, bias: np.ndarray | None, name: str) -> int:
    """Multiply and add constants, shaped for the physical tensor; the last result has the name."""
    if scale is not None:
        label = name if bias is None else f"{name}/scaled"
        source = arithmetic(t, "MUL", [source, t.floats(scale, f"{name}/scale")], label)
    if bias is not None:
        source = arithmetic(t, "ADD", [source, t.floats(bias, f"{name}/bias")], name)
    return source


def _instance_norm(t: Translation, node: Node) -> None:
    name, shape = node.outputs[0], t.shape(node.inputs[0])
    scale, bias = t.graph.constant(node, 1), t.graph.constant(node, 2)
    if scale is None or bias is None:
        raise unsupported(node, "its scale is computed")
    rank = len(shape)
    order = (0, *range(2, rank), 1)
    source = t.fetch(node.inputs[0], order)
    standard = _standardized(t, source, list(range(1, rank - 1)), node.attributes.get("epsilon", 1e-5), name)
    t.place(name, _affine(t, standard, scale, bias, name), shape, order)


def _layer_norm(t: Translation, node: Node) -> None:
    name, shape = node.outputs[0], t.shape(node.inputs[0])
    scale, bias = t.graph.constant(node, 1), t.graph.constant(node, 2)
    if scale is None or any(t.graph.readers(other) for other in node.outputs[1:] if other):
        raise unsupported(node, "its scale is computed, or its mean is used")
    rank = len(shape)
    first = node.attributes.get("axis", -1) % rank
    source = t.fetch(node.inputs[0], plain_order(rank))
    standard = _standardized(t, source, list(range(first, rank)), node.attributes.get("epsilon", 1e-5), name)
    t.place(name, _affine(t, standard, scale, bias, name), shape, plain_order(rank))


def _group_norm(t: Translation, node: Node) -> None:
    name, shape = node.outputs[0], t.shape(node.inputs[0])
    scale, bias = t.graph.constant(node, 1), t.graph.constant(node, 2)
    if scale is None or bias is None or len(shape) != 4:
        raise unsupported(node, "its scale is computed, or it is no image")
    batch, channels, height, width = shape
    groups = node.attributes["num_groups"]
    each = channels // groups
    if scale.size == groups and groups != channels:  # before opset 21 one for each group
        scale, bias = np.repeat(scale, each), np.repeat(bias, each)
    source = t.in_shape(t.fetch(node.inputs[0], NHWC), (batch, height * width, groups, each), f"{name}/grouped")
    standard = _standardized(t, source, [1, 3], node.attributes.get("epsilon", 1e-5), name)
    standard = t.in_shape(standard, (batch, height, width, channels), f"{name}/image")
    t.image(name, _affine(t, standard, scale, bias, name))


def _batch_norm(t: Translation, node: Node) -> None:
    values = [t.graph.constant(node, index) for index in (1, 2, 3, 4)]
    if any(value is None for value in values):
        raise unsupported(node, "its statistics are computed")
    scale, bias, mean, variance = (np.asarray(value, np.float64) for value in values)
    factor = scale / np.sqrt(variance + node.attributes.get("epsilon", 1e-5))
    name, shape = node.outputs[0], t.shape(node.inputs[0])
    rank = len(shape)
    order = t.order_for(node.inputs[:1], rank)
    spread = [1] * rank
    spread[order.index(1)] = shape[1]
    summand = (bias - mean * factor).reshape(spread)
    source = t.fetch(node.inputs[0], order)
    t.place(name, _affine(t, source, factor.reshape(spread), summand, name), shape, order)


OPS = {
    **dict.fromkeys(_REDUCERS, _reduce),
    **dict.fromkeys(("ArgMax", "ArgMin"), _arg),
    "TopK": _top_k,
    "InstanceNormalization": _instance_norm,
    "LayerNormalization": _layer_norm,
    "GroupNormalization": _group_norm,
    "BatchNormalization": _batch_norm,
}
