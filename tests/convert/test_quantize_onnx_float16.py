"""Float16 ONNX: float32 at both ends, float16 between, float32 wherever float16 would be wrong."""

from pathlib import Path

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="float16 models are made with onnx")

from networks import SIZE, Builder, classifier, run  # noqa: E402
from onnx import TensorProto, numpy_helper  # noqa: E402

from calibration.ranges import Ranges  # noqa: E402
from convert.onnx_float16 import write_float16  # noqa: E402
from edge.errors import ConfigError, EngineError  # noqa: E402

IMAGES = np.random.default_rng(5).normal(0, 1, (4, 3, SIZE, SIZE)).astype(np.float32)


def halved(model: onnx.ModelProto, folder: Path, ranges: Ranges | None = None) -> onnx.ModelProto:
    """The model after the conversion; it must load and have the same ends."""
    model = onnx.shape_inference.infer_shapes(model)
    onnx.save(model, folder / "float.onnx")
    write_float16(folder / "float.onnx", folder / "half.onnx", ranges)
    half = onnx.load(folder / "half.onnx")
    onnx.checker.check_model(half, full_check=True)
    for mine, own in ((half.graph.input, model.graph.input), (half.graph.output, model.graph.output)):
        assert [value.SerializeToString() for value in mine] == [value.SerializeToString() for value in own]
    return half


def types_of(model: onnx.ModelProto) -> dict[str, list[int]]:
    """Operator -> the types of its first inputs, in the graph's order."""
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    values = [*inferred.value_info, *inferred.input, *inferred.output]
    kinds = {value.name: value.type.tensor_type.elem_type for value in values}
    found: dict[str, list[int]] = {}
    for node in inferred.node:
        found.setdefault(node.op_type, []).append(kinds[node.input[0]])
    return found


def test_a_network_computes_the_same_in_half_the_space(tmp_path):
    model = classifier()
    half = halved(model, tmp_path)
    (wanted,), (got,) = run(model, IMAGES), run(half, IMAGES)
    assert got.dtype == np.float32
    assert 0 < np.abs(got - wanted).max() < 2e-3
    kinds = types_of(half)
    assert set(kinds["Conv"]) == {TensorProto.FLOAT16}
    assert len(kinds["Cast"]) == 2, "one at each end"
    weights = [tensor for tensor in half.graph.initializer if len(tensor.dims) == 4]
    assert all(tensor.data_type == TensorProto.FLOAT16 for tensor in weights)


def test_scales_of_resize_stay_float32(tmp_path):
    b = Builder()
    scales = b.constant(np.array([1, 1, 2, 2], np.float32))
    model = b.model([b.node("Resize", [b.conv("image", 3, 4), "", scales], mode="nearest")])
    half = halved(model, tmp_path)
    resize = next(node for node in half.graph.node if node.op_type == "Resize")
    assert types_of(half)["Resize"] == [TensorProto.FLOAT16]
    assert resize.input[2] == scales
    np.testing.assert_allclose(run(half, IMAGES)[0], run(model, IMAGES)[0], atol=2e-2)


@pytest.mark.parametrize("kind", ["Exp", "ReduceSum"])
def test_what_grows_stays_float32(kind, tmp_path):
    b = Builder()
    model = b.model([b.node(kind, [b.conv("image", 3, 4)])])
    kinds = types_of(halved(model, tmp_path))
    assert kinds[kind] == [TensorProto.FLOAT]
    assert kinds["Conv"] == [TensorProto.FLOAT16]


def test_constants_beyond_float16_keep_their_node_float32(tmp_path):
    b = Builder()
    large = b.node("Mul", [b.conv("image", 3, 4), b.constant(np.float32([1e6]))])
    model = b.model([b.node("Mul", [large, b.constant(np.float32([1e-6]))])])
    ranges = Ranges(model_sha256="", observer="", images=1, tensors={large: (-9e6, 9e6)})
    half = halved(model, tmp_path, ranges)
    assert types_of(half)["Mul"] == [TensorProto.FLOAT] * 2, "the second reads what float16 could not hold"
    np.testing.assert_allclose(run(half, IMAGES)[0], run(model, IMAGES)[0], atol=2e-2)


def test_bounds_beyond_float16_saturate(tmp_path):
    b = Builder()
    limits = [b.constant(np.array(v, np.float32)) for v in (0.0, 3e38)]
    half = halved(b.model([b.node("Clip", [b.conv("image", 3, 4), *limits])]), tmp_path)
    assert types_of(half)["Clip"] == [TensorProto.FLOAT16]
    assert all(np.isfinite(numpy_helper.to_array(t)).all() for t in half.graph.initializer if t.dims == [])


def test_a_value_read_in_both_types_and_given_out_is_cast_once(tmp_path):
    b = Builder()
    shared = b.conv("image", 3, 4)
    model = b.model([shared, b.node("Exp", [shared]), b.node("Relu", [shared])])
    half = halved(model, tmp_path)
    for got, wanted in zip(run(half, IMAGES), run(model, IMAGES), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=2e-2, atol=2e-2)
    assert sum(node.op_type == "Cast" and shared in node.output for node in half.graph.node) == 1


def test_the_source_stays_and_errors_are_said(tmp_path):
    model = onnx.shape_inference.infer_shapes(classifier())
    onnx.save(model, tmp_path / "float.onnx")
    before = (tmp_path / "float.onnx").read_bytes()
    with pytest.raises(ConfigError, match="cannot write"):
        write_float16(tmp_path / "float.onnx", tmp_path / "nowhere" / "half.onnx")
    with pytest.raises(EngineError, match="no readable ONNX"):
        write_float16(tmp_path / "missing.onnx", tmp_path / "half.onnx")
    assert (tmp_path / "float.onnx").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["float.onnx"]
