"""What the Edge TPU runs: the operators of Coral's table, their limits, and the cure where one is broken.

After Coral's pages "TensorFlow models on the Edge TPU" (its table of supported operations, runtime 14) and "Edge TPU
Compiler" (16.0). Two figures are not documented and marked as estimates below; of RESHAPE and TRANSPOSE Coral says only
that large ones may not be mapped.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

__all__ = ["Limit", "OpView", "TensorView", "limit_of"]

INNER_DIMENSIONS = 3
SOFTMAX_ELEMENTS = 16_000
LARGE_RESIZE_ELEMENTS = 1 << 20  # estimate: the compiler keeps large ones on the CPU and does not say from which size
_INTEGER_8 = ("int8", "uint8")

# operator -> newest version that TensorFlow Lite of mid-2021 knows, the time of compiler 16.0 (estimate)
_NEWEST_VERSION = {
    "ADD": 4,
    "AVERAGE_POOL_2D": 3,
    "CONCATENATION": 3,
    "CONV_2D": 5,
    "DEPTHWISE_CONV_2D": 6,
    "EXPAND_DIMS": 1,
    "FULLY_CONNECTED": 9,
    "L2_NORMALIZATION": 2,
    "LOGISTIC": 3,
    "LSTM": 4,
    "MAXIMUM": 4,
    "MAX_POOL_2D": 3,
    "MEAN": 2,
    "MINIMUM": 4,
    "MUL": 4,
    "PACK": 3,
    "PAD": 3,
    "PRELU": 1,
    "QUANTIZE": 2,
    "REDUCE_MAX": 2,
    "REDUCE_MIN": 2,
    "RELU": 3,
    "RELU6": 3,
    "RELU_N1_TO_1": 1,
    "RESHAPE": 1,
    "RESIZE_BILINEAR": 3,
    "RESIZE_NEAREST_NEIGHBOR": 3,
    "RSQRT": 2,
    "SLICE": 3,
    "SOFTMAX": 3,
    "SPACE_TO_DEPTH": 2,
    "SPLIT": 4,
    "SQUARED_DIFFERENCE": 2,
    "SQUEEZE": 2,
    "STRIDED_SLICE": 4,
    "SUB": 5,
    "SUM": 2,
    "TANH": 3,
    "TRANSPOSE": 5,
    "TRANSPOSE_CONV": 3,
    "UNIDIRECTIONAL_SEQUENCE_LSTM": 2,
}

_CURES = {
    "ARG_MAX": "leave it out of the model: the decoder finds the best class on the CPU",
    "BATCH_MATMUL": "where one factor is constant, write it as a dense layer or a 1x1 convolution",
    "CUSTOM": "leave it out of the model or keep it as the last operator, where it costs nothing else",
    "DEPTH_TO_SPACE": "use a transposed convolution or a nearest-neighbour resize",
    "DEQUANTIZE": "quantize with --precision int8-io or uint8-io: the outputs stay integers, Harrier converts them",
    "DIV": "multiply with the reciprocal, where the divisor is constant",
    "ELU": "train with ReLU or ReLU6",
    "EXP": "export the raw head and let Harrier decode the boxes",
    "GATHER": "write a fixed choice of channels as a 1x1 convolution, one along rows or columns as slices",
    "GELU": "train with ReLU or ReLU6",
    "HARD_SWISH": "export with ReLU6 instead of hard-swish (or with SiLU, which becomes LOGISTIC and MUL)",
    "LEAKY_RELU": "train with ReLU, or with PReLU of one slope a channel",
    "MIRROR_PAD": "pad with zeros (PAD)",
    "PADV2": "pad with zeros (PAD): behind a ReLU the maximum of a pool stays the same",
    "SPLIT_V": "split into equal parts (SPLIT) or use slices",
    "TFLite_Detection_PostProcess": "nothing to do: it is meant to run on the CPU as the last operator",
    "TOPK_V2": "leave it out of the model: the decoder sorts on the CPU",
    "UNPACK": "use slices (STRIDED_SLICE with stride 1)",
}
_NO_CURE = "replace it by a supported operator, or move it to the end of the model"


class TensorView(NamedTuple):
    """A tensor as the rules see it. values: of a constant (any shape and dtype), None for an activation."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    values: np.ndarray | None


