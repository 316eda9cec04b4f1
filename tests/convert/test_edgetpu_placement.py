"""The placement report of whole files: parts, refusals, totals, and files of the real world."""

import json
import math

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert", reason="the Edge TPU report reads files through LiteRT's schema")

from edgetpu_models import chain, op, options, tensor, write

from convert.edgetpu.placement import USABLE_CACHE_BYTES, Placement, placement, placement_text
from edge.errors import ModelError


def mapped(report):
    return [one.mapped for one in report.ops]


def test_everything_behind_the_first_unmapped_operator_stays_on_the_cpu(tmp_path):
    report = placement(chain(tmp_path / "m.tflite", ["RELU", "LOGISTIC", "HARD_SWISH", "RELU", "TANH"]))
    assert mapped(report) == [True, True, False, False, False]
    assert (report.first_unmapped.index, report.first_unmapped.name) == (2, "HARD_SWISH")
    assert all("behind 2 HARD_SWISH 't2'" in one.why for one in report.ops[3:])
    assert "ReLU6" in report.first_unmapped.cure


def test_a_float_input_stays_on_the_cpu_and_the_rest_does_not(tmp_path):
    shape = (1, 4, 4, 8)
    tensors = [tensor("x", shape, "float32"), tensor("q", shape), tensor("r", shape), tensor("y", shape, "float32")]
    ops = [op("QUANTIZE", ["x"], ["q"]), op("RELU", ["q"], ["r"]), op("DEQUANTIZE", ["r"], ["y"])]
    report = placement(write(tmp_path / "m.tflite", tensors, ops, ["x"], ["y"]))
    assert mapped(report) == [False, True, False]
    assert not report.refusals
    assert "int8-io" in report.ops[0].cure


def test_a_way_out_of_integers_is_told_as_what_it_leads_to(tmp_path):
    tensors = [tensor(name, (1, 8, 8, 4)) for name in ("x", "q", "z")]
    tensors += [tensor(name, (1, 8, 8, 4), "float32") for name in ("r", "y")]
    ops = [
        op("RELU", ["x"], ["q"]),
        op("DEQUANTIZE", ["q"], ["r"]),
        op("EXP", ["r"], ["y"]),
        op("QUANTIZE", ["y"], ["z"]),
    ]
    first = placement(write(tmp_path / "m.tflite", tensors, ops, ["x"], ["z"])).first_unmapped
    assert (first.index, first.why) == (1, "2 EXP behind it computes in float")
    assert "decode the boxes" in first.cure


def test_a_branch_that_needs_nothing_from_the_cpu_is_mapped(tmp_path):
    shape = (1, 4, 4, 8)
    tensors = [tensor(name, shape) for name in ("x", "a", "b", "c", "d")]
    ops = [op("GELU", ["x"], ["a"]), op("RELU", ["x"], ["b"]), op("TANH", ["b"], ["c"]), op("ADD", ["a", "c"], ["d"])]
    report = placement(write(tmp_path / "m.tflite", tensors, ops, ["x"], ["d"]))
    assert mapped(report) == [False, True, True, True]  # GELU runs first, then all the rest in one part
    ops = [op("RELU", ["x"], ["b"]), op("GELU", ["b"], ["a"]), op("TANH", ["b"], ["c"]), op("ADD", ["a", "c"], ["d"])]
    report = placement(write(tmp_path / "n.tflite", tensors, ops, ["x"], ["d"]))
    assert mapped(report) == [True, False, True, False]
    assert report.first_unmapped.name == "GELU"


def convolution(path, channels=8, kernels=16, **changes):
    weights = np.ones((kernels, 3, 3, channels), np.int8)
    tensors = [
        tensor("x", (1, 4, 4, channels), **changes),
        tensor("w", weights.shape, values=weights),
        tensor("b", (kernels,), "int32", values=np.zeros(kernels)),
        tensor("y", (1, 4, 4, kernels)),
    ]
    ops = [op("CONV_2D", ["x", "w", "b"], ["y"], options("Conv2D", strideW=1, strideH=1))]
    return write(path, tensors, ops, ["x"], ["y"])


