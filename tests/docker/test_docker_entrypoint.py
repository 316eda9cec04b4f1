"""What the Jetson images say of the host they find themselves on."""

import os
import shutil
import subprocess
import sys

import pytest
from docker_files import DOCKERFILES, FOLDER, arguments, script

from edge.board import l4t_release

entrypoint = script("entrypoint")

ORIN = (
    "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64, DATE: Wed Jan  8 01:49:37 UTC 2025"
)
NANO = (
    "# R32 (release), REVISION: 7.1, GCID: 29818004, BOARD: t210ref, EABI: aarch64, DATE: Sat Feb 19 17:05:08 UTC 2022"
)


def found(text: str, tmp_path, kernel: str = "6.1.0-debian", **environ: str) -> str:
    release = tmp_path / "nv_tegra_release"
    release.write_text(text)
    return entrypoint.host_l4t(environ, release, kernel)


def test_the_release_is_read_from_the_mounted_file(tmp_path):
    assert found(ORIN, tmp_path) == "36.4.3"
    assert found(NANO, tmp_path) == "32.7.1"


def test_it_reads_as_the_package_does(tmp_path):
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/nv_tegra_release").write_text(ORIN)
    assert l4t_release(tmp_path) == found(ORIN, tmp_path)


def test_what_one_says_goes_first(tmp_path):
    assert found(ORIN, tmp_path, HARRIER_HOST_L4T="r35.4.1") == "35.4.1"


@pytest.mark.parametrize(
    ("kernel", "said"),
    [
        ("4.9.253-tegra", "32"),
        ("5.10.120-tegra", "35"),
        ("5.15.148-tegra", "36"),
        ("6.8.12-tegra", "38 or 39"),
        ("7.9.1-tegra", "unknown, kernel 7.9.1-tegra"),
        ("6.12.0-amd64", ""),
    ],
)
def test_without_the_file_the_kernel_tells(kernel, said, tmp_path):
    assert entrypoint.host_l4t({}, tmp_path / "none", kernel) == said


def test_an_empty_file_tells_nothing(tmp_path):
    assert found("", tmp_path, kernel="5.15.148-tegra") == "36"


def limits(jetpack: int) -> tuple[str, str]:
    own = arguments(FOLDER / f"Dockerfile.jetpack{jetpack}")
    return own["L4T_FROM"], own["L4T_BEFORE"]


@pytest.mark.parametrize(
    ("host", "jetpack"),
    [
        *(("32.7.1", 4), ("32.7.6", 4), ("32", 4)),
        *(("35.2.1", 5), ("35.4.1", 5), ("35.6.0", 5)),
        *(("36.4.0", 6), ("36.4.3", 6), ("36.5", 6), ("36", 6)),
        *(("38.2.0", 7), ("38 or 39", 7)),
    ],
)
def test_each_release_has_one_image(host, jetpack):
    fitting = [n for n in (4, 5, 6, 7) if not entrypoint.why_not(host, *limits(n))]
    assert fitting == [jetpack]


@pytest.mark.parametrize(
    ("host", "jetpack", "cure"),
    [
        ("", 6, "docker/Dockerfile"),
        ("35.4.1", 6, "docker/Dockerfile.jetpack5"),
        ("36.4.3", 5, "docker/Dockerfile.jetpack6"),
        ("38 or 39", 6, "docker/Dockerfile.jetpack7"),
        ("36.3.0", 6, "--build-arg BASE=..."),
        ("39.1", 7, "docker/Dockerfile.jetpack7"),
        ("28.2.1", 4, "there is no image for that"),
        ("unknown, kernel 7.9.1-tegra", 7, "there is no image for that"),
    ],
)
def test_the_reason_names_both_sides_and_the_cure(host, jetpack, cure):
    reason = entrypoint.why_not(host, *limits(jetpack))
    assert reason.startswith(f"this image is for JetPack {jetpack} (L4T {limits(jetpack)[0]} and later")
    assert host in reason or "this host is no Jetson" in reason
    assert cure in reason
    assert "\n" not in reason


def test_l4t_36_3_has_an_image_of_its_own():
    assert not entrypoint.why_not("36.3.0", "36.2", "36.4")
    assert "36.4.0" in entrypoint.why_not("36.4.0", "36.2", "36.4")


