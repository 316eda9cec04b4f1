"""Resident memory of `harrier run` with the face model over 10,000 frames, seen from outside."""

import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from edge import catalogue

FRAMES = 10_000
TARGET_MB = 130
FLAT_MB = 2.0  # growth over the second half that page-sized noise can explain


def measure() -> bool:
    """Run the command as a user would, sample its RSS, and return whether it kept the targets."""
    catalogue.pull("face")
    command = [sys.executable, "-m", "edge", "run", "--model", "face", "--frames", str(FRAMES)]
    command += ["--source", "synthetic://?size=1280x720&fps=0", "--publish", "tcp://127.0.0.1:0"]
    child = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    samples = []
    while child.poll() is None:
        samples.append(_rss_mb(child.pid))
        time.sleep(0.1)
    series = np.array([sample for sample in samples if sample])
    half = series[len(series) // 2 :]
    growth = float(np.median(half[-len(half) // 4 :]) - np.median(half[: len(half) // 4]))
    flat = abs(growth) < FLAT_MB
    print(f"\nharrier run, face, {FRAMES} frames of 1280x720 (exit {child.returncode}), {len(series)} samples")
    print(f"RSS at the end {series[-1]:.1f} MB, highest {series.max():.1f} MB, target {TARGET_MB} MB")
    print(f"growth over the second half {growth:+.2f} MB: {'flat' if flat else 'NOT FLAT'}")
    return child.returncode == 0 and series.max() < TARGET_MB and flat


def _rss_mb(pid: int) -> float:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    return int(fields.get("VmRSS", "0 kB").split()[0]) * 1024 / 1e6
