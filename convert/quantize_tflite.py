"""TensorFlow Lite files of lower precision from a float one, through litert-quantizer, without TensorFlow."""

import contextlib
import io
import re
import warnings
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from litert_quantizer import qtyping, recipe
from litert_quantizer.quantizer import AlgorithmName, Quantizer

from calibration.ranges import Ranges
from convert.bias_correction import shift_biases
from convert.tflite_edit import parse_model, read_model, tensor_name, write_model
from convert.tflite_integer import integer_slopes
from edge.errors import ConfigError, ModelError

__all__ = ["PRECISIONS", "layer_names", "quantize_tflite"]

PRECISIONS = ("fp16", "dynamic", "int8", "int8-io", "uint8-io", "int16x8")

_Op = qtyping.TFLOperationName
_WEIGHT_ONLY = ("fp16", "dynamic")
_INTEGER_ENDS = ("int8-io", "uint8-io")
_INTEGER_TYPES = {3, 7, 9}  # TensorType UINT8, INT16, INT8


def quantize_tflite(
    source: Path,
    target: Path,
    precision: str,
    ranges: Ranges | None,
    keep_float: Collection[str] = frozenset(),
    shifts: Mapping[str, np.ndarray] | None = None,
) -> None:
    """Write `source`, a float32 .tflite file, at another precision.

    fp16 stores the weights as float16 and computes in float32; dynamic stores the larger weights as int8 and leaves
    small ones (depthwise filters) alone; int8 and int16x8 take float inputs and give float outputs, int8-io and
    uint8-io integers. ranges: of the source's tensors, for all but fp16 and dynamic. keep_float: names of tensors
    whose producers stay float; every other operator that has an integer form is quantized. shifts: what to add to the
    integer biases, from `convert.bias_correction`.
    Raises: ConfigError for an unknown precision, missing ranges or a target that cannot be written, ModelError for a
    source that cannot be quantized.
    """
    if precision not in PRECISIONS:
        raise ConfigError(f"there is no TFLite precision '{precision}'", f"use one of {', '.join(PRECISIONS)}")
    if precision not in _WEIGHT_ONLY and ranges is None:
        raise ConfigError(f"{precision} needs the ranges of the activations", "give calibration pictures")
    model = read_model(source)
    if any(_is_quantized(tensor) for tensor in model.subgraphs[0].tensors):
        raise ModelError(f"{source.name} is quantized already", "give the float model")
    scopes = _scopes(model)
    if unknown := sorted(set(keep_float) - set(scopes)):
        raise ConfigError(f"{source.name} has no layer '{unknown[0]}' to keep in float", "name the tensor it makes")
    statistics = None if precision in _WEIGHT_ONLY or ranges is None else _statistics(model, ranges)
    try:
        with _silence():
            quantizer = Quantizer(source.read_bytes())
            _set_recipe(quantizer, precision)
            if keep_float:
                kept = f"^(?:{'|'.join(re.escape(scopes[name]) for name in sorted(keep_float))})$"
                quantizer.update_quantization_recipe(kept, _Op.ALL_SUPPORTED, None, AlgorithmName.NO_QUANTIZE)
                _store_half(quantizer, kept)
            made = quantizer.quantize(statistics, enable_progress_bar=False, enable_progress_report=False)
        quantized = parse_model(made.quantized_model or b"")
    except Exception as exc:  # the library raises whatever its parts do
        said = str(exc).partition("\n")[0]
        raise ModelError(
            f"{source.name} cannot be quantized to {precision} ({said})", "calibrate this very file again"
        ) from exc
    if precision in _INTEGER_ENDS:  # elsewhere float does no harm, and is quicker on a CPU
        integer_slopes(quantized)
    shift_biases(quantized, shifts or {})
    _keep_output_names(model, quantized)
    write_model(target, quantized)


def layer_names(source: Path) -> list[str]:
    """Return, in graph order, the name of the first tensor that each operator makes: what `keep_float` may hold.

    Raises: ModelError when the file cannot be read.
    """
    return list(_scopes(read_model(source)))


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Keep the library's bars, reports and warnings to itself."""
    nowhere = io.StringIO()
    with contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _scopes(model: Any) -> dict[str, str]:
    """An operator's first output -> its name in the library's recipes: all its outputs, each with a semicolon."""
    graph = model.subgraphs[0]
    names = [[tensor_name(graph.tensors[i]) for i in op.outputs] for op in graph.operators]
    return {made[0]: "".join(f"{name};" for name in made) for made in names}


def _keep_output_names(model: Any, quantized: Any) -> None:
    """Give the outputs their old names, which they lost to the tensors before the conversion at the end."""
    tensors = quantized.subgraphs[0].tensors
    for old, new in zip(model.subgraphs[0].outputs, quantized.subgraphs[0].outputs, strict=True):
        name = tensor_name(model.subgraphs[0].tensors[old])
        if tensor_name(tensors[new]) != name:
            for tensor in tensors:
                if tensor_name(tensor) == name:
                    tensor.name = f"{name}/inner".encode()
            tensors[new].name = name.encode()


def _is_quantized(tensor: Any) -> bool:
    scale = None if tensor.quantization is None else tensor.quantization.scale
    return tensor.type in _INTEGER_TYPES and scale is not None and len(scale) > 0


def _set_recipe(quantizer: Quantizer, precision: str) -> None:
    if precision == "fp16":
        _store_half(quantizer, ".*")
    elif precision == "dynamic":
        quantizer.load_quantization_recipe(recipe.dynamic_legacy_wi8_afp32())
    else:
        bits = 16 if precision == "int16x8" else 8
        quantizer.add_static_config(".*", _Op.ALL_SUPPORTED, activation_num_bits=bits, weight_num_bits=8)
        for end in (_Op.INPUT, _Op.OUTPUT):
            if precision == "uint8-io":
                quantizer.update_quantization_recipe(".*", end, _unsigned())
            elif precision != "int8-io":
                quantizer.update_quantization_recipe(".*", end, None, AlgorithmName.NO_QUANTIZE)


def _store_half(quantizer: Quantizer, scopes: str) -> None:
    """Store weights as float16; they are read as float32."""
    for operation in ("CONV_2D", "DEPTHWISE_CONV_2D", "CONV_2D_TRANSPOSE", "FULLY_CONNECTED", "EMBEDDING_LOOKUP"):
        quantizer.add_weight_only_config(scopes, _Op(operation), num_bits=16, algorithm_key=AlgorithmName.FLOAT_CASTING)


def _unsigned() -> qtyping.OpQuantizationConfig:
    return qtyping.OpQuantizationConfig(
        activation_tensor_config=qtyping.TensorQuantizationConfig(
            num_bits=8, symmetric=False, dtype=qtyping.TensorDataType.UINT
        ),
        weight_tensor_config=qtyping.TensorQuantizationConfig(num_bits=8, symmetric=True),
        compute_precision=qtyping.ComputePrecision.INTEGER,
    )


def _statistics(model: Any, ranges: Ranges) -> dict[str, dict[str, np.ndarray]]:
    """The ranges in the library's form: arrays of the tensor's rank."""
    ranks = {tensor_name(t): 0 if t.shape is None else len(t.shape) for t in model.subgraphs[0].tensors}
    return {
        name: {"min": np.full((1,) * ranks[name], low), "max": np.full((1,) * ranks[name], high)}
        for name, (low, high) in ranges.tensors.items()
        if name in ranks
    }
