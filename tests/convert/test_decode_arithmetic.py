"""Arithmetic that turns a head's last layers into boxes stays in float, nothing else does, and boxes are better so."""

from pathlib import Path

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="the small networks are made with onnx")
pytest.importorskip("litert_quantizer", reason="litert-quantizer is not installed")

from ai_edge_litert.interpreter import Interpreter  # noqa: E402
from networks import Builder, run, yolox  # noqa: E402
from onnx import numpy_helper  # noqa: E402

from calibration.collect import collect  # noqa: E402
from calibration.collected import ranges_from  # noqa: E402
from calibration.pictures import read_pictures  # noqa: E402
from calibration.ranges import write_ranges  # noqa: E402
from convert.calibrated import inputs_of  # noqa: E402
from convert.float_model import FloatModel  # noqa: E402
from convert.make_onnx import make_onnx  # noqa: E402
from convert.make_tflite import make_tflite  # noqa: E402
from convert.onnx_decode import onnx_decode_arithmetic  # noqa: E402
from convert.onnx_to_tflite.translate import translate  # noqa: E402
from convert.quantize_onnx import layer_names, quantize_onnx  # noqa: E402
from convert.quantize_tflite import quantize_tflite  # noqa: E402
from convert.request import ConvertRequest, Job  # noqa: E402
from convert.tflite_decode import tflite_decode_arithmetic  # noqa: E402
from convert.tflite_edit import op_name, read_model, tensor_name  # noqa: E402
from convert.workspace import Workspace  # noqa: E402
from edge.manifest import DecoderSection, InputContract, Manifest, Target  # noqa: E402

SIZE = 64  # px; one cell each, so that the grid is as long beside the sizes of objects as that of a real network
BINS, CLASSES = 16, 3
COUNT = SIZE**2
CHANNELS = 8
IMAGES = np.random.default_rng(7).uniform(0, 1, (4, 3, SIZE, SIZE)).astype(np.float32)


def feature(b: Builder) -> str:
    return b.node("Relu", [b.conv("image", 3, CHANNELS, 3)])


def shape(b: Builder, *sizes: int) -> str:
    return b.constant(np.array(sizes, np.int64))


def anchors() -> np.ndarray:
    """The middles of the cells, (1, 2, COUNT) float32."""
    side = np.arange(SIZE, dtype=np.float32) + 0.5
    return np.stack(np.meshgrid(side, side)).reshape(1, 2, COUNT)


def dfl_head(fused: bool = False):
    """Boxes by distribution focal loss in the graph, as YOLOv8's exports have it: softmax, mean, corners."""
    b = Builder(2)
    x = feature(b)
    both = b.node("Concat", [b.conv(x, CHANNELS, 4 * BINS), b.conv(x, CHANNELS, CLASSES)], axis=1)
    flat = b.node("Reshape", [both, shape(b, 1, 4 * BINS + CLASSES, COUNT)])
    bins, classes = (
        b.node("Slice", [flat, shape(b, first), shape(b, last), shape(b, 1)])
        for first, last in ((0, 4 * BINS), (4 * BINS, 4 * BINS + CLASSES))
    )
    x = b.node("Transpose", [b.node("Reshape", [bins, shape(b, 1, 4, BINS, COUNT)])], perm=[0, 2, 1, 3])
    x = b.node("Softmax", [x], axis=1)
    values = np.arange(BINS, dtype=np.float32).reshape(1, BINS, 1, 1)
    distances = b.node("Reshape", [b.node("Conv", [x, b.constant(values)]), shape(b, 1, 4, COUNT)])
    near, far = (b.node("Slice", [distances, shape(b, i), shape(b, i + 2), shape(b, 1)]) for i in (0, 2))
    least = b.node("Sub", [b.constant(anchors()), near])
    most = b.node("Add", [b.constant(anchors()), far])
    middle = b.node("Div", [b.node("Add", [least, most]), b.constant(np.float32(2))])
    joined = b.node("Concat", [middle, b.node("Sub", [most, least])], axis=1)
    boxes = b.node("Mul", [joined, b.constant(np.full((1, COUNT), 8, np.float32))])
    scores = b.node("Sigmoid", [classes])
    if fused:
        return b.model([b.node("Concat", [boxes, scores], axis=1)], (1, 3, SIZE, SIZE)), {"raw": b.nodes[-1].output[0]}
    return b.model([boxes, scores], (1, 3, SIZE, SIZE)), {"boxes": boxes, "scores": scores}


def exponential_head():
    b = Builder(3)
    x = b.node("Reshape", [b.conv(feature(b), CHANNELS, 4), shape(b, 1, 4, COUNT)])
    xy, wh = (b.node("Slice", [x, shape(b, i), shape(b, i + 2), shape(b, 1)]) for i in (0, 2))
    xy = b.node("Add", [xy, b.constant(anchors())])
    both = b.node("Concat", [xy, b.node("Exp", [wh])], axis=1)
    boxes = b.node("Mul", [both, b.constant(np.float32(8))])
    return b.model([boxes], (1, 3, SIZE, SIZE)), {"boxes": boxes}


