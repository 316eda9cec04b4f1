"""A .tflite file's operators in the form the Edge TPU's rules ask about."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from convert.edgetpu.rules import OpView, TensorView
from convert.tflite_edit import constant, op_name, read_model, tensor_name
from edge.errors import ModelError

__all__ = ["Graph", "multiply_adds", "parameter_bytes", "read_graph"]

_TYPE_NAMES = {value: name.lower() for name, value in vars(schema.TensorType).items() if not name.startswith("_")}
_MISSING = -1  # an optional input that is not given


class Graph(NamedTuple):
    """The first graph of a file. inputs and outputs: tensor numbers of each operator, without constants.

    open_tensor: name of a tensor whose size is only known at run time, "" when there is none.
    """

    ops: list[OpView]
    inputs: list[list[int]]
    outputs: list[list[int]]
    graph_count: int
    open_tensor: str


def read_graph(path: Path) -> Graph:
    """Return the operators of a .tflite file.

    Raises: ModelError when the file cannot be read.
    """
    model = read_model(path)
    try:
        return _graph(model)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as exc:  # read_model checks no numbers
        raise ModelError(f"{path.name} is damaged ({exc})", "convert it again") from exc


def _graph(model: Any) -> Graph:
    graph = model.subgraphs[0]
    tensors = [_tensor(model, tensor) for tensor in graph.tensors]
    ops, inputs, outputs = [], [], []
    for op in graph.operators:
        code = model.operatorCodes[op.opcodeIndex]
        name = op_name(model, op)
        if name == "CUSTOM" and code.customCode:
            name = code.customCode.decode("utf-8", "replace")
        read = [i for i in op.inputs or [] if i != _MISSING]
        made = list(op.outputs)
        ops.append(
            OpView(name, code.version, [tensors[i] for i in read], [tensors[i] for i in made], op.builtinOptions)
        )
        inputs.append([i for i in read if tensors[i].values is None])
        outputs.append(made)
    used = sorted({i for numbers in (*inputs, *outputs) for i in numbers})
    unfixed = (tensors[i].name for i in used if _is_open(graph.tensors[i]))
    return Graph(ops, inputs, outputs, len(model.subgraphs), next(unfixed, ""))


def _tensor(model: Any, tensor: Any) -> TensorView:
    shape = () if tensor.shape is None else tuple(int(n) for n in tensor.shape)
    data = model.buffers[tensor.buffer].data
    values = None
    if data is not None and len(data):
        values = constant(model, tensor)
        if values is None:  # a type numpy has no name for: that it is constant is what matters
            values = np.asarray(data, np.uint8)
    return TensorView(tensor_name(tensor), shape, _TYPE_NAMES[tensor.type], values)


def _is_open(tensor: Any) -> bool:
    return any(n < 1 for sizes in (tensor.shape, tensor.shapeSignature) if sizes is not None for n in sizes)


def multiply_adds(op: OpView) -> int:
    """Return the multiply-adds of a convolution or dense layer, 0 of any other operator."""
    made = math.prod(op.outputs[0].shape)
    if op.name in ("CONV_2D", "FULLY_CONNECTED"):
        return made * math.prod(op.inputs[1].shape[1:])
    if op.name == "DEPTHWISE_CONV_2D":
        return made * math.prod(op.inputs[1].shape[1:3])
    if op.name == "TRANSPOSE_CONV":
        return math.prod(op.inputs[2].shape) * math.prod(op.inputs[1].shape[:3])
    return 0


def parameter_bytes(ops: Sequence[OpView]) -> int:
    """Return the size in bytes of the constants of these operators, each counted once."""
    sizes = {tensor.name: tensor.values.nbytes for op in ops for tensor in op.inputs if tensor.values is not None}
    return sum(sizes.values())
