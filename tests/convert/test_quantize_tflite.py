"""TFLite quantization on a small network made here: every precision, mixtures, ranges, equalization, biases."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("litert_quantizer", reason="litert-quantizer is not installed")
pytest.importorskip("onnx", reason="onnx is not installed: the float file is made from it")

import onnx
from ai_edge_litert.interpreter import Interpreter
from onnx import TensorProto, helper, numpy_helper

from calibration.collect import collect
from calibration.collected import ranges_from
from calibration.ranges import Ranges
from convert.bias_correction import bias_shifts
from convert.onnx_to_tflite.translate import translate
from convert.quantize_tflite import PRECISIONS, layer_names, quantize_tflite
from convert.tflite_choose import adapted, choose_ranges
from convert.tflite_edit import ALIGNMENT_BYTES, constant, op_name, read_model, tensor_name
from convert.tflite_equalize import equalize_silu, silu_factors
from convert.tflite_integer import float_kinds
from edge.errors import ConfigError, ModelError

SIZE, CHANNELS = 16, 8
SPREAD = np.array([0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 10.0, 40.0], np.float32)


def inputs(count: int = 12, seed: int = 0) -> Iterator[np.ndarray]:
    noise = np.random.default_rng(seed)
    for _ in range(count):
        yield noise.uniform(0, 1, (1, SIZE, SIZE, 3)).astype(np.float32)


def make_float(folder: Path, activation: str = "silu", spread: np.ndarray = SPREAD) -> Path:
    """Convolution, depthwise and pointwise convolution; the first one's channels differ in size by `spread`."""
    noise = np.random.default_rng(1)
    shapes = {"first": (CHANNELS, 3, 3, 3), "depth": (CHANNELS, 1, 3, 3), "point": (6, CHANNELS, 1, 1)}
    weights = {name: noise.normal(0, 0.4, shape).astype(np.float32) for name, shape in shapes.items()}
    weights["first"] *= spread.reshape(-1, 1, 1, 1)
    weights["depth"] /= spread.reshape(-1, 1, 1, 1)
    nodes, tensor = [], "images"
    for name in weights:
        pads = [0, 0, 0, 0] if name == "point" else [1, 1, 1, 1]
        groups = CHANNELS if name == "depth" else 1
        out = "output" if name == "point" else f"{name}_y"
        nodes.append(
            helper.make_node("Conv", [tensor, f"{name}_w", f"{name}_b"], [out], group=groups, pads=pads, name=name)
        )
        tensor = out
        if activation == "silu" and name == "first":
            nodes.append(helper.make_node("Sigmoid", [out], [f"{name}_s"]))
            nodes.append(helper.make_node("Mul", [out, f"{name}_s"], [f"{name}_z"]))
            tensor = f"{name}_z"
        elif name != "point":
            kind = {"silu": "Relu", "relu": "Relu", "leaky": "LeakyRelu", "prelu": "PRelu", "elu": "Elu"}[activation]
            slopes = [f"{name}_slope"] if kind == "PRelu" else []
            nodes.append(helper.make_node(kind, [out, *slopes], [f"{name}_z"]))
            tensor = f"{name}_z"
    constants = [numpy_helper.from_array(w, f"{name}_w") for name, w in weights.items()]
    slopes = np.linspace(-0.3, 0.9, CHANNELS, dtype=np.float32).reshape(-1, 1, 1)
    constants += [numpy_helper.from_array(slopes, f"{name}_slope") for name in weights if activation == "prelu"]
    constants += [numpy_helper.from_array(np.zeros(len(w), np.float32), f"{n}_b") for n, w in weights.items()]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, SIZE, SIZE])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, 6, SIZE, SIZE])],
        constants,
    )
    file = folder / f"{activation}.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), file)
    translate(file, folder / f"{activation}.tflite")
    return folder / f"{activation}.tflite"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_float(tmp_path_factory.mktemp("net"))


@pytest.fixture(scope="module")
def ranges(source: Path) -> Ranges:
    return ranges_from(collect(source, inputs()), "min-max")


