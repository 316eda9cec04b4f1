"""Cross-layer equalization of weight ranges, without data (Nagel et al., 2019).

"Data-Free Quantization Through Weight Equalization and Bias Correction": where a layer's channel is scaled by 1/s and
the next layer's reading of it by s, a function f between with f(s x) = s f(x) lets the network compute the same.
ReLU, LeakyReLU, PReLU and nothing at all have that property; ReLU6, SiLU and the like do not, and end a pair.
"""

from dataclasses import dataclass

import numpy as np
from onnx import ModelProto, NodeProto

from convert.surgery.graph import Graph, attribute, prune, with_constant

__all__ = ["equalize"]

_HOMOGENEOUS = ("Relu", "LeakyRelu", "PRelu", "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool")
_MOST_ROUNDS = 40
_SETTLED = 1e-4
_LARGEST_STEP = 1e3  # a channel whose weights are almost nothing must not blow the next layer up


@dataclass(slots=True)
class _Layer:
    """A convolution's own copy of its weights (float64). depthwise: one filter a channel, read channel by channel."""

    node: NodeProto
    weights: np.ndarray
    bias: np.ndarray | None
    depthwise: bool

    def written(self) -> np.ndarray:
        """The largest weight of each output channel, (C,) float64."""
        return np.abs(self.weights).max(axis=tuple(range(1, self.weights.ndim)))

    def read(self) -> np.ndarray:
        """The largest weight that reads each input channel, (C,) float64."""
        if self.depthwise:
            return self.written()
        return np.abs(self.weights).max(axis=(0, *range(2, self.weights.ndim)))

    def scale_outputs(self, factor: np.ndarray) -> None:
        """Multiply each output channel by `factor`, (C,) float64."""
        self.weights *= factor.reshape(-1, *[1] * (self.weights.ndim - 1))
        if self.bias is not None:
            self.bias *= factor

    def scale_inputs(self, factor: np.ndarray) -> None:
        """Multiply what reads each input channel by `factor`, (C,) float64."""
        if self.depthwise:
            self.weights *= factor.reshape(-1, *[1] * (self.weights.ndim - 1))
        else:
            self.weights *= factor.reshape(1, -1, *[1] * (self.weights.ndim - 2))


def equalize(model: ModelProto) -> tuple[ModelProto, str]:
    """Return the model with the weight ranges of every pair of layers brought together, and what was done."""
    model = ModelProto.FromString(model.SerializeToString())
    graph = Graph.of(model)
    layers = {node.output[0]: layer for node in model.graph.node if (layer := _layer(graph, node))}
    pairs = [(layer, after) for layer in layers.values() if (after := _next(graph, layer, layers))]
    if not pairs:
        return model, ""
    before = _spread(pairs)
    for _ in range(_MOST_ROUNDS):
        if max(_balance(*pair) for pair in pairs) < _SETTLED:
            break
    for layer in {id(layer): layer for pair in pairs for layer in pair}.values():
        node = layer.node
        node.input[1] = with_constant(graph, f"{node.input[1]}_equal", layer.weights.astype(np.float32))
        if layer.bias is not None:
            node.input[2] = with_constant(graph, f"{node.input[2]}_equal", layer.bias.astype(np.float32))
    prune(model)
    now = _spread(pairs)
    return model, (
        f"equalized {len(pairs)} pairs of layers: the widest channel of a layer over its median one, "
        f"{before:.1f} times on average, is now {now:.1f} times"
    )


def _layer(graph: Graph, node: NodeProto) -> _Layer | None:
    if node.op_type != "Conv" or node.input[1] not in graph.constants:
        return None
    bias = None
    if len(node.input) > 2 and node.input[2]:
        if node.input[2] not in graph.constants:
            return None
        bias = graph.constants[node.input[2]].astype(np.float64)
    weights = graph.constants[node.input[1]].astype(np.float64)
    groups = attribute(node, "group", 1)
    depthwise = weights.shape[1] == 1 and groups == weights.shape[0]
    return _Layer(node, weights, bias, depthwise) if depthwise or groups == 1 else None


def _next(graph: Graph, layer: _Layer, layers: dict[str, _Layer]) -> _Layer | None:
    """The convolution that alone reads this one's result, through functions that let a scale pass."""
    name = layer.node.output[0]
    while (reader := graph.only_reader(name)) is not None:
        if reader.output[0] in layers:
            return layers[reader.output[0]] if reader.input[0] == name else None
        if reader.op_type not in _HOMOGENEOUS or len(reader.output) != 1 or reader.input[0] != name:
            return None
        name = reader.output[0]
    return None


def _balance(layer: _Layer, after: _Layer) -> float:
    """Give both sides of each channel the geometric mean of their ranges; return the largest relative change."""
    written, read = layer.written(), after.read()
    alive = (written > 0) & (read > 0)
    factor = np.ones(len(written))
    factor[alive] = np.sqrt(read[alive] / written[alive]).clip(1 / _LARGEST_STEP, _LARGEST_STEP)
    layer.scale_outputs(factor)
    after.scale_inputs(1 / factor)
    return float(np.abs(np.log(factor)).max())


def _spread(pairs: list[tuple[_Layer, _Layer]]) -> float:
    """The mean over the first layers of widest over median output channel."""
    ratios = []
    for layer, _ in pairs:
        written = layer.written()
        if np.median(written) > 0:
            ratios.append(written.max() / np.median(written))
    return float(np.mean(ratios)) if ratios else 1.0
