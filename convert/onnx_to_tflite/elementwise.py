"""Operators on each element: one operand keeps whatever layout it has, several meet in the cheapest common one."""

from collections.abc import Callable

import numpy as np

from convert.onnx_to_tflite.graph import Node, unsupported
from convert.onnx_to_tflite.translation import NO_ACTIVATION, Translation
from convert.onnx_to_tflite.view import View
from convert.onnx_to_tflite.writer import Options

__all__ = ["OPS", "arithmetic", "scaled", "unary"]

_PLAIN = {
    "Sigmoid": "LOGISTIC",
    "Tanh": "TANH",
    "Exp": "EXP",
    "Log": "LOG",
    "Sqrt": "SQRT",
    "Abs": "ABS",
    "Neg": "NEG",
    "Relu": "RELU",
    "HardSwish": "HARD_SWISH",
    "Floor": "FLOOR",
    "Ceil": "CEIL",
    "Sin": "SIN",
    "Cos": "COS",
    "Round": "ROUND",
}
_OPTIONS = {"EXP": "Exp", "ABS": "Abs", "NEG": "Neg", "HARD_SWISH": "HardSwish"}
_FUSING = {"ADD": "Add", "SUB": "Sub", "MUL": "Mul", "DIV": "Div"}
_TWO = {"Add": "ADD", "Sub": "SUB", "Mul": "MUL", "Div": "DIV", "Pow": "POW"}
_MANY = {"Max": "MAXIMUM", "Min": "MINIMUM", "Sum": "ADD", "Mean": "ADD"}


def unary(t: Translation, op: str, source: int, name: str) -> int:
    """Add an operator on each element of a physical tensor and return its output."""
    options: Options | None = (_OPTIONS[op], {}) if op in _OPTIONS else None
    return t.emit(op, [source], t.writer.tensors[source].shape, name, options)


def arithmetic(t: Translation, op: str, operands: list[int], name: str, activation: int = NO_ACTIVATION) -> int:
    """Add an operator on two physical tensors of broadcastable shapes and return its output."""
    shape = np.broadcast_shapes(*(t.writer.tensors[operand].shape for operand in operands))
    options: Options = ("MaximumMinimum", {})
    if op in _FUSING:
        options = (_FUSING[op], {"fusedActivationFunction": activation})
    elif op in ("POW", "SQUARED_DIFFERENCE"):
        options = ("Pow" if op == "POW" else "SquaredDifference", {})
    return t.emit(op, operands, shape, name, options)


def scaled(t: Translation, source: int, factor: float, summand: float, name: str, activation: int) -> int:
    """Return source * factor + summand, leaving out what changes nothing; the activation goes to the last step."""
    if factor != 1 or (activation != NO_ACTIVATION and not summand):
        own = NO_ACTIVATION if summand else activation
        label = f"{name}/scaled" if summand else name
        source = arithmetic(t, "MUL", [source, t.floats(factor, f"{name}/factor")], label, own)
    if summand:
        source = arithmetic(t, "ADD", [source, t.floats(summand, f"{name}/summand")], name, activation)
    return source


def _same_view(t: Translation, node: Node, tensor: int, name: str | None = None) -> None:
    t.views[name or node.outputs[0]] = View(tensor, t.view(node.inputs[0]).axes)


def _unary(t: Translation, node: Node) -> None:
    _same_view(t, node, unary(t, _PLAIN[node.op], t.view(node.inputs[0]).tensor, node.outputs[0]))


def _operands(t: Translation, names: list[str], shape: tuple[int, ...]) -> tuple[list[int], Callable[[int], View]]:
    """Physical tensors of the operands, fit to broadcast, and how to see the result."""
    moving = [name for name in names if name not in t.graph.constants]
    fixed = [name for name in names if name in t.graph.constants]
    views = [t.view(name) for name in moving]
    alike = {(view.axes, t.writer.tensors[view.tensor].shape) for view in views}
    if len(alike) == 1 and all(t.graph.constants[name].size == 1 for name in fixed) and views[0].shape == shape:
        axes = views[0].axes  # whatever order the memory is in, it is the same for all
        tensors = [
            t.view(name).tensor if name in moving else t.writer.constant(t.graph.constants[name].reshape(()), name)
            for name in names
        ]
        return tensors, lambda tensor: View(tensor, axes)
    rank = len(shape)
    order = t.order_for(moving, rank)
    tensors = []
    for name in names:
        lead = rank - len(t.shape(name))
        if name in t.graph.constants:
            value = t.graph.constants[name].reshape((1,) * lead + t.shape(name)).transpose(order)
            value = value.reshape(()) if value.size == 1 else np.ascontiguousarray(value)
            tensors.append(t.writer.constant(value, name))
        else:
            view = t.view(name)
            tensors.append(t.fetch_view(View(view.tensor, ((),) * lead + view.axes), order, name))
    return tensors, lambda tensor: View.over(tensor, shape, order)


def _binary(t: Translation, node: Node) -> None:
    op, names = _TWO[node.op], list(node.inputs)
    exponent = t.graph.constant(node, 1) if op == "POW" else None
    if exponent is not None and exponent.size == 1:
        power = float(exponent.reshape(()))
        if power in (0.5, 1.0, 2.0):
            source = t.view(names[0]).tensor
            if power == 1:
                return _same_view(t, node, source)
            square = power == 2
            name = node.outputs[0]
            result = arithmetic(t, "MUL", [source, source], name) if square else unary(t, "SQRT", source, name)
            return _same_view(t, node, result)
    if t.graph.dtypes.get(node.outputs[0], "float32") not in ("float32", "int32", "int64"):
        raise unsupported(node, f"on {t.graph.dtypes[node.outputs[0]]}")
    activation, name = t.fused(node) if op in _FUSING else (NO_ACTIVATION, node.outputs[0])
    operands, seen = _operands(t, names, t.shape(name))
    t.views[name] = seen(arithmetic(t, op, operands, name, activation))
    return None


def _variadic(t: Translation, node: Node) -> None:
    name = node.outputs[0]
    operands, seen = _operands(t, node.inputs, t.shape(name))
    result = operands[0]
    last = len(operands) - 1
    for index, operand in enumerate(operands[1:], 1):
        label = name if index == last and node.op != "Mean" else f"{name}/{index}"
        result = arithmetic(t, _MANY[node.op], [result, operand], label)
    if node.op == "Mean" and last:
        result = scaled(t, result, 1 / len(operands), 0, name, NO_ACTIVATION)
    t.views[name] = seen(result)


def _reciprocal(t: Translation, node: Node) -> None:
    source = t.view(node.inputs[0]).tensor
    one = t.floats(1.0, "one")
    _same_view(t, node, arithmetic(t, "DIV", [one, source], node.outputs[0]))


def _cast(t: Translation, node: Node) -> None:
    source, wanted = t.view(node.inputs[0]).tensor, t.graph.dtypes[node.outputs[0]]
    if t.writer.tensors[source].dtype != wanted:
        shape = t.writer.tensors[source].shape
        source = t.emit("CAST", [source], shape, node.outputs[0], ("Cast", {}), wanted)
    _same_view(t, node, source)


OPS = {
    **dict.fromkeys(_PLAIN, _unary),
    **dict.fromkeys(_TWO, _binary),
    **dict.fromkeys(_MANY, _variadic),
    "Reciprocal": _reciprocal,
    "Cast": _cast,
}
