"""The machine's own files and tools; what is not there, or does not answer, is None."""

import math
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

__all__ = ["Tool", "number_in", "run_tool", "text_in"]

_TOOL_TIMEOUT_S = 3.0

Tool = Callable[[list[str]], str | None]


def run_tool(command: list[str]) -> str | None:
    """Return what a program prints, or None when it is not installed, fails or takes over three seconds."""
    if shutil.which(command[0]) is None:
        return None
    try:
        done = subprocess.run(command, capture_output=True, timeout=_TOOL_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode(errors="replace").strip() if done.returncode == 0 else None


def number_in(path: Path) -> float | None:
    """Return the number a file holds."""
    try:
        value = float(path.read_text())
    except (OSError, ValueError):
        return None
    return value if math.isfinite(value) else None


def text_in(path: Path) -> str | None:
    """Return the text of a file without NULs and white space around it; None for an empty one, too."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip("\0 \n") or None
    except OSError:
        return None
