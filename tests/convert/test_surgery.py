"""Surgery keeps every number: cleaning, folding, splitting, cutting and equalizing, each against ONNX Runtime."""

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="the converter's extra is not installed")
pytest.importorskip("onnxruntime", reason="the converter's extra is not installed")

from networks import CELLS, CLASSES, SIZE, Builder, classifier, run, yolox  # noqa: E402

from convert.head import Head, head_columns  # noqa: E402
from convert.surgery import clean as cleaning  # noqa: E402
from convert.surgery.clean import clean  # noqa: E402
from convert.surgery.equalize import equalize  # noqa: E402
from convert.surgery.fold import fold_batch_norms  # noqa: E402
from convert.surgery.heads import split_outputs  # noqa: E402
from convert.surgery.operate import operate  # noqa: E402
from edge.decoders.heads import grid_cells  # noqa: E402
from edge.errors import ModelError  # noqa: E402

IMAGES = np.random.default_rng(5).uniform(0, 2, (2, 3, SIZE, SIZE)).astype(np.float32)
YOLOX = head_columns("yolox", {}, CLASSES)


def kinds(model) -> list[str]:
    return [node.op_type for node in model.graph.node]


def outputs(model) -> dict[str, np.ndarray]:
    return dict(zip([value.name for value in model.graph.output], run(model, IMAGES), strict=True))


@pytest.mark.parametrize("with_onnxsim", [True, False])
def test_cleaning_raises_the_opset_and_fixes_the_batch(with_onnxsim, monkeypatch):
    if not with_onnxsim:
        monkeypatch.setattr(cleaning, "onnxsim", None)
    model = classifier(("n", 3, SIZE, SIZE), opset=11)
    before = model.SerializeToString()
    cleaned, notes = clean(model, "net", None)
    assert model.SerializeToString() == before
    assert cleaned.opset_import[0].version == 13
    assert [dim.dim_value for dim in cleaned.graph.input[0].type.tensor_type.shape.dim] == [1, 3, SIZE, SIZE]
    assert [dim.dim_value for dim in cleaned.graph.output[0].type.tensor_type.shape.dim] == [1, 4]
    assert any("n to batch 1" in note for note in notes)
    np.testing.assert_allclose(run(cleaned, IMAGES)[0], run(model, IMAGES)[0], rtol=1e-5)


def test_cleaning_names_the_open_axis_and_takes_the_size():
    model = classifier((1, 3, "rows", "columns"))
    with pytest.raises(ModelError, match=r"axis 2 'rows' \(height\)"):
        clean(model, "net", None)
    cleaned, _ = clean(model, "net", (48, 40))
    assert [dim.dim_value for dim in cleaned.graph.input[0].type.tensor_type.shape.dim] == [1, 3, 40, 48]
    with pytest.raises(ModelError, match="fixed at 32 px, not 40"):
        clean(classifier(), "net", (48, 40))


def test_cleaning_drops_what_nobody_needs():
    b = Builder()
    x = b.node("Identity", [b.conv("image", 3, 4)])
    b.node("Relu", [x])  # nobody reads it
    unused = b.constant(np.zeros((3, 3), np.float32))
    model = b.model([b.node("Sigmoid", [b.node("Dropout", [x])])])
    for node in model.graph.node:
        node.name = "same"
    model.graph.input.append(onnx.helper.make_tensor_value_info(unused, onnx.TensorProto.FLOAT, [3, 3]))
    cleaned, _ = clean(model, "net", None)
    assert kinds(cleaned) == ["Conv", "Sigmoid"]
    assert unused not in [tensor.name for tensor in cleaned.graph.initializer]
    assert len(cleaned.graph.input) == 1
    assert len({node.name for node in cleaned.graph.node}) == 2


def test_a_later_opset_comes_down_to_what_tensorrt_reads():
    b = Builder()
    x = b.node("ReduceMean", [b.conv("image", 3, 4), b.constant(np.array([2, 3], np.int64))], keepdims=0)
    model = b.model([x], opset=18)
    model.ir_version = 10
    cleaned, notes = clean(model, "net", None)
    assert cleaned.opset_import[0].version == 17
    assert cleaned.ir_version <= 8
    assert "opset 18 to 17" in notes
    np.testing.assert_allclose(run(cleaned, IMAGES)[0], run(model, IMAGES)[0], rtol=1e-5)


def test_batch_norms_fold_into_convolutions():
    model = classifier()
    folded, said = fold_batch_norms(model)
    assert "BatchNormalization" in kinds(model)
    assert "BatchNormalization" not in kinds(folded)
    assert said == "folded 1 batch normalizations into the layers before them"
    np.testing.assert_allclose(run(folded, IMAGES)[0], run(model, IMAGES)[0], rtol=1e-5, atol=1e-6)


def test_a_batch_norm_whose_convolution_is_read_twice_stays():
    b = Builder()
    x = b.conv("image", 3, 4)
    model = b.model([b.node("Add", [x, b.norm(x, 4)])])
    folded, said = fold_batch_norms(model)
    assert said == ""
    assert kinds(folded) == kinds(model)


