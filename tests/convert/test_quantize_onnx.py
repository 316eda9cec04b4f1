"""Q/DQ ONNX: where the pairs stand, what they compute, what TensorRT's parser says, and every way to fail."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="Q/DQ models are made with onnx")

from networks import SIZE, Builder  # noqa: E402
from networks import run as run_many  # noqa: E402
from onnx import TensorProto, helper, numpy_helper, version_converter  # noqa: E402

from calibration.ranges import Ranges  # noqa: E402
from convert.layer_noise import layer_noise  # noqa: E402
from convert.quantize_onnx import activation_names, layer_costs, layer_names, quantize_onnx  # noqa: E402
from edge.config import EngineSection  # noqa: E402
from edge.engines.onnxruntime import OnnxRuntimeEngine  # noqa: E402
from edge.errors import ConfigError, EngineError  # noqa: E402


def network() -> onnx.ModelProto:
    """A bottleneck with a shortcut, a branch with a convolution of its own, poolings, a concatenation and a Gemm."""
    b = Builder(2)
    stem = b.node("Relu", [b.conv("image", 3, 8, 3, 2)])
    x = b.node("MaxPool", [stem], kernel_shape=[2, 2], strides=[2, 2])
    y = b.conv(x, 8, 8, 3, 1, 8)
    y = b.conv(b.node("Mul", [y, b.node("Sigmoid", [y])]), 8, 8)
    y = b.node("Relu", [b.node("Add", [y, x])])
    z = b.node("Relu", [b.node("Add", [b.conv(y, 8, 8), b.conv(x, 8, 8)])])
    z = b.node("Concat", [z, y], axis=1)
    z = b.node("Flatten", [b.node("GlobalAveragePool", [z])])
    weights = b.noise.normal(0, 0.5, (4, 16)).astype(np.float32)
    scores = b.node("Gemm", [z, b.constant(weights), b.constant(np.zeros(4, np.float32))], transB=1)
    return onnx.shape_inference.infer_shapes(b.model([scores]))


def run(model: onnx.ModelProto, image: np.ndarray) -> dict[str, np.ndarray]:
    return dict(zip([output.name for output in model.graph.output], run_many(model, image), strict=True))


def images(count: int = 6) -> list[np.ndarray]:
    return [np.random.default_rng(i).normal(0, 1, (1, 3, SIZE, SIZE)).astype(np.float32) for i in range(count)]


def ranges_of(model: onnx.ModelProto, names: list[str]) -> Ranges:
    """The smallest and largest value of each tensor over the test images."""
    shown = onnx.ModelProto.FromString(model.SerializeToString())
    own = {output.name for output in model.graph.output}
    inner = [name for name in names if name != "image" and name not in own]
    shown.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in inner)
    seen = [{"image": image, **run(shown, image)} for image in images()]
    pairs = {n: (min(0.0, *(float(s[n].min()) for s in seen)), max(float(s[n].max()) for s in seen)) for n in names}
    return Ranges(model_sha256="", observer="min-max", images=len(seen), tensors=pairs)


@pytest.fixture
def source(tmp_path) -> Path:
    onnx.save(network(), tmp_path / "float.onnx")
    return tmp_path / "float.onnx"


@pytest.fixture
def ranges(source) -> Ranges:
    return ranges_of(onnx.load(source), activation_names(source))


def constants_of(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def test_pairs_stand_before_layers_and_nowhere_else(source, ranges, tmp_path):
    quantize_onnx(source, tmp_path / "q.onnx", ranges)
    graph = onnx.load(tmp_path / "q.onnx").graph
    made = {name: node for node in graph.node for name in node.output}
    kinds = Counter(node.op_type for node in graph.node)
    assert kinds["QuantizeLinear"] == kinds["DequantizeLinear"]
    for node in graph.node:
        if node.op_type in ("Conv", "Gemm"):
            assert [made[name].op_type for name in node.input[:2]] == ["DequantizeLinear"] * 2
            assert node.input[2] in {tensor.name for tensor in graph.initializer}, "biases stay float"
        elif node.op_type == "GlobalAveragePool":
            assert made[node.input[0]].op_type == "DequantizeLinear"
        elif node.op_type in ("Relu", "Sigmoid", "Mul", "MaxPool", "Concat", "Flatten"):
            assert all(made[name].op_type != "DequantizeLinear" for name in node.input), node.op_type
        elif node.op_type == "Add":
            operands = Counter(made[name].op_type for name in node.input)
            assert operands == {"Conv": 1, "DequantizeLinear": 1}, "the shortcut alone is quantized"
    # one pair a tensor: the pooled one is read by two convolutions and an addition
    stored = [node.input[0] for node in graph.node if node.op_type == "QuantizeLinear"]
    assert len(stored) == len(set(stored))
    assert made[graph.output[0].name].op_type == "Gemm", "outputs are not quantized"


def test_scales_are_symmetric_and_shared_with_the_ranges(source, ranges, tmp_path):
    quantize_onnx(source, tmp_path / "q.onnx", ranges)
    model = onnx.load(tmp_path / "q.onnx")
    constants, weights = constants_of(model), constants_of(onnx.load(source))
    for node in model.graph.node:
        if node.op_type != "QuantizeLinear":
            continue
        name, scale, zero = node.input[0], constants[node.input[1]], constants[node.input[2]]
        assert zero.dtype == np.int8
        assert not zero.any()
        assert (scale > 0).all()
        if name in ranges.tensors:
            assert scale == np.float32(max(map(abs, ranges.tensors[name])) / 127)
        else:
            original = weights[name.rpartition("_")[0]]
            axis = node.attribute[0].i
            shape = [-1 if i == axis else 1 for i in range(original.ndim)]
            steps = constants[name] / scale.reshape(shape)
            assert scale.shape == (original.shape[axis],), "one scale an output channel"
            np.testing.assert_allclose(steps, np.rint(steps), atol=1e-4)
            assert np.abs(steps).max() <= 127.01
            assert (np.abs(constants[name] - original) <= scale.reshape(shape) * 0.501).all()


def test_it_computes_nearly_the_same(source, ranges, tmp_path):
    quantize_onnx(source, tmp_path / "q.onnx", ranges)
    quantize_onnx(source, tmp_path / "f.onnx", ranges, frozenset(layer_names(source)))
    model = onnx.load(source)
    scores = model.graph.output[0].name
    errors, sizes = [], []
    for image in images():
        wanted = run(model, image)[scores]
        got = run(onnx.load(tmp_path / "q.onnx"), image)[scores]
        np.testing.assert_array_equal(run(onnx.load(tmp_path / "f.onnx"), image)[scores], wanted)
        errors.append(((got - wanted) ** 2).mean())
        sizes.append((wanted**2).mean())
    assert np.mean(errors) > 0, "something was quantized"
    assert 10 * np.log10(np.mean(sizes) / np.mean(errors)) > 25, "dB of signal over noise"
    OnnxRuntimeEngine(tmp_path / "q.onnx", EngineSection(threads=1)).close()


def test_layers_kept_in_float_read_float(source, ranges, tmp_path):
    names = layer_names(source)
    before = {node.output[0]: list(node.input) for node in onnx.load(source).graph.node}
    quantize_onnx(source, tmp_path / "q.onnx", ranges, frozenset(names[:2]))
    after = {node.output[0]: list(node.input) for node in onnx.load(tmp_path / "q.onnx").graph.node}
    for name in names:
        assert (after[name] == before[name]) == (name in names[:2])


def test_only_missing_ranges_of_quantized_layers_matter(source, ranges, tmp_path):
    first = layer_names(source)[0]
    fewer = Ranges(
        model_sha256="", observer="", images=1, tensors={k: v for k, v in ranges.tensors.items() if k != "image"}
    )
    with pytest.raises(ConfigError, match="no range for 'image'"):
        quantize_onnx(source, tmp_path / "q.onnx", fewer)
    assert not list(tmp_path.glob("*q.onnx*")), "nothing half written"
    quantize_onnx(source, tmp_path / "q.onnx", fewer, frozenset([first]))
    assert (tmp_path / "q.onnx").is_file()


def test_a_tensor_that_is_always_zero_has_a_scale_all_the_same(source, ranges, tmp_path):
    silent = Ranges(model_sha256="", observer="", images=1, tensors=dict.fromkeys(ranges.tensors, (0.0, 0.0)))
    quantize_onnx(source, tmp_path / "q.onnx", silent)
    scales = [values for name, values in constants_of(onnx.load(tmp_path / "q.onnx")).items() if name.endswith("scale")]
    assert scales
    assert all((scale > 0).all() for scale in scales)


def test_the_same_input_gives_the_same_file_and_the_source_stays(source, ranges, tmp_path):
    before = source.read_bytes()
    for name in ("a.onnx", "b.onnx"):
        quantize_onnx(source, tmp_path / name, ranges)
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()
    assert source.read_bytes() == before


def test_what_cannot_be_quantized_is_said(source, ranges, tmp_path):
    with pytest.raises(ConfigError, match="no layer with the output 'nobody'"):
        quantize_onnx(source, tmp_path / "q.onnx", ranges, frozenset(["nobody"]))
    (tmp_path / "bad.onnx").write_bytes(b"\xff\xfe no model")
    with pytest.raises(EngineError, match=r"bad\.onnx"):
        quantize_onnx(tmp_path / "bad.onnx", tmp_path / "q.onnx", ranges)
    onnx.save(Builder().model(["image"], opset=11), tmp_path / "old.onnx")
    with pytest.raises(EngineError, match="opset 11"):
        quantize_onnx(tmp_path / "old.onnx", tmp_path / "q.onnx", ranges)
    with pytest.raises(ConfigError, match="cannot write"):
        quantize_onnx(source, tmp_path / "nowhere" / "q.onnx", ranges)


def test_costs_are_shares_of_all_multiplications(source):
    costs = layer_costs(source)
    assert list(costs) == layer_names(source)
    assert sum(costs.values()) == pytest.approx(1.0)
    names = list(costs)
    half, quarter = (SIZE // 2) ** 2, (SIZE // 4) ** 2
    assert costs[names[0]] / costs[names[1]] == pytest.approx(8 * 27 * half / (8 * 9 * quarter))
    pool = next(n.output[0] for n in onnx.load(source).graph.node if n.op_type == "GlobalAveragePool")
    assert costs[pool] == 0


def test_transposed_convolutions_and_matrix_products(tmp_path):
    b = Builder(4)
    weights = b.noise.normal(0, 0.4, (3, 6, 2, 2)).astype(np.float32)
    x = b.node("ConvTranspose", ["image", b.constant(weights)], kernel_shape=[2, 2], strides=[2, 2])
    x = b.node("MatMul", [x, b.constant(b.noise.normal(0, 0.2, (2 * SIZE, 5)).astype(np.float32))])
    model, source = onnx.shape_inference.infer_shapes(b.model([x])), tmp_path / "float.onnx"
    onnx.save(model, source)
    quantize_onnx(source, tmp_path / "q.onnx", ranges_of(model, activation_names(source)))
    wanted, got = run(model, images(1)[0])[x], run(onnx.load(tmp_path / "q.onnx"), images(1)[0])[x]
    assert 0 < ((got - wanted) ** 2).mean() < 1e-3 * (wanted**2).mean()
    convolved, multiplied = layer_costs(source).values()
    # a pixel of the input feeds 6 * 4 products of each channel; a row of 2 * SIZE numbers 5 products each
    assert convolved / multiplied == pytest.approx(3 * 6 * 4 * SIZE**2 / (6 * (2 * SIZE) ** 2 * 5))


def parsed(path: Path) -> list[str]:
    """What TensorRT-RTX's parser has against a file."""
    pytest.importorskip("tensorrt_rtx_libs", reason="TensorRT-RTX is not installed (extra tensorrt-rtx)")
    trt = pytest.importorskip("tensorrt_rtx_bindings", reason="TensorRT-RTX is not installed (extra tensorrt-rtx)")
    logger = trt.Logger(trt.Logger.ERROR)
    definition = trt.Builder(logger).create_network(0)
    parser = trt.OnnxParser(definition, logger)
    parser.parse(path.read_bytes())
    return [parser.get_error(i).desc() for i in range(parser.num_errors)] or (
        [] if definition.num_layers else ["no layers"]
    )


