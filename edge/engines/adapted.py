"""A portable runner as an engine of this process."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import msgspec
import numpy as np

from edge.config import EngineSection
from edge.engines.portable import RunnerError, Tensor
from edge.errors import AcceleratorError, ConfigError, EdgeError, EngineError, EngineLostError, MissingBackendError
from edge.tensor import Quantization, TensorSpec

__all__ = ["AdaptedEngine", "Runner", "edge_error_of", "tensor_spec"]

_ERRORS: dict[str, type[EdgeError]] = {
    "engine": EngineError,
    "accelerator": AcceleratorError,
    "missing": MissingBackendError,
    "config": ConfigError,
    "lost": EngineLostError,
}


class Runner(Protocol):
    """What `open_runner(path: str, options: dict)` of a portable module returns; like `Engine`, in plainer words.

    input_tensors, output_tensors: a `Tensor` each. inputs, outputs: as `Engine`'s.
    run() and open_runner() raise RunnerError alone.
    """

    input_tensors: Sequence[Tensor]
    output_tensors: Sequence[Tensor]
    inputs: list[np.ndarray]
    outputs: list[np.ndarray]
    embedded: Mapping[str, str]

    def run(self) -> None:
        """Compute the outputs from the inputs."""

    def close(self) -> None:
        """Release everything."""


class AdaptedEngine:
    """The engine a portable runner makes of a file. See `edge.engines.base.Engine` for the contract.

    runner: the runner itself, for what only its kind can do.
    """

    lost = ""

    def __init__(
        self, open_runner: Callable[[str, dict[str, Any]], Runner], path: Path, options: EngineSection
    ) -> None:
        try:
            self.runner = open_runner(str(path), msgspec.to_builtins(options))
        except RunnerError as exc:
            raise edge_error_of(exc) from exc
        self.input_specs = [tensor_spec(tensor) for tensor in self.runner.input_tensors]
        self.output_specs = [tensor_spec(tensor) for tensor in self.runner.output_tensors]
        self.inputs = self.runner.inputs
        self.outputs = self.runner.outputs
        self.embedded = self.runner.embedded

    def run(self) -> None:
        """Run the model.

        Raises: EngineError, EngineLostError.
        """
        try:
            self.runner.run()
        except RunnerError as exc:
            raise edge_error_of(exc) from exc

    def close(self) -> None:
        """Release the model."""
        self.runner.close()
        self.inputs, self.outputs = [], []


def edge_error_of(exc: RunnerError) -> EdgeError:
    """Return the error of this house that a runner means."""
    return _ERRORS[exc.kind](exc.cause, exc.cure)


def tensor_spec(tensor: Tensor) -> TensorSpec:
    """Return what a runner says of a tensor in the words of this house."""
    quantization = None if tensor.scale is None else Quantization(tensor.scale, tensor.zero_point)
    return TensorSpec(tensor.name, tuple(tensor.shape), np.dtype(tensor.dtype), tensor.layout, quantization)
