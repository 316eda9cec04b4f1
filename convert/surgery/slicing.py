"""Columns of a tensor made without the rest: a slice pushed back through the nodes that put the columns together."""

import numpy as np
from onnx import NodeProto

from convert.surgery.graph import Graph, attribute, with_constant

__all__ = ["columns"]

_UNARY = ("Sigmoid", "Relu", "Exp", "Tanh", "LeakyRelu", "HardSigmoid", "HardSwish", "Clip", "Identity", "Cast")
_CUTS = ("Slice", "Split")
_BINARY = ("Add", "Mul", "Sub", "Div")


def columns(graph: Graph, name: str, axis: int, first: int, last: int) -> str | None:
    """Return the tensor that holds columns `first` to `last` (exclusive) of `name` along `axis`, None for no way.

    New nodes are appended to the model (sort it with `prune`). No Slice is ever made: columns that only a Slice
    could take apart were quantized together before it, so nothing would be won.
    """
    shape = graph.shapes.get(name)
    if shape is None:
        return None
    axis %= len(shape)
    node = graph.producer.get(name)
    whole = (first, last) == (0, shape[axis])
    if whole and (node is None or node.op_type not in _CUTS):
        return name
    key = (name, axis, first, last)
    if key not in graph.parts:
        graph.parts[key] = _apart(graph, node, *key)
    return graph.parts[key] or (name if whole else None)


def _apart(graph: Graph, node: NodeProto | None, name: str, axis: int, first: int, last: int) -> str | None:
    if node is None or node.output[0] not in graph.shapes:
        return None
    if node.op_type in _CUTS:
        start = _cut_start(graph, node, name, axis)
        return None if start is None else columns(graph, node.input[0], axis, start + first, start + last)
    if node.op_type in _UNARY:
        return _through(graph, node, columns(graph, node.input[0], axis, first, last), axis, last - first)
    step = {
        "Transpose": _transpose,
        "Reshape": _reshape,
        "Concat": _concat,
        "Conv": _conv,
        "Softmax": _softmax,
        **dict.fromkeys(_BINARY, _binary),
    }.get(node.op_type)
    return step(graph, node, axis, first, last) if step else None


def _cut_start(graph: Graph, node: NodeProto, name: str, axis: int) -> int | None:
    """Where a Slice or Split along `axis`, and along no other, takes the tensor `name` from its source."""
    before = graph.shapes.get(node.input[0])
    if before is None:
        return None
    if node.op_type == "Split":
        sizes = [graph.shapes.get(output, (0,) * len(before))[axis] for output in node.output]
        own = int(attribute(node, "axis", 0)) % len(before)  # type: ignore[call-overload]
        return sum(sizes[: list(node.output).index(name)]) if own == axis and all(sizes) else None
    parts = [graph.constants.get(part) for part in node.input[1:]]
    if len(parts) < 3 or any(part is None or part.size != 1 for part in parts):
        return None
    start, _, along, *step = (int(part.reshape(-1)[0]) for part in parts if part is not None)
    if along % len(before) != axis or step not in ([], [1]):
        return None
    return min(start + before[axis] if start < 0 else start, before[axis])


def _through(graph: Graph, node: NodeProto, source: str | None, axis: int, width: int) -> str | None:
    """The same node on another first input."""
    if source is None:
        return None
    return _made(graph, node, [source, *node.input[1:]], axis, width)


def _made(graph: Graph, like: NodeProto, inputs: list[str], axis: int, width: int) -> str:
    """A copy of a node with other inputs, whose output has `width` columns."""
    node = NodeProto.FromString(like.SerializeToString())
    name = graph.fresh(f"{like.output[0]}_part")
    del node.input[:]
    node.input.extend(inputs)
    del node.output[:]
    node.output.append(name)
    node.name = ""
    graph.model.graph.node.append(node)
    graph.producer[name] = node
    shape = list(graph.shapes[like.output[0]])
    shape[axis] = width
    graph.shapes[name] = tuple(shape)
    return name


