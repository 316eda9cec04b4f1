"""Every engine against the same checks, on real models, and what each says about files it cannot run."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from onnx_models import node, save

from edge.config import EngineSection
from edge.errors import AcceleratorError, ConfigError, EngineError
from edge.targets import load_engine
from edge.testing import check_engine

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"

NULL_FILE = """
[[inputs]]
name = "image"
shape = [1, 8, 8, 3]
dtype = "uint8"
layout = "NHWC"
scale = 0.0078125
zero_point = 128

[[outputs]]
name = "scores"
shape = [1, 10]
fill = 0.25
"""


@pytest.fixture
def null_file(tmp_path: Path) -> Path:
    path = tmp_path / "model.null"
    path.write_text(NULL_FILE)
    return path


def onnx_file(folder: Path, batch: int | str = 1, rows: int | str = 4) -> Path:
    """x * 2 on (batch, 3, rows, 4)."""
    shape, said = [batch, 3, rows, 4], {"task": "detect"}
    return save(folder / "double.onnx", [node("Add", "x x", "y")], {"x": shape}, {"y": shape}, properties=said)


def test_null_engine_keeps_the_contract(null_file):
    engine = load_engine(null_file, EngineSection())
    assert engine.input_specs[0].quantization.zero_point == 128
    assert (engine.outputs[0] == 0.25).all()
    check_engine(engine)


def test_litert_keeps_the_contract_on_the_catalogue_model(catalogue):
    engine = load_engine(catalogue("face") / "face_detection_short_range.tflite", EngineSection(threads=1))
    assert [spec.shape for spec in engine.output_specs] == [(1, 896, 16), (1, 896, 1)]
    assert engine.input_specs[0].layout == "NHWC"
    check_engine(engine)


@pytest.mark.shared
def test_litert_keeps_the_contract_on_a_quantized_model(shared):
    engine = load_engine(shared / "models/mobilenet_v2_1.0_224_quant.tflite", EngineSection())
    assert engine.input_specs[0].quantization.zero_point == 128
    assert engine.input_specs[0].dtype == np.uint8
    check_engine(engine)


@pytest.mark.shared
@pytest.mark.parametrize("name", ["yolox_nano.onnx", "FastestDet.onnx"])
def test_onnxruntime_keeps_the_contract_on_real_models(shared, name):
    engine = load_engine(shared / "models" / name, EngineSection(threads=1))
    assert engine.input_specs[0].layout == "NCHW"
    check_engine(engine)


def test_litert_views_outlive_the_engine(catalogue):
    engine = load_engine(catalogue("face") / "face_detection_short_range.tflite", EngineSection(threads=1))
    scores = engine.outputs[1]
    engine.run()
    before = scores.copy()
    engine.close()
    assert np.array_equal(scores, before)  # the view keeps the interpreter's memory alive


def test_onnxruntime_binds_its_arrays_once(tmp_path):
    engine = load_engine(onnx_file(tmp_path, batch="N"), EngineSection())
    assert engine.embedded["task"] == "detect"
    for value in (1.5, -2.0):
        engine.inputs[0][...] = value
        engine.run()
        assert (engine.outputs[0] == 2 * value).all()
    fixed = load_engine(onnx_file(tmp_path), EngineSection())
    output = fixed.outputs[0]
    for value in (3.0, 4.0):
        fixed.inputs[0][...] = value
        fixed.run()
        assert fixed.outputs[0] is output
        assert (output == 2 * value).all()


def test_unknown_size_and_provider_are_explained(tmp_path):
    with pytest.raises(EngineError, match="fixed size"):
        load_engine(onnx_file(tmp_path, rows="H"), EngineSection())
    with pytest.raises(ConfigError, match="did you mean 'CPUExecutionProvider'"):
        load_engine(onnx_file(tmp_path), EngineSection(providers=["CPUExecutionProvidr"]))


def test_a_provider_that_is_not_used_is_told(tmp_path, monkeypatch, caplog):
    """ONNX Runtime takes the CPU without a word where CUDA's libraries are not there."""
    file, session = onnx_file(tmp_path), onnxruntime.InferenceSession

    def without_cuda(path, settings, providers):
        return session(path, settings, providers=[name for name in providers if name != "CUDAExecutionProvider"])

    monkeypatch.setattr(onnxruntime, "InferenceSession", without_cuda)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CUDA, CPU])
    with pytest.raises(AcceleratorError, match="cannot use CUDAExecutionProvider here"):
        load_engine(file, EngineSection(providers=[CUDA]))
    load_engine(file, EngineSection(providers=[CPU])).close()
    assert not caplog.messages
    load_engine(file, EngineSection(providers=[CUDA, CPU])).close()
    assert caplog.messages == [
        "ONNX Runtime cannot use CUDAExecutionProvider here; CPUExecutionProvider runs the model"
    ]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("text.tflite", b"just some text, no model at all", "is not a TensorFlow Lite model"),
        ("empty.tflite", b"", "is not a TensorFlow Lite model"),
        ("text.onnx", b"just some text, no model at all", "is not an ONNX model"),
        ("model.txt", b"", "no model file an engine knows"),
        ("model", b"", "no model file an engine knows"),
    ],
)
def test_files_that_are_no_model_are_explained(tmp_path, name, content, says):
    (tmp_path / name).write_bytes(content)
    with pytest.raises((EngineError, ConfigError), match=says) as caught:
        load_engine(tmp_path / name, EngineSection())
    assert "\n" not in str(caught.value)


