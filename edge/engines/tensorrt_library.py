"""The TensorRT libraries that can be imported. Portable: Python 3.6; this file can be loaded alone, by its path.

An engine's `needs` call the two kinds "tensorrt" (the full library, of JetPack or a desktop) and "tensorrt-rtx".
"""

import collections
import functools
import importlib

__all__ = ["find_libraries", "logger_of", "versions"]

# the wheels of TensorRT-RTX: the first holds the libraries, which importing it loads
_CANDIDATES = (
    ("tensorrt", ("tensorrt",)),
    ("tensorrt-rtx", ("tensorrt_rtx",)),
    ("tensorrt-rtx", ("tensorrt_rtx_libs", "tensorrt_rtx_bindings")),
)
_MOST_LINES = 100


def find_libraries():
    """Return the module of each kind that is there, by its kind, and why others that are there do not work."""
    found, reasons = {}, []
    for flavour, names in _CANDIDATES:
        if flavour in found:
            continue
        try:
            module = [importlib.import_module(name) for name in names][-1]
        except ImportError as exc:
            if getattr(exc, "name", None) not in names or not isinstance(exc, ModuleNotFoundError):
                reasons.append(f"{names[-1]}: {exc}")
            continue
        except OSError as exc:  # the bindings are there, the libraries are not
            reasons.append(f"{names[-1]}: {exc}")
            continue
        if hasattr(module, "Runtime"):  # else a folder of that name
            found[flavour] = module
    return found, reasons


def versions():
    """Return the release of each kind of TensorRT that can be imported here, by its kind."""
    return {flavour: module.__version__ for flavour, module in find_libraries()[0].items()}


@functools.lru_cache(maxsize=None)  # noqa: UP033
def logger_of(trt):
    """Return the one logger for a TensorRT module: the library holds on to the first it is given.

    Its `errors` and `warnings` are the last lines said, str each; clear them before a step whose words matter.
    """

    class Collector(trt.ILogger):
        def __init__(self):
            trt.ILogger.__init__(self)
            self.errors = collections.deque(maxlen=_MOST_LINES)
            self.warnings = collections.deque(maxlen=_MOST_LINES)

        def log(self, severity, msg):
            level = int(severity)
            if level <= 2:
                (self.errors if level < 2 else self.warnings).append(msg)

    return Collector()
