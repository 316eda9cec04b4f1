"""Every TFLite precision loads in tflite-runtime 2.14 and gives the outputs that ai-edge-litert gives.

Needs a second environment, as tflite-runtime wants numpy 1: HARRIER_OLD_RUNTIME is its Python.

What "the same" means was measured. Float files agree to the last bits. Integer files agree bit for bit where both
runtimes use their reference kernels: the files say the same to both. Their fast kernels round a product by one step
differently, even two kernel sets of one runtime do, and a network amplifies that; so there the runtimes may differ by
as much as the new one's fast and reference kernels do. Dynamic range files quantize float activations as they go,
where the last bit of a float decides a step: the same bound.
"""

import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("ai_edge_litert", reason="the new runtime is one side of the comparison")
for _needed in ("onnx", "onnxruntime", "litert_quantizer"):
    pytest.importorskip(_needed, reason=f"the files are made with {_needed}")

from ai_edge_litert.interpreter import Interpreter  # noqa: E402

from calibration.collect import collect  # noqa: E402
from calibration.collected import ranges_from  # noqa: E402
from convert.bias_correction import bias_shifts  # noqa: E402
from convert.inline_buffers import has_outside_buffers  # noqa: E402
from convert.load import LoadOptions, load  # noqa: E402
from convert.quantize_tflite import PRECISIONS, layer_names, quantize_tflite  # noqa: E402
from convert.tflite_equalize import equalize_silu, silu_factors  # noqa: E402

pytestmark = [pytest.mark.network, pytest.mark.shared]

MODELS = ("yolox_nano.onnx", "FastestDet.onnx")
FLOAT = ("fp32", "fp16")
CORRECTED = ("corrected", "mixed")
LEAST_STEP = 1e-5  # of an output's largest value: float rounding
ROOM = 1.5


@pytest.fixture(scope="module")
def old_python() -> str:
    python = os.environ.get("HARRIER_OLD_RUNTIME")
    if not python:
        pytest.skip("HARRIER_OLD_RUNTIME is not set: the Python of an environment with tflite-runtime and numpy<2")
    check = "import tflite_runtime, numpy; assert numpy.__version__ < '2'"
    if subprocess.run([python, "-c", check], capture_output=True, timeout=60).returncode:
        pytest.fail(f"HARRIER_OLD_RUNTIME is {python}, which lacks tflite-runtime or has numpy 2")
    return python


@pytest.fixture(scope="module", params=MODELS)
def made(request, shared, old_python, tmp_path_factory) -> dict[tuple[str, str, str], list[np.ndarray]]:
    """(runtime, kernels, precision) -> outputs, of every precision of one model on two pictures."""
    folder = tmp_path_factory.mktemp("old")
    pictures = sorted((shared / "data" / "coco-calib80").rglob("*.jpg"))
    model = load(str(shared / "models" / request.param), folder, LoadOptions(pictures=pictures[:4], want_tflite=True))
    source = model.file("tflite-fp32")
    inputs = prepared(model.manifest.input, source, pictures[:12])
    ranges = ranges_from(collect(source, [row[None] for row in inputs], threads=2), "percentile:99.99")
    files = {"fp32": source}
    for precision in PRECISIONS:
        files[precision] = folder / f"{precision}.tflite"
        quantize_tflite(source, files[precision], precision, ranges)
    files |= converted_as_the_command_does(source, [row[None] for row in inputs[:6]], folder)
    for file in files.values():
        assert not has_outside_buffers(file)
        np.save(file.with_suffix(".npy"), stored(file, inputs[:2]))
    outputs = {}
    for runtime, python in (("old", old_python), ("new", sys.executable)):
        for kernels in ("AUTO", "BUILTIN_REF"):
            for precision, arrays in run(python, kernels, files, folder).items():
                outputs[runtime, kernels, precision] = arrays
    return outputs