def test_multiply_adds_and_parameters_are_counted(tmp_path):
    report = placement(convolution(tmp_path / "m.tflite"))
    assert report.ops[0].multiply_adds == 4 * 4 * 16 * 3 * 3 * 8
    assert report.parameter_bytes == 16 * 3 * 3 * 8 + 16 * 4
    assert report.multiply_add_share == 1.0
    assert report.fits_cache


def test_parameters_beyond_the_chip_are_told(tmp_path):
    report = placement(convolution(tmp_path / "m.tflite", 1024, 1024))
    assert report.parameter_bytes > USABLE_CACHE_BYTES
    assert not report.fits_cache
    assert "streamed" in placement_text(report.facts)


def test_an_open_batch_is_refused_with_its_tensor(tmp_path):
    report = placement(convolution(tmp_path / "m.tflite", signature=[-1, 4, 4, 8]))
    assert [("'x'" in why, "fixed batch" in cure) for why, cure in report.refusals] == [(True, True)]


def test_a_float_model_is_refused(tmp_path):
    report = placement(chain(tmp_path / "m.tflite", ["RELU", "TANH"], "float32"))
    assert [why for why, _ in report.refusals] == ["it is not quantized"]
    assert report.mapped_count == 0
    assert "would refuse this file: it is not quantized" in placement_text(report.facts)


def test_several_graphs_are_refused(tmp_path):
    shape = (1, 4, 4, 8)
    ops, tensors = [op("RELU", ["x"], ["y"])], [tensor("x", shape), tensor("y", shape)]
    report = placement(write(tmp_path / "m.tflite", tensors, ops, ["x"], ["y"], graph_count=2))
    assert "2 graphs" in report.refusals[0].why


def test_the_report_is_json_and_a_table_that_agree(tmp_path):
    report = placement(chain(tmp_path / "m.tflite", ["RELU", "RELU", "GELU", "RELU"]))
    facts = json.loads(json.dumps(report.facts))
    assert (facts["mapped"], facts["operators"]) == (2, 4)
    assert facts["first_unmapped"]["name"] == "GELU"
    text = placement_text(facts)
    assert text.startswith("m.tflite: 2 of 4 operators on the Edge TPU")
    row = next(line.split() for line in text.splitlines() if line.startswith("RELU"))
    assert row == ["RELU", "2", "1"]
    assert "2 GELU 't2': not an operator of the Edge TPU" in text


def test_a_compiled_file_is_recognised(tmp_path):
    report = placement(chain(tmp_path / "m.tflite", ["edgetpu-custom-op", "SOFTMAX"]))
    assert report.compiled
    assert mapped(report) == [True, False]
    assert "compiled for the Edge TPU already: 1 operators on the CPU" in placement_text(report.facts)


@pytest.mark.parametrize("data", [b"", b"nothing of the kind", b"\x10\0\0\0TFL3" + b"\xff" * 40])
def test_what_is_no_model_is_told_in_one_line(tmp_path, data):
    (tmp_path / "m.tflite").write_bytes(data)
    with pytest.raises(ModelError, match=r"m\.tflite"):
        placement(tmp_path / "m.tflite")


def test_a_cut_off_file_never_escapes_as_another_error(tmp_path):
    whole = convolution(tmp_path / "m.tflite").read_bytes()
    damaged = tmp_path / "d.tflite"
    for length in range(8, len(whole), 97):
        damaged.write_bytes(whole[:length])
        try:
            assert isinstance(placement(damaged), Placement)
        except ModelError:
            pass


def test_a_quantized_mobilenet_runs_there_whole(shared):
    report = placement(shared / "models" / "mobilenet_v2_1.0_224_quant.tflite")
    assert report.mapped_count == len(report.ops) == 66
    assert report.fits_cache
    assert math.isclose(sum(one.multiply_adds for one in report.ops) / 1e6, 300.8, abs_tol=0.1)  # the paper: 300


def test_a_real_compiled_file_is_recognised(shared):
    assert placement(shared / "models" / "mobilenet_v1_0.25_128_quant_edgetpu.tflite").compiled
