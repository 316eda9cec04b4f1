"""One explicit symmetric Q/DQ ONNX from a float one: TensorRT's input for INT8, from version 8 on.

Where the pairs stand, and why:

- Before the activation input of each convolution, matrix product and average pooling; a tensor that several read has
  one pair. Nothing stands between a layer and its activation function, so both stay one kernel, and nothing before
  MaxPool, Concat, Slice, Reshape or nearest Resize, through which TensorRT moves the next layer's Q by itself.
- At the shortcut of a residual Add, so that the addition is fused into the convolution before it.
- Weights are float numbers on their grid behind a pair, symmetric per output channel: TensorRT 8 refuses int8
  initializers, every version folds such a pair. Biases stay float: TensorRT refuses int32 ones.
- All zero points are 0 and all scales positive. The outputs of the model are never quantized.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import helper, numpy_helper

from calibration.ranges import Ranges
from edge.errors import ConfigError, EngineError
from edge.files import write_atomically

__all__ = ["activation_names", "layer_costs", "layer_names", "quantize_onnx", "read_onnx", "write_onnx"]

_LEAST_OPSET = 13  # per-channel scales
_POOLS = ("AveragePool", "GlobalAveragePool")
_PRODUCTS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_LARGEST = 127  # of weights and activations alike; -128 is never used, so that the grid is symmetric


@dataclass(slots=True)
class _Layer:
    """A node that can compute with int8: its activation input, and its weights and their channel axis, or none."""

    node: onnx.NodeProto
    activation: str
    weights: str | None = None
    axis: int | None = None

    @property
    def name(self) -> str:
        return self.node.output[0]


@dataclass(slots=True)
class _Pairs:
    """The pairs made so far. of: tensor -> its dequantized copy. before: tensor -> the nodes of its pair."""

    of: dict[str, str] = field(default_factory=dict)
    before: dict[str, list[onnx.NodeProto]] = field(default_factory=dict)
    constants: list[onnx.TensorProto] = field(default_factory=list)


def quantize_onnx(
    source: Path,
    target: Path,
    ranges: Ranges,
    keep_float: frozenset[str] = frozenset(),
    mean_errors: Mapping[str, np.ndarray] | None = None,
) -> None:
    """Write `source`, a float ONNX, to `target` with Q/DQ pairs around all layers but those in `keep_float`.

    keep_float: output tensor names of layers that read float values and float weights. mean_errors: what quantization
    adds to each output channel of a layer on average, (C,) float32, to be taken off its float bias, as `layer_noise`
    finds it; biases then hold for these very ranges.
    Raises: EngineError when the source is unreadable or its opset too old, ConfigError when a range is missing, a
    name in `keep_float` is no layer, or the file cannot be written.
    """
    model = read_onnx(source)
    layers = _layers(model.graph)
    if unknown := sorted(keep_float - {layer.name for layer in layers}):
        raise ConfigError(f"{source.name} has no layer with the output '{unknown[0]}'", "name outputs of its layers")
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    pairs = _Pairs()
    for layer in layers:
        if layer.name not in keep_float:
            _quantize_layer(layer, constants, ranges, pairs)
            if mean_errors and layer.name in mean_errors:
                _correct_bias(layer.node, constants, mean_errors[layer.name], pairs)
    _quantize_shortcuts(model.graph, ranges, pairs, keep_float)
    _insert(model.graph, pairs)
    write_onnx(model, target)


def layer_names(source: Path) -> list[str]:
    """Return the output tensor names of the layers that can compute with int8, in graph order.

    Raises: EngineError when the source is unreadable.
    """
    return [layer.name for layer in _layers(read_onnx(source).graph)]


def activation_names(source: Path) -> list[str]:
    """Return the names of the tensors that may need a range, each once, in graph order.

    Raises: EngineError when the source is unreadable.
    """
    graph = read_onnx(source).graph
    names = [layer.activation for layer in _layers(graph)]
    names += [name for _, name in _late_shortcuts(graph)]
    return list(dict.fromkeys(names))


def layer_costs(source: Path) -> dict[str, float]:
    """Return each layer's share of the multiplications of all layers, by output tensor name; poolings have 0.

    Raises: EngineError when the source is unreadable or has a shape that depends on its input.
    """
    model = onnx.shape_inference.infer_shapes(read_onnx(source))
    graph = model.graph
    values = [*graph.value_info, *graph.output, *graph.input]
    shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in values}
    constants = {tensor.name: tensor for tensor in graph.initializer}
    counts: dict[str, float] = {}
    for layer in _layers(graph):
        places = shapes.get(layer.activation if layer.node.op_type == "ConvTranspose" else layer.name, [])
        if not places or min(places) < 1:
            raise EngineError(f"the shape of '{layer.name}' in {source.name} is open", "convert it with a fixed size")
        dims = list(constants[layer.weights].dims) if layer.weights else []
        each = 0 if layer.axis is None else np.prod(dims) / dims[layer.axis]
        if layer.node.op_type == "ConvTranspose":
            each = np.prod(dims[1:])
        counts[layer.name] = float(np.prod(places) * each)
    total = sum(counts.values()) or 1.0
    return {name: count / total for name, count in counts.items()}


def read_onnx(path: Path) -> onnx.ModelProto:
    """Return an ONNX model of opset 13 or later.

    Raises: EngineError when it cannot be read or is older.
    """
    try:
        model = onnx.load(path)
    except (OSError, DecodeError) as exc:
        raise EngineError(f"{path} is no readable ONNX model", "check the path, or export it again") from exc
    opset = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 0)
    if opset < _LEAST_OPSET:
        raise EngineError(
            f"{path.name} has opset {opset}, quantization needs {_LEAST_OPSET}", f"export it with opset {_LEAST_OPSET}"
        )
    return model


def write_onnx(model: onnx.ModelProto, path: Path) -> None:
    """Check a model and write it, replacing the file at once.

    Raises: EngineError when the model breaks a rule of ONNX, ConfigError when the folder cannot be written.
    """
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as exc:
        raise EngineError(f"{path.name} would not be valid ONNX ({exc})", "please report this model") from exc
    write_atomically(path, model.SerializeToString())


def _layers(graph: onnx.GraphProto) -> list[_Layer]:
    constants = {tensor.name: tensor for tensor in graph.initializer}
    found = []
    for node in graph.node:
        if node.op_type in _POOLS:
            found.append(_Layer(node, node.input[0]))
        elif node.op_type in _PRODUCTS and node.input[1] in constants and node.input[0] not in constants:
            found.append(_Layer(node, node.input[0], node.input[1], _channel_axis(node, constants[node.input[1]])))
    return found


def _channel_axis(node: onnx.NodeProto, weights: onnx.TensorProto) -> int | None:
    """The axis of the output channels, None where the weights have one scale for all."""
    attributes = {a.name: a.i for a in node.attribute if a.type == onnx.AttributeProto.INT}
    if node.op_type == "Conv":
        return 0
    if node.op_type == "Gemm":
        return 0 if attributes.get("transB", 0) else 1
    if node.op_type == "ConvTranspose":
        return 1 if attributes.get("group", 1) == 1 else None
    return len(weights.dims) - 1 if len(weights.dims) >= 2 else None


def _quantize_layer(layer: _Layer, constants: dict[str, onnx.TensorProto], ranges: Ranges, pairs: _Pairs) -> None:
    layer.node.input[0] = _activation_pair(layer.activation, ranges, pairs)
    if layer.weights is None:
        return
    copy = f"{layer.weights}_{'all' if layer.axis is None else layer.axis}"
    if copy not in pairs.of:
        values = numpy_helper.to_array(constants[layer.weights]).astype(np.float32)
        others = tuple(i for i in range(values.ndim) if i != layer.axis)
        largest = np.abs(values).max(axis=others, keepdims=True)
        scale = _positive(largest / _LARGEST)
        on_grid = np.clip(np.rint(values / scale), -_LARGEST, _LARGEST) * scale
        pairs.constants.append(numpy_helper.from_array(on_grid.astype(np.float32), copy))
        flat = scale.reshape(()) if layer.axis is None else scale.reshape(-1)
        _pair(copy, copy, flat, layer.axis, pairs)
    layer.node.input[1] = pairs.of[copy]


def _correct_bias(
    node: onnx.NodeProto, constants: dict[str, onnx.TensorProto], error: np.ndarray, pairs: _Pairs
) -> None:
    """Give the layer a bias of its own, less the error; a bias that is computed or has another shape stays."""
    old = node.input[2] if len(node.input) > 2 else ""
    if old and (old not in constants or list(constants[old].dims) != list(error.shape)):
        return
    values = numpy_helper.to_array(constants[old]) if old else np.zeros(error.shape, np.float32)
    new = f"{node.output[0]}_bias"
    pairs.constants.append(numpy_helper.from_array((values - error).astype(np.float32), new))
    node.input[:] = [*node.input[:2], new]


def _activation_pair(name: str, ranges: Ranges, pairs: _Pairs) -> str:
    if name not in pairs.of:
        if name not in ranges.tensors:
            raise ConfigError(f"the calibration has no range for '{name}'", "calibrate this very model again")
        scale = _positive(np.abs(np.array(ranges.tensors[name], np.float32)).max() / _LARGEST)
        _pair(name, name, scale.reshape(()), None, pairs)
    return pairs.of[name]


def _positive(scale: np.ndarray) -> np.ndarray:
    """Scales of what is always 0 become 1, since TensorRT refuses 0 and numbers it takes for 0."""
    return np.where(scale > np.finfo(np.float32).tiny, scale, 1.0).astype(np.float32)


def _pair(name: str, before: str, scale: np.ndarray, axis: int | None, pairs: _Pairs) -> None:
    """Add the pair of a tensor, one scale (0-d) or one a channel."""
    zero = np.zeros(scale.shape, np.int8)
    inner = [f"{name}_scale", f"{name}_zero"]
    pairs.constants += [numpy_helper.from_array(scale, inner[0]), numpy_helper.from_array(zero, inner[1])]
    stored, real = f"{name}_int8", f"{name}_real"
    pairs.before[before] = [
        helper.make_node("QuantizeLinear", [name, *inner], [stored], f"{name}_q", axis=axis),
        helper.make_node("DequantizeLinear", [stored, *inner], [real], f"{name}_dq", axis=axis),
    ]
    pairs.of[name] = real


def _quantize_shortcuts(graph: onnx.GraphProto, ranges: Ranges, pairs: _Pairs, keep_float: Iterable[str]) -> None:
    """Let residual additions read the dequantized copy of their shortcut."""
    kept = set(keep_float)
    for node, name in _late_shortcuts(graph):
        if not kept & set(node.input) and name in ranges.tensors:
            _activation_pair(name, ranges, pairs)
    for node in graph.node:
        if node.op_type == "Add" and not kept & set(node.input):
            ready = [i for i, name in enumerate(node.input) if name in pairs.of]
            if ready:
                node.input[ready[-1]] = pairs.of[node.input[ready[-1]]]


def _late_shortcuts(graph: onnx.GraphProto) -> list[tuple[onnx.NodeProto, str]]:
    """Additions of two convolutions' own outputs, and the operand that cannot be fused with its addition."""
    made_by = {name: node.op_type for node in graph.node for name in node.output}
    return [
        (node, node.input[1])
        for node in graph.node
        if node.op_type == "Add" and all(made_by.get(name) in ("Conv", "ConvTranspose") for name in node.input)
    ]


def _insert(graph: onnx.GraphProto, pairs: _Pairs) -> None:
    """Put every pair right behind what makes its tensor, and drop the weights that nothing reads any more."""
    made = {name for node in graph.node for name in node.output}
    nodes = [n for name, pair in pairs.before.items() if name not in made for n in pair]
    for node in graph.node:
        nodes.append(node)
        nodes += [n for name in node.output for n in pairs.before.get(name, ())]
    read = {name for node in nodes for name in node.input} | {output.name for output in graph.output}
    kept = [tensor for tensor in graph.initializer if tensor.name in read] + pairs.constants
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(copies)
    graph.initializer.extend(kept)
