"""Every command of the pages is run, or stands here with the reason why not.

Blocks marked `sh run` run as they are (test_documents.py). The other commands of harrier run here, in a folder with
what the pages take for granted: a camera is a synthetic one, a port of the network a free one, and what has no end of
its own gets one.
"""

import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from test_documents import PAGES, blocks
from tree import ROOT

from edge import catalogue as catalogue_module
from edge.cli import main
from edge.manifest import sha256_of

PATIENCE_S = 60.0
CAMERA = "synthetic://?fps=60&size=160x120"
ROBOT = f'model = "face"\nsource = "{CAMERA}"\npublish = ["tcp://127.0.0.1:0"]\n\n[tracking]\n'

# a pattern of commands -> why they are not run here, and where what they do is run
NOT_RUN = {
    r"\./run demo": "test_demo.py",
    r"\./run test": "this test suite",
    r"\./run bench \w+": "takes minutes",
    r"harrier service ": "needs root and systemd: tests/service, in a booted Debian",
    r"harrier bench .*--(soak|photon|startup|strict)": "takes minutes or hours, needs a light or quiet: tests/bench",
    r"harrier convert ": "takes minutes: tests/convert",
    r"harrier build ": "needs TensorRT: tests/convert",
    r"harrier .*(yolox_nano|fashion-out/)": "needs what `harrier convert` makes: tests/convert",
    r"harrier calibrate ": "needs a float model and pictures: tests/calibration",
    r"harrier (eval|explain) ": "needs a labelled data set: tests/evaluation",
    r"harrier camera calibrate ": "needs a board before a camera: tests/geometry, on rendered pictures",
    r"harrier (inspect|run --model) detector\.onnx": "needs a model of your own: tests/test_cli.py",
    r"harrier doctor --root copied/board": "tests/doctor, on recorded boards",
    r"harrier .*/dev/tty": "needs a serial port: tests/publishers",
    r"harrier .*(ros2|zenoh|mqtt|mavlink)://": "needs ROS, a broker or an autopilot: tests/publishers",
    r"harrier .*udp://239\.": "needs a network: tests/publishers",
    r"sudo |docker |JETPACK=|sed .*docker/|    --": "changes the machine, or needs Docker: docker/, systemd/test/",
    r"\. \.venv|pip install \.|python3 -m venv": "./run does the same",
    r"HARRIER_FAULTS_REPORT=|\.venv/bin/python tests/faults/soak\.py": "takes minutes: tests/faults",
    r"curl |python3 -c .*healthz": "tests/web asks the same of a page",
}


def shown() -> list[tuple[str, str]]:
    """Page and line of every command in a block that is not run as it is."""
    found = {
        (page.name, line)
        for page in PAGES
        for kind in ("sh", "console")
        for body in blocks(page, kind)
        for line in body.splitlines()
        if line
    }
    return sorted(found)


RUN = [(page, line) for page, line in shown() if not any(re.match(pattern, line) for pattern in NOT_RUN)]


def test_what_is_left_to_run_is_harrier():
    assert not [line for _, line in RUN if not line.startswith("harrier ")]
    assert len(RUN) >= 30


@pytest.mark.parametrize("pattern", NOT_RUN)
def test_a_reason_is_for_something_that_is_shown(pattern):
    assert any(re.match(pattern, line) for _, line in shown())


@pytest.fixture(scope="module")
def model(catalogue, tmp_path_factory) -> Path:
    """A home with the catalogue's models, and bundles of one of them that can be installed."""
    folder = tmp_path_factory.mktemp("pages")
    for name in ("face", "face-full"):
        pulled = catalogue(name)
        shutil.copytree(pulled, folder / "home" / pulled.relative_to(catalogue_module.home()))
    face = folder / "home/models/face"
    manifest = (face / "manifest.toml").read_text()
    digest = sha256_of(face / "face_detection_short_range.tflite")
    for name in ("front", "rover-bundle", "faces-v2"):
        shutil.copytree(face, folder / name)
        hashed = (
            manifest if "sha256" in manifest else re.sub(r"(\[targets\.\w+\]\n)", rf'\1sha256 = "{digest}"\n', manifest)
        )
        (folder / name / "manifest.toml").write_text(hashed)
    shutil.make_archive(str(folder / "front-bundle"), "zip", folder / "front")
    (folder / "robot.toml").write_text(ROBOT)
    (folder / "examples").symlink_to(ROOT / "examples")
    return folder


