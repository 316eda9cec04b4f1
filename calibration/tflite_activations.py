"""Every activation of a .tflite file, through the interpreter with all tensors kept."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from edge.errors import EngineError
from edge.tflite_file import mapped_model

__all__ = ["TfliteActivations"]

_FLOATS = (np.float32, np.float16)
_SUBGRAPHS, _OPERATORS = 2, 3  # fields of Model and SubGraph in the schema
_OP_INPUTS, _OP_OUTPUTS, _INTERNAL = 1, 2, "i"


class TfliteActivations:
    """See `calibration.collect.Activations` for the contract.

    XNNPACK is left out: what it fuses away would keep the value of an earlier run.
    """

    channel_axis = 3

    def __init__(self, path: Path, threads: int) -> None:
        try:
            self._interpreter = Interpreter(
                model_path=str(path),
                num_threads=threads,
                experimental_preserve_all_tensors=True,
                experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
            )
            self._interpreter.allocate_tensors()
            indices = _dependent(path)
        except (RuntimeError, ValueError, OSError) as exc:
            said = " ".join(str(exc).split())[:200]
            raise EngineError(
                f"{path.name} is not a TensorFlow Lite model this runtime can load ({said})",
                "check that the file is complete, or convert it again",
            ) from exc
        inputs = self._interpreter.get_input_details()
        if len(inputs) != 1:
            raise EngineError(f"{path.name} has {len(inputs)} inputs", "convert the model with one image input")
        self._input = inputs[0]["index"]
        self._dtype = inputs[0]["dtype"]
        details = {detail["index"]: detail for detail in self._interpreter.get_tensor_details()}
        self._levels = {i: levels for i, detail in details.items() if (levels := _levels(detail))}
        real = [i for i in [self._input, *indices] if details[i]["dtype"] in _FLOATS or i in self._levels]
        self._shown = [(details[i]["name"], i) for i in real]
        self.names = [name for name, _ in self._shown]
        self.quantized = any(i in self._levels for i in real)

    def run(self, values: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
        """Run one input, (1, ...) float32 or the model's own dtype, and yield each activation's name and real values.

        Raises: EngineError.
        """
        try:
            self._interpreter.set_tensor(self._input, self._stored(values))
            self._interpreter.invoke()
        except (RuntimeError, ValueError) as exc:
            said = " ".join(str(exc).split())[:200]
            raise EngineError(
                f"the model failed while running ({said})", "check its input, or convert it again"
            ) from exc
        for name, index in self._shown:
            value = self._interpreter.get_tensor(index)
            if index in self._levels:
                scale, zero_point = self._levels[index]
                value = (value.astype(np.float32) - np.float32(zero_point)) * np.float32(scale)
            if value.size:
                yield name, value

    def _stored(self, values: np.ndarray) -> np.ndarray:
        if self._input not in self._levels or values.dtype == self._dtype:
            return values
        scale, zero_point = self._levels[self._input]
        limits = np.iinfo(self._dtype)
        return np.clip(np.rint(values / scale) + zero_point, limits.min, limits.max).astype(self._dtype)


def _levels(detail: dict[str, Any]) -> tuple[float, int] | None:
    """Scale and zero point of an integer tensor quantized as a whole, as activations are."""
    found = detail["quantization_parameters"]
    if detail["dtype"] in _FLOATS or len(found["scales"]) != 1:
        return None
    return float(found["scales"][0]), int(found["zero_points"][0])


def _dependent(path: Path) -> list[int]:
    """Indices of all tensors of the first subgraph that are computed from its inputs, in the order of execution."""
    with mapped_model(path) as model:
        subgraph = model.item(_SUBGRAPHS, 0)
        reached = set(subgraph.numbers(1, _INTERNAL))
        indices = []
        for operator in subgraph.items(_OPERATORS):
            if reached.intersection(operator.numbers(_OP_INPUTS, _INTERNAL)):
                fresh = list(operator.numbers(_OP_OUTPUTS, _INTERNAL))
                reached.update(fresh)
                indices += fresh
    return indices
