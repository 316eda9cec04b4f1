"""What TensorRT says while it builds: kept, not printed, and what its parser stumbled over."""

import functools
import re
from typing import Any

from edge.engines.tensorrt_words import first_error

__all__ = ["logger_of", "parser_error"]

_MOST_LINES = 500
_NODE = re.compile(r'parsing node number \d+ \[(\w+)(?: -> "([^"]*)")?')


@functools.cache
def logger_of(trt: Any) -> Any:
    """Return the one logger for a TensorRT module: the library holds on to the first it is given.

    Its `errors` and `warnings` are lists of str, to be cleared before a build.
    """

    class Collector(trt.ILogger):
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []
            self.warnings: list[str] = []

        def log(self, severity: Any, msg: str) -> None:
            level = int(severity)
            kept = self.errors if level < 2 else self.warnings
            if level <= 2 and len(kept) < _MOST_LINES:
                kept.append(msg)

    return Collector()


def parser_error(parser: Any, lines: list[str]) -> tuple[str, str, str]:
    """Return what the ONNX parser stumbled over: the operator and the node's name ("" if none), and why."""
    operator = name = ""
    if hit := next((found for line in lines if (found := _NODE.search(line))), None):
        operator, name = hit[1], hit[2] or ""
    if not parser.num_errors:
        return operator, name, first_error(lines)
    error = parser.get_error(0)
    if hasattr(error, "node_operator"):
        operator, name = error.node_operator() or operator, error.node_name() or name
    return operator, name, first_error([error.desc()])
