"""TensorFlow Lite models through LiteRT, tflite-runtime or TensorFlow's own interpreter, whichever is installed."""

import os
from pathlib import Path
from typing import Any

import numpy as np

from edge.config import EngineSection
from edge.embedded import tflite_custom_ops
from edge.errors import AcceleratorError, EngineError, MissingBackendError
from edge.tensor import Layout, Quantization, TensorSpec

try:
    from ai_edge_litert.interpreter import Interpreter
except ModuleNotFoundError:
    try:
        from tflite_runtime.interpreter import Interpreter
    except ModuleNotFoundError:
        try:
            from tensorflow import lite

            Interpreter = lite.Interpreter
        except ModuleNotFoundError as exc:
            raise MissingBackendError(
                "no TensorFlow Lite interpreter is installed", "pip install ai-edge-litert"
            ) from exc

__all__ = ["LiteRtEngine"]

EDGE_TPU_OP = "edgetpu-custom-op"


class LiteRtEngine:
    """Runs a `.tflite` file on the CPU with XNNPACK. See `edge.engines.base.Engine` for the contract."""

    lost = ""

    def __init__(self, path: Path, options: EngineSection) -> None:
        self._interpreter = _load(path, options.threads or min(4, os.cpu_count() or 1))
        details = self._interpreter.get_input_details()
        self.input_specs = [_spec(detail, is_image=len(detail["shape"]) == 4) for detail in details]
        self.inputs = [_pinned(self._interpreter, detail["index"]) for detail in details]
        for array in self.inputs:
            array[...] = 0  # the interpreter leaves whatever was in that memory
        self._invoke()  # XNNPACK packs weights in the first run, and dynamic outputs get their shape
        details = self._interpreter.get_output_details()
        self._readers = [self._interpreter.tensor(detail["index"]) for detail in details]
        self.output_specs = [_spec(detail, is_image=False) for detail in details]
        self.outputs = [_pinned(self._interpreter, detail["index"]) for detail in details]
        self._moving = self._outputs_that_move(path)
        self.embedded: dict[str, str] = {}

    def run(self) -> None:
        """Invoke the interpreter.

        Raises: EngineError.
        """
        self._invoke()
        for i in self._moving:
            self.outputs[i] = self._readers[i]().copy()

    def close(self) -> None:
        """Release the interpreter."""
        self.inputs, self.outputs, self._readers = [], [], []
        self._interpreter = None

    def _invoke(self) -> None:
        try:
            self._interpreter.invoke()
        except (RuntimeError, ValueError) as exc:
            raise EngineError(
                f"the model failed while running ({exc})", "convert it again or use another target"
            ) from exc

    def _outputs_that_move(self, path: Path) -> list[int]:
        """Outputs in memory that the interpreter may move at each run: those behind a custom operator
        (TFLite_Detection_PostProcess allocates its outputs as it runs) or with an open dimension."""
        details = self._interpreter.get_output_details()
        if tflite_custom_ops(path):
            return list(range(len(details)))
        return [i for i, detail in enumerate(details) if -1 in detail.get("shape_signature", ())]


class _Pinned:
    """Lends a tensor's memory to numpy and keeps the interpreter alive as long as any view of it lives.

    `Interpreter.invoke` refuses to run while views made by `tensor()` exist; a view made of the same address does
    not count, and the address holds from `allocate_tensors` on for tensors of fixed shape.
    """

    def __init__(self, interpreter: Any, index: int) -> None:
        self.interpreter = interpreter
        self.__array_interface__ = dict(interpreter.tensor(index)().__array_interface__)


def _pinned(interpreter: Any, index: int) -> np.ndarray:
    return np.asarray(_Pinned(interpreter, index))


def _load(path: Path, threads: int) -> Any:
    if not path.is_file():
        raise EngineError(f"no model file {path}", "check the path")
    custom = tflite_custom_ops(path)
    if EDGE_TPU_OP in custom:
        raise AcceleratorError(
            f"{path.name} is compiled for the Edge TPU and no Edge TPU runtime is in use here",
            "use the uncompiled .tflite file on the CPU, or run on a machine with a Coral device",
        )
    try:
        interpreter = Interpreter(model_path=str(path), num_threads=threads)
        interpreter.allocate_tensors()
    except (RuntimeError, ValueError, OSError) as exc:
        raise _explained(path, custom, exc) from exc
    if not interpreter.get_input_details():
        raise EngineError(f"{path.name} has no input", "export the model with its input")
    return interpreter


def _explained(path: Path, custom: list[str], exc: Exception) -> EngineError:
    said = str(exc).partition(". ")[0].partition("\n")[0]
    if "unresolved custom op" in str(exc):
        return EngineError(
            f"{path.name} uses custom operators the runtime lacks ({', '.join(custom) or said})",
            "convert it again with built-in operators only",
        )
    with path.open("rb") as file:
        head = file.read(8)
    if head[4:8] != b"TFL3":
        return EngineError(f"{path.name} is not a TensorFlow Lite model", "give a .tflite file")
    if "valid Flatbuffer" in said:
        return EngineError(f"{path.name} is damaged or cut short", "copy or convert it again")
    return EngineError(f"cannot load {path.name} ({said})", "convert it again or update ai-edge-litert")


def _spec(detail: dict[str, Any], is_image: bool) -> TensorSpec:
    shape = tuple(int(n) for n in detail["shape"])
    scale, zero_point = detail["quantization"]
    layout: Layout | None = None
    if is_image:
        layout = "NCHW" if shape[1] in (1, 3) and shape[3] not in (1, 3) else "NHWC"
    quantization = Quantization(float(scale), int(zero_point)) if scale else None
    return TensorSpec(detail["name"], shape, np.dtype(detail["dtype"]), layout, quantization)
