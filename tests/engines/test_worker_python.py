"""The worker in another interpreter: the portable folder alone, in whatever Python a board has."""

import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from edge.config import EngineSection
from edge.engines import worker_child, worker_process
from edge.engines.worker import WorkerEngine
from edge.errors import AcceleratorError, ConfigError, EngineError, EngineLostError, MissingBackendError
from edge.targets import load_engine
from edge.testing import check_engine

RUNNER = '''
"""A runner that halves its input, in the syntax of Python 3.6; what it says of itself comes from its file."""

import decimal  # not the one beside this file
import json
import os
import sys

import numpy as np

from .portable import RunnerError, Tensor


def open_runner(path, options):
    with open(path) as file:
        said = json.load(file)
    if "refuses" in said:
        raise RunnerError("it is not there", "plug it in", said["refuses"])
    return Runner(options)


class Runner:
    def __init__(self, options):
        self.input_tensors = [Tensor("image", [1, 4], "uint8", None, 0.5, 3)]
        self.output_tensors = [Tensor("half", (1, 4), np.float32, None, None, 0)]
        self.inputs = [np.ones((1, 4), np.uint8)]
        self.outputs = [np.zeros((1, 4), np.float32)]
        self.embedded = {
            "python": ".".join(map(str, sys.version_info[:2])),
            "device": options["device"],
            "edge": str("edge" in sys.modules),
            "path": os.environ.get("PYTHONPATH", "none"),
            "decimal": str(hasattr(decimal, "Decimal")),
        }

    def run(self):
        print("a library that prints")
        if self.inputs[0][0, 0] == 99:
            raise RunnerError("it has come loose", "push it in", "lost")
        if self.inputs[0][0, 0] == 98:
            raise RunnerError("it cannot count that far", "give less")
        np.multiply(self.inputs[0], 0.5, out=self.outputs[0])

    def close(self):
        pass
'''


def pythons() -> list[str]:
    """This interpreter and, where there is one, an old one that has numpy."""
    return [sys.executable, *filter(None, [os.environ.get("HARRIER_OLD_PYTHON")])]


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model file for a folder of portable modules whose runner for .tflite is the one above."""
    folder = tmp_path / "engines"
    folder.mkdir()
    own = Path(worker_child.__file__).parent
    for name in ("__init__.py", "portable.py", "worker_child.py"):
        shutil.copy(own / name, folder / name)
    (folder / "tflite.py").write_text(RUNNER)
    (folder / "decimal.py").write_text("raise SystemError('this folder must not be on the path')")
    monkeypatch.setattr(worker_process, "CHILD", folder / "worker_child.py")
    monkeypatch.setenv("PYTHONPATH", str(folder))
    (tmp_path / "model.tflite").write_text("{}")
    return tmp_path / "model.tflite"


def script(path: Path, text: str) -> str:
    """An executable shell script."""
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize("python", pythons())
def test_a_portable_runner_keeps_the_contract_in_another_interpreter(model, python):
    engine = WorkerEngine(model, EngineSection(python=python, device="usb:1"))
    assert engine.embedded["device"] == "usb:1"
    assert engine.embedded["edge"] == "False"
    assert engine.embedded["path"] == "none"
    assert engine.embedded["decimal"] == "True"
    if python == sys.executable:
        assert engine.embedded["python"] == f"{sys.version_info[0]}.{sys.version_info[1]}"
    assert engine.input_specs[0].quantization.zero_point == 3
    engine.inputs[0][...] = (4, 6, 8, 9)
    engine.run()
    assert engine.outputs[0].tolist() == [[2.0, 3.0, 4.0, 4.5]]
    engine.inputs[0][0, 0] = 98
    with pytest.raises(EngineError, match="it cannot count that far: give less"):
        engine.run()
    assert engine.lost == ""
    engine.inputs[0][0, 0] = 1
    check_engine(engine)


def test_a_device_that_is_lost_is_told(model):
    engine = WorkerEngine(model, EngineSection(python=sys.executable))
    engine.inputs[0][0, 0] = 99
    with pytest.raises(EngineLostError, match=r"model.tflite cannot go on \(it has come loose\): push it in"):
        engine.run()
    assert engine.pid == 0
    engine.close()


@pytest.mark.parametrize(
    ("kind", "error"), [("accelerator", AcceleratorError), ("missing", MissingBackendError), ("config", ConfigError)]
)
def test_what_a_runner_says_when_it_is_opened_is_raised_here(model, kind, error):
    model.write_text(f'{{"refuses": "{kind}"}}')
    with pytest.raises(error, match="it is not there: plug it in"):
        WorkerEngine(model, EngineSection(python=sys.executable))


@pytest.mark.parametrize("python", pythons())
def test_a_file_without_a_portable_runner_is_explained(tmp_path, python):
    (tmp_path / "model.onnx").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"model.onnx cannot be run by another interpreter: leave out python, or use"):
        WorkerEngine(tmp_path / "model.onnx", EngineSection(python=python))


def test_an_interpreter_that_does_not_work_is_explained(model, tmp_path):
    for python, error, says in (
        (
            str(tmp_path / "nothing"),
            ConfigError,
            r"nothing cannot be started \(No such file or directory\): give the path",
        ),
        (str(model), ConfigError, r"cannot be started \(Permission denied\)"),
        ("/bin/ls", ConfigError, r"/bin/ls is no Python interpreter"),
        (
            script(tmp_path / "old", '[ "$1" = -c ] && echo 2 7; exit 1'),
            ConfigError,
            "is Python 2.7: give one of Python 3.6",
        ),
        (
            script(tmp_path / "bare", f'exec {sys.executable} -S "$@"'),
            MissingBackendError,
            "has no numpy: .* -m pip install",
        ),
    ):
        with pytest.raises(error, match=says) as caught:
            WorkerEngine(model, EngineSection(python=python))
        assert "\n" not in str(caught.value)


def test_litert_gives_the_same_in_another_interpreter(catalogue):
    """HARRIER_OLD_RUNTIME is a Python with tflite-runtime; without it this interpreter plays the other one."""
    python = os.environ.get("HARRIER_OLD_RUNTIME", sys.executable)
    file = catalogue("face") / "face_detection_short_range.tflite"
    here = load_engine(file, EngineSection(threads=1))
    worker = WorkerEngine(file, EngineSection(threads=1, python=python, deadline_ms=20_000))
    assert (worker.input_specs, worker.output_specs) == (here.input_specs, here.output_specs)
    here.inputs[0][...] = worker.inputs[0][...] = np.random.default_rng(2).uniform(-1, 1, here.inputs[0].shape)
    here.run()
    worker.run()
    for mine, theirs in zip(here.outputs, worker.outputs, strict=True):
        assert np.abs(mine - theirs).max() < 1e-3
    here.close()
    check_engine(worker)
