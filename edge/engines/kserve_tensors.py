"""What a KServe v2 server says of a model's tensors, in the words of this house, and whether an answer keeps to it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edge.errors import EngineError
from edge.tensor import Layout, TensorSpec

__all__ = ["Answer", "RemoteModel", "check_finite", "check_tensor", "datatype_of", "remote_model"]

_DTYPES = {
    "FP32": np.float32,
    "FP16": np.float16,
    "FP64": np.float64,
    "UINT8": np.uint8,
    "INT8": np.int8,
    "UINT16": np.uint16,
    "INT16": np.int16,
    "UINT32": np.uint32,
    "INT32": np.int32,
    "UINT64": np.uint64,
    "INT64": np.int64,
    "BOOL": np.bool_,
}
_NAMES = {np.dtype(dtype): name for name, dtype in _DTYPES.items()}
_LAYOUTS: dict[str, Layout] = {"FORMAT_NCHW": "NCHW", "FORMAT_NHWC": "NHWC"}


@dataclass(frozen=True, slots=True)
class RemoteModel:
    """A model as its server describes it. open_outputs: of which outputs an axis has no fixed size."""

    inputs: list[TensorSpec]
    outputs: list[TensorSpec]
    open_outputs: frozenset[str]
    embedded: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Answer:
    """One output tensor of an answer, as the server names it."""

    name: str
    datatype: str
    shape: Sequence[int]


def remote_model(metadata: Mapping[str, Any], config: Mapping[str, Any]) -> RemoteModel:
    """Return what a server's metadata and (Triton alone has one, else {}) configuration of a model say.

    Raises: EngineError for a model without tensors, of types this house has not, or of open size.
    """
    name = metadata.get("name", "the model")
    if not metadata.get("inputs") or not metadata.get("outputs"):
        raise EngineError(f"the server does not say what tensors {name} has", "describe its inputs and outputs there")
    formats = {entry.get("name"): entry.get("format", "") for entry in config.get("input", ())}
    inputs = [_spec(tensor, is_input=True, form=formats.get(tensor["name"], "")) for tensor in metadata["inputs"]]
    outputs = [_spec(tensor, is_input=False) for tensor in metadata["outputs"]]
    parameters = config.get("parameters", {}).items()
    return RemoteModel(
        inputs,
        outputs,
        frozenset(tensor["name"] for tensor in metadata["outputs"] if any(int(n) < 1 for n in tensor["shape"][1:])),
        {key: str(value.get("string_value", "")) for key, value in parameters if isinstance(value, dict)},
    )


def datatype_of(spec: TensorSpec) -> str:
    """Return the protocol's name of a tensor's type."""
    return _NAMES[spec.dtype]


def check_tensor(answer: Answer, spec: TensorSpec, is_open: bool) -> None:
    """Check that an output is of the type and shape that were promised; is_open: all but the type may differ.

    Raises: EngineError.
    """
    shape = tuple(int(n) for n in answer.shape)
    same = len(shape) == len(spec.shape) if is_open else shape == spec.shape
    if not same or answer.datatype != datatype_of(spec):
        raise EngineError(
            f"the server's answer has {answer.name} as {answer.datatype} {_by(shape)}, "
            f"its description {datatype_of(spec)} {_by(spec.shape)}",
            "the model there was changed or describes itself wrongly; start again once it is right",
        )


def check_finite(outputs: Sequence[np.ndarray], specs: Sequence[TensorSpec]) -> None:
    """Check that no output (any shape and dtype) holds a NaN: a maximum is one where any value is.

    Raises: EngineError.
    """
    for output, spec in zip(outputs, specs, strict=True):
        if output.dtype.kind == "f" and output.size and np.isnan(output.max()):
            raise EngineError(f"the server's answer has NaN in {spec.name}", "the model fails on this input there")


def _spec(tensor: Mapping[str, Any], is_input: bool, form: str = "") -> TensorSpec:
    kind, name, datatype = "input" if is_input else "output", tensor["name"], tensor["datatype"]
    if datatype not in _DTYPES:
        raise EngineError(f"{kind} '{name}' of the server's model is {datatype}", "serve a model of numbers")
    said = [int(n) for n in tensor["shape"]]  # -1 where the size is open; JSON of protobuf has numbers as text
    shape = tuple(max(n, 1) for n in said)
    if not is_input or len(shape) != 4:
        return TensorSpec(name, shape, np.dtype(_DTYPES[datatype]))
    if any(n < 1 for n in said[1:]):
        raise EngineError(f"input '{name}' of the server's model has no fixed size ({said})", "serve one of fixed size")
    guessed: Layout = "NHWC" if shape[3] in (1, 3) and shape[1] not in (1, 3) else "NCHW"
    return TensorSpec(name, shape, np.dtype(_DTYPES[datatype]), _LAYOUTS.get(form, guessed))


def _by(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))
