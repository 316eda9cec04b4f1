"""Small ONNX files for tests, from their nodes."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Shape = Sequence[int | str]


def node(op: str, inputs: str, outputs: str, attributes: Mapping | None = None) -> onnx.NodeProto:
    """A node; inputs and outputs are names separated by blanks, "-" for an absent one."""
    named = ["" if name == "-" else name for name in inputs.split()]
    made = helper.make_node(op, named, outputs.split())
    made.attribute.extend(helper.make_attribute(key, value) for key, value in (attributes or {}).items())
    return made


def save(
    path: Path,
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, Shape],
    outputs: Iterable[str],
    constants: Mapping | None = None,
    opset: int = 13,
    dtypes: Mapping[str, int] | None = None,
    properties: Mapping[str, str] | None = None,
) -> Path:
    """Write a model; shapes by input name, constants as arrays. outputs: names, or shapes by name.

    dtypes: TensorProto's types of ends that are not float32. A node's own domain is imported as version 1.
    """

    def end(name: str, shape: Shape | None) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, (dtypes or {}).get(name, TensorProto.FLOAT), shape)

    shapes = outputs if isinstance(outputs, Mapping) else dict.fromkeys(outputs)
    graph = helper.make_graph(
        nodes,
        "graph",
        [end(name, shape) for name, shape in inputs.items()],
        [end(name, shape) for name, shape in shapes.items()],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in (constants or {}).items()],
    )
    imports = [helper.make_opsetid("", opset)]
    imports += [helper.make_opsetid(domain, 1) for domain in sorted({made.domain for made in nodes} - {""})]
    model = helper.make_model(graph, opset_imports=imports, ir_version=8)
    helper.set_model_props(model, dict(properties or {}))
    onnx.save(model, str(path))
    return path