def converted_as_the_command_does(source, inputs, folder) -> dict[str, Path]:
    """int8 with equalized channels and corrected biases, and the same with its first layers in float."""
    equalized = folder / "equalized.tflite"
    base = source
    if factors := silu_factors(source, inputs):
        equalize_silu(source, equalized, factors)
        base = equalized
    ranges = ranges_from(collect(base, inputs, threads=2), "percentile:99.99")
    plain, files = folder / "plain.tflite", {name: folder / f"{name}.tflite" for name in CORRECTED}
    quantize_tflite(base, plain, "int8", ranges)
    shifts = bias_shifts(base, plain, inputs)
    assert shifts
    for name, kept in zip(CORRECTED, (frozenset(), frozenset(layer_names(base)[:8])), strict=True):
        quantize_tflite(base, files[name], "int8", ranges, kept, shifts)
    return files


def prepared(contract, file, pictures) -> np.ndarray:
    """The pictures as the model takes them, (N, H, W, C) float32."""
    interpreter = Interpreter(str(file))
    shape = interpreter.get_input_details()[0]["shape"]
    rows = []
    for picture in pictures:
        image = cv2.resize(cv2.imread(str(picture)), (int(shape[2]), int(shape[1])), interpolation=cv2.INTER_AREA)
        image = image if contract.channel_order == "bgr" else image[..., ::-1]
        rows.append((image * contract.scale - contract.mean) / contract.std)
    return np.array(rows, np.float32)


def stored(file, inputs) -> np.ndarray:
    detail = Interpreter(str(file)).get_input_details()[0]
    if detail["dtype"] == np.float32:
        return inputs
    scale, zero_point = detail["quantization"]
    levels = np.iinfo(detail["dtype"])
    return np.clip(np.rint(inputs / scale) + zero_point, levels.min, levels.max).astype(detail["dtype"])


def run(python, kernels, files, folder) -> dict[str, list[np.ndarray]]:
    script = Path(__file__).with_name("old_runtime.py")
    arguments = []
    for precision, file in files.items():
        arguments += [str(file), str(file.with_suffix(".npy")), str(folder / f"{precision}.npz")]
    done = subprocess.run([python, str(script), kernels, *arguments], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    found = {}
    for precision in files:
        with np.load(folder / f"{precision}.npz") as arrays:
            found[precision] = [arrays[name] for name in arrays.files]
    return found


def distances(first, second) -> list[float]:
    """The mean distance of each output, as a share of its largest value."""
    assert [(a.shape, a.dtype) for a in first] == [(b.shape, b.dtype) for b in second]
    pairs = [(a.astype(np.float64), b.astype(np.float64)) for a, b in zip(first, second, strict=True)]
    return [float(np.abs(a - b).mean() / np.abs(a).max()) for a, b in pairs]


@pytest.mark.parametrize("precision", FLOAT)
def test_float_files_agree(made, precision):
    new, old = made["new", "AUTO", precision], made["old", "AUTO", precision]
    for a, b in zip(new, old, strict=True):
        assert a.dtype == b.dtype == np.float32
        assert np.abs(a - b).max() <= LEAST_STEP * np.abs(a).max()


@pytest.mark.parametrize("precision", [*(name for name in PRECISIONS if "int" in name), CORRECTED[0]])
def test_integer_files_mean_the_same_to_both(made, precision):
    new, old = made["new", "BUILTIN_REF", precision], made["old", "BUILTIN_REF", precision]
    for a, b in zip(new, old, strict=True):
        assert a.dtype == b.dtype
        assert len(np.unique(a)) > 10  # saturated or dead outputs would agree too
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("precision", [*(name for name in PRECISIONS if name not in FLOAT), *CORRECTED])
def test_fast_kernels_differ_by_no_more_than_kernels_of_one_runtime(made, precision):
    new, old = made["new", "AUTO", precision], made["old", "AUTO", precision]
    own = distances(new, made["new", "BUILTIN_REF", precision])
    for between, inside in zip(distances(new, old), own, strict=True):
        assert between <= ROOM * inside + LEAST_STEP
