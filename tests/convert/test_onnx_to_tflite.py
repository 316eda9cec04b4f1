"""The file that comes out: versions, buffers, description; and the errors of models that cannot be translated."""

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="the ONNX route needs onnx")
pytest.importorskip("onnxruntime", reason="the reference is ONNX Runtime")

from ai_edge_litert import schema_py_generated as schema  # noqa: E402
from onnx_models import node, save  # noqa: E402
from onnx_to_tflite_check import compare, random_feeds  # noqa: E402

from convert.onnx_to_tflite.translate import translate  # noqa: E402
from convert.onnx_to_tflite.view import NHWC, View  # noqa: E402
from edge.errors import EngineError  # noqa: E402


def small_net(tmp_path):
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(4, 3, 3, 3)).astype(np.float32)
    nodes = [node("Conv", "x w b", "features", {"pads": [1, 1, 1, 1]}), node("Relu", "features", "y")]
    constants = {"w": weights, "b": np.zeros(4, np.float32)}
    return save(tmp_path / "net.onnx", nodes, {"x": (1, 3, 8, 8)}, ["y"], constants)


def test_the_file_suits_old_runtimes(tmp_path):
    compare(small_net(tmp_path), tmp_path, random_feeds({"x": (1, 3, 8, 8)}))
    data = (tmp_path / "model.tflite").read_bytes()
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(data, 0))
    assert data[4:8] == b"TFL3"
    assert model.description == b"harrier"
    assert len(model.subgraphs) == 1
    assert [(code.builtinCode, code.version) for code in model.operatorCodes] == [(schema.BuiltinOperator.CONV_2D, 1)]
    tensors = model.subgraphs[0].tensors
    inlined = [model.buffers[tensor.buffer] for tensor in tensors if tensor.buffer]
    assert all(buffer.data is not None and buffer.offset == 0 for buffer in inlined)
    assert [tuple(tensors[i].shape) for i in model.subgraphs[0].inputs] == [(1, 8, 8, 3)]
    assert [tensors[i].name for i in model.subgraphs[0].outputs] == [b"y"]  # the fused activation's name


def test_constants_start_at_multiples_of_sixteen_bytes(tmp_path):
    translate(small_net(tmp_path), tmp_path / "model.tflite")
    data = (tmp_path / "model.tflite").read_bytes()
    weights = np.random.default_rng(0).normal(size=(4, 3, 3, 3)).astype(np.float32)
    assert data.index(np.ascontiguousarray(weights.transpose(0, 2, 3, 1)).tobytes()) % 16 == 0


def test_translating_twice_gives_the_same_bytes(tmp_path):
    file = small_net(tmp_path)
    source = file.read_bytes()
    translate(file, tmp_path / "a.tflite")
    translate(file, tmp_path / "b.tflite")
    assert (tmp_path / "a.tflite").read_bytes() == (tmp_path / "b.tflite").read_bytes()
    assert file.read_bytes() == source


def failure(tmp_path, nodes, inputs, constants=None, opset=13):
    file = save(tmp_path / "bad.onnx", nodes, inputs, ["y"], constants, opset)
    with pytest.raises(EngineError) as caught:
        translate(file, tmp_path / "bad.tflite")
    assert not (tmp_path / "bad.tflite").exists()
    return str(caught.value)


def test_an_unsupported_operator_is_named_and_counted(tmp_path):
    nodes = [node("Det", "x", "d"), node("Asinh", "d", "e"), node("Asinh", "e", "y")]
    nodes[0].name = "first_one"
    text = failure(tmp_path, nodes, {"x": (1, 3, 3)})
    assert "Asinh (2 of them)" in text
    assert "Det" in text
    assert "first_one" in text
    assert "--to onnx" in text


@pytest.mark.parametrize(
    ("nodes", "reason"),
    [
        ([node("Resize", "x - s", "y", {"mode": "cubic"})], "only nearest and linear"),
        ([node("MaxPool", "x", "y", {"kernel_shape": [2, 2], "dilations": [2, 2]})], "dilation"),
        ([node("Pad", "x p", "y", {"mode": "edge"})], "mode edge"),
        ([node("Gather", "x i", "y", {"axis": 3})], "separate runs"),
    ],
)
def test_an_unsupported_form_says_why(tmp_path, nodes, reason):
    constants = {
        "s": np.float32([1, 1, 2, 2]),
        "p": np.int64([0, 0, 2, 0, 0, 0, 0, 0]),
        "i": np.int64([0, 3, 2, 0, 7] * 12),
    }
    text = failure(tmp_path, nodes, {"x": (1, 3, 8, 8)}, constants)
    assert reason in text
    assert nodes[0].op_type in text


def test_a_dynamic_input_is_refused(tmp_path):
    text = failure(tmp_path, [node("Relu", "x", "y")], {"x": ("batch", 3, 8, 8)})
    assert "dynamic shape (batch, 3, 8, 8)" in text


def test_a_file_that_is_no_model_is_refused(tmp_path):
    file = tmp_path / "text.onnx"
    file.write_bytes(b"this is not a model")
    with pytest.raises(EngineError, match="no readable ONNX model"):
        translate(file, tmp_path / "text.tflite")


def test_views_of_an_image_reshape_without_moving():
    image = View.over(0, (1, 6, 4, 5), NHWC)
    assert image.shape == (1, 6, 4, 5)
    rows = image.reshaped((1, 6, 20)).transposed((0, 2, 1))
    assert rows.shape == (1, 20, 6)
    assert rows.lies_in((0, 1, 2))
    assert not image.lies_in((0, 1, 2, 3))
    assert image.reshaped((1, 5, 24)) is None
    groups = image.reshaped((1, 2, 3, 4, 5))
    assert groups.own_order() == (0, 3, 4, 1, 2)
    assert groups.transposed((0, 2, 1, 3, 4)).reshaped((1, 6, 4, 5)).own_order() is None
