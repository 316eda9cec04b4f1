"""What edgetpu_compiler prints, taken apart: operators by status, on-chip memory, and what its errors mean."""

import re
from dataclasses import asdict, dataclass
from typing import Any

from convert.edgetpu.rules import Limit

__all__ = ["CompilerLog", "LoggedOp", "log_text", "parse_log"]

MAPPED = "Mapped to Edge TPU"
_UNITS = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_ROW = re.compile(r"^([A-Z][A-Z0-9_]*)[ \t]+(\d{1,9})[ \t]+(\S.*?)[ \t]*$", re.MULTILINE)
_VERSION = re.compile(r"Edge TPU Compiler version (\S{1,40})")
_PARTS = re.compile(r"Number of Edge TPU subgraphs: (\d{1,9})")

_STATUS_MEANS = {
    "More than one subgraph is not supported": "it comes after an operator that stays on the CPU: cure that one",
    "Operation is otherwise supported, but not mapped due to some unspecified limitation": (
        "its sizes or types are beyond the hardware; float32 inputs are a common case: use int8-io or uint8-io"
    ),
    "Operation is working on an unsupported data type": "it is not int8 or uint8: quantize it",
    "Operation not supported": "not an operator of the Edge TPU: replace it",
    "Operation version not supported": "too new: convert the model again with harrier convert",
    "Tensor has unsupported rank (up to 3 innermost dimensions mapped)": "avoid batches and 5-D tensors",
}

_ERRORS = (
    (r"Model not quantized", "the model is not quantized", "quantize it with --precision int8-io"),
    (
        r"dynamic-sized tensors",
        "the model has tensors without a fixed size",
        "export it with a fixed batch and image size",
    ),
    (
        r"Didn't find op for builtin opcode '(\w{1,60})' version '(\d{1,9})'",
        "operator {0} has version {1}, which the compiler does not know",
        "convert the model again with harrier convert, which writes old versions",
    ),
    (
        r"'tfl\.(\w{1,60})' op is not supported on DarwiNN",
        "operator {0} has a form that the Edge TPU has not",
        "see the placement report for its cure",
    ),
    (
        r"large activation tensors",
        "the activations do not fit the Edge TPU's memory",
        "use a smaller input size",
    ),
    (r"nresolved custom op", "the model has a custom operator", "export it with built-in operators only"),
    (r"Model could not be parsed", "the compiler cannot read the model", "convert it again with harrier convert"),
    (
        r"Model failed in Tflite interpreter",
        "the compiler cannot run the model",
        "check the model with harrier inspect and convert it again",
    ),
    (
        r"Internal compiler error",
        "the compiler failed inside",
        "use a smaller input size, or leave the last operators out of the model",
    ),
)


@dataclass(frozen=True, slots=True)
class LoggedOp:
    """One row of the compiler's table."""

    name: str
    count: int
    status: str

    @property
    def mapped(self) -> bool:
        """Whether these operators run on the Edge TPU."""
        return self.status == MAPPED


@dataclass(frozen=True, slots=True)
class CompilerLog:
    """The compiler's output. Sizes are in bytes, None where the log does not say. error: what its message means."""

    version: str
    ops: tuple[LoggedOp, ...]
    part_count: int | None
    on_chip_used_bytes: int | None
    on_chip_remaining_bytes: int | None
    off_chip_bytes: int | None
    error: Limit | None

    @property
    def mapped_count(self) -> int:
        """How many operators run on the Edge TPU."""
        return sum(op.count for op in self.ops if op.mapped)

    @property
    def unmapped_count(self) -> int:
        """How many operators stay on the CPU."""
        return sum(op.count for op in self.ops if not op.mapped)

    @property
    def facts(self) -> dict[str, Any]:
        """The log, ready for JSON."""
        error = self.error._asdict() if self.error else None
        counts = {"mapped": self.mapped_count, "unmapped": self.unmapped_count}
        return {**asdict(self), "ops": [asdict(op) for op in self.ops], "error": error, **counts}


def parse_log(text: str) -> CompilerLog:
    """Return what the compiler's output says; nothing is taken for granted, it may be any text."""
    version, parts = _VERSION.search(text), _PARTS.search(text)
    return CompilerLog(
        version=version[1] if version else "",
        ops=tuple(LoggedOp(row[1], int(row[2]), row[3]) for row in _ROW.finditer(text)),
        part_count=int(parts[1]) if parts else None,
        on_chip_used_bytes=_size(text, "On-chip memory used for caching model parameters"),
        on_chip_remaining_bytes=_size(text, "On-chip memory remaining for caching model parameters"),
        off_chip_bytes=_size(text, "Off-chip memory used for streaming uncached model parameters"),
        error=_error(text),
    )


def log_text(log: CompilerLog) -> str:
    """Return the log as a few lines for a terminal."""
    lines = [
        f"edgetpu_compiler {log.version or '(unknown version)'}: {log.mapped_count} operators on the Edge TPU,"
        f" {log.unmapped_count} on the CPU"
    ]
    if log.on_chip_used_bytes is not None:
        lines.append(f"parameters on the chip: {log.on_chip_used_bytes / 1e6:.2f} MB")
    if log.off_chip_bytes:
        lines.append(f"parameters streamed at each run: {log.off_chip_bytes / 1e6:.2f} MB")
    for op in log.ops:
        if not op.mapped:
            lines += [f"- {op.count} {op.name}: {op.status}", *_meaning(op.status)]
    return "\n".join(lines) + "\n"


def _meaning(status: str) -> list[str]:
    return [f"  {_STATUS_MEANS[status]}"] if status in _STATUS_MEANS else []


def _size(text: str, label: str) -> int | None:
    found = re.search(re.escape(label) + r": (\d{1,12}(?:\.\d{1,6})?)(B|KiB|MiB|GiB)\b", text)
    return round(float(found[1]) * _UNITS[found[2]]) if found else None


def _error(text: str) -> Limit | None:
    for pattern, cause, cure in _ERRORS:
        if found := re.search(pattern, text):
            return Limit(cause.format(*(group.upper() for group in found.groups())), cure)
    return None
