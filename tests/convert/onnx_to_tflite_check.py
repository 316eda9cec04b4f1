"""A small ONNX graph, translated and run by both runtimes on the same random numbers."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
from ai_edge_litert.interpreter import Interpreter

from convert.onnx_to_tflite.translate import translate

TOLERANCE = 1e-4


@dataclass(frozen=True)
class Translated:
    """What the TFLite file has: operators without constants' tricks, tensor names, versions, output orders."""

    ops: list[str]
    names: set[str]
    orders: dict[str, tuple[int, ...]]
    file: Path


def compare(onnx_file, folder, feeds, channels_last=False):
    """Translate, run both on the feeds (ONNX order) and assert equal outputs; return what was made."""
    tflite_file = folder / "model.tflite"
    orders = translate(onnx_file, tflite_file)
    session = onnxruntime.InferenceSession(str(onnx_file), providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_outputs()]
    expected = dict(zip(names, session.run(names, feeds), strict=True))
    ops, tensors, results = run(tflite_file, feeds, channels_last)
    assert list(results) == names
    for name, result in results.items():
        reference = expected[name]
        result = result.transpose(np.argsort(orders[name])) if result.ndim else result
        assert result.shape == reference.shape, name
        assert result.dtype == reference.dtype, name
        scale = max(float(np.abs(reference).max()), 1e-6)
        assert float(np.abs(result.astype(np.float64) - reference).max()) <= TOLERANCE * scale, name
    return Translated(ops, tensors, orders, tflite_file)


def run(tflite_file, feeds, channels_last=False):
    """Operators, tensor names and outputs by name; an image feed is transposed unless its channels are last."""
    interpreter = Interpreter(str(tflite_file), num_threads=1)
    ops = [entry["op_name"] for entry in interpreter._get_ops_details() if entry["op_name"] != "DELEGATE"]
    interpreter.allocate_tensors()
    for detail in interpreter.get_input_details():
        value = feeds[detail["name"]]
        if value.ndim == 4 and not channels_last:
            value = value.transpose(0, 2, 3, 1)
        interpreter.set_tensor(detail["index"], np.ascontiguousarray(value))
    interpreter.invoke()
    results = {entry["name"]: interpreter.get_tensor(entry["index"]) for entry in interpreter.get_output_details()}
    return ops, {entry["name"] for entry in interpreter.get_tensor_details()}, results


def random_feeds(inputs, seed=0):
    """Normal numbers for every input, (shape) float32."""
    rng = np.random.default_rng(seed)
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in inputs.items()}
