"""Each limit of the Edge TPU's operators: the form it has, the form it has not."""

from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert", reason="the Edge TPU report reads files through LiteRT's schema")

from convert.edgetpu.rules import OpView, TensorView, limit_of

IMAGE = (1, 8, 8, 4)


def activation(shape=IMAGE, dtype="int8"):
    return TensorView("t", shape, dtype, None)


def constant(values, dtype="int32"):
    array = np.asarray(values, dtype)
    return TensorView("c", array.shape, dtype, array)


def limit(name, *inputs, out=IMAGE, version=1, dtype="int8", **options):
    found = OpView(name, version, list(inputs), [activation(out, dtype)], SimpleNamespace(**options))
    return limit_of(found)


def weights(*shape):
    return constant(np.ones(shape), "int8")


CONV = {"dilationWFactor": 1, "dilationHFactor": 1}
SLICE = {"ellipsisMask": 0, "newAxisMask": 0}
ENDS = (constant([0, 0, 0, 0]), constant([1, 8, 8, 4]))

FINE = {
    "conv": ("CONV_2D", (activation(), weights(4, 3, 3, 4), constant([0] * 4)), {**CONV, "version": 3}),
    "dilated conv": ("CONV_2D", (activation(), weights(4, 3, 3, 4)), {"dilationWFactor": 2, "dilationHFactor": 2}),
    "pool": ("MAX_POOL_2D", (activation(),), {"fusedActivationFunction": 0}),
    "concatenation of three": ("CONCATENATION", (activation(),) * 3, {"fusedActivationFunction": 0}),
    "zero padding": (
        "CONCATENATION",
        (activation(), constant(np.zeros(IMAGE), "int8")),
        {"fusedActivationFunction": 0},
    ),
    "mean of the image": ("MEAN", (activation(), constant([1, 2])), {"out": (1, 4)}),
    "mean of 4 channels": ("MEAN", (activation(), constant([3])), {"out": (1, 8, 8)}),
    "pad": ("PAD", (activation(), constant([[0, 0], [1, 1], [1, 1], [0, 0]])), {"out": (1, 10, 10, 4)}),
    "prelu": ("PRELU", (activation(), weights(1, 1, 4)), {}),
    "softmax": ("SOFTMAX", (activation((1, 1000)),), {"out": (1, 1000)}),
    "slice": ("STRIDED_SLICE", (activation(), *ENDS, constant([1, 1, 1, 1])), SLICE),
    "dense": ("FULLY_CONNECTED", (activation((1, 64)), weights(10, 64)), {"out": (1, 10), "weightsFormat": 0}),
    "uint8": ("ADD", (activation(dtype="uint8"),) * 2, {"dtype": "uint8"}),
    "small resize": ("RESIZE_BILINEAR", (activation(), constant([16, 16])), {"out": (1, 16, 16, 4)}),
    "transposed conv": ("TRANSPOSE_CONV", (constant([1, 16, 16, 4]), weights(4, 2, 2, 4), activation()), {}),
}

