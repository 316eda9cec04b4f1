"""Imports go down the floors only, rooms never import each other, and nothing imports in a circle."""

import ast

import pytest
from tree import modules

from edge.registry import PLUGS

FLOORS = {
    0: "errors board clock files zips frame tensor boxes detections locations events timings",
    1: "structs toml_text uri manifest config geometry_config run_settings registry wire "
    "flatbuffer tflite_file ultralytics embedded fetch catalogue slots signatures bundle recording",
    2: "sources preprocess engines decoders nms tracking geometry publishers",
    3: "engine_needs build_process rebuild remote_target targets model lineup pipeline",
    4: "arguments parts shadow updates model_command run stats throttle_watch stage_watch health log_lines progress "
    "draw inspection links clock_sync reception inbox feed "
    "connection client testing bench evaluation golden calibrate_camera camera_report camera_command doctor web cli "
    "sd_notify service replay_settings replay_survey replay_compare replay_expected replay_report replay_command "
    "__main__",
}
FLOOR_OF = {name: floor for floor, names in FLOORS.items() for name in names.split()}
LAZY_MODULES = {  # each subcommand imports what it needs, so that --help is quick
    "edge.cli",
    "edge.camera_command",
    "edge.model_command",
    "edge.doctor.command",
    "edge.evaluation.command",
    "edge.replay_command",
    "edge.service.command",
    "convert.command",
    "convert.build_command",
    "calibration.command",
}


def part_of(module: str) -> str:
    """The file or folder right under edge/ that a module belongs to."""
    return module.split(".")[1] if "." in module else ""


def imports_of(module: str) -> set[str]:
    """The modules of this project that a module imports, at any depth of its code."""
    known = modules()
    found = set()
    for node in ast.walk(known[module]):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name for name in inner if name in known} or {node.module}
    return {name for name in found if name.split(".")[0] in ("edge", "convert", "calibration")}


EDGE = [name for name in modules() if name.startswith("edge.")]


@pytest.mark.parametrize("module", EDGE)
def test_every_module_has_a_floor_and_imports_go_down(module):
    own = part_of(module)
    assert own in FLOOR_OF, f"put {own} on a floor in this test and in docs/architecture.md"
    for imported in imports_of(module):
        other = part_of(imported)
        if not other:
            continue  # edge itself: the version
        assert FLOOR_OF[other] <= FLOOR_OF[own], f"{module} imports {imported} from a higher floor"
        if FLOOR_OF[own] == 2 and other != own:
            assert FLOOR_OF[other] < 2, f"the rooms {own} and {other} must not know each other"


@pytest.mark.parametrize("module", EDGE)
def test_the_runtime_imports_neither_converter_nor_calibration(module):
    assert not [name for name in imports_of(module) if name.startswith(("convert", "calibration"))]


def test_nothing_imports_in_a_circle():
    known = modules()
    graph = {name: {i for i in imports_of(name) if i in known and i != name} for name in known}
    graph.pop("edge", None)
    while graph:
        leaves = [name for name, imported in graph.items() if not imported & graph.keys()]
        assert leaves, f"these import each other: {sorted(graph)}"
        for name in leaves:
            del graph[name]


@pytest.mark.parametrize("module", [name for name in modules() if name not in LAZY_MODULES])
def test_imports_stand_at_the_top(module):
    for node in ast.walk(modules()[module]):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            inner = [n for n in ast.walk(node) if isinstance(n, ast.Import | ast.ImportFrom)]
            assert not inner, f"{module}.{node.name} imports inside a function"


def test_only_the_registry_names_leaf_modules():
    leaves = {plug.target.partition(":")[0] for plugs in PLUGS.values() for plug in plugs.values()}
    leaves = {leaf for leaf in leaves if FLOOR_OF[part_of(leaf)] != 1}  # the two codecs are words of everybody
    for module in EDGE:
        for imported in imports_of(module) if FLOOR_OF[part_of(module)] >= 3 else ():
            assert imported not in leaves, f"{module} imports the leaf {imported}: use the registry"


@pytest.mark.parametrize("module", [name for name in modules() if name.startswith("calibration.")])
def test_calibration_stays_below_the_converter(module):
    for imported in imports_of(module):
        assert not imported.startswith("convert"), f"{module} imports {imported}"
        if module != "calibration.command" and imported.startswith("edge."):
            assert FLOOR_OF[part_of(imported)] <= 2 or part_of(imported) == "progress", f"{module} imports {imported}"
