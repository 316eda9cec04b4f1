"""Every float activation of ONNX and TFLite files is counted, and their ranges travel between the two."""

import hashlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from calibration import collect as collect_module
from calibration import onnx_activations
from calibration.collect import collect, open_activations
from calibration.collected import Histograms, ranges_from, read_histograms
from calibration.preprocessed import tensors
from calibration.ranges import Ranges
from calibration.shared_names import translate_ranges
from calibration.tables import read_tensorrt_cache, scales_of, write_tensorrt_cache
from edge.config import EngineSection
from edge.engines.onnxruntime import OnnxRuntimeEngine
from edge.errors import ConfigError, EngineError
from edge.manifest import InputContract
from edge.tensor import TensorSpec

onnx = pytest.importorskip("onnx", reason="onnx is not installed: no ONNX file can be calibrated")

from onnx_models import node, save  # noqa: E402


def inputs(count: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.normal(size=(1, 3, 8, 8)).astype(np.float32) * (i + 1) for i in range(count)]


def test_all_that_depends_on_the_input_is_counted(small_onnx):
    before = hashlib.sha256(small_onnx.read_bytes()).hexdigest()
    seen = []
    found = collect(small_onnx, inputs(4), seen.append)
    assert seen == [1, 2, 3, 4]
    assert list(found.whole) == ["x", "double", "y", "z", "out"]  # neither the constant nor the integers
    stacked = np.stack(inputs(4))
    expected = {"x": stacked, "double": 2 * stacked, "y": 2 * stacked - 1, "z": np.maximum(2 * stacked - 1, 0)}
    ranges = ranges_from(found, "min-max")
    assert (ranges.images, ranges.model_sha256) == (4, before)
    for name, values in expected.items():
        assert ranges.tensors[name] == pytest.approx((min(values.min(), 0), max(values.max(), 0)), rel=1e-6)
        assert found.whole[name].counts.sum() == values.size
    assert hashlib.sha256(small_onnx.read_bytes()).hexdigest() == before


def test_channels_are_told_apart(small_onnx):
    ranges = ranges_from(collect(small_onnx, inputs(3), per_channel=True), "min-max")
    stacked = np.stack(inputs(3))[:, 0]
    expected = [(float(stacked[:, c].min()), float(stacked[:, c].max())) for c in range(3)]
    assert ranges.channels["x"] == expected
    assert ranges.tensors["x"] == (min(low for low, _ in expected), max(high for _, high in expected))


def test_an_interrupted_run_goes_on_to_the_same_histograms(small_onnx, tmp_path, monkeypatch):
    monkeypatch.setattr(collect_module, "_CHECKPOINT_S", -1.0)
    checkpoint = tmp_path / "h.npz"

    def stopped():
        yield from inputs(5)[:2]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        collect(small_onnx, stopped(), checkpoint=checkpoint)
    known = read_histograms(checkpoint)
    assert known.images == 2
    resumed, whole = collect(small_onnx, inputs(5), known=known), collect(small_onnx, inputs(5))
    for observer in ("min-max", "moving-average", "mse"):
        assert ranges_from(resumed, observer) == ranges_from(whole, observer)
    with pytest.raises(ConfigError, match="not of small.onnx"):
        collect(small_onnx, inputs(1), known=Histograms("0" * 64))


def test_a_model_bigger_than_a_chunk_is_run_in_parts(small_onnx, monkeypatch):
    whole = ranges_from(collect(small_onnx, inputs(2)), "min-max")
    monkeypatch.setattr(onnx_activations, "_CHUNK_BYTES", 800)
    assert ranges_from(collect(small_onnx, inputs(2)), "min-max") == whole


def test_models_that_cannot_be_calibrated(small_onnx, tmp_path):
    nan = np.full((1, 3, 8, 8), np.nan, np.float32)
    with pytest.raises(EngineError, match="'x' of picture 1 cannot be counted: it holds NaN"):
        collect(small_onnx, [nan])
    with pytest.raises(EngineError, match="failed while running"):
        collect(small_onnx, [np.zeros((1, 3, 9, 9), np.float32)])
    with pytest.raises(ConfigError, match="nothing to calibrate with"):
        collect(small_onnx, [])
    with pytest.raises(EngineError, match="no model file"):
        collect(tmp_path / "none.onnx", inputs(1))
    for name in ("bad.onnx", "bad.tflite"):
        (tmp_path / name).write_bytes(b"no model at all")
        with pytest.raises(EngineError, match="is not a"):
            collect(tmp_path / name, inputs(1))
    with pytest.raises(ConfigError, match="neither .onnx nor .tflite"):
        collect(tmp_path / "model.pb", inputs(1))


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """One small network as ONNX, NCHW, and as TFLite, NHWC, with other names."""
    tf = pytest.importorskip("tensorflow", reason="tensorflow is not installed: no .tflite can be made")
    folder = tmp_path_factory.mktemp("pair")
    rng = np.random.default_rng(0)
    weights, bias = rng.normal(size=(5, 3, 3, 3)).astype(np.float32), rng.normal(size=5).astype(np.float32)
    nodes = [
        node("Conv", "x w b", "conv", {"pads": [1, 1, 1, 1]}),
        node("Sigmoid", "conv", "gate"),
        node("Mul", "conv gate", "silu"),
        node("Relu", "silu", "y"),
    ]
    save(folder / "pair.onnx", nodes, {"x": [1, 3, 8, 8]}, {"y": [1, 5, 8, 8]}, {"w": weights, "b": bias})

    @tf.function(input_signature=[tf.TensorSpec([1, 8, 8, 3], tf.float32)])
    def network(x):
        conv = tf.nn.conv2d(x, weights.transpose(2, 3, 1, 0), 1, "SAME") + bias
        return tf.nn.relu(conv * tf.sigmoid(conv))

    converter = tf.lite.TFLiteConverter.from_concrete_functions([network.get_concrete_function()])
    (folder / "pair.tflite").write_bytes(converter.convert())
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([values.transpose(0, 2, 3, 1)] for values in inputs(8))
    (folder / "int8.tflite").write_bytes(converter.convert())
    return folder


