"""For `best` where types are strong: a Q/DQ ONNX whose tensors between the quantized ones become float16."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, checker, helper, numpy_helper, version_converter

from edge.errors import ModelError
from edge.files import write_atomically

__all__ = ["write_mixed"]

_OPSET = 19  # the first whose Q and DQ take float16
_FLOAT_INPUTS = {"Resize": (1, 2), "Upsample": (1,)}  # these stay float32 by the operator's definition
_SUBGRAPHS = (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS)
_CURE = "build int8 instead"


def write_mixed(source: Path, target: Path) -> None:
    """Write the Q/DQ model `source` with float16 in place of float32; inputs and outputs stay float32.

    Raises: ModelError for a model without Q/DQ, with branches, or with weights beyond float16.
    """
    try:
        model = onnx.load(source)
        opset = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
        model = model if opset >= _OPSET else version_converter.convert_version(model, _OPSET)
    except Exception as exc:  # protobuf and the converter each have their own
        raise ModelError(f"{source.name} cannot be brought to opset {_OPSET} ({exc})", _CURE) from exc
    graph = model.graph
    if not any(node.op_type == "DequantizeLinear" for node in graph.node):
        raise ModelError(f"{source.name} is not quantized", "give the Q/DQ ONNX")
    if any(attribute.type in _SUBGRAPHS for node in graph.node for attribute in node.attribute):
        raise ModelError(f"{source.name} has branches or loops", _CURE)
    _halve(graph)
    _cast_ends(graph)
    del graph.value_info[:]
    try:
        checker.check_model(model, full_check=True)
    except Exception as exc:
        raise ModelError(f"{source.name} cannot be made float16 between its quantized layers ({exc})", _CURE) from exc
    write_atomically(target, model.SerializeToString())


def _halve(graph: onnx.GraphProto) -> None:
    kept = {
        node.input[index]
        for node in graph.node
        for index in _FLOAT_INPUTS.get(node.op_type, ())
        if index < len(node.input)
    }
    for tensor in _constants(graph, kept):
        tensor.CopyFrom(_half(tensor))
    for node in graph.node:
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == TensorProto.FLOAT:
                attribute.i = TensorProto.FLOAT16


def _constants(graph: onnx.GraphProto, kept: set[str]) -> Iterator[onnx.TensorProto]:
    for tensor in graph.initializer:
        if tensor.data_type == TensorProto.FLOAT and tensor.name not in kept:
            yield tensor
    for node in graph.node:
        for attribute in node.attribute:
            is_tensor = attribute.name == "value" and attribute.t.data_type == TensorProto.FLOAT
            if is_tensor and not kept & set(node.output):
                yield attribute.t


def _half(tensor: onnx.TensorProto) -> onnx.TensorProto:
    values = numpy_helper.to_array(tensor)
    limits = np.finfo(np.float16)
    if not np.all(np.abs(values[np.isfinite(values)]) <= limits.max):
        raise ModelError(f"'{tensor.name}' has values beyond float16's {limits.max}", _CURE)
    half = values.astype(np.float16)
    vanished = (half == 0) & (values != 0)  # a scale of 0 would be refused; the least number stands in
    half[vanished] = np.copysign(limits.smallest_subnormal, values[vanished])
    return numpy_helper.from_array(half, tensor.name)


def _cast_ends(graph: onnx.GraphProto) -> None:
    fixed = {tensor.name for tensor in graph.initializer}
    inputs = [i.name for i in graph.input if i.type.tensor_type.elem_type == TensorProto.FLOAT and i.name not in fixed]
    outputs = [o.name for o in graph.output if o.type.tensor_type.elem_type == TensorProto.FLOAT]
    renamed = {name: f"{name}_float16" for name in (*inputs, *outputs)}
    for node in graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
        node.output[:] = [renamed.get(name, name) for name in node.output]
    first = [helper.make_node("Cast", [name], [renamed[name]], to=TensorProto.FLOAT16) for name in inputs]
    last = [helper.make_node("Cast", [renamed[name]], [name], to=TensorProto.FLOAT) for name in outputs]
    nodes = [*first, *graph.node, *last]
    del graph.node[:]
    graph.node.extend(nodes)
