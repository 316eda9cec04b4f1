"""Pooling: padded maxima without a huge negative constant, averages with the right divisor at the border."""

import numpy as np

from convert.onnx_to_tflite.graph import Graph, Node, unsupported
from convert.onnx_to_tflite.translation import NO_ACTIVATION, Translation
from convert.onnx_to_tflite.view import NHWC
from convert.onnx_to_tflite.window import SAME, VALID, Window, padded, padded_image
from convert.onnx_to_tflite.writer import Options

__all__ = ["OPS", "never_negative"]

_NEVER_NEGATIVE = {"Relu", "Sigmoid", "HardSigmoid", "Softmax", "Exp", "Abs", "Sqrt", "Softplus"}
_KEEPS_SIGN = {
    *(
        "MaxPool",
        "AveragePool",
        "GlobalAveragePool",
        "GlobalMaxPool",
        "Concat",
        "Identity",
        "Dropout",
        "Slice",
        "Split",
    ),
    *("Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "SpaceToDepth", "DepthToSpace", "Gather"),
    *("Add", "Mul", "Sum", "Max", "Tile", "Expand", "ReduceMean", "ReduceMax", "ReduceSum"),
}


def never_negative(graph: Graph, name: str) -> bool:
    """Return whether no value of a tensor can be below zero, whatever the input."""
    seen: set[str] = set()
    waiting = [name]
    while waiting:
        current = waiting.pop()
        if current in seen or not current:
            continue
        seen.add(current)
        if current in graph.constants:
            if np.any(graph.constants[current] < 0):
                return False
            continue
        node = graph.producer(current)
        if node is None:
            return False
        if node.op in _NEVER_NEGATIVE or (node.op == "Clip" and _clips_below_zero(graph, node)):
            continue
        if node.op not in _KEEPS_SIGN:
            return False
        waiting += node.inputs if node.op in ("Concat", "Add", "Mul", "Sum", "Max") else node.inputs[:1]
    return True


def _clips_below_zero(graph: Graph, node: Node) -> bool:
    low = graph.constant(node, 1)
    return float(node.attributes.get("min", -1) if low is None else low) >= 0


def _image_window(t: Translation, node: Node) -> tuple[int, Window]:
    kernel = node.attributes["kernel_shape"]
    if len(kernel) != 2 or any(step != 1 for step in node.attributes.get("dilations", [1])):
        raise unsupported(node, "only 2-D windows without dilation")
    return t.fetch(node.inputs[0], NHWC), Window.of(node, tuple(kernel), t.shape(node.inputs[0])[2:])


def _options(window: Window, padding: int) -> Options:
    kernel, strides = window.kernel, window.strides
    sizes = {"filterHeight": kernel[0], "filterWidth": kernel[1], "strideH": strides[0], "strideW": strides[1]}
    return "Pool2D", {**sizes, "padding": padding, "fusedActivationFunction": NO_ACTIVATION}


def _max_pool(t: Translation, node: Node) -> None:
    if len(node.outputs) > 1 and t.graph.readers(node.outputs[1]):
        raise unsupported(node, "its indices are used")
    source, window = _image_window(t, node)
    name = node.outputs[0]
    if not window.pads or window.is_same:
        source, padding = padded(t, source, window, "PAD", name)
    else:
        source, padding = _pad_below_all(t, node, source, window), VALID
    batch, channels = t.shape(name)[:2]
    t.image(name, t.emit("MAX_POOL_2D", [source], (batch, *window.out, channels), name, _options(window, padding)))


def _pad_below_all(t: Translation, node: Node, source: int, window: Window) -> int:
    """Pad with values that never win: a huge negative constant would stretch the int8 range to nothing."""
    name = node.outputs[0]
    if never_negative(t.graph, node.inputs[0]):
        return padded_image(t, source, window, "PAD", name)
    ends = zip(window.before, window.after, window.kernel, strict=True)
    if all(2 * max(before, after) <= kernel for before, after, kernel in ends):
        # every mirrored pixel is itself in each window that reads its image
        return padded_image(t, source, window, "MIRROR_PAD", name)
    raise unsupported(node, "its padding is wider than half its kernel")


def _average_pool(t: Translation, node: Node) -> None:
    source, window = _image_window(t, node)
    name = node.outputs[0]
    batch, channels = t.shape(name)[:2]
    counted = bool(node.attributes.get("count_include_pad", 0))
    padding, factors = VALID, None
    if window.is_same and not counted:  # TFLite's SAME leaves padding out of the mean
        padding = SAME if window.pads else VALID
    elif window.pads:
        source = padded_image(t, source, window, "PAD", name)
        factors = _border_factors(node, window, counted)
    out = (batch, *window.out, channels)
    label = name if factors is None else f"{name}/sum"
    tensor = t.emit("AVERAGE_POOL_2D", [source], out, label, _options(window, padding))
    if factors is not None:
        options: Options = ("Mul", {"fusedActivationFunction": NO_ACTIVATION})
        tensor = t.emit("MUL", [tensor, t.floats(factors, f"{name}/factors")], out, name, options)
    t.image(name, tensor)


def _border_factors(node: Node, window: Window, counted: bool) -> np.ndarray | None:
    """Kernel area over the number of pixels ONNX divides by, (1, H, W, 1); None where that is 1 everywhere."""
    pads = node.attributes.get("pads", [0, 0, 0, 0])
    sides = []
    for axis in range(2):
        low, high = (-window.before[axis], window.size[axis] + pads[axis + 2]) if counted else (0, window.size[axis])
        starts = np.arange(window.out[axis]) * window.strides[axis] - window.before[axis]
        reached = np.minimum(starts + window.kernel[axis], high) - np.maximum(starts, low)
        sides.append(window.kernel[axis] / reached)
    factors = np.outer(*sides)[None, :, :, None].astype(np.float32)
    return None if np.all(factors == 1) else factors


OPS = {"MaxPool": _max_pool, "AveragePool": _average_pool}
