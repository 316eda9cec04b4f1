"""Before a TensorRT engine is loaded: does it fit this board? What it needs stands in the bundle's manifest."""

import functools
import json
import platform
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from edge.board import l4t_release
from edge.config import EngineSection
from edge.engines import tensorrt_library
from edge.engines.driver import driver_problem, gpu_capability
from edge.engines.tensorrt_words import REBUILD
from edge.engines.worker_process import foreign_environment
from edge.errors import AcceleratorError, ConfigError, MissingBackendError
from edge.manifest import Manifest, Target, sha256_of

__all__ = ["Board", "board_for", "check_needs", "misfit", "tensorrt_versions"]

_MOST_DIGITS = 4  # of a device's number
_ASK_S = 120.0  # a Nano that reads TensorRT from a slow card takes long
_ASK = (
    "import importlib.util, json, sys\n"
    "spec = importlib.util.spec_from_file_location('library', sys.argv[1])\n"
    "library = importlib.util.module_from_spec(spec)\n"
    "spec.loader.exec_module(library)\n"
    "print(json.dumps(library.versions()))\n"
)
_NAMES = {"tensorrt": "TensorRT", "tensorrt-rtx": "TensorRT-RTX"}


@dataclass(frozen=True, slots=True)
class Board:
    """What an engine would run on. tensorrt: the releases that can be imported, by kind; sm: the GPU's compute
    capability; l4t: the release of Jetson Linux, None elsewhere; machine: as `uname -m` says.
    """

    sm: str
    tensorrt: Mapping[str, str] = field(default_factory=dict)
    l4t: str | None = None
    machine: str = ""


def board_for(options: EngineSection, root: Path = Path("/")) -> Board:
    """Return the board, as the process sees it in which `options` have an engine run.

    Raises: AcceleratorError without the GPU, MissingBackendError where that Python has no TensorRT.
    """
    wanted = options.device or "0"
    if not wanted.isdecimal() or len(wanted) > _MOST_DIGITS:
        raise AcceleratorError(f"engine.device '{wanted}' is no CUDA device", "give its number, as in device = '0'")
    sm = gpu_capability(int(wanted))
    if sm is None:
        raise AcceleratorError(
            f"there is no GPU {wanted} for TensorRT ({driver_problem(int(wanted))})",
            "run this where the GPU and its driver are, or use another target of the bundle",
        )
    found = tensorrt_versions(options.python or (sys.executable if options.isolate else None))
    if not found:
        where = f"{options.python} has" if options.python else "this Python has"
        raise MissingBackendError(
            f"{where} no TensorRT",
            "sudo apt install python3-libnvinfer on a Jetson (with JetPack 4 and 5 also python = '/usr/bin/python3')",
        )
    return Board(sm, found, l4t_release(root), platform.machine())


@functools.cache
def tensorrt_versions(python: str | None = None) -> Mapping[str, str]:
    """Return the releases of TensorRT by kind ("tensorrt", "tensorrt-rtx") of an interpreter; None: this process.

    Each is asked once. Raises: ConfigError when the interpreter does not run.
    """
    if python is None:
        return tensorrt_library.versions()
    command = [python, "-c", _ASK, str(tensorrt_library.__file__)]
    env = None if python == sys.executable else foreign_environment()  # as a worker has it
    try:
        run = subprocess.run(command, capture_output=True, text=True, timeout=_ASK_S, check=False, env=env)
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise ConfigError(f"engine.python: {python} does not run ({exc})", "give the path of a Python") from exc
    try:
        return dict(json.loads(run.stdout.strip().splitlines()[-1]))
    except (ValueError, IndexError, TypeError) as exc:
        said = (run.stderr.strip().splitlines() or [f"exit code {run.returncode}"])[-1]
        raise ConfigError(f"engine.python: {python} cannot import TensorRT ({said})", "try it by hand") from exc


def check_needs(target: Target, manifest: Manifest, folder: Path, board: Board) -> None:
    """Check that a target's engine fits the board and is of the ONNX in the bundle.

    Raises: AcceleratorError that names both sides.
    """
    if cause := misfit(target, manifest, folder, board):
        raise AcceleratorError(cause, REBUILD)


def misfit(target: Target, manifest: Manifest, folder: Path, board: Board) -> str:
    """Return why a target's engine does not fit the board or the bundle, "" when it does; what it does not say fits."""
    needs, name = target.needs, target.file
    if not (folder / name).is_file():
        return f"{name} is not in {folder}"
    flavour = needs.get("flavour", "tensorrt")
    here = board.tensorrt.get(flavour)
    if here is None and needs:
        others = " and ".join(f"{_NAMES[kind]} {release}" for kind, release in board.tensorrt.items())
        return f"{name} was built by {_NAMES.get(flavour, flavour)} {needs.get('tensorrt', '')}, here is {others}"
    if not (_same_release(needs.get("tensorrt"), here) and _fits_gpu(needs.get("sm"), board.sm)):
        release, sm = needs.get("tensorrt", "?"), needs.get("sm", "?")
        return (
            f"{name} was built by {_NAMES.get(flavour, flavour)} {release} for sm {sm}; here are {here} and {board.sm}"
        )
    if (machine := needs.get("machine")) and machine != board.machine:
        return f"{name} was built on {machine}, this machine is {board.machine}"
    l4t = needs.get("l4t", "")
    if l4t and flavour == "tensorrt" and l4t.partition(".")[0] != (board.l4t or "").partition(".")[0]:
        here = f"Jetson Linux {board.l4t}" if board.l4t else "no Jetson"
        return f"{name} was built on Jetson Linux {l4t}, here is {here}"
    if (onnx := needs.get("onnx_sha256")) and not _has_onnx(manifest, folder, onnx):
        return f"{name} is older than the ONNX in the bundle"
    return ""


def _same_release(built: str | None, here: str | None) -> bool:
    """`trtexec` tells three numbers, the Python module four: as many as both have must agree."""
    if not built or not here or built == "unknown":
        return True
    return all(a == b for a, b in zip(built.split("."), here.split("."), strict=False))


def _fits_gpu(built: str | None, here: str) -> bool:
    """Built for one capability, for several, or for one and all later ones ("8.0+")."""
    if not built:
        return True
    return any(
        _number(here) >= _number(one[:-1]) if one.endswith("+") else _number(here) == _number(one)
        for one in built.split()
    )


def _number(capability: str) -> tuple[int, ...]:
    return tuple(int(part) for part in capability.split(".") if part.isdigit())


def _has_onnx(manifest: Manifest, folder: Path, sha256: str) -> bool:
    """Whether the ONNX the engine was built from is still the bundle's, or the bundle has none to compare."""
    sources = [target for target in manifest.targets.values() if target.file.lower().endswith(".onnx")]
    hashes = [
        target.sha256 or sha256_of(folder / target.file)
        for target in sources
        if target.sha256 or (folder / target.file).is_file()
    ]
    return not hashes or sha256.lower() in (found.lower() for found in hashes)