def _transpose(graph: Graph, node: NodeProto, axis: int, first: int, last: int) -> str | None:
    rank = len(graph.shapes[node.output[0]])
    order = attribute(node, "perm") or list(reversed(range(rank)))
    return _through(graph, node, columns(graph, node.input[0], order[axis], first, last), axis, last - first)  # type: ignore[index]


def _reshape(graph: Graph, node: NodeProto, axis: int, first: int, last: int) -> str | None:
    """A reshape that leaves the axis alone: as many elements lie before it, and its own size stays."""
    before, after = graph.shapes.get(node.input[0]), graph.shapes[node.output[0]]
    if before is None:
        return None
    for source_axis, size in enumerate(before):
        if size == after[axis] and np.prod(before[:source_axis]) == np.prod(after[:axis]):
            source = columns(graph, node.input[0], source_axis, first, last)
            if source is None:
                return None
            shape = list(after)
            shape[axis] = last - first
            wanted = with_constant(graph, f"{node.output[0]}_shape", np.array(shape, np.int64))
            return _made(graph, node, [source, wanted], axis, last - first)
    return None


def _concat(graph: Graph, node: NodeProto, axis: int, first: int, last: int) -> str | None:
    joined = int(attribute(node, "axis", 0)) % len(graph.shapes[node.output[0]])  # type: ignore[call-overload]
    parts: list[str | None] = []
    if joined != axis:
        parts = [columns(graph, name, axis, first, last) for name in node.input]
    else:
        start = 0
        for name in node.input:
            if name not in graph.shapes:
                return None
            size = graph.shapes[name][axis]
            low, high = max(first - start, 0), min(last - start, size)
            if low < high:
                parts.append(columns(graph, name, axis, low, high))
            start += size
    if None in parts or not parts:
        return None
    known = [part for part in parts if part is not None]
    return known[0] if len(known) == 1 and joined == axis else _made(graph, node, known, axis, last - first)


def _conv(graph: Graph, node: NodeProto, axis: int, first: int, last: int) -> str | None:
    """A convolution with fewer filters: the sum of the parts costs what the whole did."""
    weights = graph.constants.get(node.input[1])
    bias = graph.constants.get(node.input[2]) if len(node.input) > 2 else None
    if axis != 1 or weights is None or attribute(node, "group", 1) != 1 or (bias is None and len(node.input) > 2):
        return None
    inputs = [node.input[0], with_constant(graph, f"{node.input[1]}_part", weights[first:last])]
    if bias is not None:
        inputs.append(with_constant(graph, f"{node.input[2]}_part", bias[first:last]))
    return _made(graph, node, inputs, axis, last - first)


def _softmax(graph: Graph, node: NodeProto, axis: int, first: int, last: int) -> str | None:
    own = int(attribute(node, "axis", -1)) % len(graph.shapes[node.output[0]])  # type: ignore[call-overload]
    if own == axis:
        return None  # every column depends on all
    return _through(graph, node, columns(graph, node.input[0], axis, first, last), axis, last - first)


def _binary(graph: Graph, node: NodeProto, axis: int, first: int, last: int) -> str | None:
    """Arithmetic column by column, on tensors of the same shape or on a constant that broadcasts."""
    shape = graph.shapes[node.output[0]]
    inputs: list[str] = []
    for name in node.input:
        own = graph.shapes.get(name)
        if own is None:
            return None
        own_axis = axis - (len(shape) - len(own))
        if own_axis < 0 or own[own_axis] == 1:
            inputs.append(name)  # the same for every column
        elif name in graph.constants:
            part = np.take(graph.constants[name], range(first, last), own_axis)
            inputs.append(with_constant(graph, f"{name}_part", part))
        else:
            source = columns(graph, name, own_axis, first, last)
            if source is None:
                return None
            inputs.append(source)
    return _made(graph, node, inputs, axis, last - first)