def test_a_yolox_head_splits_where_its_parts_arise():
    model, _ = clean(yolox(), "net", None)
    whole = run(model, IMAGES)[0]
    split, said = split_outputs(model, model.graph.output[0].name, 2, YOLOX)
    assert "boxes, objectness, scores" in said
    found = outputs(split)
    for role, (first, last) in YOLOX.items():
        np.testing.assert_array_equal(found[role], whole[..., first:last])
    assert "Slice" not in kinds(split)
    assert kinds(split).count("Conv") == kinds(model).count("Conv")


def test_a_head_of_one_convolution_is_split_with_its_filters():
    b = Builder()
    rows = b.node("Reshape", [b.conv("image", 3, 9), b.constant(np.array([1, 9, -1], np.int64))])
    model = b.model([b.node("Transpose", [rows], perm=[0, 2, 1])])
    split, _ = split_outputs(model, model.graph.output[0].name, 2, {"boxes": (0, 4), "scores": (4, 9)})
    found, whole = outputs(split), run(model, IMAGES)[0]
    np.testing.assert_allclose(found["boxes"], whole[..., :4], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found["scores"], whole[..., 4:], rtol=1e-5, atol=1e-6)
    assert kinds(split).count("Conv") == 2


def test_columns_that_depend_on_each_other_are_left_and_said_so():
    b = Builder()
    model = b.model([b.node("Softmax", [b.conv("image", 3, 9)], axis=1)])
    name = model.graph.output[0].name
    unchanged, said = split_outputs(model, name, 1, {"boxes": (0, 4), "scores": (4, 9)})
    assert said == ""
    assert [value.name for value in unchanged.graph.output] == [name]
    operated = operate(model, IMAGES, Head(name, 1, {"boxes": (0, 4), "scores": (4, 9)}))
    assert operated.roles == {}
    assert any("left in one piece" in note for note in operated.notes)


def test_a_decoding_yolox_gives_up_its_arithmetic():
    model, _ = clean(yolox(decoded=True), "net", None)
    name = model.graph.output[0].name
    operated = operate(model, IMAGES, Head(name, 2, YOLOX), ((SIZE, SIZE), [8, 16, 32]))
    assert "Exp" in kinds(model)
    assert "Exp" not in kinds(operated.model)
    raw, wanted = outputs(operated.model)["boxes"], run(model, IMAGES)[0][..., :4]
    cells = grid_cells((SIZE, SIZE), [8, 16, 32])
    decoded = np.concatenate([raw[..., :2] + cells[:, :2], np.exp(raw[..., 2:])], axis=-1) * cells[:, 2:]
    assert raw.shape == (2, CELLS, 4)
    np.testing.assert_allclose(decoded, wanted, rtol=1e-4)
    np.testing.assert_array_equal(operated.raw_boxes, raw)


def test_a_raw_yolox_keeps_its_boxes_when_called_decoded():
    model, _ = clean(yolox(), "net", None)
    operated = operate(model, IMAGES, Head(model.graph.output[0].name, 2, YOLOX), ((SIZE, SIZE), [8, 16, 32]))
    assert operated.raw_boxes is None


def unequal(activation: str):
    """Two pairs of layers, one through a depthwise, whose channels differ a thousandfold."""
    b = Builder(3)
    x = b.node(activation, [b.conv("image", 3, 8, 3)])
    x = b.node(activation, [b.conv(x, 8, 8, 3, 1, 8)])
    model = b.model([b.conv(x, 8, 4)])
    first = onnx.numpy_helper.to_array(model.graph.initializer[0]).copy()
    first *= np.logspace(-1.5, 1.5, 8, dtype=np.float32)[:, None, None, None]
    model.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(first, "w0"))
    return model


def spread(model) -> float:
    first = next(node for node in model.graph.node if node.op_type == "Conv")
    weights = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}[first.input[1]]
    largest = np.abs(weights).max(axis=(1, 2, 3))
    return largest.max() / largest.min()


@pytest.mark.parametrize("activation", ["Relu", "LeakyRelu", "Identity"])
def test_equalization_evens_channels_and_keeps_the_function(activation):
    model = unequal(activation)
    model = clean(model, "net", None)[0]
    equal, said = equalize(model)
    assert "2 pairs" in said
    assert spread(equal) < spread(model) / 5
    wanted = run(model, IMAGES)[0]
    assert np.abs(run(equal, IMAGES)[0] - wanted).max() <= 1e-5 * np.abs(wanted).max()


def test_equalization_stops_at_functions_that_know_a_scale():
    equal, said = equalize(unequal("Sigmoid"))
    assert said == ""
    assert spread(equal) == spread(unequal("Sigmoid"))


def test_a_step_that_changes_numbers_is_undone(monkeypatch):
    def wrong(model):
        copy = onnx.ModelProto.FromString(model.SerializeToString())
        weights = onnx.numpy_helper.to_array(copy.graph.initializer[0]) * np.float32(1.01)
        copy.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(weights, copy.graph.initializer[0].name))
        return copy, "made it better"

    monkeypatch.setattr("convert.surgery.operate.equalize", wrong)
    model = classifier(softmax=False)
    operated = operate(model, IMAGES, equalized=True)
    assert any("equalization was undone" in note for note in operated.notes)
    np.testing.assert_allclose(run(operated.model, IMAGES)[0], run(model, IMAGES)[0], rtol=1e-5, atol=1e-6)
