"""Newer ONNX operators written as opset 17 has them, which is what TensorRT 8.6 reads."""

import onnx
from onnx import ModelProto, NodeProto, helper

from convert.surgery.graph import Graph, attribute
from convert.surgery.running import open_session

__all__ = ["at_opset_17"]

_REDUCTIONS = ("ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceSumSquare")
_NEWEST = 22  # later versions are not known here
_SAME = {  # operators that later versions only gave more types
    *("Abs", "Add", "And", "ArgMax", "ArgMin", "Cast", "Ceil", "Clip", "Concat", "Constant", "ConstantOfShape", "Conv"),
    *("ConvTranspose", "Cos", "DepthToSpace", "Div", "Elu", "Equal", "Erf", "Exp", "Expand", "Flatten", "Floor"),
    *("Gather", "GatherElements", "GatherND", "Gemm", "GlobalAveragePool", "GlobalMaxPool", "Greater"),
    *("GreaterOrEqual", "HardSigmoid", "HardSwish", "Identity", "InstanceNormalization", "LayerNormalization"),
    *("LeakyRelu", "Less", "LessOrEqual", "Log", "LogSoftmax", "MatMul", "Max", "MaxPool", "Min", "Mod", "Mul", "Neg"),
    *("Not", "Or", "PRelu", "Pow", "Range", "Reciprocal", "ReduceSum", "Relu", "Reshape", "Round", "Selu", "Shape"),
    *("Sigmoid", "Sin", "Size", "Slice", "Softmax", "Softplus", "Softsign", "SpaceToDepth", "Sqrt", "Squeeze", "Sub"),
    *("Sum", "Tanh", "Tile", "TopK", "Transpose", "Unsqueeze", "Where", "Dropout", "BatchNormalization", "AveragePool"),
}
_RENAMED_ATTRIBUTES = {"saturate", "dilations"}  # new in Cast, and in AveragePool


def at_opset_17(model: ModelProto, opset: int) -> ModelProto | None:
    """Return a copy of a model of a later opset as opset 17, None where an operator has no equal there."""
    if opset > _NEWEST or model.functions or len(model.opset_import) != 1:
        return None
    model = ModelProto.FromString(model.SerializeToString())
    graph = Graph.of(model)
    if not all(_lower(graph, node) for node in model.graph.node):
        return None
    model.opset_import[0].version = 17
    model.ir_version = min(model.ir_version, 8)
    try:
        open_session(model)
    except Exception:  # ONNX Runtime's exceptions derive from Exception alone
        return None
    return model


def _lower(graph: Graph, node: NodeProto) -> bool:
    """Rewrite one node in place; False when opset 17 cannot say it."""
    kind = node.op_type
    if kind in _SAME:
        if kind in ("Cast", "AveragePool"):
            gone = [entry for entry in node.attribute if entry.name in _RENAMED_ATTRIBUTES]
            if kind == "AveragePool" and any(set(helper.get_attribute_value(entry)) != {1} for entry in gone):
                return False
            for entry in gone:
                node.attribute.remove(entry)
        return not any(entry.g.node for entry in node.attribute)
    if kind in _REDUCTIONS:
        return _axes_as_attribute(graph, node)
    if kind == "Split":
        return _split(graph, node)
    if kind == "Pad":
        return len(node.input) < 4 or not node.input[3]
    if kind == "Resize":
        plain = attribute(node, "antialias", 0) == 0 and attribute(node, "axes") is None
        policy = attribute(node, "keep_aspect_ratio_policy", b"stretch")
        for name in ("antialias", "keep_aspect_ratio_policy"):
            _drop(node, name)
        return plain and policy == b"stretch"
    return False


def _axes_as_attribute(graph: Graph, node: NodeProto) -> bool:
    if len(node.input) < 2 or not node.input[1]:
        all_axes = attribute(node, "noop_with_empty_axes", 0) == 0
        _drop(node, "noop_with_empty_axes")
        return all_axes
    axes = graph.constants.get(node.input[1])
    if axes is None:
        return False
    del node.input[1]
    _drop(node, "noop_with_empty_axes")
    node.attribute.append(helper.make_attribute("axes", [int(axis) for axis in axes]))
    return True


def _split(graph: Graph, node: NodeProto) -> bool:
    """Equal parts, which opset 18 counts, as sizes."""
    if len(node.input) > 1 and node.input[1]:
        return True
    shape, count = graph.shapes.get(node.input[0]), attribute(node, "num_outputs")
    if shape is None or not isinstance(count, int):
        return False
    size = shape[int(attribute(node, "axis", 0))]  # type: ignore[call-overload]
    part = -(-size // count)
    sizes = [min(part, size - i * part) for i in range(count)]
    name = graph.fresh(f"{node.output[0]}_sizes")
    graph.model.graph.initializer.append(helper.make_tensor(name, onnx.TensorProto.INT64, [count], sizes))
    del node.input[1:]
    node.input.append(name)
    _drop(node, "num_outputs")
    return True


def _drop(node: NodeProto, name: str) -> None:
    for entry in [entry for entry in node.attribute if entry.name == name]:
        node.attribute.remove(entry)
