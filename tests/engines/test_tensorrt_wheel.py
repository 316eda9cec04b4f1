"""The TensorRT runner against the real library of TensorRT-RTX: without a GPU every way it fails, with one it runs."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tensorrt_rtx_libs", reason="TensorRT-RTX is not installed (extra tensorrt-rtx)")
bindings = pytest.importorskip("tensorrt_rtx_bindings", reason="TensorRT-RTX is not installed (extra tensorrt-rtx)")
pytest.importorskip("onnx", reason="onnx makes the model")

from onnx_models import node, save  # noqa: E402
from tensorrt_standin import SURFACES, StandInCuda  # noqa: E402

from convert.tensorrt.build import build  # noqa: E402
from convert.tensorrt.request import BuildOptions, BuildRequest  # noqa: E402
from edge.config import EngineSection  # noqa: E402
from edge.engine_needs import tensorrt_versions  # noqa: E402
from edge.engines import tensorrt  # noqa: E402
from edge.engines.driver import gpu_capability  # noqa: E402
from edge.engines.tensorrt_engine import TensorRtEngine  # noqa: E402
from edge.errors import AcceleratorError, EngineError  # noqa: E402
from edge.testing import check_engine  # noqa: E402

HERE = gpu_capability()
KNOWN = [f"{name[2:-1]}.{name[-1]}" for name in bindings.ComputeCapability.__members__ if name.startswith("SM")]
PORTABLE = """
import importlib.util, json, sys
spec = importlib.util.spec_from_file_location("runners", sys.argv[1] + "/__init__.py",
                                              submodule_search_locations=[sys.argv[1]])
sys.modules["runners"] = package = importlib.util.module_from_spec(spec)
spec.loader.exec_module(package)
sys.modules["edge"] = None  # whoever imports it fails
runner = importlib.import_module("runners.tensorrt")
kinds = importlib.import_module("runners.portable")
try:
    runner.open_runner(sys.argv[2], {"device": ""})
except kinds.RunnerError as exc:
    print(json.dumps([exc.kind, exc.cause]))
"""


@pytest.fixture(scope="module")
def engine_file(tmp_path_factory) -> Path:
    """y = x + 1 as an engine of TensorRT-RTX."""
    folder = tmp_path_factory.mktemp("rtx")
    shape = [1, 3, 8, 8]
    save(folder / "m.onnx", [node("Add", "x one", "y")], {"x": shape}, {"y": shape}, {"one": np.ones(1, np.float32)})
    chips = (HERE,) if HERE in KNOWN else ("8.6",)
    build(BuildRequest(folder / "m.onnx", folder / "m.engine", "fp32", BuildOptions(compute_capabilities=chips)))
    return folder / "m.engine"


@pytest.fixture
def driverless(monkeypatch) -> StandInCuda:
    """A CUDA that claims to work, so that the library itself finds out."""
    cuda = StandInCuda()
    monkeypatch.setattr(tensorrt, "driver_problem", lambda device: "")
    monkeypatch.setattr(tensorrt, "open_cuda", lambda device: cuda)
    return cuda


@pytest.mark.skipif(bindings.__version__ != "1.7.1.116", reason="the surface was recorded from 1.7.1.116")
def test_the_recorded_surface_is_the_librarys():
    for name in ("Runtime", "ICudaEngine", "IExecutionContext"):
        members = {member for member in dir(getattr(bindings, name)) if not member.startswith("_")}
        assert members == {word for word in SURFACES["rtx-1.7"][name].split() if not word.startswith("_")}
    assert list(bindings.DataType.__members__) == SURFACES["rtx-1.7"]["DataType"].split()


@pytest.mark.skipif(HERE is not None, reason="there is a GPU")
def test_without_a_gpu_it_is_an_accelerator_error(engine_file):
    with pytest.raises(AcceleratorError, match="no GPU 0 to run m.engine .*driver") as caught:
        TensorRtEngine(engine_file, EngineSection())
    assert caught.value.exit_code == 4


@pytest.mark.skipif(HERE is not None, reason="there is a GPU")
def test_the_librarys_own_words_for_a_missing_driver(engine_file, driverless):
    with pytest.raises(AcceleratorError, match=r"driver is missing or older than TensorRT-RTX .* needs"):
        TensorRtEngine(engine_file, EngineSection())
    assert driverless.closed


def test_files_that_are_no_engines(engine_file, driverless, tmp_path):
    rubbish = tmp_path / "rubbish.engine"
    rubbish.write_bytes(b"hello world, " * 100)
    with pytest.raises(EngineError, match=r"rubbish\.engine is no TensorRT engine"):
        TensorRtEngine(rubbish, EngineSection())
    other = tmp_path / "other.engine"
    other.write_bytes(b"ftrt" + engine_file.read_bytes()[4:])  # as the full library's begin
    with pytest.raises(AcceleratorError, match=r"was built by TensorRT \(not RTX\), here is TensorRT-RTX"):
        TensorRtEngine(other, EngineSection())
    with pytest.raises(EngineError, match="cannot read .*missing.engine"):
        TensorRtEngine(tmp_path / "missing.engine", EngineSection())


def test_the_release_is_the_same_asked_here_and_of_another_process():
    expected = bindings.__version__
    assert tensorrt_versions()["tensorrt-rtx"] == tensorrt_versions(sys.executable)["tensorrt-rtx"] == expected


@pytest.mark.skipif(HERE is not None, reason="there is a GPU")
def test_the_runner_works_without_the_rest_of_harrier(engine_file):
    folder = Path(tensorrt.__file__).parent
    run = subprocess.run(
        [sys.executable, "-c", PORTABLE, str(folder), str(engine_file)], capture_output=True, text=True, timeout=60
    )
    assert run.returncode == 0, run.stderr
    kind, cause = json.loads(run.stdout)
    assert kind == "accelerator"
    assert "no GPU 0 to run m.engine" in cause


@pytest.mark.skipif(HERE not in KNOWN, reason="no GPU that TensorRT-RTX builds for")
def test_on_a_gpu_it_computes_and_keeps_the_contract(engine_file):
    pytest.importorskip("cuda", reason="cuda-python is not installed")
    engine = TensorRtEngine(engine_file, EngineSection())
    engine.inputs[0][...] = np.arange(192, dtype=np.float32).reshape(1, 3, 8, 8)
    engine.run()
    np.testing.assert_array_equal(engine.outputs[0], engine.inputs[0] + 1)
    check_engine(engine)
