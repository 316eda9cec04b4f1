"""./run: it never deletes what is not its own, and says what is missing."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from slow import SLOW

ROOT = Path(__file__).resolve().parents[1]


def run_script(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        ["sh", str(ROOT / "run"), *arguments],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )


@pytest.fixture
def broken_python(tmp_path: Path) -> Path:
    """A Python that is recent enough and cannot make a virtual environment, like Debian's without python3-venv."""
    path = tmp_path / "python"
    path.write_text('#!/bin/sh\n[ "$1" = -m ] && { echo "ensurepip is not available"; exit 1; }\nexit 0\n')
    path.chmod(0o755)
    return path


def test_a_folder_that_is_no_venv_is_left_alone(tmp_path, broken_python):
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis.txt").write_text("years of work")
    result = run_script("lint", cwd=tmp_path, HARRIER_VENV=str(precious), PYTHON=str(broken_python))
    assert result.returncode == 1
    assert "no virtual environment" in result.stderr
    assert (precious / "thesis.txt").exists()


def test_a_missing_venv_module_is_named(tmp_path, broken_python):
    result = run_script("lint", cwd=tmp_path, HARRIER_VENV=str(tmp_path / "new"), PYTHON=str(broken_python))
    assert result.returncode == 1
    assert "apt install python3-venv" in result.stderr
    assert not (tmp_path / "new").exists()


def test_an_old_python_is_refused(tmp_path):
    result = run_script("lint", cwd=tmp_path, HARRIER_VENV=str(tmp_path / "new"), PYTHON="false")
    assert result.returncode == 1
    assert "no Python 3.10 to 3.13" in result.stderr


def test_what_unit_leaves_out_is_there(request):
    missing = [name for name in SLOW if not (ROOT / "tests" / name).exists()]
    assert not missing
    if request.config.getoption("--unit"):
        collected = {item.path.relative_to(ROOT / "tests").as_posix() for item in request.session.items}
        assert not [name for name in collected if name.startswith(SLOW)]


@pytest.mark.parametrize("arguments", [[], ["dance"]])
def test_usage(tmp_path, arguments):
    result = run_script(*arguments, cwd=tmp_path)
    assert result.returncode == 2
    assert "usage: ./run demo" in result.stderr


@pytest.mark.skipif(not shutil.which("dash"), reason="dash is not installed")
def test_it_is_posix_shell():
    assert subprocess.run(["dash", "-n", str(ROOT / "run")]).returncode == 0
