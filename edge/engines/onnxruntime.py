"""ONNX models through ONNX Runtime, with the execution providers the user lists."""

import logging
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime as ort

from edge.config import EngineSection
from edge.errors import AcceleratorError, ConfigError, EngineError
from edge.structs import did_you_mean
from edge.tensor import Layout, TensorSpec

__all__ = ["OnnxRuntimeEngine"]

log = logging.getLogger("harrier")

_DTYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(uint8)": np.uint8,
    "tensor(int8)": np.int8,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
}


class OnnxRuntimeEngine:
    """Runs an `.onnx` file. See `edge.engines.base.Engine` for the contract.

    Input and output arrays are bound once, so a run copies nothing. Outputs whose shape is open are
    handed over by ONNX Runtime at each run instead.
    moving: the numbers of those outputs.
    """

    lost = ""

    def __init__(self, path: Path, options: EngineSection) -> None:
        self._session = _load(path, options)
        self.embedded = dict(self._session.get_modelmeta().custom_metadata_map)
        nodes = self._session.get_inputs()
        if not nodes:
            raise EngineError(f"{path.name} has no input", "export the model with its input")
        self.input_specs = [_spec(node, is_image=len(node.shape) == 4) for node in nodes]
        self.inputs: list[np.ndarray] = []
        self._binding = self._session.io_binding()
        self._bind_inputs([np.zeros(spec.shape, spec.dtype) for spec in self.input_specs])
        self._bind_outputs()

    def run(self) -> None:
        """Run the session.

        Raises: EngineError.
        """
        for i in self.moving:  # else it would have to fit into what the last run gave
            self._binding.bind_output(self.output_specs[i].name)
        self._run()
        if self.moving:
            values = self._binding.get_outputs()
            for i in self.moving:
                self.outputs[i] = values[i].numpy()

    def adopt(self, inputs: Sequence[np.ndarray], outputs: Sequence[np.ndarray]) -> bool:
        """Use these arrays, of the specs' shapes and dtypes, from now on; `moving` outputs stay. Returns True."""
        self._bind_inputs(inputs)
        for i, array in enumerate(outputs):
            if i not in self.moving:
                self._bind_output(i, array)
        return True

    def close(self) -> None:
        """Release the session."""
        self.inputs.clear()
        self.outputs.clear()
        self.moving.clear()
        self._binding = self._session = None

    def _run(self) -> None:
        try:
            self._session.run_with_iobinding(self._binding)
        except Exception as exc:  # the pybind11 exceptions of ONNX Runtime derive from Exception alone
            raise EngineError(
                f"the model failed while running ({_first_line(exc)})",
                "convert it again or use another target",
            ) from exc

    def _bind_inputs(self, arrays: Sequence[np.ndarray]) -> None:
        self.inputs[:] = arrays
        for spec, array in zip(self.input_specs, arrays, strict=True):
            self._binding.bind_cpu_input(spec.name, array)

    def _bind_output(self, i: int, array: np.ndarray) -> None:
        self.outputs[i] = array
        self._binding.bind_output(self.output_specs[i].name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)

    def _bind_outputs(self) -> None:
        nodes = self._session.get_outputs()
        for node in nodes:
            if node.type not in _DTYPES:
                raise EngineError(f"output '{node.name}' is a {node.type}", "export the model with numeric outputs")
            self._binding.bind_output(node.name)
        self._run()  # shows the real shapes, and does the first run's lazy work now
        self.outputs: list[np.ndarray] = [value.numpy() for value in self._binding.get_outputs()]
        self.output_specs = [
            TensorSpec(node.name, array.shape, array.dtype) for node, array in zip(nodes, self.outputs, strict=True)
        ]
        self._binding.clear_binding_outputs()
        self.moving: list[int] = []
        for i, (node, array) in enumerate(zip(nodes, self.outputs, strict=True)):
            if all(isinstance(n, int) for n in node.shape):
                self._bind_output(i, np.zeros(array.shape, array.dtype))
            else:
                self._binding.bind_output(node.name)
                self.moving.append(i)


def _load(path: Path, options: EngineSection) -> ort.InferenceSession:
    if not path.is_file():
        raise EngineError(f"no model file {path}", "check the path")
    available = ort.get_available_providers()
    for provider in options.providers:
        if provider not in available:
            raise ConfigError(
                f"ONNX Runtime has no execution provider '{provider}' here", did_you_mean(provider, available)
            )
    settings = ort.SessionOptions()
    settings.intra_op_num_threads = options.threads or min(4, os.cpu_count() or 1)
    settings.inter_op_num_threads = 1
    settings.log_severity_level = 3
    # threads that spin between two runs would burn a core and the battery; within a run they still do
    settings.add_session_config_entry("session.force_spinning_stop", "1")
    try:
        session = ort.InferenceSession(str(path), settings, providers=options.providers)
    except Exception as exc:  # the pybind11 exceptions of ONNX Runtime derive from Exception alone
        raise EngineError(
            f"{path.name} is not an ONNX model this runtime can load ({_first_line(exc)})",
            "check that the file is complete, or export it again",
        ) from exc
    _check_providers(options.providers, session.get_providers())
    return session


def _check_providers(wanted: Sequence[str], used: Sequence[str]) -> None:
    """Raise AcceleratorError where ONNX Runtime took the CPU, which it does without a word, and nobody listed it."""
    left = [provider for provider in wanted if provider not in used]
    if not left:
        return
    if not set(wanted) & set(used):
        cure = 'install what it needs (its own log says what), or list "CPUExecutionProvider", too'
        raise AcceleratorError(f"ONNX Runtime cannot use {', '.join(left)} here", cure)
    log.warning("ONNX Runtime cannot use %s here; %s runs the model", ", ".join(left), used[0])


def _spec(node: ort.NodeArg, is_image: bool) -> TensorSpec:
    if node.type not in _DTYPES:
        raise EngineError(f"input '{node.name}' is a {node.type}", "export the model with a numeric image input")
    shape = tuple(n if isinstance(n, int) and n > 0 else 1 for n in node.shape)
    open_axes = [i for i, n in enumerate(node.shape) if not (isinstance(n, int) and n > 0)]
    if is_image and any(i >= 1 for i in open_axes):
        raise EngineError(
            f"input '{node.name}' has no fixed size ({list(node.shape)})",
            "export the model with a fixed size",
        )
    layout: Layout | None = None
    if is_image:
        layout = "NHWC" if shape[3] in (1, 3) and shape[1] not in (1, 3) else "NCHW"
    return TensorSpec(node.name, shape, np.dtype(_DTYPES[node.type]), layout)


def _first_line(exc: Exception) -> str:
    lines = str(exc).strip().splitlines()
    return lines[0][:200] if lines else type(exc).__name__
