"""From an engine file to an engine. Portable: Python 3.6."""

import json
import os
from collections import namedtuple

from .portable import RunnerError
from .tensorrt_library import find_libraries, logger_of
from .tensorrt_words import FOREIGN, RTX_MAGIC, explained

__all__ = ["Loaded", "Plan", "load_plan", "read_plan"]

_NAMES = {"tensorrt": "TensorRT", "tensorrt-rtx": "TensorRT-RTX"}
_MAX_METADATA_BYTES = 1 << 20

Plan = namedtuple("Plan", ("name", "data", "embedded"))
Plan.__doc__ = (
    """An engine file: its name, the plan (a memoryview) and what Ultralytics' exporter wrote before it, {}."""
)

Loaded = namedtuple("Loaded", ("name", "library", "trt", "logger", "runtime", "engine"))
Loaded.__doc__ = """An engine and what must live as long as it. library: "TensorRT 10.3.0"; trt: its module."""


def read_plan(path):
    """Return an engine file. Ultralytics' metadata is its length as int32, little-endian, then JSON, then the plan.

    Raises: RunnerError when it cannot be read.
    """
    name = os.path.basename(path)
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as exc:
        raise RunnerError(f"cannot read {path} ({exc.strerror})", "check the path") from exc
    length = int.from_bytes(data[:4], "little")
    if 2 <= length <= _MAX_METADATA_BYTES and data[4:5] == b"{":
        try:
            said = json.loads(data[4 : 4 + length].decode("utf-8"))
        except ValueError:
            return Plan(name, memoryview(data), {})
        texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in said.items()}
        return Plan(name, memoryview(data)[4 + length :], texts)
    return Plan(name, memoryview(data), {})


def load_plan(plan):
    """Return the engine, by the library that takes it: that of RTX first where the plan begins as RTX's do.

    Raises: RunnerError, that of the likelier library where none takes it.
    """
    libraries, reasons = find_libraries()
    if not libraries:
        why = f" ({'; '.join(reasons)})" if reasons else ""
        cure = "sudo apt install python3-libnvinfer on a Jetson, else NVIDIA's wheel (docs/tensorrt.md)"
        raise RunnerError(f"TensorRT cannot be imported by this Python{why}", cure, "missing")
    head, failures = bytes(plan.data[:4]), []
    for flavour in sorted(libraries, key=lambda flavour: ("rtx" in flavour) != (head == RTX_MAGIC)):
        trt = libraries[flavour]
        library, logger = f"{_NAMES[flavour]} {trt.__version__}", logger_of(trt)
        logger.errors.clear()
        logger.warnings.clear()
        engine, said = None, []
        try:
            if hasattr(trt, "init_libnvinfer_plugins"):
                trt.init_libnvinfer_plugins(logger, "")
            runtime = trt.Runtime(logger)
            engine = runtime.deserialize_cuda_engine(plan.data)
        except FOREIGN as exc:
            said = [str(exc)]
        if engine is not None:
            return Loaded(plan.name, library, trt, logger, runtime, engine)
        failures.append(explained(plan.name, library, list(logger.errors) + said, head))
    raise failures[0]