class OpView(NamedTuple):
    """An operator as the rules see it. name: the schema's, or the custom code; options: the schema's options object."""

    name: str
    version: int
    inputs: Sequence[TensorView]
    outputs: Sequence[TensorView]
    options: Any

    @property
    def activations(self) -> list[TensorView]:
        """The inputs that are no constants."""
        return [tensor for tensor in self.inputs if tensor.values is None]


class Limit(NamedTuple):
    """Why an operator cannot run on the Edge TPU, and what to do about it."""

    why: str
    cure: str


def limit_of(op: OpView) -> Limit | None:
    """Return what keeps an operator off the Edge TPU by itself, None where it can run there."""
    for rule in (_known, _types, _OWN.get(op.name), _dimensions):
        if rule is not None and (found := rule(op)):
            return found
    return None


def _known(op: OpView) -> Limit | None:
    newest = _NEWEST_VERSION.get(op.name)
    if newest is None:
        return Limit("not an operator of the Edge TPU", _CURES.get(op.name, _NO_CURE))
    if op.version > newest:
        return Limit(
            f"version {op.version}, the compiler knows up to {newest}", "quantize the float model with harrier convert"
        )
    return None


def _types(op: OpView) -> Limit | None:
    for tensor in (*op.inputs, *op.outputs):
        if tensor.dtype in _INTEGER_8 or (tensor.values is not None and tensor.dtype == "int32"):
            continue
        if op.name == "QUANTIZE" and tensor.dtype == "float32":
            return Limit("reads float32", "quantize with --precision int8-io or uint8-io: integers come in")
        if tensor.dtype == "int16":
            return Limit("works on int16", "quantize to int8 instead of int16x8")
        return Limit(f"works on {tensor.dtype}", "quantize the whole model to int8, this operator included")
    return None


def _dimensions(op: OpView) -> Limit | None:
    for tensor in (*op.activations, *op.outputs):
        if any(n != 1 for n in tensor.shape[:-INNER_DIMENSIONS]):
            cure = (
                "export with batch 1"
                if len(tensor.shape) == INNER_DIMENSIONS + 1
                else "avoid tensors of 5 dimensions: channel shuffles and splits of heads can be 1x1 convolutions"
            )
            return Limit(f"shape {list(tensor.shape)}: only the 3 innermost dimensions may exceed 1", cure)
    return None


def _constants(op: OpView) -> Limit | None:
    if any(tensor.values is None for tensor in op.inputs[1:]):
        return Limit("its weights are computed, not constant", "fold the weights into constants when exporting")
    return None


def _convolution(op: OpView) -> Limit | None:
    if op.options is not None and op.options.dilationWFactor != op.options.dilationHFactor:
        return Limit("its dilations in x and y differ", "use the same dilation in both directions")
    return _constants(op)


def _transpose_convolution(op: OpView) -> Limit | None:
    constants = [op.inputs[i] for i in range(len(op.inputs)) if i != 2]  # 2 is what is convolved
    if any(tensor.values is None for tensor in constants):
        return Limit("its weights are computed, not constant", "fold the weights into constants when exporting")
    return None


def _dense(op: OpView) -> Limit | None:
    if op.options is not None and op.options.weightsFormat != 0:
        return Limit("its weights are shuffled", "convert again with weights in the default order")
    if math.prod(op.outputs[0].shape[:-1]) != 1:
        return Limit("its output has more than one dimension", "write it as a 1x1 convolution")
    return _constants(op)


def _no_activation(op: OpView) -> Limit | None:
    if op.options is not None and op.options.fusedActivationFunction != 0:
        return Limit("has a fused activation", "write the activation as an operator of its own")
    return None


def _concatenation(op: OpView) -> Limit | None:
    constants = [tensor.values for tensor in op.inputs if tensor.values is not None]
    if constants and (len(op.inputs) != 2 or any(np.any(values) for values in constants)):
        return Limit("joins a constant that is not all zeros, or more than 2 inputs", "join constants on the CPU")
    return _no_activation(op)


