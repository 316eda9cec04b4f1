"""An engine that computes nothing: for pipelines without a model, for tests and for measuring overhead."""

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from edge.config import EngineSection
from edge.errors import EngineError
from edge.structs import as_struct, read_toml
from edge.tensor import Layout, Quantization, TensorSpec

__all__ = ["NullEngine"]


class _Tensor(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    shape: list[int]
    dtype: str = "float32"
    layout: Layout | None = None
    scale: float | None = None
    zero_point: int = 0
    fill: float = 0.0

    def spec(self) -> TensorSpec:
        quantization = None if self.scale is None else Quantization(self.scale, self.zero_point)
        return TensorSpec(self.name, tuple(self.shape), np.dtype(self.dtype), self.layout, quantization)


class _NullFile(msgspec.Struct, forbid_unknown_fields=True):
    inputs: list[_Tensor]
    outputs: list[_Tensor]


class NullEngine:
    """Has the tensors a `.null` TOML file describes; `run` does nothing and the outputs keep what is in them.

    The file has [[inputs]] and [[outputs]] with name, shape, dtype, layout, scale, zero_point and fill.
    """

    lost = ""

    def __init__(self, path: Path, options: EngineSection) -> None:
        described = as_struct(read_toml(path, EngineError), _NullFile, str(path), EngineError)
        try:
            self.input_specs = [tensor.spec() for tensor in described.inputs]
            self.output_specs = [tensor.spec() for tensor in described.outputs]
        except TypeError as exc:
            raise EngineError(f"{path}: {exc}", "use a numpy dtype name such as float32") from exc
        self.inputs = [np.zeros(spec.shape, spec.dtype) for spec in self.input_specs]
        self.outputs = [
            np.full(spec.shape, tensor.fill, spec.dtype)
            for spec, tensor in zip(self.output_specs, described.outputs, strict=True)
        ]
        self.embedded: dict[str, str] = {}

    def run(self) -> None:
        """Do nothing."""

    def adopt(self, inputs: Sequence[np.ndarray], outputs: Sequence[np.ndarray]) -> bool:
        """Use these arrays, of the specs' shapes and dtypes, from now on; the inputs as they are. Returns True."""
        for old, new in zip(self.outputs, outputs, strict=True):
            new[...] = old
        self.inputs[:], self.outputs[:] = inputs, outputs
        return True

    def close(self) -> None:
        """Drop the buffers."""
        self.inputs, self.outputs = [], []
