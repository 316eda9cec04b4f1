"""The start of a worker's process: which engine it shall load, which tensors that has, and where they lie."""

import json
import sys
from pathlib import Path
from typing import Any

import msgspec

from edge import errors
from edge.clock import monotonic_ns
from edge.config import EngineSection
from edge.engines.adapted import edge_error_of
from edge.engines.portable import RunnerError
from edge.engines.worker_child import AREAS, FAILED, READY, SETUP, TENSORS
from edge.engines.worker_memory import TensorMemory
from edge.engines.worker_process import WorkerProcess, python_version
from edge.errors import ConfigError, EdgeError, EngineError, EngineLostError

__all__ = ["begin", "error_of"]

_OLDEST_PYTHON = 3, 6
_CURE = "see docs/workers.md"


def begin(process: WorkerProcess, memory: TensorMemory, file: Path, options: EngineSection) -> dict[str, Any]:
    """Have a new process load the engine and run it once; returns the tensors it told: inputs, outputs, embedded.

    The first process decides how the memory is cut; a later one must have the same tensors.
    Raises: what the engine raises; EngineLostError where the process dies, takes too long or has other tensors than
    before; ConfigError where the interpreter does not work.
    """
    until_ns = monotonic_ns() + int(options.start_s * 1e9)
    plain = msgspec.to_builtins(msgspec.structs.replace(options, isolate=False, python=None))
    path = sys.path if options.python is None else None
    try:
        process.tell(SETUP, {"file": str(file), "options": plain, "path": path})
        said = _hear(process, TENSORS, until_ns)
        if not memory.areas:
            memory.lay_out(said["inputs"], said["outputs"], said["moving"])
        elif not memory.fits(said["inputs"], said["outputs"], said["moving"]):
            raise EngineLostError(f"{file.name} has other tensors than before", "put the file back, or start anew")
        process.tell(AREAS, memory.areas)
        _hear(process, READY, until_ns)
        process.has_started()
    except TimeoutError as exc:
        cause = f"the process of {file.name} did not start within {options.start_s:g} s"
        raise EngineLostError(cause, "raise start_s") from exc
    except EOFError as exc:
        raise _died(process, file, options.python) from exc
    return said


def error_of(said: dict[str, Any]) -> EdgeError:
    """Return the error of this house that the other side means."""
    if said["kind"]:
        return edge_error_of(RunnerError(said["cause"], said["cure"], said["kind"]))
    kind = getattr(errors, said["type"], None)
    if isinstance(kind, type) and issubclass(kind, EdgeError):
        return kind(said["cause"], said["cure"])
    return EngineError(f"the engine cannot be used: {said['cause']}", _CURE)


def _hear(process: WorkerProcess, wanted: int, until_ns: int) -> Any:
    what, _, body = process.hear(until_ns)
    said: Any = json.loads(body) if body else None
    if what == FAILED:
        raise error_of(said)
    if what != wanted:
        raise EngineLostError(f"a worker said {what} where it should say {wanted}", "install one version of Harrier")
    return said


def _died(process: WorkerProcess, file: Path, python: str | None) -> EdgeError:
    process.kill()
    process.reap(1.0)
    if python is not None:
        version = python_version(python)
        if version is None:
            return ConfigError(f"{python} is no Python interpreter", "give one, such as /usr/bin/python3")
        if version < _OLDEST_PYTHON:
            return ConfigError(f"{python} is Python {version[0]}.{version[1]}", "give one of Python 3.6 or later")
    return EngineLostError(f"the process of {file.name}, while starting, {process.fate()}", _CURE)
