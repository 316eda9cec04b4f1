"""Every float activation of an ONNX file, through ONNX Runtime on a copy in memory with more outputs."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort

from edge.errors import EngineError

__all__ = ["OnnxActivations"]

_QUANTIZING = ("QuantizeLinear", "QLinearConv", "DynamicQuantizeLinear")
_CHUNK_BYTES = 512 << 20  # of activations held at once; a bigger model runs once for each chunk
_UNKNOWN_BYTES = 8 << 20  # for a tensor whose shape is not known before it is run


class OnnxActivations:
    """See `calibration.collect.Activations` for the contract. The file itself is only read."""

    channel_axis = 1

    def __init__(self, path: Path, threads: int) -> None:
        model = _load(path)
        weights = {tensor.name for tensor in model.graph.initializer}
        inputs = [entry for entry in model.graph.input if entry.name not in weights]
        if len(inputs) != 1:
            raise EngineError(f"{path.name} has {len(inputs)} inputs", "export the model with one image input")
        self._input = inputs[0].name
        self._elem = onnx.helper.tensor_dtype_to_np_dtype(inputs[0].type.tensor_type.elem_type)
        self.quantized = any(node.op_type in _QUANTIZING for node in model.graph.node)
        names = _dependent(model.graph, self._input)
        self._sessions = [_session(path, model, chunk, threads) for chunk in _chunks(model, names)]
        self._fetched = [
            [output.name for output in session.get_outputs() if output.type in ("tensor(float)", "tensor(float16)")]
            for session in self._sessions
        ]
        floats = {name for chunk in self._fetched for name in chunk}
        self._shows_input = self._elem in (np.float32, np.float16)
        self.names = [self._input] * self._shows_input + [name for name in names if name in floats]

    def run(self, values: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
        """Run one input, (1, ...) in the model's dtype, and yield the name and value of each activation.

        Raises: EngineError.
        """
        if self._shows_input:
            yield self._input, values
        for session, fetched in zip(self._sessions, self._fetched, strict=True):
            try:
                found = session.run(fetched, {self._input: values})
            except Exception as exc:  # the pybind11 exceptions of ONNX Runtime derive from Exception alone
                raise EngineError(
                    f"the model failed while running ({_first_line(exc)})", "check its input, or export it again"
                ) from exc
            yield from ((name, value) for name, value in zip(fetched, found, strict=True) if value.size)


def _load(path: Path) -> onnx.ModelProto:
    try:
        model = onnx.load(path)
        return onnx.shape_inference.infer_shapes(model)
    except Exception as exc:  # protobuf's and onnx's own errors share no base
        raise EngineError(
            f"{path.name} is not an ONNX model ({_first_line(exc)})", "check that the file is complete"
        ) from exc


def _dependent(graph: onnx.GraphProto, source: str) -> list[str]:
    """Names of all that is computed from the input, in the file's order; constants are none of it."""
    reached, names = {source}, []
    for node in graph.node:
        # what a body reads from outside is not among the node's inputs
        has_body = any(attribute.type == onnx.AttributeProto.GRAPH for attribute in node.attribute)
        if reached.intersection(node.input) or has_body:
            fresh = [name for name in node.output if name]
            reached.update(fresh)
            names += fresh
    return names


def _chunks(model: onnx.ModelProto, names: list[str]) -> list[list[str]]:
    sizes = {}
    for entry in (*model.graph.value_info, *model.graph.output):
        dims = entry.type.tensor_type.shape.dim
        known = entry.type.tensor_type.HasField("shape") and all(dim.dim_value > 0 for dim in dims)
        sizes[entry.name] = 4 * int(np.prod([dim.dim_value for dim in dims])) if known else _UNKNOWN_BYTES
    chunks: list[list[str]] = [[]]
    held = 0
    for name in names:
        size = sizes.get(name, _UNKNOWN_BYTES)
        if chunks[-1] and held + size > _CHUNK_BYTES:
            chunks.append([])
            held = 0
        chunks[-1].append(name)
        held += size
    return chunks


def _session(path: Path, model: onnx.ModelProto, names: list[str], threads: int) -> ort.InferenceSession:
    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    del shown.graph.output[:]
    shown.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)  # the runtime fills in the types
    settings = ort.SessionOptions()
    settings.intra_op_num_threads = threads
    settings.inter_op_num_threads = 1
    settings.log_severity_level = 3
    try:
        return ort.InferenceSession(shown.SerializeToString(), settings, providers=["CPUExecutionProvider"])
    except Exception as exc:  # as above; also protobuf's, for models over 2 GB
        raise EngineError(
            f"{path.name} cannot be run with its activations shown ({_first_line(exc)})", "export it again"
        ) from exc


def _first_line(exc: Exception) -> str:
    lines = str(exc).strip().splitlines()
    return lines[0][:200] if lines else type(exc).__name__
