"""Keras files, SavedModel folders and float TFLite files, each against TensorFlow's own outputs."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

keras = pytest.importorskip("keras", reason="the extra 'keras' (TensorFlow) is not installed")
tf = pytest.importorskip("tensorflow", reason="the extra 'keras' (TensorFlow) is not installed")
pytest.importorskip("tf2onnx", reason="the extra 'keras' (tf2onnx) is not installed")

from tensorflow.python.framework.convert_to_constants import (  # noqa: E402
    convert_variables_to_constants_v2 as frozen,
)

from convert.float_model import FLOAT_ONNX, FLOAT_TFLITE  # noqa: E402
from convert.load import LoadOptions, load  # noqa: E402
from convert.probe import float_error  # noqa: E402
from convert.tflite_edit import op_name, read_model  # noqa: E402
from edge.config import EngineSection  # noqa: E402
from edge.errors import ModelError  # noqa: E402
from edge.model import open_model  # noqa: E402

BOTH = LoadOptions(want_onnx=True, want_tflite=True)


def network(size: int | None = 32, channels: int = 3, scaled: bool = True, heads: int = 1):
    keras.utils.set_random_seed(0)
    layers = keras.layers
    image = layers.Input((size, size, channels), name="picture")
    x = layers.Rescaling(1 / 127.5, -1, name="to_unit")(image) if scaled else image
    x = layers.Conv2D(8, 3, strides=2, padding="same")(x)
    x = layers.ReLU(6.0)(layers.BatchNormalization()(x))
    y = layers.Conv2D(8, 1)(layers.Activation("silu")(layers.DepthwiseConv2D(3, padding="same")(x)))
    x = layers.MaxPooling2D(3, 2, padding="same")(layers.Add()([x, y]))
    x = layers.Dropout(0.2)(layers.GlobalAveragePooling2D()(x))
    outputs = [layers.Dense(5, activation="softmax", name=name)(x) for name in ("zebra", "ant")[:heads]]
    return keras.Model(image, outputs)


@pytest.fixture(scope="module")
def sources(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("keras")
    model = network()
    found = {"keras": folder / "net.keras", "h5": folder / "net.h5", "savedmodel": folder / "net"}
    model.save(found["keras"])
    model.save(found["h5"])
    model.export(found["savedmodel"], verbose=False)
    return found


def digest(path: Path) -> str:
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


@pytest.mark.parametrize("kind", ["keras", "h5", "savedmodel"])
def test_both_float_files_answer_as_tensorflow_does(kind, sources, tmp_path):
    source = sources[kind]
    before = digest(source)
    model = load(str(source), tmp_path / "out", BOTH)
    assert digest(source) == before
    assert set(model.manifest.targets) == {FLOAT_ONNX, FLOAT_TFLITE}
    for target in model.manifest.targets:
        assert max(float_error(model, target).values()) < 1e-4
        opened = open_model(str(model.folder), EngineSection(target=target))
        assert opened.engine.input_specs[0].shape == (1, 32, 32, 3)
        assert [spec.name for spec in opened.engine.output_specs] == list(model.output_names)
        opened.close()


def test_the_weights_lie_in_the_file_and_not_in_variables(sources, tmp_path):
    model = load(str(sources["keras"]), tmp_path / "out", LoadOptions(want_onnx=False, want_tflite=True))
    file = read_model(model.folder / model.manifest.targets[FLOAT_TFLITE].file)
    kinds = {op_name(file, op) for op in file.subgraphs[0].operators}
    assert "CONV_2D" in kinds
    assert "READ_VARIABLE" not in kinds
    assert FLOAT_ONNX not in model.manifest.targets


def test_a_scaling_layer_says_that_pixels_enter_as_they_are(tmp_path):
    network().save(tmp_path / "scaled.keras")
    network(scaled=False).save(tmp_path / "bare.keras")
    only = LoadOptions(want_onnx=False, want_tflite=True)
    scaled = load(str(tmp_path / "scaled.keras"), tmp_path / "one", only)
    bare = load(str(tmp_path / "bare.keras"), tmp_path / "two", only)
    assert (scaled.manifest.input.scale, scaled.manifest.input.mean) == (1.0, (0.0, 0.0, 0.0))
    assert any("'to_unit' scales them" in note for note in scaled.notes)
    assert bare.manifest.input.scale == pytest.approx(1 / 127.5)  # the guess for Keras


def test_constants_that_a_layer_captures_are_no_inputs(tmp_path):
    image = keras.layers.Input((32, 32, 3))
    x = keras.layers.Normalization(mean=[1.0, 2.0, 3.0], variance=[4.0, 5.0, 6.0])(image)
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 3)(x))
    keras.Model(image, x).save(tmp_path / "net.keras")
    model = load(str(tmp_path / "net.keras"), tmp_path / "out", BOTH)
    assert model.manifest.input.scale == 1.0
    for target in (FLOAT_ONNX, FLOAT_TFLITE):
        assert max(float_error(model, target).values()) < 1e-4


def test_a_fused_head_that_cannot_be_split_is_said(tmp_path):
    image = keras.layers.Input((32, 32, 3))
    grids = [keras.layers.Conv2D(8, stride, stride)(image) for stride in (8, 16, 32)]
    rows = [keras.layers.Reshape((-1, 8))(grid) for grid in grids]
    keras.Model(image, keras.layers.Concatenate(axis=1)(rows)).save(tmp_path / "net.keras")
    said = {"decoder.family": "yolox"}
    model = load(str(tmp_path / "net.keras"), tmp_path / "out", LoadOptions(said, want_onnx=False, want_tflite=True))
    assert list(model.manifest.targets[FLOAT_TFLITE].outputs) == ["raw"]
    assert any("stays in one piece" in note for note in model.notes)


def test_a_gray_input_is_gray(tmp_path):
    network(28, 1).save(tmp_path / "gray.keras")
    model = load(str(tmp_path / "gray.keras"), tmp_path / "out", LoadOptions(want_onnx=False, want_tflite=True))
    assert model.manifest.input.channel_order == "gray"
    assert max(float_error(model, FLOAT_TFLITE).values()) < 1e-4


def test_outputs_keep_their_names_and_not_their_alphabet(tmp_path):
    network(heads=2).save(tmp_path / "two.keras")
    said = {"decoder.family": "classification", "outputs.scores": "ant"}
    model = load(str(tmp_path / "two.keras"), tmp_path / "out", LoadOptions(said, want_onnx=True, want_tflite=True))
    assert model.output_names == ("zebra", "ant")
    for target in (FLOAT_ONNX, FLOAT_TFLITE):
        errors = float_error(model, target)
        assert set(errors) == {"zebra", "ant"}
        assert max(errors.values()) < 1e-4


def test_an_open_size_needs_a_size(tmp_path):
    network(None).save(tmp_path / "open.keras")
    with pytest.raises(ModelError, match=r"axis 1 \(height\)"):
        load(str(tmp_path / "open.keras"), tmp_path / "out", BOTH)
    model = load(str(tmp_path / "open.keras"), tmp_path / "out", LoadOptions(size_wh=(48, 40), want_tflite=True))
    with np.load(model.probe) as probe:
        assert probe["input_0"].shape[1:] == (40, 48, 3)


@pytest.mark.parametrize("name", ["cut.keras", "cut.h5"])
def test_a_damaged_file_is_one_line(name, sources, tmp_path):
    data = sources[name.partition(".")[2]].read_bytes()
    (tmp_path / name).write_bytes(data[: len(data) // 2])
    with pytest.raises(ModelError, match="damaged") as raised:
        load(str(tmp_path / name), tmp_path / "out", BOTH)
    assert "\n" not in str(raised.value)


def test_a_damaged_folder_is_one_line(tmp_path):
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "saved_model.pb").write_bytes(b"nothing of the kind")
    with pytest.raises(ModelError, match="damaged") as raised:
        load(str(tmp_path / "saved"), tmp_path / "out", BOTH)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("batch", [1, None])
def test_a_float_tflite_is_copied_and_its_batch_fixed(batch, tmp_path):
    model = network()
    function = tf.function(model, input_signature=[tf.TensorSpec((batch, 32, 32, 3))])
    converter = tf.lite.TFLiteConverter.from_concrete_functions([frozen(function.get_concrete_function())])
    source = tmp_path / "net.tflite"
    source.write_bytes(converter.convert())
    before = digest(source)
    found = load(str(source), tmp_path / "out", BOTH)
    assert digest(source) == before
    assert any("batch" in note for note in found.notes) == (batch is None)
    for target in (FLOAT_ONNX, FLOAT_TFLITE):
        assert max(float_error(found, target).values()) < 1e-4
        opened = open_model(str(found.folder), EngineSection(target=target))
        assert opened.engine.input_specs[0].shape == (1, 32, 32, 3)
        opened.close()


def test_a_float16_tflite_is_refused(tmp_path):
    converter = tf.lite.TFLiteConverter.from_keras_model(network())
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_types = [tf.float16]
    (tmp_path / "half.tflite").write_bytes(converter.convert())
    with pytest.raises(ModelError, match="float16 weights"):
        load(str(tmp_path / "half.tflite"), tmp_path / "out", BOTH)


def test_a_tflite_that_keeps_its_weights_in_variables_is_refused(tmp_path):
    model = network()
    function = tf.function(model, input_signature=[tf.TensorSpec((1, 32, 32, 3))])
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function.get_concrete_function()], model)
    (tmp_path / "net.tflite").write_bytes(converter.convert())
    with pytest.raises(ModelError, match="in variables"):
        load(str(tmp_path / "net.tflite"), tmp_path / "out", BOTH)


def test_a_reloaded_sequential_has_no_output_names_and_loads_all_the_same(tmp_path):
    keras.utils.set_random_seed(0)
    layers = [keras.Input((16, 16, 1)), keras.layers.Conv2D(4, 3), keras.layers.Flatten(), keras.layers.Dense(3)]
    keras.Sequential(layers).save(tmp_path / "s.keras")
    model = load(str(tmp_path / "s.keras"), tmp_path / "bundle", LoadOptions(want_tflite=True, want_onnx=False))
    assert max(float_error(model, FLOAT_TFLITE).values()) < 2e-3