def outputs_of(file: Path, seed: int = 5, count: int = 3) -> np.ndarray:
    """The real-valued outputs for some inputs, whatever the file's own types."""
    interpreter = Interpreter(str(file))
    interpreter.allocate_tensors()
    (into,), (out,) = interpreter.get_input_details(), interpreter.get_output_details()
    found = []
    for values in inputs(count, seed):
        scale, zero = into["quantization"]
        stored = np.rint(values / scale) + zero if scale else values
        interpreter.set_tensor(into["index"], stored.astype(into["dtype"]))
        interpreter.invoke()
        value = interpreter.get_tensor(out["index"]).astype(np.float32)
        scale, zero = out["quantization"]
        found.append((value - zero) * scale if scale else value)
    return np.stack(found)


def noise_share(file: Path, source: Path) -> float:
    wanted = outputs_of(source)
    return float(np.square(outputs_of(file) - wanted).mean() / np.square(wanted).mean())


@pytest.fixture(scope="module")
def even(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Ranges]:
    """A network that is easy to quantize, and its ranges."""
    file = make_float(tmp_path_factory.mktemp("even"), spread=np.ones(CHANNELS, np.float32))
    return file, ranges_from(collect(file, inputs()), "min-max")


@pytest.mark.parametrize(
    ("precision", "dtypes", "limit"),
    [
        ("fp16", (np.float32, np.float32), 1e-6),
        ("dynamic", (np.float32, np.float32), 1e-6),
        ("int8", (np.float32, np.float32), 2e-3),
        ("int8-io", (np.int8, np.int8), 2e-3),
        ("uint8-io", (np.uint8, np.uint8), 2e-3),
        ("int16x8", (np.float32, np.float32), 1e-4),
    ],
)
def test_precisions(
    even: tuple[Path, Ranges], tmp_path: Path, precision: str, dtypes: tuple[type, type], limit: float
) -> None:
    assert precision in PRECISIONS
    source, ranges = even
    file = tmp_path / "made.tflite"
    before = source.read_bytes()
    quantize_tflite(source, file, precision, ranges)
    assert source.read_bytes() == before
    interpreter = Interpreter(str(file))
    interpreter.allocate_tensors()
    (into,), (out,) = interpreter.get_input_details(), interpreter.get_output_details()
    assert (into["dtype"], out["dtype"]) == dtypes
    assert (into["name"], out["name"]) == ("images", "output")
    assert noise_share(file, source) < limit
    assert [path.name for path in tmp_path.iterdir()] == ["made.tflite"]


def test_weights_lie_inside_and_aligned(source: Path, ranges: Ranges, tmp_path: Path) -> None:
    file = tmp_path / "made.tflite"
    quantize_tflite(source, file, "int8", ranges)
    data, model = file.read_bytes(), read_model(file)
    held = [bytes(buffer.data) for buffer in model.buffers if buffer.data is not None and len(buffer.data) > 8]
    assert held
    assert all(any(data[at : at + len(b)] == b for at in range(0, len(data), ALIGNMENT_BYTES)) for b in held)


def test_layers_kept_in_float(source: Path, ranges: Ranges, tmp_path: Path) -> None:
    names = layer_names(source)
    file = tmp_path / "made.tflite"
    quantize_tflite(source, file, "int8", ranges, frozenset(names[:-1]))
    types = {tensor_name(tensor): tensor.type for tensor in read_model(file).subgraphs[0].tensors}
    assert all(types[name] == 0 for name in names[:-1])
    few = noise_share(file, source)
    quantize_tflite(source, file, "int8", ranges)
    assert few < noise_share(file, source) / 10
    quantize_tflite(source, file, "int8", ranges, frozenset(names))
    assert noise_share(file, source) < 1e-6
    halves = [tensor for tensor in read_model(file).subgraphs[0].tensors if tensor.type == 1]
    assert len(halves) == 3, "what stays in float has its weights as float16"


