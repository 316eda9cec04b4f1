"""The translation under way: which view each ONNX tensor is, and how operators get their operands in order."""

from dataclasses import dataclass, field
from math import prod

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from convert.onnx_to_tflite.graph import Graph, Node
from convert.onnx_to_tflite.view import NHWC, View, merged, plain_order
from convert.onnx_to_tflite.writer import Options, Writer

__all__ = ["NO_ACTIVATION", "Translation"]

NO_ACTIVATION = schema.ActivationFunctionType.NONE
_LIMITS = {
    (0.0, 6.0): schema.ActivationFunctionType.RELU6,
    (-1.0, 1.0): schema.ActivationFunctionType.RELU_N1_TO_1,
    (0.0, np.inf): schema.ActivationFunctionType.RELU,
}


@dataclass(slots=True)
class Translation:
    """One graph on its way into one writer."""

    graph: Graph
    writer: Writer = field(default_factory=Writer)
    views: dict[str, View] = field(default_factory=dict)
    done: set[int] = field(default_factory=set)  # id() of nodes that another one has taken in
    _fetched: dict[tuple, int] = field(default_factory=dict)

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the ONNX shape of a tensor."""
        return self.graph.shapes[name]

    def view(self, name: str) -> View:
        """Return where a tensor lies; a constant is written on first use."""
        if name not in self.views:
            value = self.graph.constants[name]
            self.views[name] = View.over(self.writer.constant(value, name), value.shape, plain_order(value.ndim))
        return self.views[name]

    def fetch(self, name: str, order: tuple[int, ...]) -> int:
        """Return a TFLite tensor that holds the axes of `name` in this order and shape, moving data if it must."""
        if name in self.graph.constants:
            return self.writer.constant(np.ascontiguousarray(self.graph.constants[name].transpose(order)), name)
        return self.fetch_view(self.view(name), order, name)

    def fetch_view(self, view: View, order: tuple[int, ...], name: str) -> int:
        """Return a TFLite tensor that holds the axes of a view in this order and shape; helpers are named after it."""
        shape = tuple(view.shape[axis] for axis in order)
        pieces = merged(piece for axis in order for piece in view.axes[axis])
        key = (view.tensor, tuple(pieces), shape)
        if key not in self._fetched:
            self._fetched[key] = self._moved(view, order, pieces, shape, name)
        return self._fetched[key]

    def _moved(self, view: View, order: tuple[int, ...], pieces: list, shape: tuple[int, ...], name: str) -> int:
        memory = sorted(pieces, key=lambda piece: -piece[1])
        if memory == pieces:
            return self.in_shape(view.tensor, shape, name)
        source = view.tensor
        swap = self._direct_swap(view, order)
        if swap is None:
            source = self.in_shape(source, tuple(size for size, _ in memory), f"{name}/flat")
            swap = [memory.index(piece) for piece in pieces]
        swapped = tuple(self.writer.tensors[source].shape[axis] for axis in swap)
        label = name if swapped == shape else f"{name}/swapped"
        tensor = self.emit("TRANSPOSE", [source, self.ints(swap)], swapped, label, ("Transpose", {}))
        return self.in_shape(tensor, shape, name)

    def _direct_swap(self, view: View, order: tuple[int, ...]) -> list[int] | None:
        """The permutation of the tensor's own dimensions that gives the wanted shape, where one does."""
        shape = self.writer.tensors[view.tensor].shape
        own = View.over(view.tensor, shape, plain_order(len(shape))).axes
        spare = [axis for axis, pieces in enumerate(own) if not pieces]
        swap = []
        for axis in order:
            joined = tuple(merged(view.axes[axis]))
            if joined and joined in own:
                swap.append(own.index(joined))
            elif not joined and spare:
                swap.append(spare.pop(0))
            else:
                return None
        return swap if len(swap) == len(shape) else None

    def in_shape(self, tensor: int, shape: tuple[int, ...], name: str) -> int:
        """Return a tensor of this shape with the same memory."""
        if self.writer.tensors[tensor].shape == shape:
            return tensor
        key = (tensor, "shape", shape)
        if key not in self._fetched:
            target = self.ints(shape)
            options: Options = ("Reshape", {"newShape": np.array(shape, np.int32)})
            self._fetched[key] = self.emit("RESHAPE", [tensor, target], shape, name, options)
        return self._fetched[key]

    def reshaped(self, view: View, shape: tuple[int, ...], name: str) -> View:
        """Return a view in another shape, its memory put in order only where strides cannot say it."""
        seen = view.reshaped(shape)
        if seen is None:
            order = plain_order(len(view.axes))
            seen = View.over(self.fetch_view(view, order, name), view.shape, order).reshaped(shape)
        assert seen is not None  # one run of memory takes any shape
        return seen

    def emit(
        self,
        op: str,
        inputs: list[int],
        shape: tuple[int, ...],
        name: str,
        options: Options | None = None,
        dtype: str | None = None,
    ) -> int:
        """Add an operator with one output of this physical shape, its dtype that of the first input, and return it."""
        kind = dtype or self.writer.tensors[inputs[0]].dtype
        tensor = self.writer.tensor(name, tuple(int(size) for size in shape), kind)
        self.writer.operator(op, inputs, [tensor], options)
        return tensor

    def place(self, name: str, tensor: int, shape: tuple[int, ...], order: tuple[int, ...]) -> None:
        """Say that ONNX tensor `name` of this ONNX shape is `tensor`, whose memory holds the axes in this order."""
        self.views[name] = View.over(tensor, shape, order)

    def image(self, name: str, tensor: int) -> None:
        """Say that the 4-D ONNX tensor `name` is `tensor`, in NHWC order."""
        self.place(name, tensor, self.shape(name), NHWC)

    def ints(self, values) -> int:
        """Return a constant int32 vector."""
        return self.writer.constant(np.array(list(values), np.int32), "shape")

    def floats(self, value, name: str) -> int:
        """Return a constant float32 tensor."""
        return self.writer.constant(np.asarray(value, np.float32), name)

    def order_for(self, names: list[str], rank: int) -> tuple[int, ...]:
        """Return the order of axes in which the fewest elements of these operands must be moved."""
        views = [self.view(name) for name in names if name not in self.graph.constants]
        views = [View(view.tensor, ((),) * (rank - len(view.axes)) + view.axes) for view in views]
        owned = [order for view in views if (order := view.own_order())]
        if rank == 4:  # a tie, or only constants: as images lie
            owned.insert(0, NHWC)
        owned.append(plain_order(rank))
        return min(owned, key=lambda order: sum(prod(view.shape) for view in views if not view.lies_in(order)))

    def fused(self, node: Node) -> tuple[int, str]:
        """Return the activation that the operator of this node can take in, and the name its output then has."""
        name = node.outputs[0]
        reader = self.graph.only_reader(name)
        if reader is None:
            return NO_ACTIVATION, name
        limits = self.limits(reader)
        if limits not in _LIMITS:
            return NO_ACTIVATION, name
        self.done.add(id(reader))
        return _LIMITS[limits], reader.outputs[0]

    def limits(self, node: Node) -> tuple[float, float] | None:
        """Return the bounds of a Relu or a Clip by constants, None for any other node."""
        if node.op == "Relu":
            return 0.0, np.inf
        if node.op != "Clip":
            return None
        bounds = []
        for index, key, default in ((1, "min", -np.inf), (2, "max", np.inf)):
            value = self.graph.constant(node, index)
            if value is None and len(node.inputs) > index and node.inputs[index]:
                return None
            bounds.append(float(node.attributes.get(key, default) if value is None else value))
        if bounds[1] >= np.finfo(np.float32).max:
            bounds[1] = np.inf
        return bounds[0], bounds[1]