BROKEN = {
    "unknown": ("HARD_SWISH", (activation(),), {}, "not an operator", "ReLU6"),
    "new version": ("CONV_2D", (activation(), weights(4, 3, 3, 4)), {**CONV, "version": 8}, "version 8", "harrier"),
    "float": ("ADD", (activation(dtype="float32"),) * 2, {"dtype": "float32"}, "float32", "quantize"),
    "int16": ("ADD", (activation(dtype="int16"),) * 2, {"dtype": "int16"}, "int16", "int8 instead"),
    "int64": ("ADD", (activation(dtype="int64"),) * 2, {"dtype": "int64"}, "int64", "quantize"),
    "float input": ("QUANTIZE", (activation(dtype="float32"),), {}, "reads float32", "int8-io"),
    "float output": ("DEQUANTIZE", (activation(),), {"dtype": "float32"}, "not an operator", "int8-io"),
    "batch": ("ADD", (activation((2, 8, 8, 4)),) * 2, {"out": (2, 8, 8, 4)}, "innermost", "batch 1"),
    "five dimensions": ("RESHAPE", (activation(),), {"out": (1, 8, 8, 2, 2)}, "innermost", "1x1"),
    "uneven dilation": (
        "CONV_2D",
        (activation(), weights(4, 3, 3, 4)),
        {"dilationWFactor": 2, "dilationHFactor": 1},
        "dilations",
        "same",
    ),
    "computed weights": ("CONV_2D", (activation(), activation((4, 3, 3, 4))), CONV, "computed", "constants"),
    "fused pool": ("AVERAGE_POOL_2D", (activation(),), {"fusedActivationFunction": 1}, "fused", "own"),
    "fused concatenation": ("CONCATENATION", (activation(),) * 2, {"fusedActivationFunction": 3}, "fused", "own"),
    "joined constant": (
        "CONCATENATION",
        (activation(), weights(*IMAGE)),
        {"fusedActivationFunction": 0},
        "constant",
        "CPU",
    ),
    "mean of the batch": ("MEAN", (activation(), constant([0])), {}, "batch", "axes"),
    "mean of 3 channels": ("MEAN", (activation((1, 8, 8, 3)), constant([-1])), {"out": (1, 8, 8)}, "3 channels", "4"),
    "maximum of the batch": ("REDUCE_MAX", (activation(), constant([-4])), {}, "batch", "axes"),
    "stack of batches": ("PACK", (activation(), activation()), {"out": (2, 1, 8, 8, 4), "axis": 0}, "", ""),
    "pad of the batch": ("PAD", (activation(), constant([[0, 1], [0, 0], [0, 0], [0, 0]])), {}, "batch", "rows"),
    "slopes per pixel": ("PRELU", (activation(), weights(8, 8, 4)), {}, "slopes", "shared_axes"),
    "large resize": (
        "RESIZE_BILINEAR",
        (activation(), constant([513, 513])),
        {"out": (1, 513, 513, 21)},
        "large",
        "CPU",
    ),
    "long softmax": ("SOFTMAX", (activation((1, 16_001)),), {"out": (1, 16_001)}, "16001", "decoder"),
    "split of batches": ("SPLIT", (constant(0), activation()), {}, "batch", "another"),
    "every second pixel": (
        "STRIDED_SLICE",
        (activation(), *ENDS, constant([1, 2, 2, 1])),
        SLICE,
        "stride",
        "SPACE_TO_DEPTH",
    ),
    "ellipsis": (
        "STRIDED_SLICE",
        (activation(), *ENDS, constant([1, 1, 1, 1])),
        {**SLICE, "ellipsisMask": 1},
        "ellipsis",
        "plain",
    ),
    "dense of many rows": (
        "FULLY_CONNECTED",
        (activation((16, 64)), weights(10, 64)),
        {"out": (16, 10), "weightsFormat": 0},
        "more than",
        "1x1",
    ),
    "shuffled weights": (
        "FULLY_CONNECTED",
        (activation((1, 64)), weights(10, 64)),
        {"out": (1, 10), "weightsFormat": 1},
        "shuffled",
        "default",
    ),
    "computed kernel": (
        "TRANSPOSE_CONV",
        (constant([1, 16, 16, 4]), activation(), activation()),
        {},
        "computed",
        "fold",
    ),
}


@pytest.mark.parametrize("case", FINE)
def test_what_the_edge_tpu_has(case):
    name, inputs, settings = FINE[case]
    assert limit(name, *inputs, **settings) is None


@pytest.mark.parametrize("case", BROKEN)
def test_what_it_has_not_and_the_cure(case):
    name, inputs, settings, why, cure = BROKEN[case]
    found = limit(name, *inputs, **settings)
    assert found is not None
    assert why in found.why
    assert cure in found.cure


@pytest.mark.parametrize("name", ["GELU", "GATHER", "PADV2", "LEAKY_RELU", "TOPK_V2", "TFLite_Detection_PostProcess"])
def test_known_offenders_have_a_cure_of_their_own(name):
    assert limit(name, activation()).cure != limit("SOME_OTHER", activation()).cure
