"""TensorFlow graphs and TFLite files to ONNX by tf2onnx, with the outputs' names kept."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx
import tf2onnx

from convert.load_onnx import save
from convert.quiet import quiet
from convert.surgery.clean import clean
from convert.surgery.graph import renamed
from edge.errors import ModelError

__all__ = ["from_frozen", "from_tflite"]

_OPSET = 13


def from_frozen(frozen: Any, names: Sequence[str], path: Path) -> None:
    """Write a frozen function of one image as ONNX; names: its outputs, in the function's order.

    Raises: ModelError for what ONNX cannot express.
    """
    image = frozen.inputs[0].name
    try:
        with quiet():
            model, _ = tf2onnx.convert.from_graph_def(
                frozen.graph.as_graph_def(),
                input_names=[image],
                output_names=[output.name for output in frozen.outputs],
                opset=_OPSET,
            )
    except Exception as exc:  # tf2onnx raises ValueError, TypeError, KeyError and its own by what it meets
        raise _impossible(exc) from exc
    renamed(model, image, image.partition(":")[0])
    _finished(model, names, path)


def from_tflite(source: Path, names: Sequence[str], path: Path) -> None:
    """Write a float .tflite file as ONNX; names: its outputs in the file's order.

    Raises: ModelError for what ONNX cannot express.
    """
    try:
        with quiet():
            model, _ = tf2onnx.convert.from_tflite(str(source), opset=_OPSET)
    except Exception as exc:  # as above
        raise _impossible(exc) from exc
    _finished(model, names, path)


def _finished(model: onnx.ModelProto, names: Sequence[str], path: Path) -> None:
    for i, value in enumerate(list(model.graph.output)):
        renamed(model, value.name, f"renamed output {i}")
    for i, name in enumerate(names):
        taken = {output for node in model.graph.node for output in node.output}
        if name in taken:
            renamed(model, name, f"{name} inside")
        renamed(model, f"renamed output {i}", name)
    cleaned, _ = clean(model, path.name, None)
    save(cleaned, path)


def _impossible(exc: Exception) -> ModelError:
    said = (str(exc).strip().splitlines() or [type(exc).__name__])[-1][:200]
    return ModelError(f"the model cannot be written as ONNX ({said})", "convert to TFLite")
