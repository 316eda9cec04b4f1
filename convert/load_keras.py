"""Keras files and SavedModel folders through TensorFlow: to TFLite by its own converter, to ONNX by tf2onnx."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from convert.leaf import leaf
from convert.load import Loaded, LoadOptions
from convert.load_tflite import name_outputs
from convert.quiet import quiet
from edge.errors import ModelError
from edge.files import write_atomically
from edge.registry import Plug

__all__ = ["load_keras", "load_saved_model"]

TO_ONNX = Plug("convert.tf_to_onnx:from_frozen", "keras", ("tf2onnx", "onnx"))
ONNX_NAME = "model-fp32.onnx"
TFLITE_NAME = "model-fp32.tflite"
_SCALING = (keras.layers.Rescaling, keras.layers.Normalization)


def load_keras(reference: str, folder: Path, options: LoadOptions) -> Loaded:
    """Return a .keras or .h5 file as float files.

    Raises: ModelError for a file that is damaged, has layers unknown here, or is no network of one image.
    """
    path = Path(reference).expanduser()
    try:
        with quiet():
            model = keras.models.load_model(path, compile=False)
    except Exception as exc:  # Keras raises whatever its layers do
        raise _unreadable(path, exc) from exc
    if len(model.inputs or ()) != 1:
        raise ModelError(f"{path.name} has {len(model.inputs or ())} inputs", "save a model with one image input")
    shape = _fixed(tuple(model.inputs[0].shape), path.name, options.size_wh)
    names = _unique(list(getattr(model, "output_names", None) or []), len(model.outputs))

    def outputs(x: Any) -> dict[str, Any]:
        found = keras.tree.flatten(model(x, training=False))
        return dict(zip(names, found, strict=True))

    contract: dict[str, Any] = {"resize": "stretch"}  # what Keras' own data sets from directories do
    notes = ["resize: stretched, as Keras' image data sets do (a guess)"]
    scaling = _first_scaling(model)
    if scaling:
        contract |= {"scale": 1.0}
        notes.append(f"scale: pixels enter as 0..255, the model's own layer '{scaling}' scales them")
    if len(model.outputs) > 1 or len(model.outputs[0].shape) != 2:
        contract.pop("resize")
        notes.pop(0)
    return _converted(outputs, shape, names, folder, options, contract, notes)


def load_saved_model(reference: str, folder: Path, options: LoadOptions) -> Loaded:
    """Return a SavedModel folder's serving signature as float files.

    Raises: ModelError for a damaged folder, one without a signature, or one that is no network of one image.
    """
    path = Path(reference).expanduser()
    try:
        with quiet():
            saved = tf.saved_model.load(str(path))
    except Exception as exc:  # protobuf's, TensorFlow's and Python's own errors, by what is damaged
        raise _unreadable(path, exc) from exc
    signatures = dict(saved.signatures)
    if not signatures:
        raise ModelError(f"{path.name} has no serving signature", "save it with model.export(folder)")
    signature = signatures.get("serving_default") or next(iter(signatures.values()))
    specs = list(signature.structured_input_signature[1].items())
    if len(specs) != 1:
        raise ModelError(f"{path.name} has {len(specs)} inputs", "save a model with one image input")
    argument, spec = specs[0]
    shape = _fixed(tuple(spec.shape) if spec.shape.rank is not None else (), path.name, options.size_wh)
    if spec.dtype != tf.float32:
        raise ModelError(f"the input of {path.name} is {spec.dtype.name}", "save it with a float32 input")
    names = list(signature.structured_outputs)

    def outputs(x: Any) -> dict[str, Any]:
        return dict(signature(**{argument: x}))

    return _converted(outputs, shape, names, folder, options, {}, [])


def _converted(
    outputs: Callable[[Any], Mapping[str, Any]],
    shape: tuple[int, ...],
    names: list[str],
    folder: Path,
    options: LoadOptions,
    contract: Mapping[str, Any],
    notes: list[str],
) -> Loaded:
    """The function with its variables as the files that are wanted."""
    function = tf.function(outputs, input_signature=[tf.TensorSpec(shape, tf.float32, name="input")], autograph=False)
    onnx = tflite = None
    try:
        with quiet():
            concrete = function.get_concrete_function()
            # left as variables, no weight could be read or quantized
            frozen = convert_variables_to_constants_v2(concrete)
    except Exception as exc:  # whatever a layer raises while it is traced
        raise ModelError(f"the model cannot be traced ({_said(exc)})", "check its input size") from exc
    if options.want_tflite:
        tflite = folder / TFLITE_NAME
        _write_tflite(frozen, tflite)
        name_outputs(tflite, sorted(names))  # in which order a dictionary's values leave a function
    if options.want_onnx or not options.want_tflite:
        onnx = folder / ONNX_NAME
        leaf(TO_ONNX, "ONNX from Keras")(frozen, sorted(names), onnx)

    def run(sample: np.ndarray) -> list[np.ndarray]:
        found = concrete(tf.constant(sample))
        return [found[name].numpy() for name in names]

    return Loaded(run, tuple(names), onnx, tflite, contract=contract, notes=tuple(notes))


def _write_tflite(frozen: Any, path: Path) -> None:
    try:
        with quiet():
            data = tf.lite.TFLiteConverter.from_concrete_functions([frozen]).convert()
    except Exception as exc:  # the converter's errors derive from Exception alone
        said = str(exc)
        if "custom" in said or "Flex" in said:
            start = said.find("tf.")
            raise ModelError(
                f"TFLite has no operator for {said[start:].split()[0].rstrip(',:') if start >= 0 else 'a layer'}",
                "replace that layer, or convert to ONNX",
            ) from exc
        raise ModelError(f"TensorFlow cannot convert the model to TFLite ({_said(exc)})", "convert to ONNX") from exc
    write_atomically(path, data)


def _fixed(shape: tuple[int | None, ...], name: str, size_wh: tuple[int, int] | None) -> tuple[int, ...]:
    """An input shape (batch, height, width, channels) with batch 1 and open sizes given."""
    if len(shape) != 4:
        raise ModelError(f"the input of {name} is no image {shape}", "save a model of height x width x channels")
    last = shape[3] in (1, 3)
    sides = {"height": 1 if last else 2, "width": 2 if last else 3}
    fixed = list(shape)
    fixed[0] = 1
    for (side, axis), wanted in zip(sides.items(), reversed(size_wh or (0, 0)), strict=True):
        if fixed[axis] is None and not wanted:
            raise ModelError(f"axis {axis} ({side}) of the input of {name} is open", "give its size: --size 224x224")
        if fixed[axis] is not None and wanted and fixed[axis] != wanted:
            raise ModelError(f"the {side} of {name}'s input is fixed at {fixed[axis]} px, not {wanted}", "leave it out")
        fixed[axis] = fixed[axis] or wanted
    if None in fixed:
        raise ModelError(f"the channels of the input of {name} are open", "save it with a fixed number of channels")
    return tuple(n for n in fixed if n is not None)


def _first_scaling(model: Any) -> str | None:
    """The name of a scaling layer that the pixels meet first; augmentation, which rests outside training, is passed."""
    for layer in model.layers:
        if isinstance(layer, _SCALING):
            return layer.name
        if isinstance(layer, keras.layers.InputLayer) or layer.name.startswith("random"):
            continue
        if isinstance(layer, keras.Model):
            inner = _first_scaling(layer)
            if inner is not None or layer.weights:
                return inner
            continue
        return None
    return None


def _unique(names: list[str], count: int) -> list[str]:
    """One name an output, also where layers bear the same."""
    names = names if len(names) == count else [f"output_{i}" for i in range(count)]
    return [name if names.index(name) == i else f"{name}_{i}" for i, name in enumerate(names)]


def _unreadable(path: Path, exc: Exception) -> ModelError:
    said = str(exc)
    if "nknown layer" in said or "could not be deserialized" in said or "Could not locate" in said:
        return ModelError(
            f"{path.name} has a layer that is not Keras' own ({_said(exc)})",
            "export it where its code is: model.export(folder), and give that SavedModel folder",
        )
    return ModelError(f"{path.name} is damaged or cannot be read ({_said(exc)})", "save the model again")


def _said(exc: Exception) -> str:
    lines = [line.strip() for line in str(exc).splitlines() if line.strip()]
    return lines[0][:160] if lines else type(exc).__name__