def test_tensorrt_takes_it(source, ranges, tmp_path):
    quantize_onnx(source, tmp_path / "q.onnx", ranges)
    assert parsed(tmp_path / "q.onnx") == []


def test_tensorrt_takes_yolox(shared, tmp_path):
    model = version_converter.convert_version(onnx.load(shared / "models" / "yolox_nano.onnx"), 13)
    onnx.save(model, tmp_path / "float.onnx")
    names = activation_names(tmp_path / "float.onnx")
    ranges = Ranges(model_sha256="", observer="", images=1, tensors=dict.fromkeys(names, (-8.0, 8.0)))
    quantize_onnx(tmp_path / "float.onnx", tmp_path / "q.onnx", ranges)
    assert parsed(tmp_path / "q.onnx") == []
    kinds = Counter(node.op_type for node in onnx.load(tmp_path / "q.onnx").graph.node)
    assert kinds["Conv"] == len(layer_names(tmp_path / "float.onnx")) == 113


def test_the_noisiest_layer_comes_first(source, tmp_path):
    """One channel is 300 times the others, a depthwise layer makes up for it and cannot tell the others any more."""
    model = onnx.load(source)
    stem, depthwise = (node for node in model.graph.node[:4] if node.op_type == "Conv")
    for tensor in model.graph.initializer:
        if tensor.name in (*stem.input[1:], depthwise.input[1]):
            values = numpy_helper.to_array(tensor).copy()
            values[0] *= 300 if tensor.name in stem.input else 1 / 300
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    onnx.save(model, source)
    noise = layer_noise(source, ranges_of(model, activation_names(source)), images(), tmp_path)
    assert sorted(noise) == sorted(layer_names(source))
    ratios = [one.ratio for one in noise.values()]
    assert ratios == sorted(ratios, reverse=True)
    assert next(iter(noise)) == depthwise.output[0]
    assert ratios[0] > 10 * ratios[1] > 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["float.onnx"], "nothing is left behind"


