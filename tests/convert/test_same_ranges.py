"""TFLite and ONNX of one conversion share their ranges, also where channels are equalized."""

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="the small networks are made with onnx")
pytest.importorskip("litert_quantizer", reason="litert-quantizer is not installed")

from networks import SIZE, Builder, classifier, run  # noqa: E402
from onnx import numpy_helper  # noqa: E402

from calibration.collect import collect  # noqa: E402
from calibration.collected import ranges_from  # noqa: E402
from calibration.pictures import read_pictures  # noqa: E402
from convert import make_onnx, onnx_search, tflite_ranges  # noqa: E402
from convert.calibrated import halves, inputs_of  # noqa: E402
from convert.load import LoadOptions, load  # noqa: E402
from convert.onnx_beside import OnnxBeside  # noqa: E402
from convert.onnx_equalize import equalize_onnx, onnx_silu_factors  # noqa: E402
from convert.quantize_onnx import activation_names, quantize_onnx  # noqa: E402
from convert.request import ConvertRequest, shares_ranges  # noqa: E402
from convert.run import convert  # noqa: E402
from convert.tflite_edit import read_model, tensor_name  # noqa: E402
from convert.tflite_equalize import equalize_silu, silu_factors  # noqa: E402
from convert.workspace import Workspace  # noqa: E402

IMAGES = np.random.default_rng(5).uniform(0, 2, (6, 3, SIZE, SIZE)).astype(np.float32)
SPREAD = np.array([0.01, 0.05, 0.1, 0.2, 0.5, 1.0, 10.0, 40.0], np.float32)


def silu_classifier(convolution: bool = False):
    """SiLU between a convolution whose channels differ 4,000 times and a depthwise one that makes up for it."""
    b = Builder(9)
    y = b.conv("image", 3, 8, 3, 2)
    z = b.node("Mul", [y, b.node("Sigmoid", [y])])
    x = b.node("Relu", [b.conv(z, 8, 8, 3, 1, 1 if convolution else 8)])
    x = b.node("Flatten", [b.node("GlobalAveragePool", [b.conv(x, 8, 4)])])
    model = b.model([b.node("Softmax", [x], axis=1)])
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if tensor.name in ("w0", "w1"):
            values = values * SPREAD.reshape(-1, *[1] * (values.ndim - 1))
        if tensor.name == "w2" and not convolution:
            values = values / SPREAD.reshape(-1, 1, 1, 1)
        tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float32), tensor.name))
    return onnx.shape_inference.infer_shapes(model)


