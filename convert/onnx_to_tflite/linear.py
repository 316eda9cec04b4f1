"""Gemm and MatMul: FULLY_CONNECTED by constant weights, BATCH_MATMUL otherwise."""

from math import prod

import numpy as np

from convert.onnx_to_tflite.elementwise import arithmetic, scaled
from convert.onnx_to_tflite.graph import Node, unsupported
from convert.onnx_to_tflite.translation import NO_ACTIVATION, Translation
from convert.onnx_to_tflite.view import View, merged, plain_order

__all__ = ["OPS"]


def _gemm(t: Translation, node: Node) -> None:
    alpha, beta = node.attributes.get("alpha", 1.0), node.attributes.get("beta", 1.0)
    view = t.view(node.inputs[0])
    view = view.transposed((1, 0)) if node.attributes.get("transA") else view
    weights, bias = t.graph.constant(node, 1), t.graph.constant(node, 2)
    computed_bias = bias is None and len(node.inputs) > 2 and node.inputs[2]
    activation, name = (NO_ACTIVATION, node.outputs[0]) if computed_bias else t.fused(node)
    columns = t.shape(name)[1]
    if weights is None:
        raise unsupported(node, "its weights are computed")
    weights = (weights if node.attributes.get("transB") else weights.T) * np.float32(alpha)
    summand = None if bias is None else bias * np.float32(beta)
    row = summand is None or summand.size in (1, columns)
    flat = (
        np.zeros(columns, np.float32) if summand is None or not row else np.broadcast_to(summand.reshape(-1), columns)
    )
    plain = row and not computed_bias
    label = name if plain else f"{name}/product"
    tensor = _fully_connected(t, view, weights, flat, label, activation if plain else NO_ACTIVATION, node.inputs[0])
    if not row:
        tensor = arithmetic(t, "ADD", [tensor, t.floats(summand, f"{name}/bias")], name, activation)
    elif computed_bias:
        other = t.fetch(node.inputs[2], plain_order(len(t.shape(node.inputs[2]))))
        other = scaled(t, other, beta, 0, f"{name}/beta", NO_ACTIVATION)
        tensor = arithmetic(t, "ADD", [tensor, other], name)
    t.place(name, tensor, t.shape(name), (0, 1))


def _fully_connected(t, view: View, weights: np.ndarray, bias: np.ndarray, name, activation, source_name) -> int:
    """Rows (M, K) of a view times weights (N, K): a flattened image stays as it lies, the weights follow it."""
    rows, columns = view.shape
    if rows == 1:
        pieces = merged(view.axes[1])
        memory = sorted(pieces, key=lambda piece: -piece[1])
        swap = [pieces.index(piece) for piece in memory]
        sizes = [size for size, _ in pieces]
        weights = weights.reshape(-1, *sizes).transpose(0, *(axis + 1 for axis in swap)).reshape(-1, columns)
        source = t.in_shape(view.tensor, (1, columns), f"{source_name}/row")
    else:
        source = t.fetch_view(view, (0, 1), source_name)
    kernel = t.floats(np.ascontiguousarray(weights), f"{name}/weights")
    inputs = [source, kernel, t.floats(bias, f"{name}/bias")]
    options = ("FullyConnected", {"fusedActivationFunction": activation})
    return t.emit("FULLY_CONNECTED", inputs, (rows, weights.shape[0]), name, options)


def _matmul(t: Translation, node: Node) -> None:
    left, name = t.shape(node.inputs[0]), node.outputs[0]
    weights = t.graph.constant(node, 1)
    if weights is None or weights.ndim != 2 or len(left) < 2:
        return _batch_matmul(t, node)
    bias, name = _following_bias(t, node, weights.shape[1])
    rows = t.reshaped(t.view(node.inputs[0]), (prod(left[:-1]), left[-1]), node.inputs[0])
    tensor = _fully_connected(t, rows, weights.T, bias, name, NO_ACTIVATION, node.inputs[0])
    return t.place(name, tensor, t.shape(name), plain_order(len(t.shape(name))))


def _following_bias(t: Translation, node: Node, columns: int) -> tuple[np.ndarray, str]:
    """The bias that an Add behind a MatMul brings, and the name the result then has."""
    name = node.outputs[0]
    reader = t.graph.only_reader(name)
    if reader is not None and reader.op == "Add":
        other = next((item for item in reader.inputs if item != name), name)
        value = t.graph.constants.get(other)
        if value is not None and value.size == columns and value.shape[-1:] == (columns,):
            t.done.add(id(reader))
            return value.reshape(-1), reader.outputs[0]
    return np.zeros(columns, np.float32), name


def _batch_matmul(t: Translation, node: Node) -> None:
    name, out = node.outputs[0], t.shape(node.outputs[0])
    rank = max(len(t.shape(item)) for item in node.inputs)
    if min(len(t.shape(item)) for item in node.inputs) < 2 or rank > 5:
        raise unsupported(node, "a vector operand, or more than 5 dimensions")
    operands, flags = [], []
    for item in node.inputs:
        view = t.view(item)
        order = plain_order(len(view.axes))
        swapped = (*order[:-2], order[-1], order[-2])
        # the operator itself reads a transposed operand
        adjoint = not view.lies_in(order) and view.lies_in(swapped)
        operands.append(t.fetch(item, swapped if adjoint else order))
        flags.append(adjoint)
    options = ("BatchMatMul", {"adjX": flags[0], "adjY": flags[1]})
    t.place(name, t.emit("BATCH_MATMUL", operands, out, name, options), out, plain_order(len(out)))


OPS = {"Gemm": _gemm, "MatMul": _matmul}
