"""Reading a .tflite file into objects that can be changed, and writing it so that every runtime takes it.

Weights always lie inside the flatbuffer, each vector on a 16-byte boundary as the schema asks (force_align): files
with weights behind the flatbuffer are refused by tflite-runtime up to 2.13, and unaligned ones are slow or fatal on
some ARM cores.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils

from edge.errors import ModelError
from edge.files import write_atomically

__all__ = [
    "Reader",
    "add_constant",
    "add_tensor",
    "constant",
    "op_name",
    "parse_model",
    "read_model",
    "set_constant",
    "tensor_name",
    "write_model",
]

ALIGNMENT_BYTES = 16

_OP_NAMES = {value: name for name, value in vars(schema.BuiltinOperator).items() if not name.startswith("_")}
_DTYPES = {0: np.float32, 1: np.float16, 2: np.int32, 3: np.uint8, 4: np.int64, 7: np.int16, 9: np.int8}


class _AlignedBuilder(flatbuffers.Builder):
    """The flatbuffer builder, with every vector of bytes on a 16-byte boundary."""

    def StartVector(self, elemSize: int, numElems: int, alignment: int) -> int:
        """Begin a vector; the generated schema code calls this."""
        return super().StartVector(elemSize, numElems, max(alignment, ALIGNMENT_BYTES if elemSize == 1 else 1))


def read_model(path: Path) -> Any:
    """Return the file as the schema's ModelT, weights as numpy arrays.

    Raises: ModelError when it cannot be read or is no .tflite file.
    """
    try:
        return parse_model(path.read_bytes())
    except OSError as exc:
        raise ModelError(f"cannot read {path} ({exc.strerror})", "check the path") from exc
    except Exception as exc:  # the generated code trusts every offset: anything may come of a damaged file
        raise ModelError(f"{path.name} is damaged or no .tflite file", "convert it again") from exc


def parse_model(data: bytes | bytearray) -> Any:
    """Return the bytes of a .tflite file as the schema's ModelT, with weights behind the flatbuffer taken in.

    Raises: ValueError when they are no .tflite file.
    """
    if bytes(data[4:8]) != b"TFL3":
        raise ValueError("no TFL3 flatbuffer")
    model = flatbuffer_utils.read_model_from_bytearray(data)
    for buffer in model.buffers:
        if buffer.data is not None:
            buffer.data = np.frombuffer(bytes(buffer.data), np.uint8)
        buffer.offset = buffer.size = 0
    return model


def write_model(path: Path, model: Any) -> None:
    """Write a ModelT, replacing the file at once.

    Raises: ConfigError when it cannot be written.
    """
    builder = _AlignedBuilder(1 << 20)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    write_atomically(path, bytes(builder.Output()))


def op_name(model: Any, op: Any) -> str:
    """Return the name of an operator of the model, as in the schema: CONV_2D."""
    code = model.operatorCodes[op.opcodeIndex]
    return _OP_NAMES[max(code.builtinCode, code.deprecatedBuiltinCode)]


def tensor_name(tensor: Any) -> str:
    """Return a TensorT's name."""
    return tensor.name.decode("utf-8", "replace") if isinstance(tensor.name, bytes) else str(tensor.name)


def constant(model: Any, tensor: Any) -> np.ndarray | None:
    """Return a constant's values in the tensor's shape and type (a copy), None for an activation."""
    data = model.buffers[tensor.buffer].data
    if data is None or tensor.type not in _DTYPES:
        return None
    shape = [] if tensor.shape is None else list(tensor.shape)
    return np.frombuffer(np.asarray(data, np.uint8).tobytes(), _DTYPES[tensor.type]).reshape(shape).copy()


def set_constant(model: Any, tensor: Any, values: np.ndarray) -> None:
    """Give a constant other values, in a buffer of its own. values: of its shape and dtype."""
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(np.ascontiguousarray(values).tobytes(), np.uint8)
    model.buffers.append(buffer)
    tensor.buffer = len(model.buffers) - 1


def add_constant(model: Any, name: str, values: np.ndarray) -> int:
    """Add a float32 constant (values: its shape) and return the index of its tensor."""
    index = add_tensor(model, name, values.shape)
    set_constant(model, model.subgraphs[0].tensors[index], values.astype(np.float32))
    return index


def add_tensor(model: Any, name: str, shape: Sequence[int]) -> int:
    """Add a float32 activation and return the index of its tensor."""
    tensor = schema.TensorT()
    tensor.name, tensor.type, tensor.hasRank = name.encode(), schema.TensorType.FLOAT32, True
    tensor.shape, tensor.buffer = [int(n) for n in shape], 0  # the empty buffer of all activations
    model.subgraphs[0].tensors.append(tensor)
    return len(model.subgraphs[0].tensors) - 1


class Reader:
    """Who makes and who reads each tensor (by index) of a model's first graph, as it was at the beginning."""

    def __init__(self, model: Any) -> None:
        graph = model.subgraphs[0]
        self._outputs = set(graph.outputs)
        self._makers = {i: op for op in graph.operators for i in op.outputs}
        self._readers: dict[int, list[Any]] = {}
        for op in graph.operators:
            for i in dict.fromkeys(op.inputs):
                self._readers.setdefault(i, []).append(op)

    def maker(self, tensor: int) -> Any | None:
        """Return the operator that makes a tensor, None for inputs and constants."""
        return self._makers.get(tensor)

    def readers(self, tensor: int) -> list[Any]:
        """Return the operators that read a tensor, in graph order."""
        return self._readers.get(tensor, [])

    def is_output(self, tensor: int) -> bool:
        """Return whether a tensor is an output of the graph."""
        return tensor in self._outputs
