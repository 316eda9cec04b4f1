"""`harrier doctor` as a person and a program use it: report, JSON, exit codes, and what a configuration needs."""

import ast
import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest
from recorded_boards import BOARDS, board_tree, python_facts, write_tree

from edge.cli import main
from edge.doctor import configuration, edge_tpus, targets
from edge.doctor.configuration import config_findings
from edge.doctor.examination import examine
from edge.doctor.finding import LEVELS, note, ok, problem, warning
from edge.doctor.machine import Machine
from edge.doctor.report import as_json, report_text
from edge.engines.tflite_ops import EDGE_TPU_OP, Ops
from edge.files import write_atomically
from edge.structs import read_toml
from edge.toml_text import toml_text

ROOT = Path(__file__).resolve().parents[2]

FOUND = [
    ok("disk.free", "/", "room"),
    problem("camera.permission", "/dev/video0", "no permission", "it cannot be opened", "sudo something"),
    note("camera.identity", "cameras", "two of them", "they change places", "ls"),
    warning("camera.bandwidth", "USB bus 1", "too many \x1b[31m\n", "why", "lsusb -t"),
]


def test_the_report_is_grouped_ends_with_the_gravest_and_one_line_that_sums_up():
    lines = report_text(FOUND, 100, False).splitlines()
    assert lines[0] == "disk"
    assert lines[3] == "camera"
    todo = lines[lines.index("what to do") + 1 : -2]
    assert [line.split()[0] for line in todo if re.match(r"  \w", line)] == ["note", "warning", "problem"]
    assert todo[-1] == "           -> sudo something"
    assert lines[-1] == "1 problem, 1 warning, 1 note, 1 ok"
    assert max(map(len, lines)) <= 100


def test_colour_and_control_characters():
    assert "\x1b" not in report_text(FOUND, 80, False)  # nor those of a device's name
    assert "\x1b[1;31mproblem\x1b[0m" in report_text(FOUND, 80, True)


def test_a_machine_on_which_all_is_well_gets_no_list_of_what_to_do():
    assert report_text([FOUND[0]], 80, False).splitlines() == ["disk", "  ok       /  room", "", "0 problems, 1 ok"]


def test_json_has_what_its_documentation_says(tmp_path, capsys):
    board_tree("orin-nano-jetpack-6.2", tmp_path)
    assert main(["doctor", "--json", "--root", str(tmp_path)]) == 4
    said = json.loads(capsys.readouterr().out)
    assert list(said) == ["format", "harrier", "root", "summary", "findings"]
    assert list(said["summary"]) == ["problem", "warning", "note", "ok"]
    assert sum(said["summary"].values()) == len(said["findings"])
    assert {tuple(finding) for finding in said["findings"]} == {("id", "level", "subject", "found", "why", "cure")}
    assert {finding["level"] for finding in said["findings"]} == set(LEVELS)
    page = (ROOT / "docs" / "doctor.md").read_text(encoding="utf-8")
    for key in (*said, *said["findings"][0]):
        assert f"`{key}`" in page


@pytest.mark.parametrize(
    ("board", "options", "code"),
    [
        ("thor-jetpack-7", [], 0),
        ("thor-jetpack-7", ["--strict"], 0),
        ("jetson-nano-jetpack-4.6", [], 0),
        ("jetson-nano-jetpack-4.6", ["--strict"], 4),
        ("raspberry-pi-4-32-bit", [], 4),
    ],
)
def test_the_exit_code_is_4_for_a_problem_and_on_request_for_a_warning(board, options, code, tmp_path, capsys):
    board_tree(board, tmp_path)
    assert main(["doctor", "--root", str(tmp_path), *options]) == code
    assert capsys.readouterr().out.rstrip().splitlines()[-1].endswith(" ok")


