"""The translation from a cleaned float32 ONNX file to a float32 TFLite file."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

from convert.onnx_to_tflite import (
    activation,
    convolution,
    elementwise,
    linear,
    pooling,
    reduction,
    resizing,
    shaping,
    slicing,
)
from convert.onnx_to_tflite.graph import Graph, Node, read_graph
from convert.onnx_to_tflite.rewrites import rewrite
from convert.onnx_to_tflite.translation import Translation
from convert.onnx_to_tflite.view import NHWC, plain_order
from edge.errors import EngineError

__all__ = ["translate"]

_FAMILIES = (activation, convolution, elementwise, linear, pooling, reduction, resizing, shaping, slicing)
_TRANSLATORS: dict[str, Callable[[Translation, Node], None]] = {
    op: function for family in _FAMILIES for op, function in family.OPS.items()
}


def translate(onnx_file: Path, tflite_file: Path) -> dict[str, tuple[int, ...]]:
    """Write the TFLite equal of an ONNX file of fixed shapes, and return the axis order of each output.

    Image inputs become NHWC. Output names and their order stay. A 4-D output stays as its data lies, mostly NHWC:
    the order (0, 2, 3, 1) in the result says so; any other output keeps its ONNX shape.
    Tensors have the names they have in the ONNX file; where a move of data makes a second one, that one has a suffix.

    Raises: EngineError for a file that is no ONNX model, a dynamic shape or an operator without an equal.
    """
    graph = read_graph(onnx_file)
    rewrite(graph)
    _check_supported(graph)
    t = Translation(graph)
    inputs = [_add_input(t, name) for name in graph.inputs]
    for node in list(graph.nodes):
        if id(node) not in t.done:
            _TRANSLATORS[node.op](t, node)
    outputs = {name: _finish_output(t, name, set(inputs)) for name in graph.outputs}
    tflite_file.parent.mkdir(parents=True, exist_ok=True)
    t.writer.save(tflite_file, inputs, [tensor for tensor, _ in outputs.values()])
    return {name: order for name, (_, order) in outputs.items()}


def _check_supported(graph: Graph) -> None:
    missing = [node for node in graph.nodes if node.op not in _TRANSLATORS]
    if not missing:
        return
    counts = Counter(node.op for node in missing)
    named = ", ".join(f"{op} ({count} of them)" if count > 1 else op for op, count in counts.most_common())
    first = missing[0]
    raise EngineError(
        f"TFLite has no equal of {named}; the first is node {first.name or first.outputs[0]}",
        "export the model without it (for a detector: without its built-in NMS), or convert with --to onnx",
    )


def _add_input(t: Translation, name: str) -> int:
    """Add a graph input: an image as NHWC, unless ONNX itself has the channels last and transposes first."""
    shape = t.shape(name)
    readers = t.graph.readers(name)
    channels_last = bool(readers) and all(
        node.op == "Transpose" and node.attributes.get("perm") == [0, 3, 1, 2] for node in readers
    )
    order = NHWC if len(shape) == 4 and not channels_last else plain_order(len(shape))
    tensor = t.writer.tensor(name, tuple(shape[axis] for axis in order), t.graph.dtypes[name])
    t.place(name, tensor, shape, order)
    return tensor


def _finish_output(t: Translation, name: str, inputs: set[int]) -> tuple[int, tuple[int, ...]]:
    """Bring a graph output into its final order and give it its name."""
    view = t.view(name)
    rank = len(view.axes)
    order = plain_order(rank)
    if rank == 4 and view.lies_in(NHWC):
        order = NHWC
    tensor = t.fetch_view(view, order, name)
    slot = t.writer.tensors[tensor]
    if tensor in inputs or slot.buffer or (slot.name in t.graph.outputs and slot.name != name):
        # one tensor cannot have two names: an equal one, of the same shape
        target = t.ints(slot.shape)
        tensor = t.emit("RESHAPE", [tensor, target], slot.shape, name, ("Reshape", {"newShape": list(slot.shape)}))
    if t.writer.tensors[tensor].name != name:
        t.writer.rename(tensor, name)
    return tensor, order
