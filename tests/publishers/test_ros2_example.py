"""examples/ros2 without ROS: every file compiles, the package's files agree, and it steers and stops as it says."""

import ast
import importlib.util
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "examples" / "ros2" / "harrier_follow"
SOURCES = sorted(PACKAGE.rglob("*.py"))


def load_steering():
    spec = importlib.util.spec_from_file_location("steering", PACKAGE / "harrier_follow" / "steering.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["steering"] = module  # dataclasses look themselves up
    spec.loader.exec_module(module)
    return module


steering = load_steering()
Seen, Limits, Command = steering.Seen, steering.Limits, steering.Command


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_every_file_compiles(path):
    compile(path.read_text(), str(path), "exec")


def test_the_package_is_whole():
    assert {path.name for path in SOURCES} >= {"setup.py", "follow.launch.py", "follow_target.py", "steering.py"}
    root = ET.parse(PACKAGE / "package.xml").getroot()
    name, version = root.findtext("name"), root.findtext("version")
    assert (PACKAGE / "resource" / name).is_file()
    setup = (PACKAGE / "setup.py").read_text()
    assert f'NAME = "{name}"' in setup
    assert f'version="{version}"' in setup
    assert f"follow_target = {name}.follow_target:main" in setup
    needed = {element.text for element in root.findall("exec_depend")}
    imported = set()
    for path in (*(PACKAGE / "harrier_follow").glob("*.py"), *(PACKAGE / "launch").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                imported.add(node.module.partition(".")[0])
            elif isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
    assert imported - {"dataclasses", name} == needed


def test_the_surest_of_the_wanted_class_is_chosen():
    seen = [Seen("dog", 0.95, 0, 1), Seen("cat", 0.6, 1, 1), Seen("cat", 0.8, 2, 1), Seen("cat", 0.4, 3, 1)]
    assert steering.choose(seen, "cat", 0.5).centre_x == 2
    assert steering.choose(seen, "", 0.5).name == "dog"
    assert steering.choose(seen, "cat", 0.9) is None
    assert steering.choose([], "", 0.0) is None


@pytest.mark.parametrize(
    ("seen", "forward", "turn"),
    [
        (None, 0.0, 0.0),
        (Seen("cat", 1, 320, 0), 0.3, 0.0),
        (Seen("cat", 1, 0, 0), 0.0, 1.0),
        (Seen("cat", 1, 640, 0), 0.0, -1.0),
        (Seen("cat", 1, 160, 0), 0.15, 0.5),
        (Seen("cat", 1, 320, 160), 0.15, 0.0),
        (Seen("cat", 1, 320, 320), 0.0, 0.0),
        (Seen("cat", 1, 320, 600), 0.0, 0.0),
        (Seen("cat", 1, -500, 0), 0.0, 1.0),
    ],
)
def test_it_steers_to_the_middle_and_stops_when_near(seen, forward, turn):
    command = steering.steer(seen, 640, Limits())
    assert (command.forward_m_s, command.turn_rad_s) == (pytest.approx(forward), pytest.approx(turn))


@pytest.mark.parametrize(
    ("age_ms", "fresh"), [(0, True), (299, True), (301, False), (60_000, False), (-299, True), (-301, False)]
)
def test_what_is_old_or_from_the_future_moves_nothing(age_ms, fresh):
    assert steering.is_fresh(10**18, 10**18 + age_ms * 10**6, 300.0) is fresh
