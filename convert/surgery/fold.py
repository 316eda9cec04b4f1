"""Batch normalizations folded into the convolution or matrix product before them."""

import numpy as np
from onnx import ModelProto, NodeProto

from convert.surgery.graph import Graph, attribute, prune, with_constant

__all__ = ["fold_batch_norms"]


def fold_batch_norms(model: ModelProto) -> tuple[ModelProto, str]:
    """Return the model with every BatchNormalization behind a Conv, ConvTranspose or Gemm folded into its weights."""
    model = ModelProto.FromString(model.SerializeToString())
    graph = Graph.of(model)
    gone: list[NodeProto] = []
    for norm in [node for node in model.graph.node if node.op_type == "BatchNormalization"]:
        before = graph.producer.get(norm.input[0])
        alone = graph.only_reader(norm.input[0]) is not None
        if before is None or not alone or attribute(norm, "training_mode", 0):
            continue
        if _fold(graph, before, norm):
            gone.append(norm)
            before.output[0] = norm.output[0]
            graph.producer[norm.output[0]] = before
    if not gone:
        return model, ""
    # a folded convolution now carries the normalization's output name: drop the normalizations by identity
    ids = {id(node) for node in gone}
    kept = [node for node in model.graph.node if id(node) not in ids]
    copies = [NodeProto.FromString(node.SerializeToString()) for node in kept]
    del model.graph.node[:]
    model.graph.node.extend(copies)
    prune(model)
    return model, f"folded {len(gone)} batch normalizations into the layers before them"


def _fold(graph: Graph, layer: NodeProto, norm: NodeProto) -> bool:
    """Scale the layer's weights and bias by the normalization; False when it cannot take it."""
    axis = _output_axis(layer)
    names = [layer.input[1], *norm.input[1:5]] if axis is not None else []
    if axis is None or any(name not in graph.constants for name in names):
        return False
    if len(layer.input) > 2 and layer.input[2] and layer.input[2] not in graph.constants:
        return False
    weights, gain, shift, mean, variance = (graph.constants[name].astype(np.float64) for name in names)
    if weights.shape[axis] != len(gain):
        return False
    factor = gain / np.sqrt(variance + float(attribute(norm, "epsilon", 1e-5)))  # type: ignore[arg-type]
    bias = np.zeros(len(gain))
    if len(layer.input) > 2 and layer.input[2]:
        bias = graph.constants[layer.input[2]].astype(np.float64)
    shape = [1] * weights.ndim
    shape[axis] = -1
    folded = with_constant(graph, f"{layer.input[1]}_folded", (weights * factor.reshape(shape)).astype(np.float32))
    moved = with_constant(graph, f"{norm.output[0]}_bias", ((bias - mean) * factor + shift).astype(np.float32))
    del layer.input[1:]
    layer.input.extend([folded, moved])
    return True


def _output_axis(layer: NodeProto) -> int | None:
    """The axis of the weights that counts output channels; None for a layer that cannot be scaled."""
    if layer.op_type == "Conv":
        return 0
    if layer.op_type == "ConvTranspose" and attribute(layer, "group", 1) == 1:
        return 1
    if layer.op_type == "Gemm" and attribute(layer, "alpha", 1.0) == attribute(layer, "beta", 1.0) == 1.0:
        return 0 if attribute(layer, "transB", 0) else 1
    return None
