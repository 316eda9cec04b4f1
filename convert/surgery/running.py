"""ONNX models run in memory, to settle shapes and to prove that a step changed no number."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime as ort
from onnx import ModelProto, ValueInfoProto

__all__ = ["open_session", "outputs_of", "with_outputs"]

_THREADS = 2


def open_session(model: ModelProto, optimized: Path | None = None) -> ort.InferenceSession:
    """Return a session for a model on the CPU.

    optimized: where ONNX Runtime writes the model after its basic, standard-operator optimizations.
    Whatever ONNX Runtime raises passes through: its exceptions derive from Exception alone.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = _THREADS
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    if optimized:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(optimized)
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def outputs_of(model: ModelProto, inputs: np.ndarray) -> dict[str, np.ndarray]:
    """Return each output stacked over `inputs` (N, ...) float32, which are run one by one; name -> (N, ...) dtype."""
    session = open_session(model)
    fed = session.get_inputs()[0]
    dtype = {"tensor(uint8)": np.uint8, "tensor(float16)": np.float16}.get(fed.type, np.float32)
    names = [value.name for value in session.get_outputs()]
    runs = [session.run(names, {fed.name: sample[None].astype(dtype)}) for sample in inputs]
    return {name: np.concatenate(values) for name, values in zip(names, zip(*runs, strict=True), strict=True)}


def with_outputs(model: ModelProto, names: Sequence[str]) -> ModelProto:
    """Return a copy of the model with tensors of it as additional outputs."""
    copy = ModelProto.FromString(model.SerializeToString())
    have = {value.name for value in copy.graph.output}
    copy.graph.output.extend(ValueInfoProto(name=name) for name in names if name not in have)
    return copy