@pytest.fixture
def here(model, tmp_path, monkeypatch) -> Path:
    """A copy of that folder, in which a command is given."""
    shutil.copytree(model, tmp_path / "here", symlinks=True)
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("HARRIER_HOME", str(tmp_path / "here/home"))
    return tmp_path / "here"


def for_here(words: list[str]) -> list[str]:
    """A shown command, with what this machine has for what the page's robot has."""
    local = [
        re.sub(r"^((?:--web=|(?!udp)\w+://)?)(0\.0\.0\.0|127\.0\.0\.1):\d+", r"\g<1>127.0.0.1:0", word)
        for word in words
    ]
    for i, word in enumerate(local):
        if word == "--source" and re.match(r"\d|v4l2:", local[i + 1]):
            local[i + 1] = CAMERA
    if "run" in local[:3]:
        local += ["--seconds", "0.5"]
    if "bench" in local[:3]:
        local += ["--frames", "5", "--warm-up", "2", "--repeats", "2"]
    return local


@pytest.fixture
def before(here) -> Iterator[dict[str, Callable[[], None]]]:
    """What must have happened before a command: by a pattern of it."""
    processes: list[subprocess.Popen] = []

    def publish() -> None:
        words = ["run", "robot.toml", "--publish", "unix://eyes.sock"]  # until it is ended
        processes.append(subprocess.Popen([sys.executable, "-m", "edge", "-q", *words]))
        deadline = time.monotonic() + PATIENCE_S
        while not (here / "eyes.sock").exists():
            assert time.monotonic() < deadline, "it never listened"
            assert processes[0].poll() is None, "it ended"
            time.sleep(0.01)

    def record() -> None:
        pytest.importorskip("foxglove_schemas_protobuf", reason="the record extra is not installed")
        recording = "mcap://drive.mcap?pictures=png&min_free_mb=0&sync=off&flush_s=0.1"
        assert main(["-q", "run", "robot.toml", "--frames", "20", "--publish", recording]) == 0
        for folder in ("drives", "recordings"):
            (here / folder).mkdir()
            shutil.copy(here / "drive.mcap", here / folder)

    def install() -> None:
        assert main(["model", "install", "front-bundle.zip", "--name", "front"]) == 0
        manifest = here / "front/manifest.toml"
        manifest.write_text(manifest.read_text() + "\n# another one\n")
        assert main(["model", "install", "front", "--name", "front"]) == 0

    yield {"harrier listen ": publish, "harrier replay | replay://": record, "harrier model (rollback|list)": install}
    for process in processes:
        process.terminate()
        try:
            process.wait(PATIENCE_S)
        finally:
            process.kill()


@pytest.mark.parametrize(("page", "line"), RUN)
def test_it_runs(page, line, here, before):
    if "ws://" in line or "--web" in line:
        pytest.importorskip("aiohttp", reason="the web extra is not installed")
    if "mcap://" in line:
        pytest.importorskip("foxglove_schemas_protobuf", reason="the record extra is not installed")
    words = for_here(shlex.split(line)[1:])
    for pattern, prepare in before.items():
        if re.search(pattern, line):
            prepare()
    if words[0] == "listen":
        words = ["listen", "unix://eyes.sock", "--count", "3", *words[2:]]
    code = main(words)
    assert code == 0 or (words[0] == "doctor" and code == 4), f"{page}: {line}: exit code {code}"
