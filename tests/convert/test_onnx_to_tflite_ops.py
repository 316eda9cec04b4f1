"""Every operator the translator knows, against ONNX Runtime on random numbers."""

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="the ONNX route needs onnx")
pytest.importorskip("onnxruntime", reason="the reference is ONNX Runtime")

from onnx_models import node, save  # noqa: E402
from onnx_to_tflite_check import compare, random_feeds  # noqa: E402

RNG = np.random.default_rng(7)
IMAGE = {"x": (1, 6, 9, 11)}


def numbers(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def positive(*shape):
    return RNG.uniform(0.5, 2, size=shape).astype(np.float32)


def ints(*values):
    return np.int64(values)


def one(op, attributes=None, constants=None, inputs=None, opset=13, outputs="y"):
    """A graph of one node that reads x (or all inputs), then the constants in order."""
    inputs = inputs or IMAGE
    constants = constants or {}
    names = " ".join([*inputs, *constants])
    constants = {name: value for name, value in constants.items() if name != "-"}
    return [node(op, names, outputs, attributes)], inputs, outputs.split(), constants, opset


def conv(out, attributes, inputs=None, opset=13, bias=True):
    inputs = inputs or IMAGE
    kernel = attributes.get("kernel_shape", [3, 3])
    channels = next(iter(inputs.values()))[1] // attributes.get("group", 1)
    constants = {"w": numbers(out, channels, *kernel)}
    if bias:
        constants["b"] = numbers(out)
    return one("Conv", attributes, constants, inputs, opset)


def conv_transpose(out, attributes, kernel=(3, 3), bias=True):
    constants = {"w": numbers(6, out, *kernel)}
    if bias:
        constants["b"] = numbers(out * attributes.get("group", 1))
    return one("ConvTranspose", attributes, constants)


CONVOLUTIONS = {
    "conv": conv(4, {}),
    "conv_no_bias": conv(4, {"pads": [1, 1, 1, 1]}, bias=False),
    "conv_same_stride": conv(4, {"pads": [1, 1, 1, 1], "strides": [2, 2]}),
    "conv_even_stride": conv(4, {"pads": [1, 1, 1, 1], "strides": [2, 2]}, {"x": (1, 6, 8, 12)}),
    "conv_odd_pads": conv(4, {"pads": [0, 2, 1, 0]}),
    "conv_rectangle": conv(4, {"kernel_shape": [1, 5], "pads": [0, 2, 0, 2]}),
    "conv_1x1": conv(4, {"kernel_shape": [1, 1]}),
    "conv_dilated": conv(4, {"dilations": [2, 2], "pads": [2, 2, 2, 2]}),
    "conv_dilated_odd": conv(4, {"dilations": [2, 1], "pads": [1, 0, 2, 1]}),
    "conv_same_upper": conv(4, {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    "conv_same_lower": conv(4, {"auto_pad": "SAME_LOWER", "strides": [2, 2]}, {"x": (1, 6, 8, 8)}),
    "conv_valid": conv(4, {"auto_pad": "VALID"}),
    "conv_unread_rows": conv(4, {"kernel_shape": [2, 2], "strides": [2, 2], "pads": [0, 0, 1, 1]}, {"x": (1, 6, 8, 8)}),
    "depthwise": conv(6, {"group": 6, "pads": [1, 1, 1, 1]}),
    "depthwise_multiplier": conv(12, {"group": 6, "strides": [2, 2]}),
    "depthwise_dilated": conv(6, {"group": 6, "dilations": [2, 2], "pads": [2, 2, 2, 2]}),
    "depthwise_5x5": conv(6, {"group": 6, "kernel_shape": [5, 5], "pads": [2, 2, 2, 2], "strides": [2, 2]}),
    "grouped": conv(4, {"group": 2, "pads": [1, 1, 1, 1]}),
    "grouped_3": conv(9, {"group": 3}),
    "conv_batch": conv(4, {"pads": [1, 1, 1, 1]}, {"x": (2, 6, 5, 5)}),
    "conv_1d": conv(4, {"kernel_shape": [3], "pads": [1, 1]}, {"x": (1, 6, 10)}),
    "conv_1d_stride": conv(4, {"kernel_shape": [3], "strides": [2], "pads": [1, 0]}, {"x": (1, 6, 10)}, 18),
    "transposed": conv_transpose(4, {"strides": [2, 2]}, (2, 2)),
    "transposed_no_bias": conv_transpose(4, {"strides": [2, 2]}, (2, 2), bias=False),
    "transposed_same": conv_transpose(4, {"strides": [2, 2], "pads": [1, 1, 1, 1]}, (4, 4)),
    "transposed_cut": conv_transpose(4, {"strides": [2, 2], "pads": [1, 1, 1, 1]}),
    "transposed_output_padding": conv_transpose(4, {"strides": [2, 2], "pads": [1, 1, 1, 1], "output_padding": [1, 1]}),
    "transposed_odd_pads": conv_transpose(4, {"strides": [2, 1], "pads": [0, 1, 2, 0]}),
    "transposed_grouped": conv_transpose(2, {"group": 3, "strides": [2, 2]}),
    "transposed_dilated": conv_transpose(2, {"dilations": [2, 2]}),
    "transposed_extra_rows": conv_transpose(4, {"strides": [2, 2], "output_padding": [1, 1]}, (2, 2), bias=False),
}

POOLS = {
    "max": one("MaxPool", {"kernel_shape": [2, 2], "strides": [2, 2]}),
    "max_same": one("MaxPool", {"kernel_shape": [5, 5], "pads": [2, 2, 2, 2]}),
    "max_mirror": one(
        "MaxPool", {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}, inputs={"x": (1, 3, 8, 8)}
    ),
    "max_mirror_even": one("MaxPool", {"kernel_shape": [2, 2], "strides": [1, 1], "pads": [1, 1, 1, 1]}),
    "max_ceil": one("MaxPool", {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1}, inputs={"x": (1, 3, 8, 8)}),
    "max_ceil_exact": one("MaxPool", {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1}),
    "max_wide": one("MaxPool", {"kernel_shape": [7, 7], "strides": [4, 4], "pads": [3, 3, 3, 3]}),
    "average": one("AveragePool", {"kernel_shape": [3, 3], "strides": [2, 2]}),
    "average_same": one("AveragePool", {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}),
    "average_same_counted": one("AveragePool", {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": 1}),
    "average_odd": one("AveragePool", {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [0, 1, 1, 0]}),
    "average_odd_counted": one(
        "AveragePool", {"kernel_shape": [3, 2], "strides": [2, 2], "pads": [0, 1, 1, 0], "count_include_pad": 1}
    ),
    "average_even": one(
        "AveragePool", {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}, inputs={"x": (1, 3, 8, 8)}
    ),
    "average_ceil": one(
        "AveragePool", {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1}, inputs={"x": (1, 3, 8, 8)}, opset=19
    ),
    "global_average": one("GlobalAveragePool"),
    "global_max": one("GlobalMaxPool"),
}

ACTIVATIONS = {
    **{op: one(op) for op in ("Relu", "Sigmoid", "Tanh", "Exp", "Abs", "Neg", "Elu", "Softplus", "Erf", "Selu")},
    **{op: one(op) for op in ("HardSigmoid", "LeakyRelu", "Floor", "Ceil", "Sin", "Cos", "Identity")},
    **{op: one(op, opset=18) for op in ("HardSwish", "Mish")},
    "Gelu": one("Gelu", opset=20),
    "GeluTanh": one("Gelu", {"approximate": "tanh"}, opset=20),
    "LeakyRelu02": one("LeakyRelu", {"alpha": 0.2}),
    "Elu05": one("Elu", {"alpha": 0.5}),
    "HardSigmoid6": one("HardSigmoid", {"alpha": 1 / 6, "beta": 0.5}),
    "HardSigmoid0": one("HardSigmoid", {"alpha": 1 / 6, "beta": 0.0}),
    "PRelu": one("PRelu", constants={"s": numbers(6, 1, 1)}),
    "PReluScalar": one("PRelu", constants={"s": numbers(1)}),
    "Clip6": one("Clip", constants={"low": np.float32(0), "high": np.float32(6)}),
    "Clip1": one("Clip", constants={"low": np.float32(-1), "high": np.float32(1)}),
    "ClipLow": one("Clip", constants={"low": np.float32(-0.5)}),
    "ClipHigh": one("Clip", constants={"-": None, "high": np.float32(0.5)}),
    "ClipBoth": one("Clip", constants={"low": np.float32(-0.3), "high": np.float32(0.7)}),
    "Softmax1": one("Softmax", {"axis": 1}),
    "SoftmaxLast": one("Softmax", {"axis": -1}),
    "SoftmaxRows": one("Softmax", {"axis": 1}, opset=11),
    "LogSoftmax": one("LogSoftmax", {"axis": 1}),
    "Softmax5": one("Softmax", {"axis": 2}, inputs={"x": (1, 2, 5, 3, 4)}),
}

POSITIVE = {
    "Log": one("Log"),
    "Sqrt": one("Sqrt"),
    "Reciprocal": one("Reciprocal"),
    "PowHalf": one("Pow", constants={"p": np.float32(0.5)}),
    "PowOdd": one("Pow", constants={"p": np.float32(2.5)}),
    "Square": one("Pow", constants={"p": np.float32(2)}),
}

TWO = {"x": (1, 6, 9, 11), "z": (1, 6, 9, 11)}
ARITHMETIC = {
    **{op: one(op, inputs=TWO) for op in ("Add", "Sub", "Mul", "Max", "Min", "Sum", "Mean")},
    **{f"{op}_number": one(op, constants={"c": positive(1)}) for op in ("Add", "Sub", "Mul", "Div", "Max", "Min")},
    **{f"{op}_channels": one(op, constants={"c": positive(6, 1, 1)}) for op in ("Add", "Sub", "Mul", "Div")},
    "div_map": one("Div", constants={"c": positive(1, 1, 9, 11)}),
    "add_row": one("Add", constants={"c": numbers(11)}),
    "mul_gate": one("Mul", inputs={"x": (1, 6, 9, 11), "z": (1, 6, 1, 1)}),
    "mul_mask": one("Mul", inputs={"x": (1, 1, 9, 11), "z": (1, 6, 9, 11)}),
    "add_ranks": one("Add", inputs={"x": (1, 6, 9, 11), "z": (9, 11)}),
    "add_5d": one("Add", inputs={"x": (1, 2, 3, 4, 5), "z": (1, 2, 1, 4, 1)}),
    "sum_three": one("Sum", inputs={**TWO, "v": (1, 6, 1, 1)}),
    "max_three": one("Max", inputs={**TWO, "v": (1, 6, 1, 1)}),
    "number_first": ([node("Sub", "c x", "y")], IMAGE, ["y"], {"c": np.float32(3)}, 13),
}

MOVES = {
    "reshape": one("Reshape", constants={"s": ints(1, 6, 99)}),
    "reshape_mixed": one("Reshape", constants={"s": ints(1, 11, 54)}),
    "reshape_5d": one("Reshape", constants={"s": ints(1, 2, 3, 9, 11)}),
    "reshape_minus": one("Reshape", constants={"s": ints(0, -1)}),
    "flatten": one("Flatten"),
    "flatten2": one("Flatten", {"axis": 2}),
    "squeeze": one("Squeeze", constants={"a": ints(0)}),
    "squeeze_11": one("Squeeze", {"axes": [0]}, opset=11),
    "unsqueeze": one("Unsqueeze", constants={"a": ints(1)}),
    "transpose": one("Transpose", {"perm": [0, 2, 3, 1]}),
    "transpose_sides": one("Transpose", {"perm": [0, 1, 3, 2]}),
    "transpose_other": one("Transpose", {"perm": [0, 3, 2, 1]}),
    "transpose_3d": one("Transpose", {"perm": [0, 2, 1]}, inputs={"x": (1, 4, 5)}),
    "transpose_6d": one("Transpose", {"perm": [0, 3, 5, 1, 4, 2]}, inputs={"x": (1, 2, 3, 4, 2, 3)}),
    "concat": one("Concat", {"axis": 1}, inputs={"x": (1, 6, 4, 5), "z": (1, 2, 4, 5)}),
    "concat_width": one("Concat", {"axis": -1}, inputs={"x": (1, 6, 4, 5), "z": (1, 6, 4, 2)}),
    "concat_constant": one("Concat", {"axis": 1}, {"c": numbers(1, 2, 9, 11)}),
    "concat_3d": one("Concat", {"axis": 2}, inputs={"x": (1, 6, 4), "z": (1, 6, 5)}),
    "pad": one("Pad", constants={"p": ints(0, 1, 2, 0, 0, 0, 1, 3)}),
    "pad_value": one("Pad", constants={"p": ints(0, 0, 2, 0, 0, 0, 1, 3), "v": np.float32(1.5)}),
    "pad_reflect": one("Pad", {"mode": "reflect"}, {"p": ints(0, 0, 2, 1, 0, 0, 1, 3)}),
    "pad_edge": one("Pad", {"mode": "edge"}, {"p": ints(0, 0, 1, 1, 0, 0, 1, 0)}),
    "pad_axes": one("Pad", constants={"p": ints(1, 2, 0, 1), "-": None, "a": ints(2, 3)}, opset=18),
    "tile": one("Tile", constants={"r": ints(1, 2, 1, 3)}),
    "expand": one("Expand", constants={"s": ints(1, 6, 4, 5)}, inputs={"x": (1, 6, 1, 5)}),
    "expand_rank": one("Expand", constants={"s": ints(2, 3, 4)}, inputs={"x": (1, 4)}),
    "depth_to_space": one("DepthToSpace", {"blocksize": 2}, inputs={"x": (1, 12, 4, 5)}),
    "depth_to_space_crd": one("DepthToSpace", {"blocksize": 2, "mode": "CRD"}, inputs={"x": (1, 12, 4, 5)}),
    "space_to_depth": one("SpaceToDepth", {"blocksize": 2}, inputs={"x": (1, 3, 4, 6)}),
    "dropout": one("Dropout"),
}

CUTS = {
    "slice": one("Slice", constants={"s": ints(1, 2), "e": ints(5, 9), "a": ints(1, 3)}),
    "slice_steps": one("Slice", constants={"s": ints(1), "e": ints(1000), "a": ints(2), "t": ints(2)}),
    "slice_negative": one("Slice", constants={"s": ints(-3), "e": ints(1 << 60), "a": ints(-1)}),
    "slice_backwards": one("Slice", constants={"s": ints(-1), "e": ints(-(1 << 60)), "a": ints(1), "t": ints(-1)}),
    "slice_nothing": one("Slice", constants={"s": ints(0), "e": ints(99), "a": ints(1)}),
    "slice_5d": one("Slice", constants={"s": ints(1), "e": ints(3), "a": ints(4)}, inputs={"x": (1, 2, 3, 4, 5)}),
    "slice_6d": one("Slice", constants={"s": ints(1), "e": ints(3), "a": ints(4)}, inputs={"x": (1, 2, 3, 4, 5, 2)}),
    "split": one("Split", {"axis": 1}, outputs="a b c"),
    "split_sizes": one("Split", {"axis": 1}, {"s": ints(1, 5)}, outputs="a b"),
    "split_18": one("Split", {"axis": 1, "num_outputs": 2}, opset=18, outputs="a b"),
    "split_11": one("Split", {"axis": 1, "split": [2, 4]}, opset=11, outputs="a b"),
    "split_3d": one("Split", {"axis": 2}, inputs={"x": (1, 4, 6)}, outputs="a b"),
    "gather_number": one("Gather", {"axis": 1}, {"i": np.int64(2)}),
    "gather_row": one("Gather", {"axis": 1}, {"i": ints(1, 2, 3)}),
    "gather_reversed": one("Gather", {"axis": 1}, {"i": ints(2, 1, 0)}),
    "gather_mixed": one("Gather", {"axis": 1}, {"i": ints(0, 3, 1, 4, 2, 5)}),
    "gather_table": one("Gather", {"axis": 1}, {"i": np.int64([[0, 1, 2], [3, 4, 5]])}),
    "gather_negative": one("Gather", {"axis": -1}, {"i": ints(-1)}),
}


def resize(mode, how, sizes=None, scales=None, opset=13, rounding="round_prefer_floor"):
    attributes = {"mode": mode, "coordinate_transformation_mode": how, "nearest_mode": rounding}
    empty = np.float32([])
    constants = {"r": empty, "q": np.float32(scales)} if scales else {"r": empty, "q": empty, "z": ints(*sizes)}
    return one("Resize", attributes, constants, {"x": (1, 3, 6, 8)}, opset)


RESIZES = {
    "nearest_torch": resize("nearest", "asymmetric", scales=[1, 1, 2, 2], rounding="floor"),
    "nearest_default": resize("nearest", "half_pixel", scales=[1, 1, 2, 2]),
    "nearest_three": resize("nearest", "half_pixel", scales=[1, 1, 3, 3]),
    "nearest_sizes": resize("nearest", "asymmetric", sizes=[1, 3, 12, 24], rounding="floor"),
    "nearest_odd": resize("nearest", "asymmetric", sizes=[1, 3, 9, 11], rounding="floor"),
    "nearest_down": resize("nearest", "asymmetric", sizes=[1, 3, 3, 4], rounding="floor"),
    "linear_torch": resize("linear", "pytorch_half_pixel", scales=[1, 1, 2, 2]),
    "linear_half": resize("linear", "half_pixel", sizes=[1, 3, 9, 13]),
    "linear_corners": resize("linear", "align_corners", sizes=[1, 3, 11, 15]),
    "linear_asymmetric": resize("linear", "asymmetric", scales=[1, 1, 2, 2]),
    "linear_18": resize("linear", "half_pixel", sizes=[1, 3, 12, 16], opset=18),
    "upsample": one("Upsample", {"mode": "nearest"}, {"s": np.float32([1, 1, 2, 2])}, {"x": (1, 3, 6, 8)}, 9),
}

MATRIX = {"x": (3, 8)}
LINEAR = {
    "gemm": one("Gemm", {"transB": 1}, {"w": numbers(5, 8), "b": numbers(5)}, MATRIX),
    "gemm_plain": one("Gemm", {}, {"w": numbers(8, 5)}, MATRIX),
    "gemm_scaled": one("Gemm", {"alpha": 0.5, "beta": 2.0}, {"w": numbers(8, 5), "b": numbers(5)}, MATRIX),
    "gemm_transposed": one("Gemm", {"transA": 1}, {"w": numbers(8, 5), "b": numbers(1)}, {"x": (8, 3)}),
    "gemm_full_bias": one("Gemm", {}, {"w": numbers(8, 5), "b": numbers(3, 5)}, MATRIX),
    "matmul": one("MatMul", {}, {"w": numbers(8, 5)}, MATRIX),
    "matmul_3d": one("MatMul", {}, {"w": numbers(8, 5)}, {"x": (1, 7, 8)}),
    "matmul_image": one("MatMul", {}, {"w": numbers(11, 5)}),
    "matmul_two": one("MatMul", inputs={"x": (1, 4, 5, 6), "z": (1, 4, 6, 3)}),
    "matmul_broadcast": one("MatMul", inputs={"x": (1, 4, 5, 6), "z": (6, 3)}),
    "matmul_left": ([node("MatMul", "w x", "y")], {"x": (1, 8, 6)}, ["y"], {"w": numbers(5, 8)}, 13),
}

REDUCTIONS = {
    "mean": one("ReduceMean", {"axes": [2, 3], "keepdims": 1}),
    "mean_18": one("ReduceMean", {"keepdims": 0}, {"a": ints(2, 3)}, opset=18),
    "max_channels": one("ReduceMax", {"axes": [1], "keepdims": 1}),
    "min": one("ReduceMin", {"axes": [-1], "keepdims": 0}),
    "sum": one("ReduceSum", {"keepdims": 0}, {"a": ints(1)}),
    "sum_all": one("ReduceSum", {"keepdims": 1}),
    "prod": one("ReduceProd", {"axes": [3]}, inputs={"x": (1, 3, 4, 2)}),
    "instance_norm": one("InstanceNormalization", {}, {"s": numbers(6), "b": numbers(6)}),
    "instance_norm_3d": one("InstanceNormalization", {}, {"s": numbers(6), "b": numbers(6)}, {"x": (1, 6, 9)}),
    "layer_norm": one("LayerNormalization", {"axis": -1}, {"s": numbers(11), "b": numbers(11)}, opset=17),
    "layer_norm_2": one("LayerNormalization", {"axis": -2}, {"s": numbers(9, 11)}, opset=17),
    "group_norm": one("GroupNormalization", {"num_groups": 2}, {"s": numbers(6), "b": numbers(6)}, opset=21),
    "batch_norm": one("BatchNormalization", {}, {"s": numbers(6), "b": numbers(6), "m": numbers(6), "v": positive(6)}),
}

TABLE = {
    **CONVOLUTIONS,
    **POOLS,
    **ACTIVATIONS,
    **ARITHMETIC,
    **MOVES,
    **CUTS,
    **RESIZES,
    **LINEAR,
    **REDUCTIONS,
}
assert len(TABLE) == sum(
    map(len, (CONVOLUTIONS, POOLS, ACTIVATIONS, ARITHMETIC, MOVES, CUTS, RESIZES, LINEAR, REDUCTIONS))
)


@pytest.mark.parametrize("name", TABLE)
def test_one_operator_equals_onnx_runtime(name, tmp_path):
    nodes, inputs, outputs, constants, opset = TABLE[name]
    made = compare(save(tmp_path / "m.onnx", nodes, inputs, outputs, constants, opset), tmp_path, random_feeds(inputs))
    assert "GATHER" not in made.ops
    assert set(outputs) <= made.names


@pytest.mark.parametrize("name", POSITIVE)
def test_one_operator_on_positive_numbers(name, tmp_path):
    nodes, inputs, outputs, constants, opset = POSITIVE[name]
    feeds = {key: np.abs(value) + np.float32(0.1) for key, value in random_feeds(inputs).items()}
    compare(save(tmp_path / "m.onnx", nodes, inputs, outputs, constants, opset), tmp_path, feeds)


@pytest.mark.parametrize(("op", "attributes"), [("ArgMax", {"axis": 1}), ("ArgMin", {"axis": 2, "keepdims": 0})])
def test_indices_keep_their_type(op, attributes, tmp_path):
    nodes, inputs, outputs, constants, opset = one(op, attributes)
    file = save(tmp_path / "m.onnx", nodes, inputs, outputs, constants, opset, {"y": onnx.TensorProto.INT64})
    compare(file, tmp_path, random_feeds(inputs))


def test_top_k_values_and_indices(tmp_path):
    nodes = [node("TopK", "x k", "values indices", {"axis": 1})]
    file = save(
        tmp_path / "m.onnx",
        nodes,
        {"x": (1, 20, 3)},
        ["values", "indices"],
        {"k": ints(4)},
        dtypes={"indices": onnx.TensorProto.INT64},
    )
    compare(file, tmp_path, random_feeds({"x": (1, 20, 3)}))


def test_a_cast_to_integers_and_back(tmp_path):
    nodes = [node("Cast", "x", "i", {"to": 6}), node("Cast", "i", "f", {"to": 1}), node("Add", "f x", "y")]
    compare(save(tmp_path / "m.onnx", nodes, IMAGE, ["y"]), tmp_path, random_feeds(IMAGE))
