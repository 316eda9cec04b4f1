"""Finding the TensorRT that is installed: JetPack's, a desktop's, or the wheels of TensorRT-RTX."""

import importlib
from pathlib import Path
from typing import Any

from edge.board import l4t_release, trtexec
from edge.errors import MissingBackendError

__all__ = ["find_builder", "find_tensorrt"]

# the wheels of TensorRT-RTX: the first holds the libraries, which importing it loads
_CANDIDATES = (("tensorrt",), ("tensorrt_rtx",), ("tensorrt_rtx_libs", "tensorrt_rtx_bindings"))


def find_tensorrt(root: Path = Path("/")) -> Any:
    """Return the Python module of TensorRT; `root` is where the machine's own files are looked for.

    Raises: MissingBackendError that says what to install on this kind of machine.
    """
    reasons = []
    for names in _CANDIDATES:
        try:
            module = [importlib.import_module(name) for name in names][-1]
        except ModuleNotFoundError as exc:
            if exc.name not in names:
                reasons.append(f"{names[-1]} needs {exc.name}")
            continue
        except (ImportError, OSError) as exc:  # the bindings are there, the libraries are not
            if isinstance(exc.__cause__, KeyboardInterrupt):  # which pybind wraps
                raise KeyboardInterrupt from exc
            reasons.append(f"{names[-1]}: {exc}")
            continue
        if hasattr(module, "Builder"):
            return module
        reasons.append(f"{names[-1]} has no builder: it is a runtime only")
    why = f" ({'; '.join(reasons)})" if reasons else ""
    raise MissingBackendError(f"no TensorRT can be imported{why}", _cure(root))


def find_builder(python_only: bool = False, root: Path = Path("/")) -> Any:
    """Return TensorRT's Python module, or the path of JetPack's `trtexec` where the module cannot be imported.

    Raises: MissingBackendError when there is neither, or `python_only` and no module.
    """
    try:
        return find_tensorrt(root)
    except MissingBackendError:
        tool = trtexec(root)
        if python_only or tool is None:
            raise
        return tool


def _cure(root: Path) -> str:
    if l4t_release(root):
        return (
            "on JetPack 6: sudo apt install python3-libnvinfer, then a venv made with --system-site-packages; "
            "on JetPack 4 and 5 its Python is too old: sudo apt install tensorrt, whose trtexec is used instead"
        )
    return (
        "pip install 'harrier-edge[tensorrt-rtx]' builds for named GPUs, on the CPU too; "
        "for other engines install NVIDIA's TensorRT with its Python wheel"
    )