def test_a_root_that_is_no_folder_is_one_line(tmp_path, capsys):
    assert main(["doctor", "--root", str(tmp_path / "missing")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def on_a_terminal(arguments: list[str], environment: dict[str, str]) -> str:
    """What the command writes when its standard output is a terminal."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "edge", *arguments]
    with subprocess.Popen(command, stdout=theirs, cwd=ROOT, env={**os.environ, **environment}) as process:
        os.close(theirs)
        blocks = []
        try:
            while block := os.read(ours, 65536):
                blocks.append(block)
        except OSError:  # Linux says EIO where others say that it is the end
            pass
        process.wait(60)
    os.close(ours)
    return b"".join(blocks).decode()


@pytest.mark.parametrize(("environment", "coloured"), [({"TERM": "xterm"}, True), ({"NO_COLOR": "1"}, False)])
def test_there_is_colour_on_terminals_only(environment, coloured, tmp_path):
    board_tree("thor-jetpack-7", tmp_path)
    said = on_a_terminal(["doctor", "--root", str(tmp_path)], {"NO_COLOR": "", **environment})
    assert ("\x1b[32m" in said) == coloured


def test_without_a_configuration_no_package_is_needed(tmp_path):
    board_tree("thor-jetpack-7", tmp_path)
    script = (
        "import sys\n"
        "class Missing:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] in ('numpy', 'cv2', 'msgspec', 'ai_edge_litert'):\n"
        "            raise ModuleNotFoundError(name, name=name)\n"
        "sys.meta_path.insert(0, Missing())\n"
        "from edge.cli import main\n"
        f"sys.exit(main(['doctor', '--root', {str(tmp_path)!r}]))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "could not be completed" not in done.stdout


# what a configuration needs


def a_bundle(folder: Path, targets: dict[str, dict]) -> Path:
    folder.mkdir()
    manifest = {
        "format": 1,
        "name": "net",
        "targets": targets,
        "input": {"size_wh": [64, 64]},
        "decoder": {"family": "classification"},
        "labels": ["a"],
    }
    write_atomically(folder / "manifest.toml", toml_text(manifest))
    for target in targets.values():
        (folder / target["file"]).write_bytes(b"model")
    return folder


def looked_at(machine, tmp_path: Path, config: dict) -> list[tuple[str, str, str]]:
    """The findings about a configuration that are not ok: id, level and the beginning of the cure."""
    path = tmp_path / "robot.toml"
    path.write_text(toml_text(config))
    return [(f.id, f.level, f.cure) for f in config_findings(machine, path) if f.level != "ok"]


@pytest.fixture
def bundle(tmp_path) -> Path:
    return a_bundle(tmp_path / "net", {"tflite": {"file": "net.tflite"}})


def test_a_configuration_that_fits_has_no_findings(tmp_path, bundle):
    machine = board_tree("thor-jetpack-7", tmp_path / "root")
    source = "v4l2:///dev/v4l/by-id/usb-046d_HD_Pro_Webcam_C920_8BDA2E5F-video-index0"
    config = {"model": str(bundle), "source": source, "publish": ["stdout://", "tcp://127.0.0.1:0"]}
    assert looked_at(machine, tmp_path, config) == []


@pytest.mark.parametrize(
    ("board", "config", "expected"),
    [
        ("thor-jetpack-7", {"source": "5"}, ("config.source", "problem", "ls -l /dev/v4l/by-id/")),
        ("orin-nano-jetpack-6.2", {"source": "0"}, ("config.source", "problem", "log in again")),
        (
            "xavier-nx-jetpack-5.1",
            {"source": "0"},
            ("config.identity", "warning", 'source = "v4l2:///dev/v4l/by-path/'),
        ),
        (
            "xavier-nx-jetpack-5.1",
            {"source": "v4l2:///dev/v4l/by-path/platform-3610000.xhci-usb-0:2.1:1.0-video-index0?size=1920x1080"},
            ("config.size", "warning", "size=1280x720"),
        ),
        (
            "xavier-nx-jetpack-5.1",
            {"source": "csi://0"},
            ("config.source", "problem", "sudo systemctl restart nvargus"),
        ),
        ("container-on-orin", {"source": "gst://videotestsrc"}, ("config.source", "problem", "sudo apt install gst")),
        ("thor-jetpack-7", {"source": "/no/such/file.mp4"}, ("config.source", "problem", "check the path")),
        (
            "thor-jetpack-7",
            {"publish": ["serial:///dev/ttyTHS1?baud=115200"]},
            ("config.extra", "problem", "pip install 'harrier-edge[serial]'"),
        ),
        (
            "jetson-nano-jetpack-4.6",
            {"publish": ["serial:///dev/ttyTHS1"]},
            ("config.publish", "problem", "sudo systemctl disable --now nvgetty"),
        ),
        (
            "xavier-nx-jetpack-5.1",
            {"publish": ["serial:///dev/serial/by-id/usb-FTDI_FT232R_USB_UART_A50285BI-if00-port0"]},
            ("config.publish", "problem", "sudo usermod -aG dialout"),
        ),
        (
            "thor-jetpack-7",
            {"publish": ["serial:///dev/ttyUSB7"]},
            ("config.publish", "problem", "ls -l /dev/serial/by-id/"),
        ),
        ("thor-jetpack-7", {"publish": ["tcp:"]}, ("config.publish", "problem", "write scheme://")),
        ("thor-jetpack-7", {"engine": {"python": "/opt/python"}}, ("config.python", "problem", "ls -l /opt/python")),
        (
            "xavier-nx-jetpack-5.1",
            {"engine": {"python": "/usr/bin/python3"}},
            ("config.python", "problem", "sudo apt install python3-numpy"),
        ),
        (
            "thor-jetpack-7",
            {"engine": {"target": "kserve+grpc://127.0.0.1:8001/net"}},
            ("config.extra", "problem", "pip install 'harrier-edge[kserve]'"),
        ),
        ("thor-jetpack-7", {"engine": {"target": "onnx"}}, ("config.target", "problem", "name one of these")),
        ("thor-jetpack-7", {"model": "/no/such/model"}, ("config.model", "problem", "give a bundle")),
        ("thor-jetpack-7", {"no_such_key": 1}, ("config.file", "problem", "")),
    ],
)
def test_what_a_configuration_lacks_is_found(board, config, expected, tmp_path, bundle):
    machine = board_tree(board, tmp_path / "root")
    found = looked_at(machine, tmp_path, {"model": str(bundle), "source": "synthetic://", **config})
    matching = [(name, level) for name, level, cure in found if cure.startswith(expected[2])]
    assert expected[:2] in matching, found


NEEDS = {"sm": "8.7", "tensorrt": "10.3.0", "flavour": "tensorrt", "machine": "aarch64", "l4t": "36.4.3"}
ENGINE = {"tensorrt": {"file": "net.engine", "needs": NEEDS}}
OLDER = {"tensorrt": {"file": "net.engine", "needs": {**NEEDS, "tensorrt": "8.6.2", "l4t": "36.3.0"}}}
SYSTEM = {"python": "/usr/bin/python3"}


@pytest.mark.parametrize(
    ("board", "engine", "targets", "expected"),
    [
        ("thor-jetpack-7", {}, ENGINE, [("config.target", "problem", "harrier build ")]),
        (
            "thor-jetpack-7",
            {},
            {**ENGINE, "tflite": {"file": "net.tflite"}},
            [("config.target", "warning", "harrier build ")],
        ),
        ("orin-nano-jetpack-6.2", SYSTEM, ENGINE, []),
        ("orin-nano-jetpack-6.2", SYSTEM, OLDER, [("config.target", "problem", "harrier build ")]),
        ("orin-nano-jetpack-6.2", {**SYSTEM, "rebuild": "auto"}, OLDER, []),
        (
            "orin-nano-jetpack-6.2",
            {},
            ENGINE,
            [("config.target", "problem", 'python = "/usr/bin/python3"  # under [engine]')],
        ),
        (
            "thor-jetpack-7",
            {"target": "onnx"},
            {"onnx": {"file": "net.onnx"}, "tflite": {"file": "net.tflite"}},
            [("config.target", "problem", "pip install 'harrier-edge[onnx]'")],
        ),
        (
            "thor-jetpack-7",
            {"target": "tflite", "fallback": ["onnx"]},
            {"onnx": {"file": "net.onnx"}, "tflite": {"file": "net.tflite"}},
            [("config.target", "warning", "pip install 'harrier-edge[onnx]'")],
        ),
    ],
)
def test_whether_a_target_can_run_here_is_told_without_loading_it(board, engine, targets, expected, tmp_path):
    machine = board_tree(board, tmp_path / "root")
    config = {"model": str(a_bundle(tmp_path / "net", targets)), "source": "synthetic://", "engine": engine}
    found = looked_at(machine, tmp_path, config)
    assert [row[:2] for row in found] == [row[:2] for row in expected]
    for (*_, cure), (*_, begins) in zip(found, expected, strict=True):
        assert cure.startswith(begins)


def coral(root: Path, group: str) -> Machine:
    """A Raspberry Pi with a Coral USB that this user may use when its group is plugdev."""
    board = read_toml(BOARDS / "raspberry-pi-5-coral.toml")
    board["commands"]["ls -l /dev/bus/usb/003"] = f"crw-rw-r-- 1 root {group} 189, 257 Mar  1 10:00 002"
    board["commands"]["id"] = "uid=1000(pi) gid=1000(pi) groups=1000(pi),46(plugdev)"
    return write_tree(board, root)


def test_a_file_for_the_edge_tpu_needs_one_that_may_be_used(tmp_path, monkeypatch):
    monkeypatch.setattr(targets, "read_ops", lambda path: Ops([EDGE_TPU_OP], 14))
    model = a_bundle(tmp_path / "net", {"edgetpu": {"file": "net.tflite"}})
    config = {"model": str(model), "source": "synthetic://"}

    def found(machine, **engine):
        return looked_at(machine, tmp_path, {**config, "engine": engine})

    ((name, level, cure),) = found(board_tree("thor-jetpack-7", tmp_path / "thor"))
    assert (name, level) == ("config.target", "problem")
    assert "lsusb" in cure
    allowed = coral(tmp_path / "allowed", "plugdev")
    assert found(allowed) == []
    assert found(allowed, device="3-1") == []
    ((name, level, cure),) = found(allowed, device="usb:1")
    assert (name, level) == ("config.target", "problem")
    ((name, level, cure),) = found(coral(tmp_path / "forbidden", "root"))
    assert cure.startswith("sudo usermod -aG plugdev")


def test_engines_of_a_bundle_that_cannot_be_written_are_kept_elsewhere_if_anywhere(tmp_path, bundle, monkeypatch):
    machine = board_tree("thor-jetpack-7", tmp_path / "root")
    config = {"model": str(bundle), "source": "synthetic://", "engine": {"rebuild": "auto"}}
    assert looked_at(machine, tmp_path, config) == []
    monkeypatch.setenv("HARRIER_HOME", str(tmp_path / "home/harrier"))
    closed = {bundle}
    monkeypatch.setattr(configuration.os, "access", lambda path, mode: Path(path) not in closed)
    assert looked_at(machine, tmp_path, config) == [("config.rebuild", "note", "")]
    closed.add(tmp_path)
    ((name, level, cure),) = looked_at(machine, tmp_path, config)
    assert (name, level) == ("config.rebuild", "problem")
    assert cure.startswith(f"sudo chown -R $USER {bundle}")


def test_all_that_is_wrong_with_an_engine_section_is_told_at_once(tmp_path, bundle):
    """An interpreter that does not run hides neither a model that is missing nor what fallback names."""
    machine = board_tree("thor-jetpack-7", tmp_path / "root")
    engine = {"python": "/opt/python", "fallback": ["tflite", "cpu", "kserve+http://nohost"]}
    config = {"model": str(bundle), "source": "synthetic://", "engine": engine}
    found = [(name, cure.partition(" ")[0]) for name, _, cure in looked_at(machine, tmp_path, config)]
    assert found == [("config.python", "ls"), ("config.target", "write"), ("config.target", "name")]
    found = [name for name, *_ in looked_at(machine, tmp_path, {**config, "model": "/no/such/model"})]
    assert found == ["config.python", "config.target", "config.model"]


def test_a_fallback_is_looked_at_in_harriers_own_interpreter(tmp_path):
    """On JetPack 4 and 5: TensorRT in the board's Python, which has no LiteRT, and LiteRT in Harrier's own."""
    machine = board_tree("orin-nano-jetpack-6.2", tmp_path / "root")
    targets = {**ENGINE, "tflite": {"file": "net.tflite"}}
    engine = {**SYSTEM, "target": "tensorrt", "fallback": ["tflite"]}
    config = {"model": str(a_bundle(tmp_path / "net", targets)), "source": "synthetic://", "engine": engine}
    assert looked_at(machine, tmp_path, config) == []


@pytest.mark.parametrize(
    ("config", "name"),
    [
        ({"source": "bogus://x"}, "config.source"),
        ({"publish": ["bogus://x"]}, "config.publish"),
        ({"publish": ["tcp://notanaddress"]}, "config.publish"),
        ({"publish": ["stdout://?format=nope"]}, "config.publish"),
    ],
)
def test_addresses_harrier_refuses_are_no_ok(tmp_path, bundle, config, name):
    found = looked_at(Machine(Path("/")), tmp_path, {"model": str(bundle), "source": "synthetic://", **config})
    assert (name, "problem") in [row[:2] for row in found]


def test_a_configuration_is_checked_beside_everything_else(tmp_path, capsys):
    write_tree({"pythons": {"python": python_facts()}}, tmp_path / "root")
    missing = tmp_path / "missing.toml"
    assert main(["doctor", str(missing), "--root", str(tmp_path / "root"), "--json"]) == 4
    found = {finding["id"]: finding for finding in json.loads(capsys.readouterr().out)["findings"]}
    assert found["config.file"]["found"] == f"no file {missing}"
    assert found["python.wheels"]["level"] == "ok"


# the documentation


def test_the_shown_report_is_what_is_printed(tmp_path):
    shown = re.search(r"```text\n(.*?)```", (ROOT / "docs" / "doctor.md").read_text(encoding="utf-8"), re.DOTALL)
    printed = report_text(examine(board_tree("jetson-nano-jetpack-4.6", tmp_path)), 100, False)
    assert shown
    for part in shown[1].rstrip().split("\n...\n"):
        assert part in printed


def test_every_check_is_documented_and_every_documented_check_exists():
    known = {f"edgetpu.{kind}" for kind in edge_tpus._WHY}
    for path in (ROOT / "edge" / "doctor").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in (*LEVELS, "level", "_wrong"):
                first = node.args[0]
                known |= {first.value} if isinstance(first, ast.Constant) else set()
    page = (ROOT / "docs" / "doctor.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"`([a-z]+\.[a-z]+)`", page))
    assert documented == known


def test_json_of_nothing_is_complete():
    assert as_json([], "1.0", "/") == {
        "format": 1,
        "harrier": "1.0",
        "root": "/",
        "summary": {"problem": 0, "warning": 0, "note": 0, "ok": 0},
        "findings": [],
    }
