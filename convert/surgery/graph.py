"""An ONNX graph as the surgeon sees it: who makes a tensor, who reads it, constants and shapes by name."""

from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, numpy_helper

__all__ = ["Graph", "attribute", "name_nodes", "prune", "renamed", "with_constant"]


@dataclass(slots=True)
class Graph:
    """An index over a model, valid until the model changes. shapes has only those that are known and fixed.

    parts: columns of tensors already made apart, (name, axis, first, last) -> name, see `slicing`.
    """

    model: ModelProto
    producer: dict[str, NodeProto]
    consumers: dict[str, list[NodeProto]]
    constants: dict[str, np.ndarray]
    shapes: dict[str, tuple[int, ...]]
    parts: dict[tuple[str, int, int, int], str | None] = field(default_factory=dict)

    @classmethod
    def of(cls, model: ModelProto) -> "Graph":
        """Return the index of a model, its shapes inferred."""
        inferred = onnx.shape_inference.infer_shapes(model)
        producer, consumers = {}, {}  # type: dict[str, NodeProto], dict[str, list[NodeProto]]
        for node in model.graph.node:
            producer |= {name: node for name in node.output if name}
            for name in node.input:
                consumers.setdefault(name, []).append(node)
        constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
        for node in model.graph.node:
            if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value":
                constants[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
        shapes = {name: array.shape for name, array in constants.items()}
        for value in (*inferred.graph.value_info, *inferred.graph.input, *inferred.graph.output):
            dims = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
            if value.type.tensor_type.HasField("shape") and all(n > 0 for n in dims):
                shapes[value.name] = tuple(dims)
        return cls(model, producer, consumers, constants, shapes)

    @property
    def outputs(self) -> list[str]:
        """The names of the graph's outputs."""
        return [value.name for value in self.model.graph.output]

    def only_reader(self, name: str) -> NodeProto | None:
        """Return the one node that reads a tensor, None when there are others or it is an output of the graph."""
        readers = self.consumers.get(name, [])
        return readers[0] if len(readers) == 1 and name not in self.outputs else None

    def fresh(self, base: str) -> str:
        """Return a tensor name like `base` that nothing in the graph has, and reserve it."""
        name, i = base, 1
        while name in self.producer or name in self.consumers or name in self.shapes or name in self.constants:
            name, i = f"{base}_{i}", i + 1
        self.consumers[name] = []
        return name


def attribute(node: NodeProto, name: str, default: object = None) -> object:
    """Return an attribute's value, `default` when the node does not have it."""
    for entry in node.attribute:
        if entry.name == name:
            return onnx.helper.get_attribute_value(entry)
    return default


def with_constant(graph: Graph, base: str, values: np.ndarray) -> str:
    """Add `values` (any shape and dtype) to the model as an initialiser; return its name."""
    name = graph.fresh(base)
    graph.model.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
    graph.constants[name] = values
    graph.shapes[name] = values.shape
    return name


def name_nodes(model: ModelProto) -> None:
    """Give every node a name of its own, the one it has where it is free."""
    taken: set[str] = set()
    for i, node in enumerate(model.graph.node):
        base = node.name or f"{node.op_type}_{i}"
        node.name, n = base, 1
        while node.name in taken:
            node.name, n = f"{base}_{n}", n + 1
        taken.add(node.name)


def renamed(model: ModelProto, old: str, new: str) -> None:
    """Give a tensor of the model another name, wherever it stands."""
    for node in model.graph.node:
        for names in (node.input, node.output):
            for i, name in enumerate(names):
                if name == old:
                    names[i] = new
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info, *model.graph.initializer):
        if value.name == old:
            value.name = new


def prune(model: ModelProto) -> int:
    """Drop nodes and initialisers that no output needs and sort the rest; return how many nodes went."""
    graph = model.graph
    producer = {name: node for node in graph.node for name in node.output if name}
    order: list[NodeProto] = []
    state: dict[int, bool] = {}  # by identity: False while its inputs are being placed
    stack = [(producer[value.name], False) for value in reversed(graph.output) if value.name in producer]
    while stack:
        node, ready = stack.pop()
        if ready:
            state[id(node)] = True
            order.append(node)
        elif id(node) not in state:
            state[id(node)] = False
            stack.append((node, True))
            stack += [(producer[name], False) for name in reversed(_reads(node)) if name in producer]
    went = len(graph.node) - len(order)
    kept = [NodeProto.FromString(node.SerializeToString()) for node in order]
    del graph.node[:]
    graph.node.extend(kept)
    used = {name for node in kept for name in _reads(node)} | {value.name for value in graph.output}
    tensors = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(tensors)
    alive = {name for node in kept for name in node.output}
    infos = [info for info in graph.value_info if info.name in alive]
    del graph.value_info[:]
    graph.value_info.extend(infos)
    name_nodes(model)
    return went


def _reads(node: NodeProto) -> list[str]:
    """The tensors a node reads, those its subgraphs take from outside included."""
    names = [name for name in node.input if name]
    for entry in node.attribute:
        for inner in (entry.g, *entry.graphs):
            names += [name for child in inner.node for name in _reads(child)]
            names += [value.name for value in inner.output]
    return names
