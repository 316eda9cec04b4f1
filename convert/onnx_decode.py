"""The decode arithmetic of an ONNX file."""

from collections.abc import Mapping
from pathlib import Path

from onnx import numpy_helper

from convert.decode_arithmetic import Step, decode_arithmetic
from convert.quantize_onnx import layer_names, read_onnx

__all__ = ["onnx_decode_arithmetic"]


def onnx_decode_arithmetic(source: Path, roles: Mapping[str, str]) -> list[str]:
    """Return the layers that `quantize_onnx` must keep in float for the decode arithmetic to stay in float.

    All other arithmetic has no Q/DQ pairs anyhow. roles: role -> output name.
    Raises: EngineError when the file cannot be read.
    """
    graph = read_onnx(source).graph
    sizes = {tensor.name: numpy_helper.to_array(tensor).size for tensor in graph.initializer}
    dependent = {value.name for value in graph.input} - sizes.keys()
    steps = []
    for node in graph.node:
        moving = tuple(name for name in node.input if name in dependent)
        if moving:
            dependent |= set(node.output)
        elif node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value":
            sizes[node.output[0]] = numpy_helper.to_array(node.attribute[0].t).size
        constant = max((sizes.get(name, 0) for name in node.input), default=0)
        steps.append(Step(node.op_type.lower(), tuple(name for name in node.output if name), moving, constant))
    float_steps = set(decode_arithmetic(steps, roles))
    return [name for name in layer_names(source) if name in float_steps]
