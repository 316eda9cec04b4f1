"""The decode arithmetic of a .tflite file."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from convert.decode_arithmetic import Step, decode_arithmetic
from convert.tflite_edit import op_name, read_model, tensor_name

__all__ = ["tflite_decode_arithmetic"]


def tflite_decode_arithmetic(source: Path, roles: Mapping[str, str]) -> list[str]:
    """Return what `quantize_tflite` takes to keep a float file's decode arithmetic in float.

    roles: role -> output name. Raises: ModelError when the file cannot be read.
    """
    model = read_model(source)
    graph = model.subgraphs[0]
    names = [tensor_name(tensor) for tensor in graph.tensors]
    dependent = set(map(int, graph.inputs))
    steps = []
    for op in graph.operators:
        inputs = [int(i) for i in op.inputs if i >= 0]
        moving = [i for i in inputs if i in dependent]
        if moving:
            dependent |= set(map(int, op.outputs))
        shapes = [graph.tensors[i].shape for i in inputs if i not in dependent]
        constant = max((int(np.prod(shape)) for shape in shapes if shape is not None), default=0)
        outputs = tuple(names[i] for i in op.outputs)
        steps.append(Step(op_name(model, op).lower(), outputs, tuple(names[i] for i in moving), constant))
    return decode_arithmetic(steps, roles)
