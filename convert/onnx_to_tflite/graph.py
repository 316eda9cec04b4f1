"""An ONNX file as the translator sees it: nodes, constants as arrays, fixed shapes, who reads what."""

from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from google.protobuf.message import DecodeError
from onnx import numpy_helper, shape_inference

from edge.errors import EngineError

__all__ = ["Graph", "Node", "read_graph", "unsupported"]

_STANDARD = ("", "ai.onnx")
_SMALL = 1024  # elements: no shape, axis or scale list is longer
_NOT_INFERRED = {"GroupNormalization"}  # its shape, that of its input, is not inferred


@dataclass(slots=True, eq=False)
class Node:
    """One operator; absent optional inputs are ""."""

    op: str
    name: str
    inputs: list[str]
    outputs: list[str]
    attributes: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Graph:
    """Nodes in order, `constants` by name, `shapes` and `dtypes` of every tensor, all sizes fixed."""

    nodes: list[Node]
    constants: dict[str, np.ndarray]
    shapes: dict[str, tuple[int, ...]]
    dtypes: dict[str, str]
    inputs: list[str]
    outputs: list[str]
    opset: int

    def readers(self, name: str) -> list[Node]:
        """Return the nodes that read a tensor, one entry per reading input."""
        return [node for node in self.nodes for read in node.inputs if read == name]

    def only_reader(self, name: str) -> Node | None:
        """Return the one node that reads a tensor nobody else needs, None otherwise."""
        readers = self.readers(name)
        return readers[0] if len(readers) == 1 and name not in self.outputs else None

    def producer(self, name: str) -> Node | None:
        """Return the node that computes a tensor, None for inputs and constants."""
        return next((node for node in self.nodes if name in node.outputs), None)

    def constant(self, node: Node, index: int) -> np.ndarray | None:
        """Return the value of a constant input, any shape and dtype, None when absent or computed."""
        return self.constants.get(node.inputs[index]) if len(node.inputs) > index else None


def unsupported(node: Node, why: str) -> EngineError:
    """Return the error for a node that TFLite cannot express."""
    return EngineError(
        f"TFLite has no equal of {node.op} (node {node.name or node.outputs[0]}): {why}",
        "export the model without it, or convert with --to onnx",
    )


def read_graph(path: Path) -> Graph:
    """Read an ONNX file, fold what does not depend on the input, and infer every shape.

    Raises: EngineError for a file that is no ONNX model, has a dynamic shape or a tensor of unknown shape.
    """
    try:
        model = onnx.load(str(path))
        constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
        _check_fixed(model, constants)
        del model.graph.initializer[:]
        _declare(model, constants)
        model = _inferred(model)
    except (OSError, DecodeError, shape_inference.InferenceError, ValueError) as exc:
        raise EngineError(f"{path.name} is no readable ONNX model ({exc})", "export it again") from exc
    # folding may give a Reshape its target, which gives the next Shape its value
    while folded := _fold_once(model, constants):
        constants |= folded
        _declare(model, folded)
        model = _inferred(model)
    return _as_graph(model, constants)


def _declare(model: onnx.ModelProto, constants: dict[str, np.ndarray]) -> None:
    """Tell shape inference of constants: small ones by value, weights, which it would copy each time, by shape."""
    declared = {value.name for value in model.graph.input}
    for name, value in constants.items():
        if np.asarray(value).size <= _SMALL:
            model.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
        elif name not in declared:
            kind = onnx.helper.np_dtype_to_tensor_dtype(value.dtype)
            model.graph.input.append(onnx.helper.make_tensor_value_info(name, kind, value.shape))


def _check_fixed(model: onnx.ModelProto, constants: dict[str, np.ndarray]) -> None:
    for value in model.graph.input:
        dims = value.type.tensor_type.shape.dim
        if value.name not in constants and any(dim.dim_value <= 0 for dim in dims):
            sizes = ", ".join(str(dim.dim_value) if dim.dim_value > 0 else dim.dim_param or "?" for dim in dims)
            raise EngineError(f"the input {value.name} has a dynamic shape ({sizes})", "export it with fixed sizes")


