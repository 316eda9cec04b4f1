"""Whether a TensorRT engine fits the board: each thing its manifest can say, and whom the board is asked of."""

import os
import sys
from pathlib import Path

import pytest

from edge import engine_needs
from edge.board import available_mib, l4t_release, memory_mib, swap_free_mib, trtexec
from edge.config import EngineSection
from edge.engine_needs import Board, board_for, check_needs, misfit, tensorrt_versions
from edge.engines.driver import driver_problem, gpu_capability
from edge.errors import AcceleratorError, ConfigError, MissingBackendError
from edge.manifest import Manifest, read_manifest, sha256_of

ORIN = Board("8.7", {"tensorrt": "8.5.2.2"}, "35.4.1", "aarch64")
PC = Board("8.6", {"tensorrt-rtx": "1.7.1.116"}, None, "x86_64")


@pytest.fixture
def bundle(tmp_path):
    """A folder with an ONNX, an engine, and a manifest that says what the engine needs."""

    def make(needs: dict[str, str], onnx: str = "onnx") -> tuple[Manifest, Path]:
        (tmp_path / "model.onnx").write_text(onnx)
        (tmp_path / "model.engine").write_text("plan")
        lines = [
            'name = "n"',
            '[targets.onnx-fp32]\nfile = "model.onnx"',
            '[targets.tensorrt-fp16]\nfile = "model.engine"',
        ]
        lines += ["[targets.tensorrt-fp16.needs]", *(f'{key} = "{value}"' for key, value in needs.items())]
        (tmp_path / "manifest.toml").write_text("\n".join([*lines, "[input]", '[decoder]\nfamily = "yolox"']))
        return read_manifest(tmp_path / "manifest.toml"), tmp_path

    return make


BUILT_ON_ORIN = {"tensorrt": "8.5.2", "flavour": "tensorrt", "sm": "8.7", "l4t": "35.4.1", "machine": "aarch64"}


@pytest.mark.parametrize(
    ("board", "changed", "said"),
    [
        (ORIN, {}, ""),
        (ORIN, {"tensorrt": "8.5.2.2"}, ""),
        (ORIN, {"l4t": "35.3.1"}, ""),  # of one TensorRT
        (ORIN, {"tensorrt": "unknown"}, ""),
        (ORIN, {"tensorrt": "8.5.2.1"}, "built by TensorRT 8.5.2.1 for sm 8.7; here are 8.5.2.2 and 8.7"),
        (ORIN, {"tensorrt": "8.2.1"}, "built by TensorRT 8.2.1 for sm 8.7; here are 8.5.2.2 and 8.7"),
        (ORIN, {"sm": "7.2"}, "built by TensorRT 8.5.2 for sm 7.2; here are 8.5.2.2 and 8.7"),
        (ORIN, {"sm": "8.0"}, "for sm 8.0; here"),
        (ORIN, {"sm": "8.6 8.7"}, ""),
        (ORIN, {"sm": "8.0+"}, ""),
        (ORIN, {"sm": "8.9+"}, "for sm 8.9+; here"),
        (ORIN, {"l4t": "36.4.0"}, "built on Jetson Linux 36.4.0, here is Jetson Linux 35.4.1"),
        (ORIN, {"machine": "x86_64"}, "built on x86_64, this machine is aarch64"),
        (
            ORIN,
            {"flavour": "tensorrt-rtx", "tensorrt": "1.7.1"},
            "built by TensorRT-RTX 1.7.1, here is TensorRT 8.5.2.2",
        ),
        (PC, {}, "built by TensorRT 8.5.2, here is TensorRT-RTX 1.7.1.116"),
        (PC, {"flavour": "tensorrt-rtx", "tensorrt": "1.7.1.116", "sm": "8.6", "machine": "", "l4t": "36.4.0"}, ""),
        (Board("10.0", {"tensorrt": "8.5.2"}, "35.1.0", "aarch64"), {"sm": "8.0+"}, ""),
        (Board("8.7", {"tensorrt": "8.5.2"}, None, "aarch64"), {}, "built on Jetson Linux 35.4.1, here is no Jetson"),
    ],
)
def test_each_need_is_compared(bundle, board, changed, said):
    needs = {key: value for key, value in {**BUILT_ON_ORIN, **changed}.items() if value}
    manifest, folder = bundle(needs)
    found = misfit(manifest.targets["tensorrt-fp16"], manifest, folder, board)
    assert (said in found and "model.engine" in found) if said else found == ""


def test_an_engine_that_says_nothing_fits(bundle):
    manifest, folder = bundle({})
    assert misfit(manifest.targets["tensorrt-fp16"], manifest, folder, ORIN) == ""
    (folder / "model.engine").unlink()
    assert "model.engine is not in" in misfit(manifest.targets["tensorrt-fp16"], manifest, folder, ORIN)