def test_nothing_is_said(source: Path, ranges: Ranges, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    quantize_tflite(source, tmp_path / "made.tflite", "int8", ranges)
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "")


@pytest.mark.parametrize("activation", ["leaky", "prelu"])
@pytest.mark.parametrize("precision", ["int8-io", "uint8-io"])
def test_a_slope_is_computed_in_int8_where_the_file_is_of_integers(
    tmp_path: Path, activation: str, precision: str
) -> None:
    source = make_float(tmp_path, activation, np.ones(CHANNELS, np.float32))
    ranges = ranges_from(collect(source, inputs()), "min-max")
    file, plain = tmp_path / "made.tflite", tmp_path / "plain.tflite"
    quantize_tflite(source, file, precision, ranges)
    quantize_tflite(source, plain, "int8", ranges)
    kind = {"leaky": "LEAKY_RELU", "prelu": "PRELU"}[activation]
    model = read_model(file)
    assert float_kinds(read_model(plain), ()) == {kind: 2}
    assert float_kinds(model, ()) == {}
    kinds = [op_name(model, op) for op in model.subgraphs[0].operators]
    assert kinds.count(kind) == 2
    assert "DEQUANTIZE" not in kinds
    names = [tensor_name(model.subgraphs[0].tensors[op.outputs[0]]) for op in model.subgraphs[0].operators]
    assert {"first_z", "depth_z"} <= set(names)
    assert noise_share(file, source) < 2 * noise_share(plain, source) < 4e-3


def test_what_has_no_8_bit_form_is_counted(tmp_path: Path) -> None:
    source = make_float(tmp_path, "elu")
    ranges = ranges_from(collect(source, inputs()), "min-max")
    quantize_tflite(source, tmp_path / "made.tflite", "int8-io", ranges)
    assert float_kinds(read_model(tmp_path / "made.tflite"), ()) == {"ELU": 2}
    quantize_tflite(source, tmp_path / "made.tflite", "int8", ranges, ["first_z"])
    assert float_kinds(read_model(tmp_path / "made.tflite"), ["first_z"]) == {"ELU": 1}


