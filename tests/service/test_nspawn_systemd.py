"""A real systemd in a booted root: systemd/test/run.sh, where it is asked for and the machine allows it."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "systemd/test/run.sh"
PHASES = {
    "install until ready",
    "kill -9",
    "hang (SIGSTOP)",
    "engine's process, kill -9",
    "reload",
    "reload of what is wrong",
    "camera silent for 3 s",
    "camera gone for 6 s",
    "camera gone for 40 s",
    "camera gone for 2 min",
    "serial line gone for 5 s",
    "boot: unit started until ready",
}


def reason_to_skip() -> str:
    if os.environ.get("HARRIER_NSPAWN") != "1":
        return "HARRIER_NSPAWN=1 boots a root for some minutes"
    if os.geteuid() != 0:
        return "booting a root needs root"
    missing = [tool for tool in ("mmdebstrap", "systemd-nspawn") if shutil.which(tool) is None]
    return f"{', '.join(missing)} not installed" if missing else ""


def test_the_service_comes_back_under_a_real_systemd(tmp_path):
    if reason := reason_to_skip():
        pytest.skip(reason)
    report = tmp_path / "report.json"
    environment = {**os.environ, "PYTHON": sys.executable, "HARRIER_NSPAWN_REPORT": str(report)}
    result = subprocess.run([SCRIPT], capture_output=True, text=True, timeout=1800, env=environment)
    assert result.returncode == 0, result.stdout + result.stderr
    measured = json.loads(report.read_text())
    assert set(measured) == PHASES
    assert all(0 < seconds < 90 for times in measured.values() for seconds in times)
