"""Convolutions: plain, depthwise, grouped, transposed; their paddings exact."""

import numpy as np

from convert.onnx_to_tflite.graph import Node, unsupported
from convert.onnx_to_tflite.translation import NO_ACTIVATION, Translation
from convert.onnx_to_tflite.view import NHWC, View
from convert.onnx_to_tflite.window import SAME, VALID, Window, padded, same_pads

__all__ = ["OPS"]


def _conv(t: Translation, node: Node) -> None:
    weights = t.graph.constant(node, 1)
    if weights is None or weights.ndim not in (3, 4):
        raise unsupported(node, "its weights are computed, or it is no 1-D or 2-D convolution")
    group = node.attributes.get("group", 1)
    bias = t.graph.constant(node, 2)
    if bias is None and len(node.inputs) > 2 and node.inputs[2]:
        raise unsupported(node, "its bias is computed")
    bias = np.zeros(weights.shape[0], np.float32) if bias is None else bias
    activation, name = t.fused(node)
    view = t.view(node.inputs[0])
    if weights.ndim == 3:  # an image of height 1
        weights = weights[:, :, None, :]
        view = View(view.tensor, (view.axes[0], view.axes[1], (), view.axes[2]))
    window = Window.of(node, weights.shape[2:], view.shape[2:])
    order = _pixel_order(view, window)
    source = t.fetch_view(view, order, node.inputs[0])
    sizes = (view.shape[0], weights.shape[0], *window.out)
    out = tuple(sizes[axis] for axis in order)
    source, padding = padded(t, source, window, "PAD", name)
    if group == 1:
        tensor = _plain(t, source, weights, bias, window, padding, activation, out, name)
    elif weights.shape[1] == 1:
        tensor = _depthwise(t, source, weights, bias, window, padding, activation, out, name)
    else:
        tensor = _grouped(t, source, weights, bias, window, padding, activation, out, name)
    seen = View.over(tensor, sizes, order)
    t.views[name] = seen if len(t.shape(name)) == 4 else View(tensor, (*seen.axes[:2], seen.axes[3]))


def _pixel_order(view: View, window: Window) -> tuple[int, ...]:
    """NHWC, or whatever order the memory has with the channels last where the kernel sees single pixels."""
    own = view.own_order()
    single = window.kernel == (1, 1) and window.strides == (1, 1) and not window.pads
    return own if single and own is not None and own[0] == 0 and own[-1] == 1 else NHWC


def _options(window: Window, padding: int, activation: int) -> dict[str, int]:
    return {
        "padding": padding,
        "strideH": window.strides[0],
        "strideW": window.strides[1],
        "dilationHFactor": window.dilations[0],
        "dilationWFactor": window.dilations[1],
        "fusedActivationFunction": activation,
    }


def _plain(t, source, weights, bias, window, padding, activation, out, name) -> int:
    kernel = t.floats(np.ascontiguousarray(weights.transpose(0, 2, 3, 1)), f"{name}/weights")
    inputs = [source, kernel, t.floats(bias, f"{name}/bias")]
    return t.emit("CONV_2D", inputs, out, name, ("Conv2D", _options(window, padding, activation)))


def _depthwise(t, source, weights, bias, window, padding, activation, out, name) -> int:
    kernel = t.floats(np.ascontiguousarray(weights.transpose(1, 2, 3, 0)), f"{name}/weights")
    inputs = [source, kernel, t.floats(bias, f"{name}/bias")]
    multiplier = weights.shape[0] // t.writer.tensors[source].shape[3]
    options = {**_options(window, padding, activation), "depthMultiplier": multiplier}
    return t.emit("DEPTHWISE_CONV_2D", inputs, out, name, ("DepthwiseConv2D", options))


def _grouped(t, source, weights, bias, window, padding, activation, out, name) -> int:
    """Split, one convolution a group, concatenation: CONV_2D knows groups only from version 6 on."""
    shape = t.writer.tensors[source].shape
    groups = shape[3] // weights.shape[1]
    axis = t.writer.constant(np.array(3, np.int32), "axis")
    parts = [t.writer.tensor(f"{name}/in", (*shape[:3], weights.shape[1]), "float32") for _ in range(groups)]
    t.writer.operator("SPLIT", [axis, source], parts, ("Split", {"numSplits": groups}))
    each = weights.shape[0] // groups
    results = []
    for index, part in enumerate(parts):
        own = slice(index * each, (index + 1) * each)
        shape = (*out[:3], each)
        results.append(
            _plain(t, part, weights[own], bias[own], window, padding, activation, shape, f"{name}/group{index}")
        )
    return t.emit("CONCATENATION", results, out, name, ("Concatenation", {"axis": 3}))


