"""Networks as exporters write them: their layout, fused operators, names; and the real detectors."""

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="the ONNX route needs onnx")
onnxruntime = pytest.importorskip("onnxruntime", reason="the reference is ONNX Runtime")

import cv2  # noqa: E402
from onnx_models import node, save  # noqa: E402
from onnx_to_tflite_check import compare, random_feeds  # noqa: E402


class Net:
    """Nodes and constants of a network, added in order; every method returns its output's name."""

    def __init__(self, shape, seed=1):
        self.inputs = {"x": shape}
        self.nodes, self.constants = [], {}
        self.rng = np.random.default_rng(seed)

    def add(self, op, inputs, attributes=None, outputs=None):
        name = outputs or f"t{len(self.nodes)}"
        self.nodes.append(node(op, inputs, name, attributes))
        return name

    def constant(self, value):
        name = f"c{len(self.constants)}"
        self.constants[name] = np.asarray(value)
        return name

    def weights(self, *shape):
        return self.constant((self.rng.normal(size=shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32))

    def ints(self, *values):
        return self.constant(np.int64(values))

    def conv(self, x, channels, out, kernel=1, stride=1, group=1, norm=False):
        attributes = {"pads": [kernel // 2] * 4, "strides": [stride] * 2, "group": group}
        bias = "" if norm else f" {self.weights(out)}"
        y = self.add("Conv", f"{x} {self.weights(out, channels // group, kernel, kernel)}{bias}", attributes)
        if not norm:
            return y
        statistics = [np.abs(self.rng.normal(size=out)).astype(np.float32) + 0.5 for _ in range(4)]
        return self.add("BatchNormalization", " ".join([y, *map(self.constant, statistics)]))

    def silu(self, x):
        return self.add("Mul", f"{x} {self.add('Sigmoid', x)}")

    def relu6(self, x):
        return self.add("Clip", f"{x} {self.constant(np.float32(0))} {self.constant(np.float32(6))}")

    def check(self, tmp_path, outputs, opset=13, channels_last=False):
        file = save(tmp_path / "net.onnx", self.nodes, self.inputs, outputs, self.constants, opset)
        return compare(file, tmp_path, random_feeds(self.inputs), channels_last)


def test_mobilenet_folds_norms_and_fuses_activations(tmp_path):
    net = Net((1, 3, 32, 32))
    x = net.relu6(net.conv("x", 3, 8, 3, 2, norm=True))
    y = net.relu6(net.conv(x, 8, 16, norm=True))
    y = net.relu6(net.conv(y, 16, 16, 3, 1, 16, norm=True))
    y = net.add("Add", f"{net.conv(y, 16, 8, norm=True)} {x}")
    y = net.add("Flatten", net.add("GlobalAveragePool", net.relu6(y)))
    net.add("Gemm", f"{y} {net.weights(10, 8)} {net.weights(10)}", {"transB": 1}, "logits")
    made = net.check(tmp_path, ["logits"])
    assert made.ops == [
        *("PAD", "CONV_2D", "CONV_2D", "DEPTHWISE_CONV_2D", "CONV_2D", "ADD"),
        *("MEAN", "RESHAPE", "FULLY_CONNECTED"),
    ]


def test_efficientnet_gates_channels_without_moving_data(tmp_path):
    net = Net((1, 8, 16, 16))
    y = net.silu(net.conv("x", 8, 16, norm=True))
    y = net.silu(net.conv(y, 16, 16, 5, 2, 16, norm=True))
    gate = net.add("ReduceMean", y, {"axes": [2, 3], "keepdims": 1})
    gate = net.add("Sigmoid", net.conv(net.silu(net.conv(gate, 16, 4)), 4, 16))
    net.add("Mul", f"{y} {gate}", outputs="y")
    made = net.check(tmp_path, ["y"])
    assert not {"TRANSPOSE", "RESHAPE", "GATHER"} & set(made.ops)
    assert made.orders == {"y": (0, 2, 3, 1)}


def shuffled(net, x, channels, side):
    y = net.add("Reshape", f"{x} {net.ints(1, 2, channels // 2, side, side)}")
    y = net.add("Transpose", y, {"perm": [0, 2, 1, 3, 4]})
    return net.add("Reshape", f"{y} {net.ints(1, channels, side, side)}")


def test_a_channel_shuffle_is_one_transpose_in_three_dimensions(tmp_path):
    net = Net((1, 8, 8, 8))
    y = shuffled(net, net.conv("x", 8, 8), 8, 8)
    net.nodes.append(node("Split", y, "left right", {"axis": 1}))
    right = net.conv(net.add("Relu", "right"), 4, 4, 3, group=4)
    net.add("Concat", f"left {right}", {"axis": 1}, "y")
    made = net.check(tmp_path, ["y"])
    assert made.ops.count("TRANSPOSE") == 1
    assert "GATHER" not in made.ops


def test_the_other_channel_shuffle_takes_its_groups_by_slices(tmp_path):
    net = Net((1, 8, 6, 6))
    y = net.add("Reshape", f"{net.conv('x', 8, 8)} {net.ints(4, 2, 36)}")
    y = net.add("Transpose", y, {"perm": [1, 0, 2]})
    y = net.add("Reshape", f"{y} {net.ints(2, -1, 4, 6, 6)}")
    one = net.add("Gather", f"{y} {net.constant(np.int64(0))}", {"axis": 0})
    two = net.add("Gather", f"{y} {net.constant(np.int64(1))}", {"axis": 0})
    net.add("Concat", f"{one} {net.conv(two, 4, 4)}", {"axis": 1}, "y")
    made = net.check(tmp_path, ["y"])
    assert made.ops.count("TRANSPOSE") == 1
    assert "GATHER" not in made.ops


def detection_head(net, channels=8, bins=4, classes=3):
    rows = []
    for side in (4, 2):
        x = net.conv("x", channels, channels, 1, 8 // side)
        x = net.add("Concat", f"{net.conv(x, channels, 4 * bins)} {net.conv(x, channels, classes)}", {"axis": 1})
        rows.append(net.add("Reshape", f"{x} {net.ints(1, 4 * bins + classes, -1)}"))
    return net.add("Concat", " ".join(rows), {"axis": 2})


def test_a_yolov8_head_with_its_distribution_of_distances(tmp_path):
    net = Net((1, 8, 8, 8))
    y = detection_head(net)
    net.nodes.append(node("Split", f"{y} {net.ints(16, 3)}", "box cls", {"axis": 1}))
    bins = net.add("Reshape", f"box {net.ints(1, 4, 4, 20)}")
    bins = net.add("Softmax", net.add("Transpose", bins, {"perm": [0, 2, 1, 3]}), {"axis": 1})
    weights = net.constant(np.arange(4, dtype=np.float32).reshape(1, 4, 1, 1))
    box = net.add("Reshape", f"{net.add('Conv', f'{bins} {weights}')} {net.ints(1, 4, 20)}")
    anchors = net.constant(net.rng.uniform(0, 8, size=(1, 2, 20)).astype(np.float32))
    near = net.add("Slice", f"{box} {net.ints(0)} {net.ints(2)} {net.ints(1)}")
    far = net.add("Slice", f"{box} {net.ints(2)} {net.ints(4)} {net.ints(1)}")
    low, high = net.add("Sub", f"{anchors} {near}"), net.add("Add", f"{anchors} {far}")
    box = net.add("Concat", f"{low} {high}", {"axis": 1})
    box = net.add("Mul", f"{box} {net.constant(np.full((1, 20), 8, np.float32))}")
    net.add("Concat", f"{box} {net.add('Sigmoid', 'cls')}", {"axis": 1}, "y")
    made = net.check(tmp_path, ["y"])
    assert made.ops.count("TRANSPOSE") <= 2  # the head's own data lies transposed: once before the output
    assert made.orders == {"y": (0, 1, 2)}


def test_a_yolox_head_needs_no_transpose(tmp_path):
    net = Net((1, 8, 8, 8))
    net.add("Transpose", detection_head(net), {"perm": [0, 2, 1]}, "y")
    made = net.check(tmp_path, ["y"])
    assert "TRANSPOSE" not in made.ops
    assert made.ops.count("RESHAPE") == 2


def test_a_yolov5_head_decodes_without_losing_its_axes(tmp_path):
    net = Net((1, 8, 4, 4))
    y = net.add("Reshape", f"{net.conv('x', 8, 21)} {net.ints(1, 3, 7, 4, 4)}")
    y = net.add("Sigmoid", net.add("Transpose", y, {"perm": [0, 1, 3, 4, 2]}))
    grid = net.constant(net.rng.normal(size=(1, 3, 4, 4, 2)).astype(np.float32))
    centre = net.add("Slice", f"{y} {net.ints(0)} {net.ints(2)} {net.ints(4)}")
    rest = net.add("Slice", f"{y} {net.ints(2)} {net.ints(7)} {net.ints(4)}")
    y = net.add("Concat", f"{net.add('Add', f'{centre} {grid}')} {rest}", {"axis": -1})
    net.add("Reshape", f"{y} {net.ints(1, -1, 7)}", outputs="y")
    made = net.check(tmp_path, ["y"])
    assert made.ops.count("TRANSPOSE") <= 2


def test_a_focus_layer_becomes_space_to_depth(tmp_path):
    net = Net((1, 3, 8, 8))
    corners = []
    for row, column in ((0, 0), (1, 0), (0, 1), (1, 1)):
        part = net.add("Slice", f"x {net.ints(row)} {net.ints(99)} {net.ints(2)} {net.ints(2)}")
        corners.append(net.add("Slice", f"{part} {net.ints(column)} {net.ints(99)} {net.ints(3)} {net.ints(2)}"))
    y = net.add("Concat", " ".join(corners), {"axis": 1})
    net.nodes.append(node("Relu", net.conv(y, 12, 4, 3), "y"))
    made = net.check(tmp_path, ["y"])
    assert [op for op in made.ops if op != "RELU"] == ["SPACE_TO_DEPTH", "CONV_2D"]


def test_a_focus_layer_read_twice_stays_slices(tmp_path):
    net = Net((1, 3, 8, 8))
    corners = []
    for row, column in ((0, 0), (0, 1), (1, 0), (1, 1)):
        starts, ends = net.ints(row, column), net.ints(99, 99)
        corners.append(net.add("Slice", f"x {starts} {ends} {net.ints(2, 3)} {net.ints(2, 2)}"))
    net.add("Concat", " ".join(corners), {"axis": 1}, "y")
    net.nodes.append(node("Relu", "y", "z"))
    made = net.check(tmp_path, ["y", "z"])
    assert made.ops.count("STRIDED_SLICE") == 4


def test_attention_multiplies_by_batches(tmp_path):
    net = Net((1, 8, 4, 4))
    tokens = net.add("Transpose", net.add("Reshape", f"x {net.ints(1, 8, 16)}"), {"perm": [0, 2, 1]})
    heads = []
    for perm in ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3]):
        y = net.add("Add", f"{net.add('MatMul', f'{tokens} {net.weights(8, 8)}')} {net.weights(8)}")
        y = net.add("Reshape", f"{y} {net.ints(1, 16, 2, 4)}")
        heads.append(net.add("Transpose", y, {"perm": perm}))
    weights = net.add("Softmax", net.add("MatMul", f"{heads[0]} {heads[1]}"), {"axis": -1})
    y = net.add("Transpose", net.add("MatMul", f"{weights} {heads[2]}"), {"perm": [0, 2, 1, 3]})
    y = net.add("Reshape", f"{y} {net.ints(1, 16, 8)}")
    scale, bias = net.weights(8), net.weights(8)
    y = net.add("LayerNormalization", f"{y} {scale} {bias}", {"axis": -1})
    net.add("Add", f"{y} {tokens}", outputs="y")
    made = net.check(tmp_path, ["y"], opset=17)
    assert made.ops.count("BATCH_MATMUL") == 2
    assert made.ops.count("FULLY_CONNECTED") == 3


def test_a_flattened_image_moves_the_weights_instead(tmp_path):
    net = Net((1, 3, 4, 5))
    y = net.add("Flatten", net.conv("x", 3, 6, 3))
    net.add("Gemm", f"{y} {net.weights(7, 120)} {net.weights(7)}", {"transB": 1}, "y")
    assert net.check(tmp_path, ["y"]).ops == ["CONV_2D", "RESHAPE", "FULLY_CONNECTED"]


def test_a_net_with_channels_last_loses_its_transposes(tmp_path):
    net = Net((1, 8, 8, 3))
    y = net.conv(net.add("Transpose", "x", {"perm": [0, 3, 1, 2]}), 3, 6, 3)
    net.add("Transpose", y, {"perm": [0, 2, 3, 1]}, "y")
    made = net.check(tmp_path, ["y"], channels_last=True)
    assert made.ops == ["CONV_2D"]
    assert made.orders == {"y": (0, 1, 2, 3)}


@pytest.mark.parametrize("positive", [True, False])
def test_a_padded_maximum_never_pads_with_a_huge_number(tmp_path, positive):
    net = Net((1, 3, 8, 8))
    y = net.conv("x", 3, 4)
    y = net.add("Relu", y) if positive else y
    net.add("MaxPool", y, {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}, "y")
    made = net.check(tmp_path, ["y"])
    assert ("PAD" if positive else "MIRROR_PAD") in made.ops
    assert "PADV2" not in made.ops


def test_zeros_before_a_convolution_become_its_padding(tmp_path):
    net = Net((1, 4, 6, 8))
    y = net.add("Pad", f"x {net.ints(0, 0, 0, 0, 0, 0, 1, 1)}")
    y = net.add("Conv", f"{y} {net.weights(4, 1, 3, 3)}", {"group": 4, "strides": [2, 2]})
    y = net.add("Pad", f"{y} {net.ints(0, 1, 0, 0, 0, 0, 0, 0)}")  # channels: no convolution pads these
    net.add("Conv", f"{y} {net.weights(2, 5, 1, 1)}", outputs="y")
    assert net.check(tmp_path, ["y"]).ops == ["DEPTHWISE_CONV_2D", "PAD", "CONV_2D"]


def test_hard_swish_and_gelu_are_found(tmp_path):
    net = Net((1, 4, 5, 5))
    gate = net.add("HardSigmoid", "x", {"alpha": 1 / 6, "beta": 0.5})
    x = net.add("Mul", f"x {gate}")
    inner = net.add("Div", f"{x} {net.constant(np.float32(np.sqrt(2)))}")
    outer = net.add("Add", f"{net.add('Erf', inner)} {net.constant(np.float32(1))}")
    y = net.add("Mul", f"{x} {outer}")
    net.add("Mul", f"{y} {net.constant(np.float32(0.5))}", outputs="y")
    assert net.check(tmp_path, ["y"]).ops == ["HARD_SWISH", "GELU"]


def test_shapes_computed_in_the_graph_are_folded(tmp_path):
    net = Net((1, 6, 4, 4))
    shape = net.add("Shape", "x")
    size = net.add("Gather", f"{shape} {net.constant(np.int64(0))}", {"axis": 0})
    size = net.add("Unsqueeze", f"{size} {net.ints(0)}")
    target = net.add("Concat", f"{size} {net.ints(-1)}", {"axis": 0})
    net.add("Reshape", f"{net.add('Relu', 'x')} {target}", outputs="y")
    made = net.check(tmp_path, ["y"])
    assert set(made.ops) <= {"RELU", "TRANSPOSE", "RESHAPE"}


def test_a_shape_the_exporter_left_open_is_found_by_folding(tmp_path):
    net = Net((1, 6, 4))
    size = net.add("Mul", f"{net.constant(np.int64([1, 6, 2]))} {net.ints(1)}")
    token = net.add("Expand", f"{net.weights(1, 6, 1)} {size}")
    net.add("Concat", f"x {token}", {"axis": 2}, "joined")
    net.add("Relu", "joined", outputs="y")
    file = save(tmp_path / "net.onnx", net.nodes, net.inputs, ["y"], net.constants)
    model = onnx.load(str(file))
    model.graph.value_info.append(onnx.helper.make_tensor_value_info("joined", 1, ("unk_0", 6, "unk_1")))
    onnx.save(model, str(file))
    assert compare(file, tmp_path, random_feeds(net.inputs)).ops[-1] == "RELU"


def test_tensors_keep_their_names_and_two_outputs_may_be_one_tensor(tmp_path):
    net = Net((1, 4, 6, 6))
    a = net.conv("x", 4, 4)
    b = net.add("Sigmoid", a)
    net.add("Identity", b, outputs="first")
    net.add("Identity", b, outputs="second")
    net.add("Identity", "x", outputs="third")
    made = net.check(tmp_path, ["second", "third", "first"])
    assert a in made.names
    assert list(made.orders) == ["second", "third", "first"]


@pytest.mark.parametrize(("name", "side", "scale"), [("yolox_nano.onnx", 416, 1.0), ("FastestDet.onnx", 352, 255.0)])
def test_real_detectors_on_real_pictures(shared, tmp_path, name, side, scale):
    pictures = sorted((shared / "data" / "coco-calib80" / "images").iterdir())[:2]
    source = shared / "models" / name
    before = source.read_bytes()
    for picture in pictures:
        image = cv2.resize(cv2.imread(str(picture)), (side, side)).astype(np.float32) / np.float32(scale)
        session = onnxruntime.InferenceSession(str(source), providers=["CPUExecutionProvider"])
        made = compare(source, tmp_path, {session.get_inputs()[0].name: image.transpose(2, 0, 1)[None]})
    assert source.read_bytes() == before
    assert "GATHER" not in made.ops
    assert made.ops.count("TRANSPOSE") == {"yolox_nano.onnx": 0, "FastestDet.onnx": 13}[name]  # its 13 shuffles
