"""Activations that take several TFLite operators, or parameters."""

import math

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from convert.onnx_to_tflite.elementwise import arithmetic, scaled, unary
from convert.onnx_to_tflite.graph import Node, unsupported
from convert.onnx_to_tflite.translation import NO_ACTIVATION, Translation
from convert.onnx_to_tflite.view import View, plain_order

__all__ = ["OPS"]

_RELU6 = schema.ActivationFunctionType.RELU6
_SELU = (1.6732632423543772, 1.0507009873554805)


def _source(t: Translation, node: Node) -> int:
    return t.view(node.inputs[0]).tensor


def _keep(t: Translation, node: Node, tensor: int) -> None:
    t.views[node.outputs[0]] = View(tensor, t.view(node.inputs[0]).axes)


def _clip(t: Translation, node: Node) -> None:
    limits = t.limits(node)
    if limits is None:
        raise unsupported(node, "its bounds are computed")
    source, name = _source(t, node), node.outputs[0]
    ready = {(0.0, 6.0): "RELU6", (-1.0, 1.0): "RELU_N1_TO_1", (0.0, np.inf): "RELU"}
    if limits in ready:
        return _keep(t, node, unary(t, ready[limits], source, name))
    low, high = limits
    if np.isfinite(high):
        label = f"{name}/below" if np.isfinite(low) else name
        source = arithmetic(t, "MINIMUM", [source, t.floats(high, f"{name}/high")], label)
    if np.isfinite(low):
        source = arithmetic(t, "MAXIMUM", [source, t.floats(low, f"{name}/low")], name)
    return _keep(t, node, source)


def _leaky_relu(t: Translation, node: Node) -> None:
    source = _source(t, node)
    options = ("LeakyRelu", {"alpha": node.attributes.get("alpha", 0.01)})
    _keep(t, node, t.emit("LEAKY_RELU", [source], t.writer.tensors[source].shape, node.outputs[0], options))


def _prelu(t: Translation, node: Node) -> None:
    slope = t.graph.constant(node, 1)
    shape, name = t.shape(node.inputs[0]), node.outputs[0]
    if slope is None:
        raise unsupported(node, "its slope is computed")
    rank = len(shape)
    order = t.order_for(node.inputs[:1], rank)
    slope = slope.reshape((1,) * (rank - slope.ndim) + slope.shape)
    slope = np.ascontiguousarray(slope.transpose(order)).reshape([slope.shape[axis] for axis in order][1:])
    source = t.fetch(node.inputs[0], order)
    tensor = t.emit("PRELU", [source, t.floats(slope, f"{name}/slope")], tuple(shape[axis] for axis in order), name)
    t.place(name, tensor, shape, order)


def _hard_sigmoid(t: Translation, node: Node) -> None:
    # max(0, min(1, a * x + b)) = relu6(6 * (a * x + b)) / 6
    alpha, beta, name = node.attributes.get("alpha", 0.2), node.attributes.get("beta", 0.5), node.outputs[0]
    factor = 6 * alpha
    factor = 1.0 if math.isclose(factor, 1, rel_tol=1e-6) else factor
    inner = scaled(t, _source(t, node), factor, 6 * beta, f"{name}/six", _RELU6)
    _keep(t, node, scaled(t, inner, 1 / 6, 0, name, NO_ACTIVATION))


def _elu(t: Translation, node: Node) -> None:
    alpha, name = node.attributes.get("alpha", 1.0), node.outputs[0]
    gamma = 1.0
    if node.op == "Selu":
        alpha, gamma = (node.attributes.get(key, value) for key, value in zip(("alpha", "gamma"), _SELU, strict=True))
    source = _source(t, node)
    if alpha == 1 and gamma == 1:
        return _keep(t, node, unary(t, "ELU", source, name))
    # gamma * (relu(x) + alpha * elu(min(x, 0)))
    low = arithmetic(t, "MINIMUM", [source, t.floats(0.0, "zero")], f"{name}/negative")
    low = scaled(t, unary(t, "ELU", low, f"{name}/elu"), alpha * gamma, 0, f"{name}/low", NO_ACTIVATION)
    high = scaled(t, unary(t, "RELU", source, f"{name}/relu"), gamma, 0, f"{name}/high", NO_ACTIVATION)
    return _keep(t, node, arithmetic(t, "ADD", [high, low], name))


def _softplus(t: Translation, node: Node) -> None:
    _keep(t, node, _softplus_of(t, _source(t, node), node.outputs[0]))


