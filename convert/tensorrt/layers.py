"""What each layer of a network or engine computes in, and whether that is what was asked for."""

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edge.errors import ModelError

__all__ = [
    "LayerRow",
    "check_precision",
    "count_precisions",
    "engine_layers",
    "layer_table",
    "network_layers",
    "rows_of",
]

_COMPUTE = {"CONVOLUTION", "DECONVOLUTION", "MATRIX_MULTIPLY", "FULLY_CONNECTED"}
_COMPUTE_WORDS = re.compile(r"conv|gemm|matmul|matrix", re.IGNORECASE)
_FLOATS = ("FLOAT", "HALF", "BF16")
# the words the engine inspector's formats are described with, over the releases
_FORMAT_WORDS = (
    ("INT8", re.compile(r"int8", re.IGNORECASE)),
    ("HALF", re.compile(r"fp16|half", re.IGNORECASE)),
    ("BF16", re.compile(r"bf16", re.IGNORECASE)),
    ("FLOAT", re.compile(r"fp32|float\b", re.IGNORECASE)),
)
_ASK = {
    "fp16": "give the float16-cast ONNX",
    "int8": "give the Q/DQ ONNX",
    "best": "give the Q/DQ ONNX whose other tensors are float16",
}


@dataclass(frozen=True, slots=True)
class LayerRow:
    """One layer. inputs and outputs: the types of its tensors, as TensorRT names them.

    precision: INT8 where data and weights both come from dequantization, else the type of the data.
    computes: whether it is a convolution or a matrix product, where precision costs and pays.
    """

    name: str
    kind: str
    precision: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    computes: bool


def network_layers(network: Any) -> tuple[LayerRow, ...]:
    """Return a row for each layer of a network definition, in its order."""
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    maker = {layer.get_output(index).name: layer.type.name for layer in layers for index in range(layer.num_outputs)}
    rows = []
    for layer in layers:
        tensors = [layer.get_input(index) for index in range(layer.num_inputs)]
        inputs = tuple(tensor.dtype.name for tensor in tensors if tensor)
        outputs = tuple(layer.get_output(index).dtype.name for index in range(layer.num_outputs))
        # data and weights; the third is a bias, which stays as it is; plain weights are no tensor at all
        makers = [maker.get(tensor.name) for tensor in tensors[:2] if tensor]
        quantized = makers == ["DEQUANTIZE", "DEQUANTIZE"]
        kind = layer.type.name
        precision = "INT8" if quantized and kind in _COMPUTE else (inputs or outputs or ("",))[0]
        computes = kind in _COMPUTE and precision in (*_FLOATS, "INT8")
        rows.append(LayerRow(layer.name, kind, precision, inputs, outputs, computes))
    return tuple(rows)


def engine_layers(trt: Any, logger: Any, plan: bytes) -> tuple[LayerRow, ...] | None:
    """Return a row for each layer of a built engine, None where it cannot be opened or says names only."""
    engine = trt.Runtime(logger).deserialize_cuda_engine(plan)
    if engine is None:  # no GPU here
        return None
    try:
        text = engine.create_engine_inspector().get_engine_information(trt.LayerInformationFormat.JSON)
        return rows_of(json.loads(text))
    except ValueError:
        return None


def rows_of(said: Any) -> tuple[LayerRow, ...] | None:
    """Return a row for each layer in the inspector's JSON, None where it says names only."""
    layers = said.get("Layers") if isinstance(said, dict) else None
    if not layers or not all(isinstance(layer, dict) for layer in layers):
        return None
    return tuple(_engine_row(layer) for layer in layers)


def count_precisions(rows: Sequence[LayerRow]) -> dict[str, int]:
    """Return how many of the convolutions and matrix products have each precision."""
    return dict(Counter(row.precision for row in rows if row.computes))


def layer_table(rows: Sequence[LayerRow]) -> str:
    """Return the layers as a table for people."""
    width = min(40, max((len(row.name) for row in rows), default=0))
    return "\n".join(
        f"{row.name[:width]:<{width}}  {row.kind:<16} {row.precision:<6} "
        f"{', '.join(row.inputs)} -> {', '.join(row.outputs)}"
        for row in rows
    )


def check_precision(rows: Sequence[LayerRow], precision: str) -> list[str]:
    """Return notes on layers that are not of the precision asked for, in a network whose tensors decide it.

    Raises: ModelError when none is, or when float32 was asked for and some are not.
    """
    counts = count_precisions(rows)
    total = sum(counts.values())
    wanted = {"fp32": "FLOAT", "fp16": "HALF"}.get(precision, "INT8")
    found = counts.get(wanted, 0)
    said = ", ".join(f"{number} {name}" for name, number in sorted(counts.items())) or "none"
    if precision == "fp32" and found < total:
        raise ModelError(f"fp32 was asked for, but of {total} convolutions and products {said}", "give the float ONNX")
    if total and not found:
        raise ModelError(f"{precision} was asked for, but of {total} convolutions and products {said}", _ASK[precision])
    if precision == "best" and not any("HALF" in row.outputs for row in rows):
        raise ModelError("best was asked for, but no tensor of the ONNX is float16", _ASK["best"])
    return [f"{total - found} of {total} convolutions and products are not {wanted} ({said})"] if found < total else []


def _engine_row(layer: dict[str, Any]) -> LayerRow:
    inputs, outputs = (
        tuple(_format_name(str(tensor.get("Format/Datatype", ""))) for tensor in layer.get(side, ()))
        for side in ("Inputs", "Outputs")
    )
    name, kind = str(layer.get("Name", "")), str(layer.get("LayerType", ""))
    computes = bool(_COMPUTE_WORDS.search(f"{kind} {name}")) and "reformat" not in kind.lower()
    return LayerRow(name, kind, (inputs or outputs or ("",))[0], inputs, outputs, computes)


def _format_name(text: str) -> str:
    return next((name for name, words in _FORMAT_WORDS if words.search(text)), text)
