"""The files under systemd/: what systemd itself says of them, and that an installation has them."""

import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from edge.service.units import PROFILES, instance_text, shared_files, unit_files

ROOT = Path(__file__).resolve().parents[2]
SYSTEMD = ROOT / "systemd"
LIMITS = {"cpu": 1.5, "coral": 1.5, "jetson": 1.7, "cuda": 1.7}
SHIPPED = sorted(
    path.relative_to(SYSTEMD).as_posix()
    for pattern in ("*.service", "drop-ins/*.conf", "udev/*.rules")
    for path in SYSTEMD.glob(pattern)
)

analyze = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")


@pytest.fixture(params=PROFILES)
def installed(request, tmp_path) -> tuple[str, Path]:
    """A profile, and a folder that systemd would find the instance "front" in."""
    text = instance_text(sys.executable, "root", ["video"], False)  # root: the one user who is everywhere
    for path, content in {**shared_files(), **unit_files("front", request.param, 252, text)}.items():
        target = tmp_path / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(content)
    return request.param, tmp_path / "etc/systemd/system"


def analyzed(folder: Path, *words: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        ["systemd-analyze", "--no-pager", *words, "harrier@front.service"],
        capture_output=True,
        text=True,
        timeout=60,
        env={"SYSTEMD_UNIT_PATH": f"{folder}:", "PATH": "/usr/bin:/bin", "SYSTEMD_COLORS": "0", "LC_ALL": "C.UTF-8"},
    )


@analyze
def test_systemd_finds_nothing_wrong_with_a_unit(installed):
    _, folder = installed
    result = analyzed(folder, "verify", "--man=no")
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


@analyze
def test_a_unit_is_as_confined_as_promised(installed):
    profile, folder = installed
    # the score is of the user harrier, whom this machine may not have: root alone would count as privileged
    own = folder / "harrier@front.service.d/70-instance.conf"
    own.write_text(own.read_text().replace("User=root", "User=harrier").replace("Group=root", "Group=harrier"))
    result = analyzed(folder, "security", "--offline=true")
    found = re.search(r"Overall exposure level for harrier@front\.service: ([\d.]+)", result.stdout)
    assert found, result.stdout + result.stderr
    assert float(found[1]) <= LIMITS[profile]


def test_code_is_made_at_run_time_only_where_a_gpu_needs_it():
    denied = {p for p in PROFILES if "MemoryDenyWriteExecute=yes" in (SYSTEMD / f"drop-ins/{p}.conf").read_text()}
    assert denied == {"cpu", "coral"}


def test_the_unit_waits_for_no_network_and_gives_up_never():
    text = (SYSTEMD / "harrier@.service").read_text()
    assert "network" not in re.sub(r"^#.*", "", text, flags=re.MULTILINE)
    assert re.search(r"^\[Unit\]\n(?:(?!^\[).*\n)*StartLimitIntervalSec=0$", text, re.MULTILINE)
    assert "Restart=always" in text
    assert "Type=notify" in text


def test_log_lines_are_what_is_asked_for():
    asked = instance_text("/opt/harrier/bin/python", "harrier", [], False, "json")
    assert (
        "\nExecStart=/opt/harrier/bin/python -I -X faulthandler -m edge --log json run /etc/harrier/%i.toml\n" in asked
    )
    assert "-m edge run /etc" in instance_text("/opt/harrier/bin/python", "harrier", [], False)


def test_the_installer_reads_the_files_under_systemd():
    text = instance_text("/opt/harrier/bin/python", "harrier", [], False)
    found = {}
    for profile in PROFILES:
        found |= unit_files("front", profile, 257, text)
        assert (
            unit_files("front", profile, 257, text)[Path("etc/systemd/system/harrier@front.service.d/50-board.conf")]
            == (SYSTEMD / f"drop-ins/{profile}.conf").read_text()
        )
    assert shared_files() == {
        Path("etc/systemd/system/harrier@.service"): (SYSTEMD / "harrier@.service").read_text(),
        Path("etc/udev/rules.d/70-harrier.rules"): (SYSTEMD / "udev/70-harrier.rules").read_text(),
    }


@pytest.mark.parametrize(
    ("path", "word"),
    [
        ("/opt/harrier/bin/python3.11", "/opt/harrier/bin/python3.11"),
        ("/opt/my robot/bin/python", '"/opt/my robot/bin/python"'),
        ("/opt/100%/$a/python", '"/opt/100%%/$$a/python"'),
    ],
)
def test_the_interpreter_is_one_word_to_systemd(path, word):
    assert f"\nExecStart={word} -I -X" in instance_text(path, "harrier", [], True)
    assert "ProtectHome=read-only" in instance_text(path, "harrier", [], True)


def test_a_wheel_holds_the_files_themselves(tmp_path):
    pytest.importorskip("setuptools", "77", reason="setuptools 77 is not installed here, to build the wheel with")
    source = tmp_path / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in ("edge", "convert", "calibration", "systemd"):
        ignored = shutil.ignore_patterns("__pycache__", "test")
        shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=ignored)
    build = "import sys, setuptools.build_meta as build; print(build.build_wheel(sys.argv[1]))"
    done = subprocess.run(
        [sys.executable, "-c", build, str(tmp_path)], cwd=source, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(tmp_path / done.stdout.splitlines()[-1]) as wheel:
        prefix = "edge/service/shipped/"
        packed = {name[len(prefix) :]: wheel.read(name) for name in wheel.namelist() if name.startswith(prefix)}
    assert sorted(packed) == SHIPPED
    assert all(content == (SYSTEMD / name).read_bytes() for name, content in packed.items())


def test_udev_rules_have_the_shape_of_rules():
    for line in (SYSTEMD / "udev/70-harrier.rules").read_text().splitlines():
        if line and not line.startswith("#"):
            for part in re.findall(r'(?:[^,"]|"[^"]*")+', line):
                assert re.fullmatch(r'\s*[A-Z]+(\{\w+\})?(==|!=|\+=|=)"[^"]*"', part), part


@pytest.mark.skipif(shutil.which("udevadm") is None, reason="udevadm is not installed")
def test_udev_itself_finds_nothing_wrong():
    if "verify" not in subprocess.run(["udevadm", "--help"], capture_output=True, text=True).stdout:
        pytest.skip("udevadm is older than 254 and cannot verify rules")
    rules = SYSTEMD / "udev/70-harrier.rules"
    result = subprocess.run(["udevadm", "verify", str(rules)], capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stdout + result.stderr