def test_corrected_biases_take_the_mean_error_away(source, ranges, tmp_path):
    names = layer_names(source)
    errors = {
        name: one.mean_error
        for name, one in layer_noise(source, ranges, images(), tmp_path).items()
        if one.mean_error is not None
    }
    kinds = {node.output[0]: node.op_type for node in onnx.load(source).graph.node}
    assert {kinds[name] for name in names if name not in errors} == {"GlobalAveragePool"}
    alone = frozenset(names[1:])  # the stem alone is quantized
    model = onnx.load(source)
    quantize_onnx(source, tmp_path / "plain.onnx", ranges, alone)
    quantize_onnx(source, tmp_path / "corrected.onnx", ranges, alone, errors)
    means = []
    for path in (source, tmp_path / "plain.onnx", tmp_path / "corrected.onnx"):
        shown = onnx.load(path)
        del shown.graph.output[:]
        shown.graph.output.append(helper.make_tensor_value_info(names[0], TensorProto.FLOAT, None))
        means.append(np.mean([run(shown, image)[names[0]] for image in images()], axis=(0, 1, 3, 4)))
    wanted, plain, corrected = means
    np.testing.assert_allclose(plain - wanted, errors[names[0]], atol=1e-5)
    assert np.abs(plain - wanted).max() > 1e-4
    np.testing.assert_allclose(corrected, wanted, atol=1e-5)
    before, after = constants_of(model), constants_of(onnx.load(tmp_path / "corrected.onnx"))
    for node in model.graph.node:
        if node.output[0] in alone and node.op_type == "Conv":
            np.testing.assert_array_equal(after[node.input[2]], before[node.input[2]])
