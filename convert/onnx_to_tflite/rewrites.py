"""What is simpler on the ONNX side, before any operator is written: each rewrite is exact."""

import math

import numpy as np

from convert.onnx_to_tflite.graph import Graph, Node
from convert.onnx_to_tflite.slicing import slice_ranges

__all__ = ["rewrite"]


def rewrite(graph: Graph) -> None:
    """Fold batch norms and pads into convolutions, join slices, and find SPACE_TO_DEPTH, HARD_SWISH and GELU."""
    for step in (_fold_batch_norms, _fold_pads, _join_slices, _find_space_to_depth, _find_hard_swish, _find_gelu):
        step(graph)
    _drop_unread(graph)


def _drop_unread(graph: Graph) -> None:
    needed = set(graph.outputs)
    kept = []
    for node in reversed(graph.nodes):
        if needed.intersection(node.outputs):
            needed.update(node.inputs)
            kept.append(node)
    graph.nodes = kept[::-1]


def _fold_batch_norms(graph: Graph) -> None:
    for norm in [node for node in graph.nodes if node.op == "BatchNormalization"]:
        conv = graph.producer(norm.inputs[0])
        if conv is None or conv.op not in ("Conv", "ConvTranspose") or graph.only_reader(norm.inputs[0]) is not norm:
            continue
        weights, old = graph.constant(conv, 1), graph.constant(conv, 2)
        values = [graph.constant(norm, index) for index in (1, 2, 3, 4)]
        grouped = conv.op == "ConvTranspose" and conv.attributes.get("group", 1) != 1
        if weights is None or grouped or any(value is None for value in values):
            continue
        if old is None and len(conv.inputs) > 2 and conv.inputs[2]:
            continue
        scale, bias, mean, variance = (np.asarray(value, np.float64) for value in values)
        factor = scale / np.sqrt(variance + norm.attributes.get("epsilon", 1e-5))
        shape = [1] * weights.ndim
        shape[0 if conv.op == "Conv" else 1] = -1
        summand = bias + ((0 if old is None else old) - mean) * factor
        names = [f"{norm.outputs[0]}/folded_weights", f"{norm.outputs[0]}/folded_bias"]
        graph.constants[names[0]] = (weights * factor.reshape(shape)).astype(np.float32)
        graph.constants[names[1]] = summand.astype(np.float32)
        for name in names:
            graph.shapes[name] = graph.constants[name].shape
        conv.inputs = [conv.inputs[0], *names]
        conv.outputs = [norm.outputs[0]]
        graph.nodes.remove(norm)


def _fold_pads(graph: Graph) -> None:
    """Zeros around an image that one convolution reads are the convolution's own padding."""
    for pad in [node for node in graph.nodes if node.op == "Pad"]:
        conv = graph.only_reader(pad.outputs[0])
        amounts, value = graph.constant(pad, 1), graph.constant(pad, 2)
        if conv is None or conv.op != "Conv" or pad.attributes.get("mode", "constant") != "constant":
            continue
        if amounts is None or amounts.size != 8 or (len(pad.inputs) > 3 and pad.inputs[3]) or amounts.min() < 0:
            continue
        if len(pad.inputs) > 2 and pad.inputs[2] and (value is None or np.any(value)):
            continue
        if conv.attributes.get("auto_pad", "NOTSET") != "NOTSET" or np.any(amounts[[0, 1, 4, 5]]):
            continue
        own = conv.attributes.get("pads", [0, 0, 0, 0])
        more = amounts[[2, 3, 6, 7]]
        conv.attributes["pads"] = [int(a + b) for a, b in zip(own, more, strict=True)]
        conv.inputs[0] = pad.inputs[0]
        graph.nodes.remove(pad)


def _join_slices(graph: Graph) -> None:
    """A Slice of a Slice along other axes is one Slice."""
    for node in [node for node in graph.nodes if node.op == "Slice"]:
        inner = graph.producer(node.inputs[0])
        if inner is None or inner.op != "Slice" or graph.only_reader(node.inputs[0]) is not node:
            continue
        shape = graph.shapes[inner.inputs[0]]
        first = slice_ranges(graph.constants, inner, shape)
        second = slice_ranges(graph.constants, node, graph.shapes[node.inputs[0]])
        if first is None or second is None or first.keys() & second.keys():
            continue
        parts = first | second
        node.inputs = [inner.inputs[0]]
        ends = [part.stop if part.stop >= 0 else -shape[axis] - 1 for axis, part in parts.items()]
        node.attributes = {
            "starts": [part.start for part in parts.values()],
            "ends": ends,
            "axes": list(parts),
            "steps": [part.step for part in parts.values()],
        }
        graph.nodes.remove(inner)