@pytest.mark.parametrize(
    ("precision", "kept", "said"),
    [("int4", [], "there is no TFLite precision 'int4'"), ("int8", ["nowhere"], "has no layer 'nowhere'")],
)
def test_wrong_requests(
    source: Path, ranges: Ranges, tmp_path: Path, precision: str, kept: list[str], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        quantize_tflite(source, tmp_path / "made.tflite", precision, ranges, frozenset(kept))
    assert not list(tmp_path.iterdir())


def test_sources_that_cannot_be_quantized(source: Path, ranges: Ranges, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="needs the ranges"):
        quantize_tflite(source, tmp_path / "made.tflite", "int8", None)
    quantize_tflite(source, tmp_path / "made.tflite", "int8", ranges)
    with pytest.raises(ModelError, match="quantized already"):
        quantize_tflite(tmp_path / "made.tflite", tmp_path / "again.tflite", "int8", ranges)
    (tmp_path / "cut.tflite").write_bytes(source.read_bytes()[:300])
    with pytest.raises(ModelError, match=r"cut\.tflite"):
        quantize_tflite(tmp_path / "cut.tflite", tmp_path / "again.tflite", "fp16", None)
    wanting = Ranges(model_sha256="", observer="x", images=1, tensors={"images": (0.0, 1.0)})
    with pytest.raises(ModelError, match="cannot be quantized to int8"):
        quantize_tflite(source, tmp_path / "again.tflite", "int8", wanting)
    assert not (tmp_path / "again.tflite").exists()


def test_equalizing_changes_no_float_and_saves_the_int8(source: Path, ranges: Ranges, tmp_path: Path) -> None:
    equal = tmp_path / "equal.tflite"
    factors = silu_factors(source, inputs())
    assert list(factors) == ["first_y"]
    equalize_silu(source, equal, factors)
    np.testing.assert_allclose(outputs_of(equal), outputs_of(source), rtol=1e-4, atol=1e-5)
    plain, better = tmp_path / "plain.tflite", tmp_path / "better.tflite"
    quantize_tflite(source, plain, "int8", adapted(source, ranges))
    found = ranges_from(collect(equal, inputs()), "min-max")
    quantize_tflite(equal, better, "int8", adapted(equal, found))
    assert noise_share(better, source) < noise_share(plain, source) / 3


def test_nothing_to_equalize(source: Path, tmp_path: Path) -> None:
    assert silu_factors(source, inputs(), least_spread=1e6) == {}
    assert silu_factors(make_float(tmp_path, "relu"), inputs()) == {}


def test_ranges_end_where_a_sigmoid_does(source: Path, ranges: Ranges, tmp_path: Path) -> None:
    low, high = ranges.tensors["first_y"]
    assert low < -6.0
    assert adapted(source, ranges).tensors["first_y"] == (low, high)  # the product needs what the sigmoid does not
    assert adapted(source, ranges, clip_silu=True).tensors["first_y"] == (-6.0, high)
    equal = tmp_path / "equal.tflite"
    equalize_silu(source, equal, silu_factors(source, inputs()))
    found = adapted(equal, ranges_from(collect(equal, inputs()), "min-max"))
    assert found.tensors["first_y/unscaled"] == (-8.0, 8.0)


def test_bias_shifts_are_the_lost_weights_times_the_mean(source: Path, ranges: Ranges, tmp_path: Path) -> None:
    file = tmp_path / "made.tflite"
    quantize_tflite(source, file, "int8", ranges)
    shifts = bias_shifts(source, file, inputs())
    assert len(shifts) == 3
    exact, model = read_model(source), read_model(file)
    of = {tensor_name(tensor): tensor for tensor in model.subgraphs[0].tensors}
    op = next(op for op in exact.subgraphs[0].operators if op_name(exact, op) == "CONV_2D")
    true = exact.subgraphs[0].tensors[op.inputs[1]]
    stored = of[tensor_name(true)]
    kept = constant(model, stored) * np.reshape(stored.quantization.scale, (-1, 1, 1, 1))
    wanted = (constant(exact, true) - kept).sum(axis=(1, 2)) @ np.mean(list(inputs()), axis=(0, 1, 2, 3))
    np.testing.assert_allclose(shifts["first_y"], wanted, atol=0.02 * np.abs(wanted).max())
    shifted = tmp_path / "shifted.tflite"
    quantize_tflite(source, shifted, "int8", ranges, shifts={"output": np.full(6, 0.5)})
    moved = (outputs_of(shifted) - outputs_of(file)).mean()
    assert moved == pytest.approx(0.5, abs=0.1)


def test_the_choice_is_made_by_measurement(source: Path, tmp_path: Path) -> None:
    wanted = outputs_of(source, seed=9)

    def measure(file: Path) -> float:
        return 1.0 / (1.0 + float(np.square(outputs_of(file, seed=9) - wanted).mean()))

    folder = tmp_path / "work"
    folder.mkdir()
    choice = choose_ranges(
        source, (lambda: inputs(6, 2), lambda: inputs(6, 3)), measure, folder, ["min-max", "percentile:90"]
    )
    best = choice.trials[0]
    assert best.equalized == 1
    assert choice.ranges.images in (6, 12)
    assert choice.ranges.observer == best.observer
    assert best.fidelity == max(trial.fidelity for trial in choice.trials)
    assert {trial.observer for trial in choice.trials} == {
        "min-max",
        "min-max+silu",
        "percentile:90",
        "percentile:90+silu",
    }
    assert [path.name for path in folder.iterdir()] == ["silu-equalized.tflite"]
    assert bool(choice.shifts) == best.corrected
    quantize_tflite(choice.form.file, tmp_path / "best.tflite", "int8", choice.ranges, shifts=choice.shifts)
    assert measure(tmp_path / "best.tflite") >= best.fidelity
    assert choice.rows[0]["observer"] == best.observer
