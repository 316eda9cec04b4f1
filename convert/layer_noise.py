"""How much noise each layer would add if it alone were quantized: the order in which a search should try layers."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper

from calibration.ranges import Ranges
from convert.quantize_onnx import layer_names, quantize_onnx, read_onnx
from edge.errors import EngineError

__all__ = ["layer_noise"]


def layer_noise(source: Path, ranges: Ranges, inputs: Iterable[np.ndarray], scratch: Path) -> dict[str, float]:
    """Return noise power over signal power at each layer's own output, by output tensor name, worst first.

    Every layer reads what the float layers before it give, so the figures do not mix. inputs: each (1, ...) in the
    model's own dtype; a few are enough. scratch: a folder for a temporary file.
    Raises: ConfigError when a range is missing, EngineError when the model cannot run.
    """
    names = layer_names(source)
    try:
        session = ort.InferenceSession(_with_twins(source, ranges, names, scratch).SerializeToString(), _quiet())
        image = session.get_inputs()[0].name
        total = np.sum([session.run(None, {image: values}) for values in inputs], axis=0)
    except Exception as exc:  # the pybind11 exceptions of ONNX Runtime derive from Exception alone
        raise EngineError(f"{source.name} cannot run beside its quantized layers ({exc})", "export it again") from exc
    noise, signal = total[0::2], total[1::2]
    ratio = np.divide(noise, signal, out=np.zeros_like(noise), where=signal > 0)
    return dict(sorted(zip(names, ratio.tolist(), strict=True), key=lambda row: -row[1]))


def _quiet() -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 2
    return options


def _with_twins(source: Path, ranges: Ranges, names: list[str], scratch: Path) -> onnx.ModelProto:
    """The float model, beside each layer its quantized twin, and as outputs the powers of noise and signal."""
    quantized_file = scratch / f".{source.stem}-twins.onnx"
    try:
        quantize_onnx(source, quantized_file, ranges)
        quantized = onnx.load(quantized_file)
    finally:
        quantized_file.unlink(missing_ok=True)
    model = read_onnx(source)
    known = {tensor.name for tensor in model.graph.initializer}
    model.graph.initializer.extend(t for t in quantized.graph.initializer if t.name not in known)
    twins = {name: f"{name}_twin" for name in names}
    ready = {"QuantizeLinear", "DequantizeLinear"}
    nodes = [node for node in quantized.graph.node if node.op_type in ready or node.output[0] in twins]
    for node in nodes:
        if node.output[0] in twins:
            node.name, node.output[0] = "", twins[node.output[0]]
    # pairs stand right behind what makes their tensor, so the float nodes may all go first
    model.graph.node.extend(nodes)
    del model.graph.output[:]
    for name in names:
        model.graph.node.extend(_powers(name, twins[name]))
        for kind in ("noise", "signal"):
            model.graph.output.append(helper.make_tensor_value_info(f"{name}_{kind}", TensorProto.FLOAT, []))
    return model


def _powers(name: str, twin: str) -> list[onnx.NodeProto]:
    return [
        helper.make_node("Sub", [twin, name], [f"{name}_error"]),
        helper.make_node("Mul", [f"{name}_error", f"{name}_error"], [f"{name}_error2"]),
        helper.make_node("Mul", [name, name], [f"{name}_value2"]),
        helper.make_node("ReduceMean", [f"{name}_error2"], [f"{name}_noise"], keepdims=0),
        helper.make_node("ReduceMean", [f"{name}_value2"], [f"{name}_signal"], keepdims=0),
    ]
