"""Bias correction: rounding weights shifts what a channel is on average, and its bias can take that back.

Empirical and local (Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction", 2019;
Finkelstein et al., "Fighting Quantization Bias With Bias", 2019): the shift is the rounding error of the weights times
the mean of what the quantized network really feeds them, so corrections do not add up along the graph.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from convert.tflite_edit import Reader, constant, op_name, read_model, set_constant, tensor_name
from edge.errors import EngineError

__all__ = ["bias_shifts", "shift_biases"]

_WEIGHTED = {"CONV_2D": (1, 2), "DEPTHWISE_CONV_2D": (0, 1, 2), "FULLY_CONNECTED": ()}  # axes that are summed over
_INT32, _INT64, _INT8 = 2, 4, 9  # TensorType


def bias_shifts(source: Path, quantized: Path, inputs: Iterable[np.ndarray]) -> dict[str, np.ndarray]:
    """Return what to add to the biases of a quantized file, (C,) float64 in real units, by the layer's output name.

    source: the float file; quantized: made of it, with float inputs. inputs: calibration inputs (1, ...); a few dozen
    are enough. Borders, where convolutions see padding, count like the rest.
    Raises: ModelError when a file cannot be read, EngineError when the quantized one cannot run.
    """
    exact, model = read_model(source), read_model(quantized)
    tensors = model.subgraphs[0].tensors
    layers = [op for op in model.subgraphs[0].operators if _is_integer(model, op)]
    means = _means(quantized, model, sorted({op.inputs[0] for op in layers}), inputs)
    names = [tensor_name(t) for t in exact.subgraphs[0].tensors]
    reader = Reader(exact)
    weighted = [op for op in exact.subgraphs[0].operators if op_name(exact, op) in _WEIGHTED]
    makers = {names[op.inputs[1]]: op for op in weighted if len(reader.readers(op.inputs[1])) == 1}
    shifts = {}
    for op in layers:
        tensor = tensors[op.inputs[1]]
        maker = makers.get(tensor_name(tensor))  # weights that several layers share lose differently in each
        true = None if maker is None else constant(exact, exact.subgraphs[0].tensors[maker.inputs[1]])
        stored = constant(model, tensor)
        if maker is None or true is None or stored is None:
            continue
        scales = np.asarray(tensor.quantization.scale, np.float64)
        axis = tensor.quantization.quantizedDimension if len(scales) > 1 else 0
        shape = [1] * stored.ndim
        shape[axis] = -1
        lost = true.astype(np.float64) - stored * scales.reshape(shape)
        lost = lost.sum(axis=_WEIGHTED[op_name(model, op)])
        shift = lost * means[op.inputs[0]] if lost.ndim == 1 else lost @ means[op.inputs[0]]
        shifts[names[maker.outputs[0]]] = shift
    return shifts


def shift_biases(model: Any, shifts: Mapping[str, np.ndarray]) -> None:
    """Add real-valued shifts to the integer biases of a quantized ModelT; layers in float are left as they are."""
    tensors = model.subgraphs[0].tensors
    for op in model.subgraphs[0].operators:
        shift = shifts.get(tensor_name(tensors[op.outputs[0]])) if op_name(model, op) in _WEIGHTED else None
        bias = tensors[op.inputs[2]] if len(op.inputs) > 2 and op.inputs[2] >= 0 else None
        if shift is None or bias is None or bias.type not in (_INT32, _INT64):
            continue
        stored = constant(model, bias)
        assert stored is not None
        scale = np.asarray(bias.quantization.scale, np.float64)
        steps = np.rint(np.divide(shift, scale, out=np.zeros_like(scale), where=scale > 0))  # a dead channel has none
        limits = np.iinfo(stored.dtype)
        set_constant(model, bias, np.clip(stored + steps, limits.min, limits.max).astype(stored.dtype))


def _is_integer(model: Any, op: Any) -> bool:
    """Whether it is a layer with int8 weights and an integer bias to correct."""
    tensors = model.subgraphs[0].tensors
    if op_name(model, op) not in _WEIGHTED or len(op.inputs) < 3 or op.inputs[2] < 0:
        return False
    integer = tensors[op.inputs[1]].type == _INT8 and tensors[op.inputs[2]].type in (_INT32, _INT64)
    depthwise = op_name(model, op) == "DEPTHWISE_CONV_2D"
    return integer and not (depthwise and op.builtinOptions.depthMultiplier > 1)


def _means(file: Path, model: Any, wanted: list[int], inputs: Iterable[np.ndarray]) -> dict[int, np.ndarray]:
    """The mean of each channel of some integer tensors, (C,) float64 in real units."""
    sums: dict[int, Any] = dict.fromkeys(wanted, 0.0)
    count = 0
    try:
        interpreter = Interpreter(
            model_path=str(file),
            experimental_preserve_all_tensors=True,
            experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        )
        interpreter.allocate_tensors()
        for values in inputs:
            interpreter.set_tensor(interpreter.get_input_details()[0]["index"], values)
            interpreter.invoke()
            for i in wanted:
                stored = interpreter.get_tensor(i)
                sums[i] += stored.reshape(-1, stored.shape[-1]).mean(axis=0, dtype=np.float64)
            count += 1
    except (RuntimeError, ValueError) as exc:
        raise EngineError(f"{file.name} does not run ({exc})", "check its input, or convert it again") from exc
    parameters = {i: model.subgraphs[0].tensors[i].quantization for i in wanted}
    return {i: (sums[i] / max(count, 1) - q.zeroPoint[0]) * q.scale[0] for i, q in parameters.items()}
