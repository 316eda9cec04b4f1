"""How much noise each layer would add if it alone were quantized: the order in which a search should try layers."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper

from calibration.ranges import Ranges
from convert.quantize_onnx import layer_names, quantize_onnx, read_onnx
from edge.errors import EngineError

__all__ = ["LayerNoise", "layer_noise"]

# layers with a bias, and what makes one number a channel of their error; the batch is 1
_MEANS = {"Conv": "GlobalAveragePool", "ConvTranspose": "GlobalAveragePool", "Gemm": "Identity"}


@dataclass(frozen=True, slots=True)
class LayerNoise:
    """What quantizing one layer alone does to its output.

    ratio: noise power over signal power. mean_error: by output channel, (C,) float32; None for a layer without bias.
    Taking mean_error off the bias is the bias correction of Nagel et al. (2019), measured instead of derived. Measured
    in front of what is still float, it holds whichever other layers are quantized.
    """

    ratio: float
    mean_error: np.ndarray | None


def layer_noise(source: Path, ranges: Ranges, inputs: Iterable[np.ndarray], scratch: Path) -> dict[str, LayerNoise]:
    """Return the noise of each layer, by output tensor name, the highest ratio first.

    Every layer reads what the float layers before it give, so the figures do not mix. inputs: each (1, ...) in the
    model's own dtype; a few dozen are enough. scratch: a folder for a temporary file.
    Raises: ConfigError when a range is missing, EngineError when the model cannot run.
    """
    names = layer_names(source)
    model = _with_twins(source, ranges, names, scratch)
    try:
        session = ort.InferenceSession(model.SerializeToString(), _quiet())
        outputs, image = [output.name for output in session.get_outputs()], session.get_inputs()[0].name
        total: dict[str, np.ndarray] = dict.fromkeys(outputs, np.zeros(()))
        count = 0
        for values in inputs:
            count += 1
            for name, value in zip(outputs, session.run(None, {image: values}), strict=True):
                total[name] = total[name] + value
    except Exception as exc:  # the pybind11 exceptions of ONNX Runtime derive from Exception alone
        raise EngineError(f"{source.name} cannot run beside its quantized layers ({exc})", "export it again") from exc
    found = {}
    for name in names:
        noise, signal, error = total[f"{name}_noise"], total[f"{name}_signal"], total.get(f"{name}_mean")
        ratio = float(noise / signal) if signal else 0.0
        found[name] = LayerNoise(ratio, None if error is None else np.ravel(error / count).astype(np.float32))
    return dict(sorted(found.items(), key=lambda row: -row[1].ratio))


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
    means = {node.output[0]: _MEANS[node.op_type] for node in model.graph.node if node.op_type in _MEANS}
    for name in names:
        model.graph.node.extend(_figures(name, twins[name], means.get(name)))
        for kind in ("noise", "signal", "mean")[: 3 if name in means else 2]:
            model.graph.output.append(helper.make_tensor_value_info(f"{name}_{kind}", TensorProto.FLOAT, None))
    return model


def _figures(name: str, twin: str, mean: str | None) -> list[onnx.NodeProto]:
    nodes = [
        helper.make_node("Sub", [twin, name], [f"{name}_error"]),
        helper.make_node("Mul", [f"{name}_error", f"{name}_error"], [f"{name}_error2"]),
        helper.make_node("Mul", [name, name], [f"{name}_value2"]),
        helper.make_node("ReduceMean", [f"{name}_error2"], [f"{name}_noise"], keepdims=0),
        helper.make_node("ReduceMean", [f"{name}_value2"], [f"{name}_signal"], keepdims=0),
    ]
    return [*nodes, helper.make_node(mean, [f"{name}_error"], [f"{name}_mean"])] if mean else nodes
