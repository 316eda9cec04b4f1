"""What TensorRT says while it works: kept, not printed, and the one line of it that tells what went wrong."""

import functools
import re
from collections.abc import Iterable
from typing import Any

__all__ = ["first_error", "logger_of", "parser_error"]

_MOST_LINES = 500
# every release brackets its messages with where in its own source they arose
_SOURCE = re.compile(
    r"^\[?[\w./]+\.(?:cpp|h|cu)[^\s\]]*\]?:?\s+|^(?:ERROR: |\[\d+\] |\d+: )|^\w+::\w+: |^In function \w+:\s*"
)
_SOURCE_TAIL = re.compile(r"\.?\s*\bIn \S+ at /\S+?:\d+")
_NO_NEWS = re.compile(r"While parsing node|--- (?:Begin|End) node|^\s*$|^Error Code \d+: $")
_NO_DRIVER = re.compile(r"cudaError 35|CUDA driver version is insufficient|CUDA initialization failure")
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


def first_error(lines: Iterable[str]) -> str:
    """Return the first line that says what is wrong, in one line; a missing driver only where nothing else is said."""
    texts = [text for line in lines if (text := _plain(line)) and not _NO_NEWS.search(text)]
    telling = [text for text in texts if not _NO_DRIVER.search(text)]
    return (telling or texts or ["TensorRT gives no reason"])[0][:300]


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


def _plain(line: str) -> str:
    text = " ".join(line.split())
    previous = None
    while text != previous:
        previous, text = text, _SOURCE_TAIL.sub("", _SOURCE.sub("", text))
    return text
