"""Float .tflite files: checked, copied, their batch fixed; and the names of outputs in a file."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from convert.leaf import leaf
from convert.load import Loaded, LoadOptions
from convert.quiet import quiet
from convert.tflite_edit import op_name, read_model, tensor_name, write_model
from edge.embedded import tflite_custom_ops
from edge.errors import ModelError
from edge.files import write_atomically
from edge.registry import Plug

__all__ = ["load_tflite", "name_outputs"]

TO_ONNX = Plug("convert.tf_to_onnx:from_tflite", "keras", ("tensorflow", "tf2onnx", "onnx"))
ONNX_NAME = "model-fp32.onnx"
TFLITE_NAME = "model-fp32.tflite"
_FLOAT32, _FLOAT16 = 0, 1
_INTEGERS = {2: "int32", 3: "uint8", 4: "int64", 7: "int16", 9: "int8", 16: "uint16", 17: "int4"}


def load_tflite(reference: str, folder: Path, options: LoadOptions) -> Loaded:
    """Return a copy of a float .tflite file with a batch of 1, and ONNX where wanted.

    Raises: ModelError for a file that is quantized, compiled for the Edge TPU, damaged or no network of one image.
    """
    path = Path(reference).expanduser()
    if "edgetpu-custom-op" in tflite_custom_ops(path):
        raise ModelError(
            f"{path.name} is compiled for the Edge TPU, which cannot be undone", "give the model it was made from"
        )
    model = read_model(path)
    _refuse_quantized(model, path.name)
    graph = model.subgraphs[0]
    if len(graph.inputs) != 1:
        raise ModelError(f"{path.name} has {len(graph.inputs)} inputs", "convert a model with one image input")
    fixed = _fix_batch(model, path.name)
    tflite = folder / TFLITE_NAME
    if fixed:
        write_model(tflite, model)
    else:
        write_atomically(tflite, path.read_bytes())
    interpreter = _interpreter(path)
    details = interpreter.get_output_details()
    names = [detail["name"] for detail in details]
    onnx = None
    if options.want_onnx:
        onnx = folder / ONNX_NAME
        leaf(TO_ONNX, "ONNX from TFLite")(tflite, names, onnx)
    notes = ("fixed an open batch to 1",) if fixed else ()
    return Loaded(_runner(interpreter, details), tuple(names), onnx, tflite, notes=notes)


def name_outputs(path: Path, names: Sequence[str]) -> None:
    """Give the output tensors of a .tflite file, in the file's order, the names `names`.

    Raises: ModelError when the file has another number of outputs.
    """
    model = read_model(path)
    graph = model.subgraphs[0]
    if len(set(map(int, graph.outputs))) != len(names):
        raise ModelError(f"{path.name} has {len(graph.outputs)} outputs, not {len(names)}", "save distinct outputs")
    wanted = dict(zip(map(int, graph.outputs), names, strict=True))
    for i, tensor in enumerate(graph.tensors):
        if i in wanted:
            tensor.name = wanted[i]
        elif tensor_name(tensor) in names:
            tensor.name = f"{tensor_name(tensor)} inside"
    write_model(path, model)


def _refuse_quantized(model: Any, name: str) -> None:
    for graph in model.subgraphs:
        for tensor in graph.tensors:
            if tensor.type == _FLOAT16:
                raise ModelError(f"{name} has float16 weights", "give the float32 file it was made from")
            scales = None if tensor.quantization is None else tensor.quantization.scale
            if tensor.type in _INTEGERS and scales is not None and len(scales):
                raise ModelError(
                    f"{name} is quantized already ('{tensor_name(tensor)}' is {_INTEGERS[tensor.type]})",
                    "give the float model it was made from",
                )
    graph = model.subgraphs[0]
    if any(op_name(model, op) == "READ_VARIABLE" for op in graph.operators):
        raise ModelError(f"{name} keeps its weights in variables", "give the Keras file or SavedModel it was made from")
    kind = graph.tensors[graph.inputs[0]].type
    if kind != _FLOAT32:
        raise ModelError(f"the input of {name} is {_INTEGERS.get(kind, 'no float')}", "give a float32 model")


def _fix_batch(model: Any, name: str) -> bool:
    """Take open axes away where the shape has a 1 for them; return whether there were any."""
    changed = False
    graph = model.subgraphs[0]
    spec = graph.tensors[graph.inputs[0]]
    shape = [] if spec.shape is None else [int(n) for n in spec.shape]
    if len(shape) != 4:
        raise ModelError(f"the input of {name} is no image {shape}", "convert a model with one image input")
    signature = [] if spec.shapeSignature is None else [int(n) for n in spec.shapeSignature]
    if -1 in signature[1:]:
        raise ModelError(f"the input of {name} has an open size {signature}", "convert the model with a fixed size")
    if shape[0] != 1:
        raise ModelError(f"{name} takes {shape[0]} images at once", "convert the model with a batch of 1")
    for tensor in graph.tensors:
        if tensor.shapeSignature is not None and -1 in list(tensor.shapeSignature):
            tensor.shapeSignature = None
            changed = True
    if changed and any(op_name(model, op) == "RESHAPE" for op in graph.operators):
        _check_reshapes(model, name)
    return changed


def _check_reshapes(model: Any, name: str) -> None:
    """A RESHAPE to -1 at the batch is right for a batch of 1 as well; nothing else may be open."""
    graph = model.subgraphs[0]
    for tensor in graph.tensors:
        if tensor.shape is not None and -1 in list(tensor.shape):
            raise ModelError(f"'{tensor_name(tensor)}' of {name} has no fixed shape", "convert it with a fixed size")


def _interpreter(path: Path) -> Interpreter:
    try:
        with quiet():
            interpreter = Interpreter(model_path=str(path), num_threads=2)
            interpreter.allocate_tensors()
    except (RuntimeError, ValueError) as exc:
        raise ModelError(f"LiteRT cannot load {path.name} ({str(exc).splitlines()[0]})", "convert it again") from exc
    return interpreter


def _runner(interpreter: Interpreter, details: Sequence[dict[str, Any]]) -> Callable[[np.ndarray], list[np.ndarray]]:
    """The original file in LiteRT."""
    fed = interpreter.get_input_details()[0]["index"]

    def run(sample: np.ndarray) -> list[np.ndarray]:
        interpreter.set_tensor(fed, sample)
        try:
            interpreter.invoke()
        except (RuntimeError, ValueError) as exc:
            said = str(exc).splitlines()[0]
            raise ModelError(f"the model fails while running ({said})", "convert it again") from exc
        return [interpreter.get_tensor(detail["index"]) for detail in details]

    return run