def sigmoid_and_anchors():
    """As YOLOv5 and v7 have it: (2 s - 0.5 + grid) * stride, no exponential in it."""
    b = Builder(4)
    x = b.node("Sigmoid", [b.node("Reshape", [b.conv(feature(b), CHANNELS, 4), shape(b, 1, 4, COUNT)])])
    xy, wh = (b.node("Slice", [x, shape(b, i), shape(b, i + 2), shape(b, 1)]) for i in (0, 2))
    xy = b.node("Mul", [b.node("Add", [xy, b.constant(anchors())]), b.constant(np.float32(8))])
    wh = b.node("Mul", [b.node("Pow", [wh, b.constant(np.float32(2))]), b.constant(np.float32(40))])
    boxes = b.node("Concat", [xy, wh], axis=1)
    return b.model([boxes], (1, 3, SIZE, SIZE)), {"boxes": boxes}


def nanodet_head():
    """Scores and raw bins: the decoder does the rest."""
    b = Builder(5)
    x = feature(b)
    scores = b.node("Sigmoid", [b.node("Reshape", [b.conv(x, CHANNELS, CLASSES), shape(b, 1, CLASSES, COUNT)])])
    boxes = b.node("Transpose", [b.node("Reshape", [b.conv(x, CHANNELS, 32), shape(b, 1, 32, COUNT)])], perm=[0, 2, 1])
    return b.model([scores, boxes], (1, 3, SIZE, SIZE)), {"scores": scores, "boxes": boxes}


def transformer_head():
    """Boxes by a sigmoid on what a linear layer with a bias gives: nothing that is decoded."""
    b = Builder(6)
    x = b.node("Transpose", [b.node("Reshape", [feature(b), shape(b, 1, CHANNELS, COUNT)])], perm=[0, 2, 1])
    weights = b.noise.normal(0, 0.2, (CHANNELS, 4)).astype(np.float32)
    linear = b.node("MatMul", [x, b.constant(weights)])
    boxes = b.node("Sigmoid", [b.node("Add", [linear, b.constant(np.ones(4, np.float32))])])
    return b.model([boxes], (1, 3, SIZE, SIZE)), {"boxes": boxes}


def files(made, folder: Path) -> tuple[Path, Path, dict[str, str]]:
    """The network as ONNX and as TFLite, and its roles."""
    model, roles = made
    onnx.save(onnx.shape_inference.infer_shapes(model), folder / "net.onnx")
    translate(folder / "net.onnx", folder / "net.tflite")
    return folder / "net.onnx", folder / "net.tflite", roles


def nhwc() -> list[np.ndarray]:
    return [image[None].transpose(0, 2, 3, 1) for image in IMAGES]


def seen(file: Path, output: str) -> np.ndarray:
    """The real values of an output of a .tflite file on all images."""
    interpreter = Interpreter(str(file))
    interpreter.allocate_tensors()
    (image,) = interpreter.get_input_details()
    detail = next(d for d in interpreter.get_output_details() if d["name"] == output)
    found = []
    for values in nhwc():
        interpreter.set_tensor(image["index"], values)
        interpreter.invoke()
        found.append(interpreter.get_tensor(detail["index"]))
    return np.concatenate(found)


def error_px(file: Path, source: Path, output: str) -> float:
    return float(np.abs(seen(file, output) - seen(source, output)).mean())


@pytest.mark.parametrize("head", [dfl_head, exponential_head, sigmoid_and_anchors])
def test_boxes_are_better_where_their_arithmetic_is_float(head, tmp_path):
    _, source, roles = files(head(), tmp_path)
    kept = tflite_decode_arithmetic(source, roles)
    ranges = ranges_from(collect(source, nhwc()), "min-max")
    plain, better = tmp_path / "plain.tflite", tmp_path / "better.tflite"
    quantize_tflite(source, plain, "int8", ranges)
    quantize_tflite(source, better, "int8", ranges, kept)
    assert error_px(better, source, roles["boxes"]) < 0.6 * error_px(plain, source, roles["boxes"])
    model = read_model(better)
    tensors = model.subgraphs[0].tensors
    types = {tensor_name(t): t.type for t in tensors}
    assert all(types[name] == 0 for name in kept)  # FLOAT32
    for op in model.subgraphs[0].operators:
        if op_name(model, op) == "CONV_2D" and tensor_name(tensors[op.outputs[0]]) not in kept:
            assert tensors[op.outputs[0]].type == 9, "what is learned is int8"


def test_the_bins_of_a_softmax_are_decode_arithmetic_and_the_layers_before_are_not(tmp_path):
    file, source, roles = files(dfl_head(), tmp_path)
    model = onnx.load(file)
    learned = [node.output[0] for node in model.graph.node if node.op_type == "Conv"]
    assert onnx_decode_arithmetic(file, roles) == learned[-1:]
    kept = set(tflite_decode_arithmetic(source, roles))
    made = read_model(source)
    kinds = {
        tensor_name(made.subgraphs[0].tensors[op.outputs[0]]): op_name(made, op) for op in made.subgraphs[0].operators
    }
    assert {"SOFTMAX", "CONV_2D"} <= {kinds[name] for name in kept}
    assert [kind for name, kind in kinds.items() if kind == "CONV_2D" and name not in kept] == ["CONV_2D"] * 3
    assert not [name for name in kept if kinds[name] == "LOGISTIC"], "scores are not places"


