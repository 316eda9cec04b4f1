"""A float32 ONNX computed in float16, its inputs and outputs still float32: half the size, TensorRT's FP16.

What stays float32, each with Casts around it: operators (or single inputs of them, such as the scales of Resize) that
ONNX does not define for float16, those that add up or raise many values, and those that touch a tensor which leaves
the range of float16 - a constant, or by its calibrated range an activation.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from calibration.ranges import Ranges
from convert.quantize_onnx import read_onnx, write_onnx
from edge.errors import EngineError

__all__ = ["write_float16"]

_LARGEST = float(np.finfo(np.float16).max)
_HEADROOM = 0.5  # what pictures beyond the calibration's may need
_GROWING = ("CumSum", "Exp", "InstanceNormalization", "LayerNormalization", "Pow")  # and every Reduce
_SATURATING = ("Clip", "Pad")  # a bound beyond float16 is no bound there: the largest number says the same
_SUBGRAPHS = (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS)


class _Halver:
    """Rewrites one graph node by node; knows in which of two types each float tensor is to be had."""

    def __init__(self, model: onnx.ModelProto, ranges: Ranges | None) -> None:
        try:
            inferred = onnx.shape_inference.infer_shapes(model)
        except onnx.shape_inference.InferenceError as exc:
            raise EngineError(f"the types of the model contradict each other ({exc})", "export it again") from exc
        graph = inferred.graph
        values = [*graph.value_info, *graph.input, *graph.output]
        self._floats = {v.name for v in values if v.type.tensor_type.elem_type == TensorProto.FLOAT}
        self._constants = {t.name: t for t in model.graph.initializer}
        self._floats |= {t.name for t in model.graph.initializer if t.data_type == TensorProto.FLOAT}
        self._opset = next(o.version for o in model.opset_import if o.domain in ("", "ai.onnx"))
        self._wide = {
            name
            for name, pair in (ranges.tensors if ranges else {}).items()
            if max(map(abs, pair)) > _LARGEST * _HEADROOM
        }
        self._halves: dict[str, str] = {}  # float32 name -> its float16 copy
        self._is_half: set[str] = set()  # made as float16; the float32 name is then a Cast's
        self.nodes: list[onnx.NodeProto] = []
        self.made: list[onnx.TensorProto] = []

    def take(self, node: onnx.NodeProto) -> None:
        """Append a node, in float16 where that is sound, and the Casts it needs."""
        places = self._half_places(node)
        copy = onnx.NodeProto.FromString(node.SerializeToString())
        for i, name in enumerate(node.input):
            if places and i in places[0]:
                copy.input[i] = self._half(name, saturate=node.op_type in _SATURATING)
            elif name in self._is_half:
                copy.input[i] = self._float(name)
        for i, name in enumerate(node.output):
            if places and i in places[1]:
                copy.output[i] = self._halves[name] = f"{name}_float16"
                self._is_half.add(name)
        self.nodes.append(copy)

    def finish(self, outputs: Iterable[str]) -> None:
        """Append the Casts of the model's outputs."""
        for name in outputs:
            if name in self._is_half:
                self._float(name)

    def _half(self, name: str, saturate: bool) -> str:
        if name not in self._halves:
            self._halves[name] = copy = f"{name}_float16"
            if name in self._constants:
                values = numpy_helper.to_array(self._constants[name])
                values = np.clip(values, -_LARGEST, _LARGEST) if saturate else values
                self.made.append(numpy_helper.from_array(values.astype(np.float16), copy))
            else:
                self.nodes.append(helper.make_node("Cast", [name], [copy], f"{copy}_cast", to=TensorProto.FLOAT16))
        return self._halves[name]

    def _float(self, name: str) -> str:
        """The float32 of a tensor made as float16, under its own name."""
        self._is_half.discard(name)
        self.nodes.append(
            helper.make_node("Cast", [self._halves[name]], [name], f"{name}_float32_cast", to=TensorProto.FLOAT)
        )
        return name

    def _half_places(self, node: onnx.NodeProto) -> tuple[set[int], set[int]] | None:
        """Which inputs and outputs become float16; None where the node stays as it is."""
        if (
            node.op_type in _GROWING
            or node.op_type.startswith("Reduce")
            or any(a.type in _SUBGRAPHS for a in node.attribute)
            or self._overflows(node)
        ):
            return None
        try:
            schema = onnx.defs.get_schema(node.op_type, self._opset, node.domain)
        except onnx.defs.SchemaError:  # somebody's own operator
            return None
        both = {c.type_param_str for c in schema.type_constraints if _both(c.allowed_type_strs)}
        sides: list[set[int]] = []
        for names, parameters in ((node.input, schema.inputs), (node.output, schema.outputs)):
            kinds = [parameters[min(i, len(parameters) - 1)].type_str for i in range(len(names))]
            sides.append({i for i, name in enumerate(names) if name in self._floats and kinds[i] in both})
        every = {i for i, name in enumerate(node.output) if name in self._floats}
        return (sides[0], sides[1]) if sides[0] and every == sides[1] else None

    def _overflows(self, node: onnx.NodeProto) -> bool:
        names = [*node.input, *node.output]
        if any(name in self._wide for name in names):
            return True
        if node.op_type in _SATURATING:
            return False
        return any(_beyond(self._constants[name]) for name in names if name in self._constants)


def write_float16(source: Path, target: Path, ranges: Ranges | None = None) -> None:
    """Write `source`, a float32 ONNX, to `target` so that it computes in float16 between float32 inputs and outputs.

    ranges: calibrated ones, by which tensors that would overflow stay float32.
    Raises: EngineError when the source is unreadable or its opset too old, ConfigError when the file cannot be written.
    """
    model = read_onnx(source)
    halver = _Halver(model, ranges)
    for node in model.graph.node:
        halver.take(node)
    halver.finish([output.name for output in model.graph.output])
    read = {name for node in halver.nodes for name in node.input}
    read |= {output.name for output in model.graph.output}
    kept = [tensor for tensor in model.graph.initializer if tensor.name in read]
    del model.graph.node[:], model.graph.initializer[:], model.graph.value_info[:]
    model.graph.node.extend(halver.nodes)
    model.graph.initializer.extend([*kept, *halver.made])
    write_onnx(model, target)


def _both(types: Iterable[str]) -> bool:
    return {"tensor(float)", "tensor(float16)"} <= set(types)


def _beyond(tensor: onnx.TensorProto) -> bool:
    if tensor.data_type != TensorProto.FLOAT:
        return False
    values = np.abs(numpy_helper.to_array(tensor))
    return bool((values[np.isfinite(values)] > _LARGEST).any())
