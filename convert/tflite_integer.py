"""Activations with a slope in 8 bits: every runtime computes them so, but the quantizer leaves them in float."""

from collections.abc import Collection
from copy import copy
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from convert.tflite_edit import Reader, add_tensor, constant, op_name, set_constant, tensor_name

__all__ = ["float_kinds", "integer_slopes"]

_FLOAT32, _INT8 = 0, 9  # TensorType
_INT8_LEAKY_RELU = 2  # operator version
_LEVELS = 127


def integer_slopes(model: Any) -> None:
    """Let LEAKY_RELU and PRELU compute in int8 where they stand between a DEQUANTIZE and a QUANTIZE, which go.

    model: a ModelT as the quantizer leaves it.
    """
    graph, reader = model.subgraphs[0], Reader(model)
    gone, perhaps_gone = set[int](), set[int]()
    for op in graph.operators:
        ends = _integer_ends(model, reader, op)
        if ends is None:
            continue
        before, behind = ends
        others = []
        if op_name(model, op) == "PRELU":
            others = [_integer_slope(model, graph.tensors[op.inputs[1]])]
        else:
            op.opcodeIndex = _with_version(model, op.opcodeIndex)
        inner, outer = graph.tensors[op.outputs[0]], graph.tensors[behind.outputs[0]]
        inner.name, outer.name = outer.name, inner.name  # tensors keep their names
        op.inputs, op.outputs = [before.inputs[0], *others], list(behind.outputs)
        gone.add(id(behind))
        perhaps_gone.add(id(before))
    left = [op for op in graph.operators if id(op) not in gone]
    read = {int(i) for op in left for i in op.inputs} | set(map(int, graph.outputs))
    graph.operators = [op for op in left if id(op) not in perhaps_gone or int(op.outputs[0]) in read]


def float_kinds(model: Any, kept: Collection[str]) -> dict[str, int]:
    """Return how many operators of each kind, by the schema's name, make float32 without having been asked to.

    kept: names of the first outputs of those that were.
    """
    graph, found = model.subgraphs[0], dict[str, int]()
    for op in graph.operators:
        made, kind = graph.tensors[op.outputs[0]], op_name(model, op)
        if made.type == _FLOAT32 and kind != "DEQUANTIZE" and tensor_name(made) not in kept:
            found[kind] = found.get(kind, 0) + 1
    return found


def _integer_ends(model: Any, reader: Reader, op: Any) -> tuple[Any, Any] | None:
    """The DEQUANTIZE before and the QUANTIZE behind an operator that can do without them."""
    kind, tensors = op_name(model, op), model.subgraphs[0].tensors
    if kind not in ("LEAKY_RELU", "PRELU"):
        return None
    before, readers = reader.maker(op.inputs[0]), reader.readers(op.outputs[0])
    if before is None or len(readers) != 1 or reader.is_output(op.outputs[0]):
        return None
    if op_name(model, before) != "DEQUANTIZE" or op_name(model, readers[0]) != "QUANTIZE":
        return None
    if any(tensors[i].type != _INT8 for i in (before.inputs[0], readers[0].outputs[0])):
        return None
    if kind == "PRELU" and constant(model, tensors[op.inputs[1]]) is None:
        return None
    return before, readers[0]


def _integer_slope(model: Any, tensor: Any) -> int:
    """The number of a new int8 tensor, of one scale, with the slopes of a float one, which others may read."""
    slopes = constant(model, tensor)
    assert slopes is not None  # _integer_ends
    scale = float(np.abs(slopes).max()) / _LEVELS or 1.0
    index = add_tensor(model, f"{tensor_name(tensor)}/int8", slopes.shape)
    made = model.subgraphs[0].tensors[index]
    made.type, made.quantization = _INT8, schema.QuantizationParametersT()
    made.quantization.scale, made.quantization.zeroPoint = [scale], [0]
    set_constant(model, made, np.rint(slopes / scale).astype(np.int8))
    return index


def _with_version(model: Any, index: int) -> int:
    """The number of an operator code as another, with the version of its int8 form."""
    wanted = copy(model.operatorCodes[index])
    wanted.version = _INT8_LEAKY_RELU
    for i, code in enumerate(model.operatorCodes):
        if (code.builtinCode, code.version) == (wanted.builtinCode, wanted.version):
            return i
    model.operatorCodes.append(wanted)
    return len(model.operatorCodes) - 1
