"""Building a TFLite flatbuffer: tensors, constants stored once, operators in their lowest sufficient version."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edge.errors import EngineError
from edge.files import write_atomically

__all__ = ["Options", "TensorSlot", "Writer"]

Options = tuple[str, dict[str, Any]]  # ("Conv2D", {"strideH": 2, ...}) for schema's Conv2DOptions

_ALIGNMENT_BYTES = 16  # the schema's force_align of a buffer's data, which the generated packer leaves out
_TYPES = {
    "float32": schema.TensorType.FLOAT32,
    "int32": schema.TensorType.INT32,
    "int64": schema.TensorType.INT64,
    "bool": schema.TensorType.BOOL,
    "uint8": schema.TensorType.UINT8,
    "int8": schema.TensorType.INT8,
}


@dataclass(slots=True)
class TensorSlot:
    """A TFLite tensor: its name, physical shape, dtype and, for a constant, the index of its buffer."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    buffer: int = 0


@dataclass(slots=True)
class Writer:
    """A model of one subgraph that grows operator by operator."""

    tensors: list[TensorSlot] = field(default_factory=list)
    names: set[str] = field(default_factory=set)
    _buffers: list[bytes] = field(default_factory=lambda: [b""])
    _constants: dict[tuple[bytes, tuple[int, ...], str], int] = field(default_factory=dict)
    _codes: list[tuple[int, int]] = field(default_factory=list)
    _operators: list[schema.OperatorT] = field(default_factory=list)

    def tensor(self, name: str, shape: tuple[int, ...], dtype: str) -> int:
        """Add a tensor and return its index; a taken name gets a number behind it.

        Raises: EngineError for a dtype TFLite files of this kind do not have.
        """
        if dtype not in _TYPES:
            raise EngineError(f"tensor {name} is {dtype}", "export the model in float32")
        unique, count = name, 1
        while unique in self.names:
            count += 1
            unique = f"{name}/{count}"
        self.names.add(unique)
        self.tensors.append(TensorSlot(unique, shape, dtype))
        return len(self.tensors) - 1

    def constant(self, value: np.ndarray, name: str) -> int:
        """Add a constant, any shape and dtype, and return its tensor.

        Equal weights are stored once, equal shapes too; but each bias and number is its own, since a quantizer
        gives each the scale of its operator.
        """
        value = np.asarray(value)
        key = (value.tobytes(), value.shape, str(value.dtype))
        if key not in self._constants or (value.ndim < 2 and value.dtype.kind == "f"):
            index = self.tensor(name, value.shape, str(value.dtype))
            self._buffers.append(key[0])
            self.tensors[index].buffer = len(self._buffers) - 1
            self._constants[key] = index
        return self._constants[key]

    def operator(self, op: str, inputs: list[int], outputs: list[int], options: Options | None = None) -> None:
        """Add a builtin operator by its schema name."""
        settings = options[1] if options else {}
        code = (getattr(schema.BuiltinOperator, op), self._version(op, inputs, outputs, settings))
        if code not in self._codes:
            self._codes.append(code)
        operator = schema.OperatorT()
        operator.opcodeIndex = self._codes.index(code)
        operator.inputs, operator.outputs = np.array(inputs, np.int32), np.array(outputs, np.int32)
        if options:
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, f"{options[0]}Options")
            operator.builtinOptions = getattr(schema, f"{options[0]}OptionsT")()
            for key, value in settings.items():
                setattr(operator.builtinOptions, key, value)
        self._operators.append(operator)

    def rename(self, index: int, name: str) -> None:
        """Give a tensor the name, whoever had it before."""
        for other, slot in enumerate(self.tensors):
            if slot.name == name and other != index:
                self.names.discard(name)
                slot.name = ""
                slot.name = self._spare(f"{name}/source")
        self.tensors[index].name = name
        self.names.add(name)

    def save(self, path: Path, inputs: list[int], outputs: list[int]) -> None:
        """Write the model, replacing an older file at once.

        Raises: ConfigError when it cannot be written.
        """
        graph = schema.SubGraphT()
        graph.name = "main"
        graph.tensors = [_packed_tensor(slot) for slot in self.tensors]
        graph.inputs, graph.outputs = np.array(inputs, np.int32), np.array(outputs, np.int32)
        graph.operators = self._operators
        model = schema.ModelT()
        model.version, model.description, model.subgraphs = 3, "harrier", [graph]
        model.signatureDefs = [self._signature(inputs, outputs)]
        model.operatorCodes = [_packed_code(*code) for code in self._codes]
        model.buffers = [_AlignedBuffer(data) for data in self._buffers]
        tables = 4096 + 512 * (len(self.tensors) + len(self._operators))  # a generous guess: growing copies all
        builder = flatbuffers.Builder(tables + sum(map(len, self._buffers)))
        builder.Finish(model.Pack(builder), b"TFL3")
        write_atomically(path, builder.Output())

    def _signature(self, inputs: list[int], outputs: list[int]) -> schema.SignatureDefT:
        """The model's names as a signature: litert-quantizer calibrates by it."""
        signature = schema.SignatureDefT()
        signature.signatureKey, signature.subgraphIndex = "serving_default", 0
        signature.inputs, signature.outputs = [], []
        for indices, entries in ((inputs, signature.inputs), (outputs, signature.outputs)):
            for index in indices:
                entry = schema.TensorMapT()
                entry.name, entry.tensorIndex = self.tensors[index].name, index
                entries.append(entry)
        return signature

    def _spare(self, name: str) -> str:
        while name in self.names:
            name += "+"
        self.names.add(name)
        return name

    def _version(self, op: str, inputs: list[int], outputs: list[int], settings: dict[str, Any]) -> int:
        """The lowest version of an operator that has what this use of it needs."""
        slots = [self.tensors[i] for i in inputs if i >= 0]
        rank = max((len(slot.shape) for slot in slots), default=0)
        rank = max(rank, *(len(self.tensors[o].shape) for o in outputs))
        wide = any(slot.dtype == "int64" for slot in slots)
        half_pixel = bool(settings.get("halfPixelCenters"))
        dilated = settings.get("dilationHFactor", 1) != 1 or settings.get("dilationWFactor", 1) != 1
        needs = {
            "TRANSPOSE": 6 if rank > 5 else 4 if rank > 4 else 1,
            "SLICE": 5 if rank > 4 else 1,
            "STRIDED_SLICE": 4 if rank > 4 else 1,
            "PAD": 4 if rank > 4 else 1,
            "PADV2": 4 if rank > 4 else 1,
            "ADD": 4 if wide else 1,
            "SUB": 4 if wide else 3 if rank > 4 else 1,
            "MUL": 5 if wide else 1,
            "DIV": 2 if rank > 4 else 1,
            "MAXIMUM": 3 if rank > 4 else 1,
            "MINIMUM": 3 if rank > 4 else 1,
            "RESIZE_BILINEAR": 3 if half_pixel else 1,
            "RESIZE_NEAREST_NEIGHBOR": 3 if half_pixel or settings.get("alignCorners") else 1,
            "DEPTHWISE_CONV_2D": 2 if dilated else 1,
            "TRANSPOSE_CONV": 3,  # with a bias
            "BROADCAST_TO": 2,
        }
        return needs.get(op, 1)


class _AlignedBuffer(schema.BufferT):
    """A buffer whose data starts at a multiple of 16 bytes, as interpreters that map the file expect."""

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self.data = data

    def Pack(self, builder: flatbuffers.Builder) -> int:
        data = 0
        if self.data:
            builder.StartVector(1, len(self.data), _ALIGNMENT_BYTES)
            head = builder.head - len(self.data)
            builder.head = head
            builder.Bytes[head : head + len(self.data)] = self.data
            data = builder.EndVector()
        schema.BufferStart(builder)
        if data:
            schema.BufferAddData(builder, data)
        return schema.BufferEnd(builder)


def _packed_tensor(slot: TensorSlot) -> schema.TensorT:
    tensor = schema.TensorT()
    tensor.name, tensor.type, tensor.buffer = slot.name, _TYPES[slot.dtype], slot.buffer
    tensor.shape = np.array(slot.shape, np.int32)
    return tensor


def _packed_code(builtin: int, version: int) -> schema.OperatorCodeT:
    code = schema.OperatorCodeT()
    code.builtinCode, code.deprecatedBuiltinCode, code.version = builtin, min(builtin, 127), version
    return code
