"""The portable runner of .tflite files: loaded by path in another interpreter, as a worker does it."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from edgetpu_made import build_stand_in, compiled_model, usb_tpu

from edge.config import EngineSection
from edge.embedded import tflite_custom_ops
from edge.engines import tflite
from edge.engines.portable import RunnerError
from edge.engines.tflite_ops import read_ops
from edge.model import load_engine

FOLDER = Path(tflite.__file__).parent
PORTABLE = ("portable", "tflite", "tflite_ops", "edgetpu", "edgetpu_delegate")

# loads the folder as a package of its own, as worker_child.py does; prints what the runner gives for each file
BY_PATH = """
import importlib, importlib.util, json, sys
import numpy as np
folder, root, *files = sys.argv[1:]
spec = importlib.util.spec_from_file_location(
    "runners", folder + "/__init__.py", submodule_search_locations=[folder]
)
package = importlib.util.module_from_spec(spec)
sys.modules["runners"] = package
spec.loader.exec_module(package)
tflite = importlib.import_module("runners.tflite")
importlib.import_module("runners.edgetpu_delegate").ROOT = root
found = []
for file in files:
    runner = tflite.open_runner(file, {"threads": 1, "device": ""})
    for array in runner.inputs:
        array[...] = np.arange(array.size).reshape(array.shape) % 251
    runner.run()
    runner.run()
    found.append([runner.input_tensors, runner.output_tensors, [a.tolist() for a in runner.outputs]])
    runner.close()
