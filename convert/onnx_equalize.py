"""Equalizing channels through SiLU in an ONNX file: as `tflite_equalize` does it, with the same tensors.

There the sigmoid reads a 1 x 1 depthwise convolution, here a multiplication, which has no Q/DQ pair and costs TensorRT
nothing, being one with the sigmoid. All tensors have the values and names that they have in the TFLite file.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from onnx import NodeProto, helper, numpy_helper

from convert.channel_reach import channel_factors
from convert.quantize_onnx import read_onnx, write_onnx
from convert.surgery.graph import Graph, attribute, prune, with_constant

__all__ = ["equalize_onnx", "onnx_silu_factors"]


@dataclass(slots=True)
class _Silu:
    """A convolution, the sigmoid behind it and the depthwise convolutions that alone read their product."""

    convolution: NodeProto
    sigmoid: NodeProto
    readers: list[NodeProto]


def onnx_silu_factors(source: Path, inputs: Iterable[np.ndarray]) -> dict[str, np.ndarray]:
    """Return by what to scale the channels of convolutions in front of a SiLU, (C,) float32 by output name.

    Raises: EngineError when the file cannot be read or run.
    """
    return channel_factors(source, inputs, _silus(Graph.of(read_onnx(source))).keys())


def equalize_onnx(source: Path, target: Path, factors: Mapping[str, np.ndarray]) -> list[str]:
    """Write the float file with channels scaled by factors, (C,) by the convolution's output, and return which were.

    What the file has not in that form is left as it is; nothing is written where that is all.
    Raises: EngineError when the source cannot be read, ConfigError for the disk.
    """
    model = read_onnx(source)
    graph = Graph.of(model)
    found = {name: silu for name, silu in _silus(graph).items() if name in factors}
    for name, silu in found.items():
        factor = factors[name].astype(np.float32)
        _scale(graph, silu.convolution, 1, factor)
        if len(silu.convolution.input) > 2:
            _scale(graph, silu.convolution, 2, factor)
        for reader in silu.readers:
            _scale(graph, reader, 1, 1 / factor)
        back = with_constant(graph, f"{name}/unscale", (1 / factor).reshape(1, -1, 1, 1))
        silu.sigmoid.input[0] = f"{name}/unscaled"
        model.graph.node.append(helper.make_node("Mul", [name, back], [f"{name}/unscaled"]))
    if found:
        prune(model)
        write_onnx(model, target)
    return list(found)


def _silus(graph: Graph) -> dict[str, _Silu]:
    found = {}
    for product in graph.model.graph.node:
        if product.op_type != "Mul":
            continue
        for y, s in (tuple(product.input), tuple(product.input)[::-1]):
            convolution, sigmoid = graph.producer.get(y), graph.producer.get(s)
            if convolution is None or sigmoid is None or sigmoid.op_type != "Sigmoid" or sigmoid.input[0] != y:
                continue
            alone = graph.only_reader(s) is product and len(graph.consumers[y]) == 2 and y not in graph.outputs
            behind = _depthwise_behind(graph, product.output[0])
            if alone and behind and convolution.op_type == "Conv" and _owns_weights(graph, convolution):
                found[y] = _Silu(convolution, sigmoid, behind)
    return found


def _depthwise_behind(graph: Graph, product: str) -> list[NodeProto]:
    """The depthwise convolutions that read a tensor; none when anything else does."""
    readers = graph.consumers.get(product, [])
    depthwise = [
        node
        for node in readers
        if node.op_type == "Conv"
        and _owns_weights(graph, node)
        and node.input[0] == product
        and attribute(node, "group", 1) == len(graph.constants[node.input[1]])
        and graph.constants[node.input[1]].shape[1] == 1
    ]
    return [] if product in graph.outputs or len(depthwise) < len(readers) else depthwise


def _owns_weights(graph: Graph, node: NodeProto) -> bool:
    weights = [name for name in node.input[1:] if name]
    return all(n in graph.constants and n not in graph.producer and len(graph.consumers[n]) == 1 for n in weights)


def _scale(graph: Graph, node: NodeProto, place: int, factor: np.ndarray) -> None:
    """Multiply the first axis of a constant that a node reads by `factor` (C,)."""
    values = graph.constants[node.input[place]]
    scaled = values * factor.reshape(-1, *[1] * (values.ndim - 1))
    for tensor in graph.model.graph.initializer:
        if tensor.name == node.input[place]:
            tensor.CopyFrom(numpy_helper.from_array(scaled.astype(np.float32), tensor.name))