def test_an_engine_is_compared_with_the_onnx_beside_it(bundle):
    manifest, folder = bundle({})
    stated = {**BUILT_ON_ORIN, "onnx_sha256": sha256_of(folder / "model.onnx")}
    manifest, folder = bundle(stated)
    target = manifest.targets["tensorrt-fp16"]
    check_needs(target, manifest, folder, ORIN)
    (folder / "model.onnx").write_text("another")
    with pytest.raises(AcceleratorError, match="model.engine is older than the ONNX.*--on-device.*rebuild = "):
        check_needs(target, manifest, folder, ORIN)
    (folder / "model.onnx").unlink()  # nothing to compare with
    check_needs(target, manifest, folder, ORIN)


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.setattr(engine_needs, "gpu_capability", lambda device: "8.7" if device == 0 else None)


def test_the_board_as_the_engine_will_see_it(gpu, monkeypatch, tmp_path):
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/nv_tegra_release").write_text("# R35 (release), REVISION: 4.1, GCID: 1, BOARD: t186ref\n")
    asked = []

    def versions(python):
        asked.append(python)
        return {"tensorrt": "8.5.2.2"}

    monkeypatch.setattr(engine_needs, "tensorrt_versions", versions)
    board = board_for(EngineSection(python="/usr/bin/python3"), tmp_path)
    assert (board.sm, board.tensorrt, board.l4t) == ("8.7", {"tensorrt": "8.5.2.2"}, "35.4.1")
    board_for(EngineSection(isolate=True), tmp_path)
    board_for(EngineSection(), tmp_path)
    assert asked == ["/usr/bin/python3", sys.executable, None]
    with pytest.raises(AcceleratorError, match="no GPU 3 for TensorRT"):
        board_for(EngineSection(device="3"), tmp_path)
    for device in ("usb:0", "\N{SUPERSCRIPT TWO}", "9" * 30):
        with pytest.raises(AcceleratorError, match=f"'{device}' is no CUDA device"):
            board_for(EngineSection(device=device), tmp_path)
    monkeypatch.setattr(engine_needs, "tensorrt_versions", lambda python: {})
    with pytest.raises(MissingBackendError, match="/usr/bin/python3 has no TensorRT: sudo apt install"):
        board_for(EngineSection(python="/usr/bin/python3"), tmp_path)


def test_another_interpreter_is_asked_in_its_own_process_once(tmp_path, monkeypatch):
    (tmp_path / "tensorrt.py").write_text(
        "open(__file__ + '.asked', 'a').write('x')\nprint('hello of a library')\n"
        "__version__ = '8.5.2.2'\nclass Runtime: pass\n"
    )
    monkeypatch.setenv("PYTHONPATH", "/what/is/meant/for/this/interpreter")
    monkeypatch.setenv("PYTHONHOME", "/breaks/another/one")
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\n[ -z "$PYTHONPATH" ] && PYTHONPATH={tmp_path} exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    for _ in range(2):
        assert tensorrt_versions(str(python)).get("tensorrt") == "8.5.2.2"
    assert (tmp_path / "tensorrt.py.asked").read_text() == "x"
    assert "tensorrt" not in sys.modules or sys.modules["tensorrt"].__version__ != "8.5.2.2"


def test_an_interpreter_that_cannot_be_asked(tmp_path):
    with pytest.raises(ConfigError, match="no-such-python does not run"):
        tensorrt_versions(str(tmp_path / "no-such-python"))
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\necho 'cannot execute' >&2\nexit 3\n")
    broken.chmod(0o755)
    with pytest.raises(ConfigError, match="broken cannot import TensorRT .cannot execute"):
        tensorrt_versions(str(broken))


def test_facts_of_a_jetson_from_its_files(tmp_path):
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text("MemTotal: 4059712 kB\nMemAvailable: 2048000 kB\nSwapFree: 1024000 kB\n")
    assert (memory_mib(tmp_path), available_mib(tmp_path), swap_free_mib(tmp_path)) == (3964, 2000, 1000)
    empty = tmp_path / "empty"
    assert (memory_mib(empty), available_mib(empty), swap_free_mib(empty), l4t_release(empty)) == (None,) * 4
    assert trtexec(tmp_path) is None


@pytest.mark.skipif(os.path.exists("/dev/nvidiactl") or os.path.exists("/dev/nvhost-gpu"), reason="there is a GPU")
def test_a_machine_without_a_gpu_says_why():
    assert gpu_capability() is None
    assert driver_problem()
    with pytest.raises(AcceleratorError, match="no GPU 0 for TensorRT .*another target of the bundle"):
        board_for(EngineSection())
