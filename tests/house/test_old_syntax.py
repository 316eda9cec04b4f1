"""The modules that other interpreters load: Python 3.6 runs them, and they stand on their own."""

import ast
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from tree import modules, path_of

from edge.engines.cuda import _BINDINGS
from edge.engines.worker_child import RUNNERS

FOLDER = "edge.engines"
OLDEST = "3.6"
LOAD = """
import importlib, importlib.util, sys
folder, names = sys.argv[1], sys.argv[2:]
spec = importlib.util.spec_from_file_location("portable", folder + "/__init__.py", submodule_search_locations=[folder])
sys.modules["portable"] = importlib.util.module_from_spec(spec)
for name in names:
    importlib.import_module("portable." + name)
    print(name)
"""


def portable_modules() -> list[str]:
    """The program of a worker, the runners and bindings it can load, and whatever these import of their folder."""
    found: list[str] = []
    by_name = [*sorted(set(RUNNERS.values())), *(module for module, _ in _BINDINGS)]
    wanted = [f"{FOLDER}.worker_child", *(f"{FOLDER}.{name}" for name in by_name)]
    wanted.append(f"{FOLDER}.gpu_letterbox")  # for those who run a model without Harrier (docs/gpu-preprocessing.md)
    while wanted:
        module = wanted.pop(0)
        if module in modules() and module not in found:
            found.append(module)
            nodes = [node for node in ast.walk(modules()[module]) if isinstance(node, ast.ImportFrom)]
            wanted += [f"{FOLDER}.{node.module}" for node in nodes if node.level == 1 and node.module]
    return found


@pytest.mark.parametrize("module", portable_modules())
def test_portable_modules_import_nothing_of_this_house(module):
    for node in ast.walk(modules()[module]):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.level == 0:
            names = [node.module or ""]
        own = [name for name in names if name.partition(".")[0] in ("edge", "convert", "calibration")]
        assert not own, f"{module} imports {own}: import it relatively, or do without"


@pytest.mark.parametrize("module", portable_modules())
def test_annotations_of_portable_modules_are_no_unions(module):
    """What vermin does not see: an old Python evaluates `int | None` where a function is defined, and cannot."""
    for node in ast.walk(modules()[module]):
        for name in ("annotation", "returns"):
            union = isinstance(getattr(node, name, None), ast.BinOp)
            assert not union, f"{module}, line {node.lineno}: write the annotation as a string"


@pytest.mark.skipif(find_spec("vermin") is None, reason="vermin is not installed (the extra dev has it)")
def test_portable_modules_run_on_the_oldest_python():
    files = [path_of(module) for module in portable_modules()]
    told = too_new(files)
    assert not told, told


@pytest.mark.skipif(find_spec("vermin") is None, reason="vermin is not installed (the extra dev has it)")
@pytest.mark.parametrize(
    "newer",
    ["print(f'{1 = }')", "if (n := 1): pass", "import dataclasses", "def f(a: list[int]): pass"],
)
def test_what_is_newer_is_seen(tmp_path, newer):
    (tmp_path / "newer.py").write_text(newer + "\n")
    assert "newer.py" in too_new([tmp_path / "newer.py"])


def test_portable_modules_load_in_an_old_python():
    python = os.environ.get("HARRIER_OLD_PYTHON")
    if not python:
        pytest.skip("HARRIER_OLD_PYTHON is not set: no Python of 3.6 to 3.9 with numpy")
    names = [module.rpartition(".")[2] for module in portable_modules()]
    folder = path_of(FOLDER).parent
    done = subprocess.run([python, "-c", LOAD, str(folder), *names], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == names


def too_new(files: list[Path]) -> str:
    """What in these files needs a newer Python, a line each, "" where nothing does."""
    run = "import vermin; vermin.main()"
    command = [sys.executable, "-c", run, f"-t={OLDEST}-", "--violations", "--eval-annotations", "--no-tips"]
    done = subprocess.run([*command, *map(str, files)], capture_output=True, text=True, timeout=120)
    return "" if done.returncode == 0 else done.stdout + done.stderr