def test_tflite_activations_are_those_of_onnx_under_other_names(pair):
    values = inputs(2)
    both = [(x, np.ascontiguousarray(x.transpose(0, 2, 3, 1))) for x in values]
    ranges = ranges_from(collect(pair / "pair.onnx", values), "min-max")
    moved = translate_ranges(ranges, pair / "pair.onnx", pair / "pair.tflite", both)
    assert not moved.unmatched
    own = ranges_from(collect(pair / "pair.tflite", [x for _, x in both]), "min-max")
    assert moved.ranges.model_sha256 == own.model_sha256
    assert len(own.tensors) == 4  # the last two steps are one operator there
    assert moved.ranges.tensors.keys() == own.tensors.keys()
    for name, found in own.tensors.items():
        assert moved.ranges.tensors[name] == pytest.approx(found, rel=1e-4, abs=1e-5)


def test_tensors_that_are_nowhere_else_are_named(pair, small_onnx):
    values = inputs(1)
    ranges = ranges_from(collect(small_onnx, values), "min-max")
    moved = translate_ranges(ranges, small_onnx, pair / "pair.onnx", [(values[0], values[0])])
    assert (moved.same_name, list(moved.ranges.tensors)) == (1, ["x"])  # "y" is in both, with other values
    assert set(moved.unmatched) == {"conv", "gate", "silu", "y"}
    assert set(moved.unused) == {"double", "y", "z", "out"}


def test_activations_of_a_quantized_file_are_near_the_float_ones(pair):
    values = inputs(1)[0].transpose(0, 2, 3, 1)
    exact, near = (dict(open_activations(pair / name).run(values)) for name in ("pair.tflite", "int8.tflite"))
    output = list(exact)[-1]
    assert all(value.dtype == np.float32 for value in near.values())
    assert np.abs(list(near.values())[-1] - exact[output]).max() < 0.1 * exact[output].max()
    with pytest.raises(EngineError, match="quantized already"):
        collect(pair / "int8.tflite", [values])


@pytest.mark.shared
def test_yolox_nano_on_real_pictures(shared, tmp_path):
    file = shared / "models/yolox_nano.onnx"
    contract = InputContract(placement="top_left", channel_order="bgr")
    spec = TensorSpec("images", (1, 3, 416, 416), np.dtype(np.float32), "NCHW")
    pictures = [cv2.imread(str(path)) for path in sorted((shared / "data/coco-calib80").rglob("*.jpg"))[:8]]
    made = list(tensors(pictures, contract, spec))
    found = collect(file, made)
    graph = onnx.load(file).graph
    expected = {name for node in graph.node if node.op_type != "Constant" for name in node.output}
    assert found.whole.keys() == expected | {"images"}
    for observer in ("min-max", "percentile:99.9"):
        ranges = ranges_from(found, observer)
        assert all(np.isfinite(pair).all() and pair[0] <= 0 <= pair[1] for pair in ranges.tensors.values())
        assert all(low < high for low, high in ranges.tensors.values())
    check_against_the_runtime(file, made, found)
    cache = tmp_path / "cache"
    write_tensorrt_cache(cache, ranges)
    assert read_tensorrt_cache(cache).scales == scales_of(ranges)


def check_against_the_runtime(file: Path, made: list[np.ndarray], found: Histograms) -> None:
    """The output's range is that of the engine which runs on the robot."""
    engine = OnnxRuntimeEngine(file, EngineSection(threads=1))
    outputs = []
    for tensor in made:
        engine.inputs[0][:] = tensor
        engine.run()
        outputs.append(engine.outputs[0].copy())
    engine.close()
    ranges: Ranges = ranges_from(found, "min-max")
    low, high = ranges.tensors["output"]
    assert (low, high) == pytest.approx((np.min(outputs), np.max(outputs)), rel=1e-4)