@pytest.fixture(scope="module")
def silu_file(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("silu") / "silu.onnx"
    onnx.save(silu_classifier(), path)
    return path


def test_equalizing_an_onnx_file_keeps_its_numbers_and_saves_its_int8(silu_file, tmp_path):
    inputs = [image[None] for image in IMAGES]
    factors = onnx_silu_factors(silu_file, inputs)
    (name,) = factors
    equal = tmp_path / "equal.onnx"
    assert equalize_onnx(silu_file, equal, factors) == [name]
    wanted = run(onnx.load(silu_file), IMAGES)[0]
    np.testing.assert_allclose(run(onnx.load(equal), IMAGES)[0], wanted, rtol=1e-4, atol=1e-6)
    errors = []
    for file in (silu_file, equal):
        quantize_onnx(file, tmp_path / "q.onnx", ranges_from(collect(file, inputs), "min-max", symmetric=True))
        errors.append(np.abs(run(onnx.load(tmp_path / "q.onnx"), IMAGES)[0] - wanted).max())
    assert errors[1] < errors[0] / 2
    assert f"{name}/unscaled" in {output for node in onnx.load(equal).graph.node for output in node.output}


def test_what_cannot_be_equalized_is_left(tmp_path):
    for i, model in enumerate((silu_classifier(convolution=True), classifier())):
        file = tmp_path / f"{i}.onnx"
        onnx.save(model, file)
        assert onnx_silu_factors(file, [image[None] for image in IMAGES]) == {}
        assert equalize_onnx(file, tmp_path / "none.onnx", {"conv0": np.ones(8)}) == []
    assert not (tmp_path / "none.onnx").exists()


@pytest.mark.parametrize("equalized", [False, True])
def test_ranges_of_the_tflite_file_are_those_of_the_onnx_file(silu_file, pictures, tmp_path, equalized):
    model = load(str(silu_file), tmp_path / "m", LoadOptions(want_tflite=True))
    found = read_pictures(str(pictures))
    tflite, factors = model.file("tflite-fp32"), {}
    if equalized:
        factors = silu_factors(tflite, inputs_of(model, tflite, found)())
        assert factors
        tflite = tmp_path / "equal.tflite"
        equalize_silu(model.file("tflite-fp32"), tflite, factors)
    ranges = ranges_from(collect(tflite, inputs_of(model, tflite, found)()), "percentile:99")
    work = Workspace(tmp_path / "b")
    beside = OnnxBeside(model, halves(found), work, 1)
    file, own = beside.taken(tflite, factors, ranges)
    assert (file != model.file("onnx-fp32")) == equalized
    own_form = work.folder / "onnx" / f"{model.file('onnx-fp32').stem}-equalized.onnx"
    assert file != own_form, "which ONNX alone writes, by other factors: a run that is resumed must not find it"
    needed = activation_names(file)
    assert needed
    for name in needed:
        assert own.tensors[name] in ranges.tensors.values()
        assert name not in ranges.tensors or own.tensors[name] == ranges.tensors[name]
    assert 0.0 < beside.measure(tflite, factors, ranges) <= 1.0
    # a tensor that TFLite has not under any name: of the same pictures, by the same observer
    wanting = {name: pair for name, pair in ranges.tensors.items() if pair != own.tensors[needed[-1]]}
    _, completed = beside.taken(tflite, factors, msgspec.structs.replace(ranges, tensors=wanting))
    width = np.subtract(*reversed(own.tensors[needed[-1]]))
    np.testing.assert_allclose(completed.tensors[needed[-1]], own.tensors[needed[-1]], atol=0.1 * width)
    work.close()


def test_one_choice_serves_every_int8_file_of_a_conversion(silu_file, pictures, tmp_path, monkeypatch):
    chosen, ways = [], []
    choose, choose_onnx = tflite_ranges.choose_ranges, onnx_search.choose_onnx

    def listen(*rest):
        chosen.append(choose(*rest))
        return chosen[-1]

    def listen_onnx(given, *rest):
        ways.append(given)
        return choose_onnx(given, *rest)

    monkeypatch.setattr(tflite_ranges, "choose_ranges", listen)
    monkeypatch.setattr(make_onnx, "choose_onnx", listen_onnx)
    out, precisions = tmp_path / "b", ("int8", "int8-io", "mixed")
    convert(
        ConvertRequest(str(silu_file), out, ("tflite", "onnx"), precisions, calibration=str(pictures), search_s=5.0)
    )
    assert len(chosen) == len(ways) == 1
    ((_, way),) = ways[0].items()
    rows = {row["name"]: row for row in json.loads((out / "report.json").read_text())["targets"]}
    calibrated = [row for name, row in rows.items() if "fp32" not in name]
    assert {row["observer"] for row in calibrated} == {way.ranges.observer}
    assert any(trial["beside"] > 0 for trial in rows["tflite-int8"]["details"]["trials"])
    assert all("the same ranges" in " ".join(row["notes"]) for row in calibrated)
    scales = {
        t.name: float(numpy_helper.to_array(t))
        for t in onnx.load(out / "model-int8.onnx").graph.initializer
        if t.name.endswith("_scale") and not t.dims
    }
    steps = {}
    for tensor in read_model(out / "model-int8-io.tflite").subgraphs[0].tensors:
        if (
            tensor.quantization is not None
            and tensor.quantization.scale is not None
            and len(tensor.quantization.scale) == 1
        ):
            steps[tensor_name(tensor)] = float(tensor.quantization.scale[0]), int(tensor.quantization.zeroPoint[0])
    compared = 0
    for name, (scale, zero) in steps.items():
        if f"{name}_scale" in scales:
            largest = scale * max(127 - zero, zero + 128)  # the far end of TFLite's range
            assert scales[f"{name}_scale"] * 127 == pytest.approx(largest, rel=0.02), name
            compared += 1
    assert compared >= 3


def test_formats_share_only_what_is_asked_for_together():
    def request(formats, precisions):
        return ConvertRequest("m.onnx", Path("b"), formats, precisions)

    assert shares_ranges(request(("tflite", "onnx"), ("int8",)))
    assert shares_ranges(request(("edgetpu", "tensorrt"), ("int8-io", "int8")))
    assert not shares_ranges(request(("tflite",), ("int8", "mixed")))
    assert not shares_ranges(request(("tensorrt",), ("best",)))
    assert not shares_ranges(request(("tflite", "onnx"), ("fp16",)))


def test_onnx_alone_tries_equalized_channels_and_shares_the_trials(silu_file, pictures, tmp_path, monkeypatch):
    asked = []
    real = make_onnx.choose_onnx

    def listen(ways, *rest):
        asked.append(list(ways))
        return real(ways, *rest)

    monkeypatch.setattr(make_onnx, "choose_onnx", listen)
    out = tmp_path / "b"
    convert(ConvertRequest(str(silu_file), out, ("onnx",), ("int8", "mixed"), calibration=str(pictures), search_s=5.0))
    assert len(asked) == 1, "int8 and mixed are of one choice"
    assert {"min-max", "min-max, equalized"} <= set(asked[0])
    rows = {row["name"]: row for row in json.loads((out / "report.json").read_text())["targets"]}
    assert rows["onnx-int8"]["details"]["observers"] == rows["onnx-mixed"]["details"]["observers"]
    assert any("equalized" in note for note in rows["onnx-int8"]["notes"])