def _find_space_to_depth(graph: Graph) -> None:
    """Every second pixel, four times, concatenated, and read by one convolution (YOLO's Focus).

    SPACE_TO_DEPTH orders the four otherwise, so the convolution's input channels are put in its order.
    """
    for node in [node for node in graph.nodes if node.op == "Concat" and len(node.inputs) == 4]:
        conv = graph.only_reader(node.outputs[0])
        weights = graph.constant(conv, 1) if conv is not None and conv.op == "Conv" else None
        corners = [_corner(graph, name) for name in node.inputs]
        known = [corner for corner in corners if corner is not None]
        if weights is None or len(known) != 4 or conv is None or conv.attributes.get("group", 1) != 1:
            continue
        if node.attributes["axis"] % 4 != 1 or len({corner[0] for corner in known}) != 1:
            continue
        places = [corner[1] for corner in known]
        if sorted(places) != [0, 1, 2, 3]:
            continue
        channels = weights.shape[1] // 4
        blocks = [weights[:, places.index(i) * channels : (places.index(i) + 1) * channels] for i in range(4)]
        name = f"{conv.inputs[1]}/{conv.outputs[0]}"
        graph.constants[name] = np.ascontiguousarray(np.concatenate(blocks, axis=1))
        graph.shapes[name] = weights.shape
        conv.inputs[1] = name
        node.op, node.inputs, node.attributes = "SpaceToDepth", [known[0][0]], {"blocksize": 2}
    _drop_unread(graph)


def _corner(graph: Graph, name: str) -> tuple[str, int] | None:
    """The image that a Slice takes every second pixel of, and which pixel of four it takes."""
    node = graph.producer(name)
    if node is None or node.op != "Slice":
        return None
    shape = graph.shapes[node.inputs[0]]
    taken = slice_ranges(graph.constants, node, shape)
    if len(shape) != 4 or taken is None or set(taken) != {2, 3} or any(shape[axis] % 2 for axis in (2, 3)):
        return None
    rows, columns = taken[2], taken[3]
    for part, size in ((rows, shape[2]), (columns, shape[3])):
        if part.step != 2 or part.start > 1 or len(part) != size // 2:
            return None
    return node.inputs[0], 2 * rows.start + columns.start


def _find_hard_swish(graph: Graph) -> None:
    """x * HardSigmoid(x) with slope 1/6."""
    for gate in [node for node in graph.nodes if node.op == "HardSigmoid"]:
        product = graph.only_reader(gate.outputs[0])
        slope, offset = gate.attributes.get("alpha", 0.2), gate.attributes.get("beta", 0.5)
        if product is None or product.op != "Mul" or gate.inputs[0] not in product.inputs:
            continue
        if math.isclose(slope, 1 / 6, rel_tol=1e-6) and math.isclose(offset, 0.5):
            product.op, product.inputs = "HardSwish", [gate.inputs[0]]
            graph.nodes.remove(gate)


def _find_gelu(graph: Graph) -> None:
    """x * (1 + erf(x / sqrt 2)) / 2, its factors in any order."""
    for erf in [node for node in graph.nodes if node.op == "Erf"]:
        inner, outer = graph.producer(erf.inputs[0]), graph.only_reader(erf.outputs[0])
        if inner is None or inner.op not in ("Div", "Mul") or outer is None or outer.op != "Add":
            continue
        factor = _other_number(graph, inner, None)
        wanted = math.sqrt(2) if inner.op == "Div" else math.sqrt(0.5)
        if factor is None or not math.isclose(factor, wanted, rel_tol=1e-5):
            continue
        source = next(name for name in inner.inputs if name not in graph.constants)
        one = _other_number(graph, outer, erf.outputs[0])
        last = _product(graph, outer.outputs[0], source)
        if one == 1 and last is not None:
            last.op, last.inputs, last.attributes = "Gelu", [source], {}
    _drop_unread(graph)


def _product(graph: Graph, gate: str, source: str) -> Node | None:
    """The Mul that ends in gate * source / 2, None where there is none."""
    halves, sources, name = 0, 0, gate
    while (node := graph.only_reader(name)) is not None and node.op == "Mul":
        other = next((item for item in node.inputs if item != name), name)
        half = graph.producer(other)
        if _other_number(graph, node, name) == 0.5:
            halves += 1
        elif other == source:
            sources += 1
        elif (
            half is not None
            and half.op == "Mul"
            and source in half.inputs
            and _other_number(graph, half, source) == 0.5
        ):
            halves, sources = halves + 1, sources + 1
        else:
            return None
        if (halves, sources) == (1, 1):
            return node
        name = node.outputs[0]
    return None


def _other_number(graph: Graph, node: Node, name: str | None) -> float | None:
    """The single number that a node combines with a tensor (any, if None)."""
    for item in node.inputs:
        value = graph.constants.get(item)
        if value is not None and value.size == 1 and item != name:
            return float(value.reshape(()))
    return None
