"""The compiler's output taken apart; the samples follow the format of compiler 14 to 16, with made-up figures."""

import json

import pytest

pytest.importorskip("ai_edge_litert", reason="the package it is part of needs LiteRT's schema")

from convert.edgetpu.log import log_text, parse_log

PARTIAL = """Edge TPU Compiler version 16.0.384591198
Started a compilation timeout timer of 180 seconds.

Model compiled successfully in 1342 ms.

Input model: model.tflite
Input size: 9.25MiB
Output model: model_edgetpu.tflite
Output size: 9.50MiB
On-chip memory used for caching model parameters: 6.50MiB
On-chip memory remaining for caching model parameters: 1.25KiB
Off-chip memory used for streaming uncached model parameters: 512.00B
Number of Edge TPU subgraphs: 1
Total number of operations: 61
Operation log: model_edgetpu.log

Model successfully compiled but not all operations are supported by the Edge TPU. A percentage of the model will instead
run on the CPU, which is slower.
Number of operations that will run on Edge TPU: 40
Number of operations that will run on CPU: 21

Operator                       Count      Status

CONV_2D                        38         Mapped to Edge TPU
CONV_2D                        17         More than one subgraph is not supported
QUANTIZE                       2          Mapped to Edge TPU
QUANTIZE                       1          Operation is otherwise supported, but not mapped due to some unspecified limitation
RESHAPE                        2          Tensor has unsupported rank (up to 3 innermost dimensions mapped)
CUSTOM                         1          Operation is working on an unsupported data type
Compilation child process completed within timeout period.
Compilation succeeded!
"""  # noqa: E501

HEAD = "Edge TPU Compiler version 16.0.384591198\nStarted a compilation timeout timer of 180 seconds.\n"
FAILED = "Compilation child process completed within timeout period.\nCompilation failed!\n"
DYNAMIC = (
    "ERROR: Attempting to use a delegate that only supports static-sized tensors with a graph that has dynamic-sized"
)

REFUSALS = {
    "Edge TPU Compiler version 15.0.340273435\nInvalid model: m.tflite\nModel not quantized\n": (
        "quantized",
        "int8-io",
    ),
    f"{HEAD}{DYNAMIC} tensors.\nCompilation failed: Model failed in Tflite interpreter.\n{FAILED}": ("size", "fixed"),
    f"{HEAD}ERROR: Didn't find op for builtin opcode 'CONV_2D' version '8'\nERROR: Registration failed.\n"
    "Invalid model: m.tflite\nModel could not be parsed\n": ("CONV_2D has version 8", "harrier convert"),
    f"{HEAD}Compilation failed: Compilation failed due to large activation tensors in model.\n{FAILED}": (
        "activations",
        "smaller input",
    ),
    f"{HEAD}loc(\"s/Slice_4\"): error: 'tfl.strided_slice' op is not supported on DarwiNN. See\n{FAILED}": (
        "STRIDED_SLICE",
        "placement",
    ),
    f"{HEAD}Internal compiler error. Aborting!\n": ("failed inside", "smaller"),
    f"{HEAD}Compilation failed: Model failed in Tflite interpreter. Please ensure it runs\n{FAILED}": (
        "run",
        "inspect",
    ),
}


def test_operators_and_memory_are_read():
    log = parse_log(PARTIAL)
    assert log.version == "16.0.384591198"
    assert (log.mapped_count, log.unmapped_count) == (40, 21)
    assert [(op.name, op.count, op.mapped) for op in log.ops][:2] == [("CONV_2D", 38, True), ("CONV_2D", 17, False)]
    assert log.on_chip_used_bytes == 6.5 * 1024 * 1024
    assert log.on_chip_remaining_bytes == 1280
    assert log.off_chip_bytes == 512
    assert log.part_count == 1
    assert log.error is None


def test_reasons_are_explained_in_the_text():
    text = log_text(parse_log(PARTIAL))
    assert text.startswith("edgetpu_compiler 16.0.384591198: 40 operators on the Edge TPU, 21 on the CPU")
    assert "17 CONV_2D: More than one subgraph" in text
    assert "cure that one" in text
    assert "float32 inputs are a common case" in text
    assert "Mapped" not in text


def test_the_facts_are_json():
    facts = json.loads(json.dumps(parse_log(PARTIAL).facts))
    assert (facts["mapped"], facts["unmapped"], len(facts["ops"])) == (40, 21, 6)


@pytest.mark.parametrize("text", REFUSALS, ids=[cause for cause, _ in REFUSALS.values()])
def test_refusals_have_a_cause_and_a_cure(text):
    cause, cure = REFUSALS[text]
    error = parse_log(text).error
    assert cause in error.why
    assert cure in error.cure


@pytest.mark.parametrize(
    "text", ["", "\0" * 1000, "CONV_2D " * 10_000, "ADD 9999999999999 Mapped to Edge TPU", "٣ \x1b[2J"]
)
def test_garbage_gives_an_empty_log(text):
    log = parse_log(text)
    assert (log.version, log.ops, log.on_chip_used_bytes, log.error) == ("", (), None, None)
    assert "unknown version" in log_text(log)