def test_a_qdq_file_computes_the_bins_in_float(tmp_path):
    file, _, roles = files(dfl_head(), tmp_path)
    ranges = ranges_from(collect(file, [image[None] for image in IMAGES]), "min-max", symmetric=True)
    wanted = run(onnx.load(file), IMAGES)[0]
    errors = {}
    kept = frozenset(onnx_decode_arithmetic(file, roles))
    for name, layers in (("plain", frozenset()), ("better", kept)):
        quantize_onnx(file, tmp_path / f"{name}.onnx", ranges, layers)
        errors[name] = np.abs(run(onnx.load(tmp_path / f"{name}.onnx"), IMAGES)[0] - wanted).mean()
    assert errors["better"] < errors["plain"]
    node = next(n for n in onnx.load(tmp_path / "better.onnx").graph.node if n.output[0] in kept)
    constants = {t.name: numpy_helper.to_array(t) for t in onnx.load(tmp_path / "better.onnx").graph.initializer}
    assert constants[node.input[1]].ravel().tolist() == list(range(BINS))


@pytest.mark.parametrize("head", [nanodet_head, transformer_head])
def test_heads_that_the_decoder_decodes_keep_nothing(head, tmp_path):
    file, source, roles = files(head(), tmp_path)
    assert onnx_decode_arithmetic(file, roles) == []
    assert tflite_decode_arithmetic(source, roles) == []


def test_a_raw_yolox_output_that_was_split_keeps_nothing(tmp_path):
    model = yolox()
    onnx.save(onnx.shape_inference.infer_shapes(model), tmp_path / "net.onnx")
    assert onnx_decode_arithmetic(tmp_path / "net.onnx", {"boxes": model.graph.output[0].name}) == []
    translate(tmp_path / "net.onnx", tmp_path / "net.tflite")
    assert tflite_decode_arithmetic(tmp_path / "net.tflite", {"boxes": model.graph.output[0].name}) == []


def test_an_output_in_one_piece_gives_boxes_and_scores_no_common_scale(tmp_path):
    _, source, roles = files(dfl_head(fused=True), tmp_path)
    ranges = ranges_from(collect(source, nhwc()), "min-max")
    errors = []
    for name, kept in (("plain", []), ("better", tflite_decode_arithmetic(source, roles))):
        quantize_tflite(source, tmp_path / f"{name}.tflite", "int8", ranges, kept)
        found = seen(tmp_path / f"{name}.tflite", roles["raw"]) - seen(source, roles["raw"])
        errors.append(np.abs(found[:, 4:]).max())  # of the scores, which have 2 px a step beside boxes
    assert errors[1] < 0.5 * errors[0]


def test_an_unknown_role_or_output_keeps_nothing(tmp_path):
    file, source, _ = files(dfl_head(), tmp_path)
    assert layer_names(file)
    for roles in ({}, {"boxes": "nowhere"}, {"scores": "anything"}):
        assert tflite_decode_arithmetic(source, roles) == []
        assert onnx_decode_arithmetic(file, roles) == []


def test_the_report_says_what_stays_in_float_and_where_it_cannot(pictures, tmp_path):
    work = Workspace(tmp_path / "b")
    file, source, roles = files(dfl_head(), work.bundle)
    targets = {f"{form}-fp32": Target(file=f"net.{form}", outputs=roles) for form in ("onnx", "tflite")}
    manifest = Manifest(name="net", targets=targets, input=InputContract(), decoder=DecoderSection(family="yolo"))
    model = FloatModel(work.bundle, manifest, [], file, work.bundle / "probe.npz", (), {})
    found = read_pictures(str(pictures))
    write_ranges(tmp_path / "r.json", ranges_from(collect(source, inputs_of(model, source, found)()), "min-max"))
    request = ConvertRequest(str(file), tmp_path / "b", ("tflite", "onnx"), ("int8",), ranges=tmp_path / "r.json")
    kept = tflite_decode_arithmetic(source, roles)
    made = make_tflite(Job("tflite", "int8"), model, found, request, work)
    assert made.kept_float == kept
    assert made.notes == [f"decode arithmetic of {len(kept)} layers stays in float"]
    whole = make_tflite(Job("tflite", "int8-io"), model, found, request, work)
    assert whole.kept_float == []
    assert whole.notes[0].startswith(f"decode arithmetic of {len(kept)} layers is in int8")
    qdq = make_onnx(Job("onnx", "int8"), model, found, request, work)
    assert qdq.kept_float == onnx_decode_arithmetic(file, roles)
    assert qdq.notes == ["decode arithmetic of 1 layers stays in float"]
    work.close()