def _inferred(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with every shape that can be known; what only stood for an unknown size is forgotten first."""
    known = [value for value in model.graph.value_info if _is_fixed(value)]
    del model.graph.value_info[:]
    model.graph.value_info.extend(known)
    for value in model.graph.output:
        if not _is_fixed(value):
            value.type.tensor_type.ClearField("shape")
    model = shape_inference.infer_shapes(model, data_prop=True)
    while True:
        shapes, _ = _shapes(model)
        unknown = [
            (node.input[0], node.output[0])
            for node in model.graph.node
            if node.op_type in _NOT_INFERRED and node.input[0] in shapes and node.output[0] not in shapes
        ]
        if not unknown:
            return model
        outputs = {value.name: value for value in model.graph.output}
        for source, name in unknown:
            made = onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shapes[source])
            if name in outputs:
                outputs[name].CopyFrom(made)
            else:
                model.graph.value_info.append(made)
        model = shape_inference.infer_shapes(model, data_prop=True)


def _is_fixed(value: onnx.ValueInfoProto) -> bool:
    kind = value.type.tensor_type
    return kind.HasField("shape") and all(dim.HasField("dim_value") for dim in kind.shape.dim)


def _shapes(model: onnx.ModelProto) -> tuple[dict[str, tuple[int, ...]], dict[str, str]]:
    shapes, dtypes = {}, {}
    for value in [*model.graph.input, *model.graph.value_info, *model.graph.output]:
        kind = value.type.tensor_type
        sizes = tuple(dim.dim_value for dim in kind.shape.dim)
        if _is_fixed(value):
            shapes[value.name] = sizes
        if kind.elem_type:
            dtypes[value.name] = _dtype_name(kind.elem_type)
    return shapes, dtypes


@cache
def _dtype_name(kind: int) -> str:
    return str(onnx.helper.tensor_dtype_to_np_dtype(kind))


def _fold_once(model: onnx.ModelProto, constants: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Compute, and take out of the graph, the nodes that read only constants, and shapes."""
    shapes, _ = _shapes(model)
    folded: dict[str, np.ndarray] = {}
    kept, ready = [], []
    known = set(constants)
    for node in model.graph.node:
        if node.op_type == "Shape" and node.input[0] in shapes and node.input[0] not in known:
            ends = {item.name: item.i for item in node.attribute}
            folded[node.output[0]] = np.array(shapes[node.input[0]], np.int64)[ends.get("start") : ends.get("end")]
        elif all(name in known or not name for name in node.input) and _foldable(node):
            ready.append(node)
            known.update(node.output)
        else:
            kept.append(node)
    if ready:
        folded |= _computed(model, ready, constants)
    del model.graph.node[:]
    model.graph.node.extend(kept)
    return folded


def _foldable(node: onnx.NodeProto) -> bool:
    branches = any(item.HasField("g") for item in node.attribute)  # which may read the input unseen
    return node.domain in _STANDARD and not branches and not node.op_type.startswith("Random")


def _computed(
    model: onnx.ModelProto, nodes: list[onnx.NodeProto], constants: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    read = {name for node in nodes for name in node.input}
    names = [name for node in nodes for name in node.output if name]
    graph = onnx.helper.make_graph(
        nodes,
        "constants",
        [],
        [onnx.ValueInfoProto(name=name) for name in names],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items() if name in read],
    )
    small = onnx.helper.make_model(graph, opset_imports=model.opset_import, ir_version=min(model.ir_version, 10))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(small.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return dict(zip(names, session.run(names, {}), strict=True))
    except Exception as exc:  # onnxruntime's own exceptions have no common base
        raise EngineError(f"the constants of the model cannot be computed ({exc})", "export it again") from exc


def _as_graph(model: onnx.ModelProto, constants: dict[str, np.ndarray]) -> Graph:
    shapes, dtypes = _shapes(model)
    shapes |= {name: value.shape for name, value in constants.items()}
    nodes = [
        Node(
            node.op_type if node.domain in _STANDARD else f"{node.domain}.{node.op_type}",
            node.name,
            list(node.input),
            list(node.output),
            {item.name: _plain_value(item) for item in node.attribute},
        )
        for node in model.graph.node
    ]
    for node in nodes:
        for name in node.outputs:
            if name and name not in shapes:
                raise EngineError(
                    f"the shape of {name} (a {node.op}) is not known before the model runs", "export fixed shapes"
                )
    opset = max((entry.version for entry in model.opset_import if entry.domain in _STANDARD), default=13)
    inputs = [value.name for value in model.graph.input if value.name not in constants]
    return Graph(nodes, constants, shapes, dtypes, inputs, [value.name for value in model.graph.output], opset)


def _plain_value(item: onnx.AttributeProto) -> Any:
    value = onnx.helper.get_attribute_value(item)
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
