"""Equalizing channels through SiLU, which lets no scale pass, at the price of one cheap operator.

x * sigmoid(x) is not homogeneous, so cross-layer equalization (Nagel et al., 2019) stops there; but the x of the
product and the x of the sigmoid may be told apart: with y' = k * y from scaled weights, the sigmoid reads
y' * (1 / k), a 1 x 1 depthwise convolution, and the product y' * sigmoid(y) is k times what it was, which the
depthwise convolution behind it takes back in its weights. A network fed with raw pixels, whose first channels range
from 0.1 to 140, needs this more than any choice of ranges.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from convert.channel_reach import LEAST_SPREAD, channel_factors
from convert.tflite_edit import (
    Reader,
    add_constant,
    add_tensor,
    constant,
    op_name,
    read_model,
    set_constant,
    tensor_name,
    write_model,
)

__all__ = ["equalize_silu", "silu_factors"]

_SAME, _NO_ACTIVATION = 0, 0  # Padding, ActivationFunctionType


@dataclass(slots=True)
class _Silu:
    """A convolution, the sigmoid behind it and the depthwise convolutions that alone read their product."""

    convolution: Any
    sigmoid: Any
    readers: list[Any]


def silu_factors(
    source: Path, inputs: Iterable[np.ndarray], least_spread: float = LEAST_SPREAD
) -> dict[str, np.ndarray]:
    """Return by what to scale the channels of convolutions in front of a SiLU, (C,) float32 by output name.

    Raises: ModelError when the source cannot be read, EngineError when it cannot run.
    """
    return channel_factors(source, inputs, _by_name(read_model(source)).keys(), least_spread)


def equalize_silu(source: Path, target: Path, factors: Mapping[str, np.ndarray]) -> None:
    """Write the float file with channels scaled by factors, (C,) each, as `silu_factors` gives them for it.

    Names of tensors stay; a new one is named after its convolution, with the suffix /unscaled.
    Raises: ModelError when the source cannot be read, ConfigError for the disk.
    """
    model = read_model(source)
    found = _by_name(model)
    for name, factor in factors.items():
        _equalize(model, found[name], factor)
    write_model(target, model)


def _by_name(model: Any) -> dict[str, _Silu]:
    tensors = model.subgraphs[0].tensors
    return {tensor_name(tensors[silu.convolution.outputs[0]]): silu for silu in _silus(model)}


def _silus(model: Any) -> list[_Silu]:
    graph, reader = model.subgraphs[0], Reader(model)
    found = []
    for product in graph.operators:
        if op_name(model, product) != "MUL" or product.builtinOptions.fusedActivationFunction != _NO_ACTIVATION:
            continue
        for y, s in (tuple(product.inputs), tuple(product.inputs)[::-1]):
            convolution, sigmoid = reader.maker(y), reader.maker(s)
            if convolution is None or sigmoid is None or op_name(model, sigmoid) != "LOGISTIC":
                continue
            alone = reader.readers(s) == [product] and len(reader.readers(y)) == 2 and list(sigmoid.inputs) == [y]
            behind = _depthwise_behind(model, reader, product.outputs[0])
            if alone and behind and _is_plain(model, reader, convolution):
                found.append(_Silu(convolution, sigmoid, behind))
    return found


def _is_plain(model: Any, reader: Reader, op: Any) -> bool:
    """Whether it is a convolution that owns its weights and ends without an activation."""
    if op_name(model, op) not in ("CONV_2D", "DEPTHWISE_CONV_2D"):
        return False
    return op.builtinOptions.fusedActivationFunction == _NO_ACTIVATION and _owns_weights(model, reader, op)


def _owns_weights(model: Any, reader: Reader, op: Any) -> bool:
    tensors = model.subgraphs[0].tensors
    weights = [i for i in op.inputs[1:] if i >= 0]
    return all(reader.readers(i) == [op] and constant(model, tensors[i]) is not None for i in weights)


def _depthwise_behind(model: Any, reader: Reader, product: int) -> list[Any]:
    """The depthwise convolutions that read a tensor, through paddings with zeros; none when anything else does."""
    tensors = model.subgraphs[0].tensors
    behind, to_see = [], [product]
    while to_see:
        tensor = to_see.pop()
        if reader.is_output(tensor):
            return []
        for op in reader.readers(tensor):
            if op_name(model, op) == "PAD":
                to_see.append(op.outputs[0])
            elif op_name(model, op) == "DEPTHWISE_CONV_2D" and _owns_weights(model, reader, op):
                if tensors[op.inputs[1]].shape[3] != tensors[product].shape[3]:
                    return []
                behind.append(op)
            else:
                return []
    return behind


def _equalize(model: Any, silu: _Silu, factor: np.ndarray) -> None:
    """Scale the channels that a convolution makes by `factor` (C,), and take it back where they are read."""
    graph = model.subgraphs[0]
    _scale(model, silu.convolution.inputs[1], factor, 3 if op_name(model, silu.convolution) != "CONV_2D" else 0)
    if len(silu.convolution.inputs) > 2 and silu.convolution.inputs[2] >= 0:
        _scale(model, silu.convolution.inputs[2], factor, 0)
    for reader in silu.readers:
        _scale(model, reader.inputs[1], 1 / factor, 3)
    y = silu.convolution.outputs[0]
    name, channels = tensor_name(graph.tensors[y]), len(factor)
    unscale = schema.OperatorT()
    unscale.opcodeIndex = silu.readers[0].opcodeIndex
    unscale.inputs = [
        y,
        add_constant(model, f"{name}/unscale", (1 / factor).reshape(1, 1, 1, channels).astype(np.float32)),
        add_constant(model, f"{name}/unscale/bias", np.zeros(channels, np.float32)),
    ]
    unscale.outputs = [add_tensor(model, f"{name}/unscaled", graph.tensors[y].shape)]
    options = schema.DepthwiseConv2DOptionsT()
    options.padding, options.strideW, options.strideH, options.depthMultiplier = _SAME, 1, 1, 1
    unscale.builtinOptions, unscale.builtinOptionsType = options, schema.BuiltinOptions.DepthwiseConv2DOptions
    silu.sigmoid.inputs = list(unscale.outputs)
    place = next(i for i, op in enumerate(graph.operators) if op is silu.sigmoid)
    graph.operators.insert(place, unscale)


def _scale(model: Any, index: int, factor: np.ndarray, axis: int) -> None:
    """Multiply a constant by `factor` (C,) along an axis."""
    tensor = model.subgraphs[0].tensors[index]
    values = constant(model, tensor)
    assert values is not None  # _owns_weights
    shape = [1] * values.ndim
    shape[axis] = -1
    set_constant(model, tensor, (values * factor.reshape(shape)).astype(np.float32))
