"""Start-up time: from starting `harrier run` as a process to reading its first message from a pipe."""

import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from edge.bench.results import Startup
from edge.config import RunConfig
from edge.errors import DeviceError
from edge.toml_text import toml_text

__all__ = ["measure_startup", "time_first_message"]

_DEADLINE_S = 120.0


def measure_startup(config: RunConfig, repeats: int = 5) -> Startup:
    """Return the start-up times of `harrier run` with this configuration, each in a process of its own.

    Only its publishers are replaced, by standard output.
    Raises: DeviceError when one ends without a message, or gives none in two minutes.
    """
    with tempfile.TemporaryDirectory(prefix="harrier-bench-") as folder:
        file = Path(folder) / "run.toml"
        file.write_text(toml_text(_stated(config)), encoding="utf-8")
        command = [sys.executable, "-m", "edge", "-q", "run", str(file), "--publish", "stdout://", "--frames", "1"]
        seconds = [time_first_message(command) for _ in range(repeats)]
    return Startup(seconds=[round(s, 4) for s in seconds], median_s=round(float(np.median(seconds)), 4))


def time_first_message(command: list[str], deadline_s: float = _DEADLINE_S) -> float:
    """Return the seconds from starting `command` to the first line on its standard output that is a result.

    Raises: DeviceError when it ends without one, or gives none within deadline_s.
    """
    t_start = time.monotonic()
    with tempfile.TemporaryFile("w+", errors="replace") as errors:  # a pipe that nobody reads would fill up and block
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True) as child:
            late = threading.Timer(deadline_s, child.kill)
            late.start()
            try:
                assert child.stdout is not None
                for line in child.stdout:
                    elapsed = time.monotonic() - t_start
                    if json.loads(line).get("kind") != "status":
                        return elapsed
            finally:
                late.cancel()
                child.kill()
        errors.seek(0)
        said = errors.read().strip().splitlines()
    waited = time.monotonic() - t_start
    if waited >= deadline_s:
        raise DeviceError(f"harrier run gave no message within {deadline_s:g} s", "try the same by hand")
    raise DeviceError(
        f"harrier run gave no message ({said[-1] if said else 'it said nothing'})", "try the same by hand"
    )


def _stated(config: RunConfig) -> dict[str, Any]:
    """The configuration as tables without what it leaves open: TOML has no null."""
    found = msgspec.to_builtins(config)
    sections = {
        key: {name: item for name, item in value.items() if item is not None} if isinstance(value, dict) else value
        for key, value in found.items()
    }
    return {key: value for key, value in sections.items() if value is not None}