def _softplus_of(t: Translation, source: int, name: str) -> int:
    # relu(x) + log(1 + exp(-|x|)): the plain form overflows
    small = unary(t, "NEG", unary(t, "ABS", source, f"{name}/abs"), f"{name}/neg")
    small = scaled(t, unary(t, "EXP", small, f"{name}/exp"), 1, 1, f"{name}/one_more", NO_ACTIVATION)
    small = unary(t, "LOG", small, f"{name}/log")
    return arithmetic(t, "ADD", [unary(t, "RELU", source, f"{name}/relu"), small], name)


def _mish(t: Translation, node: Node) -> None:
    source, name = _source(t, node), node.outputs[0]
    gate = unary(t, "TANH", _softplus_of(t, source, f"{name}/softplus"), f"{name}/tanh")
    _keep(t, node, arithmetic(t, "MUL", [source, gate], name))


def _gelu(t: Translation, node: Node) -> None:
    source = _source(t, node)
    options = ("Gelu", {"approximate": node.attributes.get("approximate", "none") == "tanh"})
    _keep(t, node, t.emit("GELU", [source], t.writer.tensors[source].shape, node.outputs[0], options))


def _erf(t: Translation, node: Node) -> None:
    """Abramowitz and Stegun's formula 7.1.26, within 1.5e-7 of the error function."""
    source, name = _source(t, node), node.outputs[0]
    size = unary(t, "ABS", source, f"{name}/abs")
    weight = scaled(t, size, 0.3275911, 1, f"{name}/weight", NO_ACTIVATION)
    weight = arithmetic(t, "DIV", [t.floats(1.0, "one"), weight], f"{name}/t")
    terms = scaled(t, weight, 1.061405429, -1.453152027, f"{name}/term4", NO_ACTIVATION)
    for power, coefficient in ((3, 1.421413741), (2, -0.284496736), (1, 0.254829592)):
        terms = arithmetic(t, "MUL", [terms, weight], f"{name}/power{power}")
        terms = scaled(t, terms, 1, coefficient, f"{name}/term{power}", NO_ACTIVATION)
    terms = arithmetic(t, "MUL", [terms, weight], f"{name}/power0")
    square = unary(t, "NEG", arithmetic(t, "MUL", [source, source], f"{name}/square"), f"{name}/neg")
    tail = arithmetic(t, "MUL", [terms, unary(t, "EXP", square, f"{name}/exp")], f"{name}/tail")
    size = arithmetic(t, "SUB", [t.floats(1.0, "one"), tail], f"{name}/size")
    # the sign: x * huge, cut to -1..1
    sign = scaled(t, source, 1e30, 0, f"{name}/sign", schema.ActivationFunctionType.RELU_N1_TO_1)
    _keep(t, node, arithmetic(t, "MUL", [size, sign], name))


def _softmax(t: Translation, node: Node) -> None:
    shape, name = t.shape(node.inputs[0]), node.outputs[0]
    rank = len(shape)
    axis = node.attributes.get("axis", -1 if t.graph.opset >= 13 else 1) % rank
    source = t.view(node.inputs[0])
    if t.graph.opset < 13 and axis != rank - 1:  # all axes from this one on are one distribution
        rows = math.prod(shape[:axis])
        tensor = t.fetch_view(source, plain_order(rank), node.inputs[0])
        tensor = t.in_shape(tensor, (rows, math.prod(shape[axis:])), f"{name}/rows")
        order = plain_order(rank)
    else:
        own = source.own_order() or plain_order(rank)
        order = (*(a for a in own if a != axis), axis)
        tensor = t.fetch_view(source, order, node.inputs[0])
        if rank > 4:
            tensor = t.in_shape(tensor, (math.prod(shape) // shape[axis], shape[axis]), f"{name}/rows")
    size = t.writer.tensors[tensor].shape
    if node.op == "Softmax":
        tensor = t.emit("SOFTMAX", [tensor], size, name, ("Softmax", {"beta": 1.0}))
    else:
        tensor = t.emit("LOG_SOFTMAX", [tensor], size, name, ("LogSoftmax", {}))
    t.place(name, tensor, shape, order)


OPS = {
    "Clip": _clip,
    "LeakyRelu": _leaky_relu,
    "PRelu": _prelu,
    "HardSigmoid": _hard_sigmoid,
    "Elu": _elu,
    "Selu": _elu,
    "Softplus": _softplus,
    "Mish": _mish,
    "Gelu": _gelu,
    "Erf": _erf,
    "Softmax": _softmax,
    "LogSoftmax": _softmax,
}
