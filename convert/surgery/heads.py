"""A detector's fused output taken apart, so that boxes and scores each get a scale of their own."""

from collections.abc import Mapping

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper

from convert.surgery.graph import Graph, prune, renamed, with_constant
from convert.surgery.slicing import columns

__all__ = ["split_outputs"]


def split_outputs(
    model: ModelProto, output: str, axis: int, roles: Mapping[str, tuple[int, int]]
) -> tuple[ModelProto, str]:
    """Return the model with `output` replaced by one output a role, named after it, and what was done.

    roles: role -> its columns, first and last (exclusive), along `axis`. The split is pushed up through transposes,
    reshapes and concatenations to where the parts arise. Where one of them does not arise apart, nothing is done.
    """
    model = ModelProto.FromString(model.SerializeToString())
    graph = Graph.of(model)
    parts = {role: columns(graph, output, axis, *span) for role, span in roles.items()}
    if None in parts.values() or len(set(parts.values())) != len(parts):
        return model, ""
    made = []
    for role, part in parts.items():
        assert part is not None
        made.append((graph.fresh(role) if role in graph.producer else role, _as_rows(graph, part)))
    position = graph.outputs.index(output)
    kind = model.graph.output[position].type.tensor_type.elem_type or TensorProto.FLOAT
    values = [helper.make_tensor_value_info(name, kind, graph.shapes[part]) for name, part in made]
    others = list(model.graph.output)
    others[position : position + 1] = values
    del model.graph.output[:]
    model.graph.output.extend(others)
    for name, part in made:
        renamed(model, part, name)
    prune(model)
    return model, f"split '{output}' into {', '.join(name for name, _ in made)}"


def _as_rows(graph: Graph, part: str) -> str:
    """A single plane (1, 1, H, W) or (1, H, W, 1) as (1, H * W, 1): decoders read it as one column a candidate."""
    shape = graph.shapes[part]
    if len(shape) != 4 or 1 not in (shape[1], shape[3]):
        return part
    name = graph.fresh(f"{part}_rows")
    wanted = with_constant(graph, f"{name}_shape", np.array([1, int(np.prod(shape)), 1], np.int64))
    node: NodeProto = helper.make_node("Reshape", [part, wanted], [name])
    graph.model.graph.node.append(node)
    graph.producer[name] = node
    graph.shapes[name] = (1, int(np.prod(shape)), 1)
    return name