def _axes(op: OpView) -> list[int]:
    rank = len(op.inputs[0].shape)
    values = op.inputs[1].values
    return [] if values is None else [int(axis) % rank for axis in values.ravel()]


def _reduction(op: OpView) -> Limit | None:
    shape, axes = op.inputs[0].shape, _axes(op)
    if len(shape) == INNER_DIMENSIONS + 1 and 0 in axes:
        return Limit("reduces the batch dimension", "leave the batch dimension out of the axes")
    if op.name == "MEAN" and len(shape) - 1 in axes and shape[-1] % 4:
        return Limit(f"averages {shape[-1]} channels, no multiple of 4", "use a multiple of 4 channels")
    return None


def _pack(op: OpView) -> Limit | None:
    if op.options is not None and op.options.axis == 0 and len(op.outputs[0].shape) > INNER_DIMENSIONS:
        return Limit("stacks along the batch dimension", "stack along another dimension")
    return None


def _pad(op: OpView) -> Limit | None:
    values = op.inputs[1].values
    if values is not None and len(values) > INNER_DIMENSIONS and np.any(values[:-INNER_DIMENSIONS]):
        return Limit("pads the batch dimension", "pad rows, columns or channels only")
    return None


def _prelu(op: OpView) -> Limit | None:
    if any(n != 1 for n in op.inputs[1].shape[:-1]):
        return Limit("its slopes differ along rows or columns", "share them (Keras: shared_axes=[1, 2])")
    return None


def _resize(op: OpView) -> Limit | None:
    shape = op.outputs[0].shape
    if math.prod(shape) > LARGE_RESIZE_ELEMENTS:
        return Limit(
            f"makes a large tensor {list(shape)}: the compiler keeps such on the CPU for their precision (estimate)",
            "resize on the CPU after the model, or nearest-neighbour",
        )
    return None


def _softmax(op: OpView) -> Limit | None:
    # Coral's table says one row; compiler 16.0 has been seen to map many short ones (the box head of YOLOv8)
    length = op.inputs[0].shape[-1]
    if length > SOFTMAX_ELEMENTS:
        return Limit(
            f"{length} values, at most {SOFTMAX_ELEMENTS}", "leave it out of the model: the decoder applies it"
        )
    return None


def _split(op: OpView) -> Limit | None:
    data, axis = op.inputs[1], op.inputs[0].values
    if axis is not None and len(data.shape) > INNER_DIMENSIONS and int(axis.ravel()[0]) % len(data.shape) == 0:
        return Limit("splits the batch dimension", "split another dimension")
    return None


def _strided_slice(op: OpView) -> Limit | None:
    strides = op.inputs[3].values
    if strides is None or np.any(strides != 1):
        return Limit(
            "has a stride other than 1",
            "write space-to-depth slices (the Focus stem of YOLOX, YOLOv5) as SPACE_TO_DEPTH or one 6x6 convolution"
            " of stride 2",
        )
    if op.options is not None and (op.options.ellipsisMask or op.options.newAxisMask):
        return Limit("slices with an ellipsis or a new axis", "slice with plain begins and ends, then reshape")
    return None


_OWN = {
    "AVERAGE_POOL_2D": _no_activation,
    "CONCATENATION": _concatenation,
    "CONV_2D": _convolution,
    "DEPTHWISE_CONV_2D": _convolution,
    "FULLY_CONNECTED": _dense,
    "MAX_POOL_2D": _no_activation,
    "MEAN": _reduction,
    "PACK": _pack,
    "PAD": _pad,
    "PRELU": _prelu,
    "REDUCE_MAX": _reduction,
    "REDUCE_MIN": _reduction,
    "RESIZE_BILINEAR": _resize,
    "SOFTMAX": _softmax,
    "SPLIT": _split,
    "STRIDED_SLICE": _strided_slice,
    "SUM": _reduction,
    "TRANSPOSE_CONV": _transpose_convolution,
}
