"""Start-up time: from starting `harrier run` as a process to reading its first message from a pipe."""

import json
import subprocess
import sys
import time

import numpy as np

from edge.bench.results import Startup
from edge.errors import DeviceError

__all__ = ["measure_startup", "time_first_message"]


def measure_startup(arguments: list[str], repeats: int = 5) -> Startup:
    """Return the start-up times of `harrier run` with these arguments, each in a process of its own.

    Raises: DeviceError when one ends without a message.
    """
    command = [sys.executable, "-m", "edge", "-q", "run", *arguments, "--publish", "stdout://", "--frames", "1"]
    seconds = [time_first_message(command) for _ in range(repeats)]
    return Startup(seconds=[round(s, 4) for s in seconds], median_s=round(float(np.median(seconds)), 4))


def time_first_message(command: list[str]) -> float:
    """Return the seconds from starting `command` to the first line on its standard output that is a result.

    Raises: DeviceError when it ends without one.
    """
    t_start = time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        try:
            for line in child.stdout:
                elapsed = time.monotonic() - t_start
                if json.loads(line).get("kind") != "status":
                    return elapsed
            said = child.stderr.read().strip().splitlines()
        finally:
            child.kill()
    raise DeviceError(
        f"harrier run gave no message ({said[-1] if said else 'it said nothing'})", "try the same by hand"
    )