def test_a_truncated_model_is_explained(tmp_path, catalogue):
    whole = (catalogue("face") / "face_detection_short_range.tflite").read_bytes()
    (tmp_path / "cut.tflite").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(EngineError, match="damaged or cut short"):
        load_engine(tmp_path / "cut.tflite", EngineSection())


@pytest.mark.shared
def test_models_this_machine_cannot_run_are_explained(shared):
    with pytest.raises(AcceleratorError, match="compiled for the Edge TPU"):
        load_engine(shared / "models/mobilenet_v1_0.25_128_quant_edgetpu.tflite", EngineSection())
    with pytest.raises(EngineError, match="custom operators the runtime lacks .fake-op-double"):
        load_engine(shared / "models/model_invoking_error.tflite", EngineSection())


@pytest.mark.parametrize("package", ["tflite_runtime", "tensorflow"])
def test_older_interpreters_serve_where_litert_is_not_installed(package, catalogue):
    """The same interpreter under the older packages' names, with ai_edge_litert hidden: the import order is ours."""
    model = catalogue("face") / "face_detection_short_range.tflite"
    script = f"""
import sys, types
from ai_edge_litert.interpreter import Interpreter
for name in [n for n in sys.modules if n.startswith("ai_edge_litert")]:
    del sys.modules[name]
for hidden in {{"ai_edge_litert", "tflite_runtime", "tensorflow"}} - {{"{package}"}}:
    sys.modules[hidden] = None
home = types.ModuleType("{package}")
home.__path__ = []
part = types.ModuleType("{package}.interpreter" if "{package}" == "tflite_runtime" else "tensorflow.lite")
part.Interpreter = Interpreter
home.interpreter = home.lite = part
sys.modules["{package}"], sys.modules[part.__name__] = home, part
import subprocess
import sys
from pathlib import Path
from edge.config import EngineSection
from edge.engines.litert import LiteRtEngine
engine = LiteRtEngine(Path({str(model)!r}), EngineSection(threads=1))
engine.run()
print([spec.shape for spec in engine.output_specs])
"""
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert out.stdout.strip() == "[(1, 896, 16), (1, 896, 1)]", out.stderr


def test_no_interpreter_at_all_gives_the_install_line():
    script = (
        "import sys\n"
        "for hidden in ('ai_edge_litert', 'tflite_runtime', 'tensorflow'): sys.modules[hidden] = None\n"
        "from edge.registry import resolve\n"
        "resolve('engines', 'tflite')\n"
    )
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert "MissingBackendError: no TensorFlow Lite interpreter is installed: pip install ai-edge-litert" in out.stderr