assert not [name for name in sys.modules if name.split(".")[0] == "edge"]
print(json.dumps([tflite._library.__name__, found]))
"""


@pytest.fixture(params=["this interpreter", "tflite-runtime's"])
def other_python(request):
    if request.param == "this interpreter":
        return sys.executable, "ai_edge_litert.interpreter"
    python = os.environ.get("HARRIER_OLD_RUNTIME")
    if not python:
        pytest.skip("HARRIER_OLD_RUNTIME names no Python with tflite-runtime")
    return python, "tflite_runtime.interpreter"


def by_path(python, root, files, **environment):
    out = subprocess.run(
        [python, "-c", BY_PATH, str(FOLDER), str(root), *map(str, files)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert out.returncode == 0, out.stderr
    return json.loads(out.stdout.splitlines()[-1])


def in_process(file):
    engine = load_engine(file, EngineSection(threads=1))
    for array in engine.inputs:
        array[...] = np.arange(array.size).reshape(array.shape) % 251
    engine.run()
    return engine


def test_another_interpreter_gives_the_same_on_the_cpu(other_python, tmp_path, catalogue):
    python, library = other_python
    file = catalogue("face") / "face_detection_short_range.tflite"
    used, [[inputs, outputs, values]] = by_path(python, tmp_path, [file])
    assert used == library
    engine = in_process(file)
    assert [tuple(tensor[1]) for tensor in inputs] == [spec.shape for spec in engine.input_specs]
    assert [tensor[0] for tensor in outputs] == [spec.name for spec in engine.output_specs]
    for value, output in zip(values, engine.outputs, strict=True):
        assert np.allclose(np.array(value, np.float32), output, rtol=1e-4, atol=1e-4 * np.abs(output).max())


@pytest.mark.shared
def test_another_interpreter_gives_the_same_of_a_quantized_network(other_python, tmp_path, shared):
    file = shared / "models/mobilenet_v2_1.0_224_quant.tflite"
    _, [[inputs, _, [values]]] = by_path(other_python[0], tmp_path, [file])
    assert inputs[0][2:] == ["uint8", "NHWC", 0.0078125, 128]
    scores = in_process(file).outputs[0]
    likeness = np.corrcoef(np.ravel(values), scores.ravel())[0, 1]
    assert likeness > 0.95  # integer kernels of other versions round otherwise


def test_another_interpreter_runs_a_compiled_file_on_the_tpu(other_python, tmp_path):
    library = build_stand_in(tmp_path)
    usb_tpu(tmp_path, "2-1.4")
    file = compiled_model(tmp_path / "net_edgetpu.tflite")
    environment = {
        "LD_LIBRARY_PATH": str(library.parent),
        "STAND_IN_RUNTIME": "14",
        "STAND_IN_DEVICES": "1 /sys/bus/usb/devices/2-1.4",
    }
    _, [[_, outputs, [values]]] = by_path(other_python[0], tmp_path, [file], **environment)
    pixels = np.arange(192).reshape(1, 8, 8, 3) % 251
    assert (np.array(values) == 255 - pixels).all()
    assert outputs[0] == ["y", [1, 8, 8, 3], "uint8", None, 0.5, 3]


def test_the_custom_operators_are_those_the_house_reads(tmp_path):
    file = compiled_model(tmp_path / "net.tflite", runtime=14)
    assert read_ops(str(file)) == (["edgetpu-custom-op"], 14)
    assert tflite_custom_ops(file) == ["edgetpu-custom-op"]
    assert read_ops(str(compiled_model(file, op="another-op"))) == (["another-op"], 0)
    assert read_ops(str(tmp_path / "absent.tflite")) == ([], 0)


@pytest.mark.shared
def test_a_file_of_the_real_compiler_says_what_it_needs(shared):
    compiled = shared / "models/mobilenet_v1_0.25_128_quant_edgetpu.tflite"
    assert read_ops(str(compiled)) == (["edgetpu-custom-op"], 12)
    assert read_ops(str(shared / "models/mobilenet_v2_1.0_224_quant.tflite")) == ([], 0)
    assert read_ops(str(shared / "models/model_invoking_error.tflite")) == (["fake-op-double"], 0)


def test_no_damage_to_a_file_is_an_accident(tmp_path):
    whole = compiled_model(tmp_path / "net.tflite").read_bytes()
    file = tmp_path / "damaged.tflite"
    rng = np.random.default_rng(6)
    for cut in range(0, len(whole), 3):
        file.write_bytes(whole[:cut])
        read_ops(str(file))
    for _ in range(300):
        garbled = bytearray(whole)
        for at in rng.integers(8, len(whole), 4):
            garbled[at] = rng.integers(256)
        file.write_bytes(garbled)
        ops = read_ops(str(file))
        assert all(isinstance(name, str) for name in ops.custom)
        assert isinstance(ops.edgetpu_runtime, int)


def test_an_interpreter_for_another_numpy_is_explained(tmp_path, monkeypatch):
    class Misfit:
        def __init__(self, model_path, num_threads, experimental_delegates):
            raise SystemError("returned a result with an exception set")

    monkeypatch.setattr(tflite, "_library", type("tflite_runtime", (), {"Interpreter": Misfit}))
    (tmp_path / "net.tflite").write_bytes(b"")
    with pytest.raises(RunnerError, match="tflite_runtime does not fit numpy .*: pip install 'numpy<2'") as caught:
        tflite.open_runner(str(tmp_path / "net.tflite"), {})
    assert caught.value.kind == "missing"


def test_a_broken_interpreter_is_passed_over_or_explained(tmp_path):
    (tmp_path / "ai_edge_litert").mkdir()
    (tmp_path / "ai_edge_litert/__init__.py").write_text("")
    (tmp_path / "ai_edge_litert/interpreter.py").write_text("raise ImportError('GLIBC_2.99 not found')")
    script = (
        "import sys\n"
        "for hidden in ('tflite_runtime', 'tensorflow'): sys.modules[hidden] = None\n"
        "from edge.registry import resolve\n"
        "resolve('engines', 'tflite')\n"
    )
    out = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "MissingBackendError: ai-edge-litert cannot be loaded (GLIBC_2.99 not found): " in out.stderr


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(RunnerError, match=r"no model file .*absent.tflite"):
        tflite.open_runner(str(tmp_path / "absent.tflite"), {})


@pytest.mark.parametrize("name", PORTABLE)
def test_the_syntax_is_that_of_python_3_6(name):
    tree = ast.parse((FOLDER / f"{name}.py").read_text(encoding="utf-8"), feature_version=(3, 6))
    imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level == 1}
    assert imported <= set(PORTABLE)
    absolute = {a.name.split(".")[0] for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    assert "edge" not in absolute
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.AnnAssign | ast.NamedExpr | ast.Match)]