def test_a_container_without_the_driver_says_how_to_start_it():
    def load(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    assert "--runtime nvidia" in entrypoint.what_is_missing("36.4", load)


def test_jetpack_4_needs_the_hosts_tensorrt(tmp_path, monkeypatch):
    monkeypatch.setitem(entrypoint._TENSORRT, "32", str(tmp_path))
    assert "python3-libnvinfer" in entrypoint.what_is_missing("32.7", lambda name: None)
    (tmp_path / "tensorrt").mkdir()
    (tmp_path / "tensorrt/__init__.py").write_text("")
    assert entrypoint.what_is_missing("32.7", lambda name: None) == ""
    assert entrypoint.what_is_missing("35.2", lambda name: None) == ""


def start(tmp_path, **environ: str) -> subprocess.CompletedProcess:
    """Run the program itself, with a tini that prints what it shall start."""
    tini = tmp_path / "tini"
    tini.write_text('#!/bin/sh\necho "$@"\n')
    tini.chmod(0o755)
    given = {
        "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}",
        "HARRIER_L4T_FROM": "36.4",
        "HARRIER_L4T_BEFORE": "37",
    }
    command = [sys.executable, "-IS", str(FOLDER / "entrypoint.py"), "run", "robot.toml"]
    return subprocess.run(command, env={**given, **environ}, capture_output=True, text=True, timeout=30)


def test_the_program_refuses_in_one_line(tmp_path):
    done = start(tmp_path, HARRIER_HOST_L4T="35.4.1")
    assert done.returncode == 4
    assert done.stderr.count("\n") == 1
    assert "use the image of docker/Dockerfile.jetpack5" in done.stderr
    assert not done.stdout


def test_the_program_becomes_harrier_on_the_right_host(tmp_path):
    compiler = shutil.which("cc")
    if not compiler:
        pytest.skip("cc is not installed: no stand-in for libcuda.so.1")
    library = tmp_path / "libcuda.so.1"
    command = [compiler, "-shared", "-x", "c", "-o", str(library), "-"]
    subprocess.run(command, input="int cuInit;", text=True, check=True, timeout=60)
    done = start(tmp_path, HARRIER_HOST_L4T="36.4.3", LD_LIBRARY_PATH=str(tmp_path))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == ["--", "/opt/harrier/bin/harrier", "run", "robot.toml"]


@pytest.fixture
def becomes(monkeypatch) -> list[list[str]]:
    """What main() becomes in an image for JetPack 6 on its own host, whose driver is there."""
    started: list[list[str]] = []
    monkeypatch.setenv("HARRIER_L4T_FROM", "36.4")
    monkeypatch.setenv("HARRIER_L4T_BEFORE", "37")
    monkeypatch.setenv("HARRIER_HOST_L4T", "36.4.3")
    monkeypatch.setattr(sys, "argv", ["entrypoint.py", "run", "robot.toml"])
    monkeypatch.setattr(entrypoint.ctypes, "CDLL", lambda name: None)
    monkeypatch.setattr(entrypoint.os, "execvp", lambda file, words: started.append([file, *words]) or 0)
    return started


def test_main_becomes_harrier_where_nothing_is_missing(becomes, capsys):
    assert entrypoint.main() == 0
    assert becomes == [["tini", "tini", "--", "/opt/harrier/bin/harrier", "run", "robot.toml"]]
    assert capsys.readouterr().err == ""


def test_main_refuses_on_the_right_host_without_the_driver(becomes, monkeypatch, capsys):
    def load(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(entrypoint.ctypes, "CDLL", load)
    assert entrypoint.main() == 4
    assert becomes == []
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert told.startswith("harrier: the GPU's driver is not in this container (libcuda.so.1: cannot open")
    assert "--runtime nvidia" in told


def test_main_refuses_on_jetpack_4_without_the_hosts_tensorrt(becomes, monkeypatch, tmp_path, capsys):
    for key, release in (("L4T_FROM", "32.7"), ("L4T_BEFORE", "33"), ("HOST_L4T", "32.7.1")):
        monkeypatch.setenv(f"HARRIER_{key}", release)
    monkeypatch.setitem(entrypoint._TENSORRT, "32", str(tmp_path))
    assert entrypoint.main() == 4
    assert becomes == []
    assert "python3-libnvinfer" in capsys.readouterr().err


def test_every_jetson_image_has_it():
    assert all("docker/entrypoint.py" in path.read_text() for path in DOCKERFILES if "jetpack" in path.name)
