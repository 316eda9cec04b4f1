"""A real systemd in a booted root: systemd/test/run.sh, where it is asked for and the machine allows it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "systemd/test/run.sh"
NOT_POSSIBLE = 77
ALWAYS = {
    "install until ready",
    "kill -9",
    "hang (SIGSTOP)",
    "engine's process, kill -9",
    "reload",
    "reload of what is wrong",
    "reload that opens the parts anew",
    "camera silent for 3 s",
    "camera gone for 6 s",
    "serial line gone for 5 s",
    "boot: unit started until ready",
}
LONG = {"camera gone for 40 s", "camera gone for 2 min"}


def run_script(**environment: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHON": sys.executable, **environment}
    return subprocess.run([SCRIPT], capture_output=True, text=True, timeout=1800, env=environment)


def test_the_service_comes_back_under_a_real_systemd(tmp_path):
    asked = os.environ.get("HARRIER_NSPAWN", "")
    if asked not in ("quick", "full"):
        pytest.skip("boots a root: HARRIER_NSPAWN=quick (three minutes, run by .ci/run) or full (seven)")
    report = tmp_path / "report.json"
    quick = {"HARRIER_NSPAWN_QUICK": "1"} if asked == "quick" else {}
    result = run_script(HARRIER_NSPAWN_REPORT=str(report), **quick)
    if result.returncode == NOT_POSSIBLE:
        pytest.skip(result.stderr.strip().splitlines()[-1])
    assert result.returncode == 0, result.stdout + result.stderr
    print(result.stdout)
    measured = json.loads(report.read_text())
    assert set(measured) == ALWAYS | (set() if quick else LONG)
    assert all(0 < seconds < 90 for times in measured.values() for seconds in times)


def test_a_machine_that_lacks_what_it_takes_is_told_so(tmp_path):
    """With nothing but the shell's own tools on the PATH."""
    for tool in ("bash", "dirname", "id", "env"):
        (tmp_path / tool).symlink_to(f"/usr/bin/{tool}")
    result = run_script(PATH=str(tmp_path))
    assert result.returncode == NOT_POSSIBLE, result.stderr
    wanted = "no mmdebstrap: apt-get install" if os.geteuid() == 0 else "it needs root: sudo"
    assert f"run.sh: not possible here: {wanted}" in result.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="the script looks for root first")
@pytest.mark.parametrize(
    ("building", "starting", "told"),
    [
        (
            "echo I: fetching >&2; echo E: cannot fetch InRelease >&2; exit 1",
            "",
            "could be built (E: cannot fetch InRelease)",
        ),
        ("exit 124", "", "could be built (it said nothing, or took too long)"),
        ('tar -cf "$partial" -T /dev/null', "echo Operation not permitted; exit 1", "starts nothing (Operation not"),
    ],
)
def test_a_machine_where_it_is_not_possible_is_told_why(tmp_path, building, starting, told):
    """With stand-ins for the two tools that need what a machine may not give."""
    folder = tmp_path / "bin"
    folder.mkdir()
    mmdebstrap = f"for partial; do :; done; {building}"
    for name, text in {"mmdebstrap": mmdebstrap, "systemd-nspawn": starting}.items():
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755)
    path = f"{folder}{os.pathsep}{os.environ['PATH']}"
    result = run_script(PATH=path, HARRIER_NSPAWN_CACHE=str(tmp_path / "cache"))
    assert result.returncode == NOT_POSSIBLE, result.stderr
    assert result.stderr.splitlines()[-1].startswith("run.sh: not possible here: ")
    assert told in result.stderr