def _conv_transpose(t: Translation, node: Node) -> None:
    weights = t.graph.constant(node, 1)
    if weights is None or weights.ndim != 4:
        raise unsupported(node, "its weights are computed, or it is no 2-D convolution")
    bias = t.graph.constant(node, 2)
    weights = _dense(weights, node.attributes.get("group", 1))
    weights = _dilated(weights, node.attributes.get("dilations", [1, 1]))
    bias = np.zeros(weights.shape[1], np.float32) if bias is None else bias
    name = node.outputs[0]
    source = t.fetch(node.inputs[0], NHWC)
    strides = node.attributes.get("strides", [1, 1])
    batch, _, *size = t.shape(node.inputs[0])
    wanted = t.shape(name)[2:]
    full = [(n - 1) * s + k for n, s, k in zip(size, strides, weights.shape[2:], strict=True)]
    start = _transposed_starts(node, full, wanted)
    same = all(
        -(-w // s) == n and same_pads(w, k, s, 1)[0] == b and f - w == sum(same_pads(w, k, s, 1))
        for w, s, n, k, b, f in zip(wanted, strides, size, weights.shape[2:], start, full, strict=True)
    )
    exact = same or (list(wanted) == full and not any(start))
    out = (batch, *(wanted if same else full), weights.shape[1])
    options = {"padding": SAME if same else VALID, "strideH": strides[0], "strideW": strides[1]}
    options["fusedActivationFunction"] = NO_ACTIVATION  # taken in only from version 4 on
    kernel = t.floats(np.ascontiguousarray(weights.transpose(1, 2, 3, 0)), f"{name}/weights")
    inputs = [t.ints(out), kernel, source, t.floats(bias, f"{name}/bias")]
    label = name if exact else f"{name}/whole"
    tensor = t.emit("TRANSPOSE_CONV", inputs, out, label, ("TransposeConv", options), "float32")
    if not exact:
        tensor = _cropped(t, node, tensor, bias, start, wanted)
    t.image(name, tensor)


def _transposed_starts(node: Node, full: list[int], wanted: tuple[int, ...]) -> list[int]:
    """How much of the whole result is cut off above and to the left."""
    mode = node.attributes.get("auto_pad", "NOTSET")
    pads = node.attributes.get("pads", [0, 0, 0, 0])
    if mode == "NOTSET" and "output_shape" not in node.attributes:
        return list(pads[:2])
    extra = node.attributes.get("output_padding", [0, 0])
    totals = [max(f + e - w, 0) for f, e, w in zip(full, extra, wanted, strict=True)]
    return [total // 2 if mode == "SAME_UPPER" else total - total // 2 for total in totals]


def _cropped(
    t: Translation, node: Node, tensor: int, bias: np.ndarray, start: list[int], wanted: tuple[int, ...]
) -> int:
    batch, height, width, channels = t.writer.tensors[tensor].shape
    missing = [max(b + w - n, 0) for b, w, n in zip(start, wanted, (height, width), strict=True)]
    if any(missing):  # output_padding: rows that no kernel reaches, nothing but bias
        if np.any(bias):
            raise unsupported(node, "its output_padding reaches beyond the kernel")
        grown = (batch, height + missing[0], width + missing[1], channels)
        pads = t.writer.constant(np.array([[0, 0], [0, missing[0]], [0, missing[1]], [0, 0]], np.int32), "pads")
        tensor = t.emit("PAD", [tensor, pads], grown, f"{node.outputs[0]}/padded", ("Pad", {}))
    out = (batch, *wanted, channels)
    if t.writer.tensors[tensor].shape == out:
        return tensor
    return t.emit("SLICE", [tensor, t.ints((0, *start, 0)), t.ints(out)], out, node.outputs[0], ("Slice", {}))


def _dense(weights: np.ndarray, group: int) -> np.ndarray:
    """The weights of a grouped transposed convolution among zeros, so that every input meets every output."""
    if group == 1:
        return weights
    inputs, outputs = weights.shape[0] // group, weights.shape[1]
    dense = np.zeros((weights.shape[0], outputs * group, *weights.shape[2:]), np.float32)
    for index in range(group):
        rows = slice(index * inputs, (index + 1) * inputs)
        dense[rows, index * outputs : (index + 1) * outputs] = weights[rows]
    return dense


def _dilated(weights: np.ndarray, dilations: list[int]) -> np.ndarray:
    if list(dilations) == [1, 1]:
        return weights
    height, width = ((n - 1) * d + 1 for n, d in zip(weights.shape[2:], dilations, strict=True))
    spread = np.zeros((*weights.shape[:2], height, width), np.float32)
    spread[:, :, :: dilations[0], :: dilations[1]] = weights
    return spread


OPS = {"Conv": _conv, "ConvTranspose": _conv_transpose}
