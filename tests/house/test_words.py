"""Export lists, docstrings and sizes: the rules of docs/architecture.md that a machine can check."""

import ast
import importlib
import re

import pytest
from tree import modules, path_of

MAX_MODULE_LINES = 300
MAX_FUNCTION_LINES = 50
SHAPE = re.compile(r"\((\.\.\.|[A-Z0-9][\w*+ ]*),[^()]*\)|shape")
DTYPE = re.compile(r"u?int(8|16|32|64)|float(16|32|64)|bool|dtype")

ALL = [name for name in modules() if not name.endswith("__main__")]


def public_definitions(tree: ast.Module) -> list[ast.FunctionDef | ast.ClassDef]:
    """Top-level functions and classes without a leading underscore."""
    kinds = ast.FunctionDef | ast.ClassDef
    return [node for node in tree.body if isinstance(node, kinds) and not node.name.startswith("_")]


def documented(tree: ast.Module) -> list[tuple[str, ast.FunctionDef | ast.ClassDef]]:
    """Public definitions and the public methods of public classes."""
    found = []
    for node in public_definitions(tree):
        found.append((node.name, node))
        if isinstance(node, ast.ClassDef):
            found += [
                (f"{node.name}.{inner.name}", inner)
                for inner in node.body
                if isinstance(inner, ast.FunctionDef) and not inner.name.startswith("_")
            ]
    return found


def real_exports(name: str) -> list[str] | None:
    """`__all__` of the imported module, which has each of its names."""
    module = importlib.import_module(name)
    exported = getattr(module, "__all__", None)
    missing = [symbol for symbol in exported or [] if not hasattr(module, symbol)]
    assert not missing, f"{name} exports {missing}, which it does not have"
    return exported


def written_exports(tree: ast.Module) -> list[str] | None:
    """`__all__` as it is written, each name of which the module binds at its top level."""
    bound: set[str] = set()
    exported = None
    for node in tree.body:
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = [target.id for target in targets if isinstance(target, ast.Name)]
            if names == ["__all__"]:
                exported = ast.literal_eval(node.value)
            bound.update(names)
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            bound.add(node.name)
    assert set(exported or []) <= bound, f"not there: {sorted(set(exported or []) - bound)}"
    return exported


def export_order(symbol: str) -> tuple[int, str]:
    """CONSTANTS, then Classes, then functions, as ruff sorts them."""
    return (0 if symbol.isupper() else 1 if symbol[0].isupper() else 2, symbol)


@pytest.mark.parametrize("name", ALL)
def test_exports_are_sorted_complete_and_real(name):
    tree = modules()[name]
    defined = {node.name for node in public_definitions(tree)}
    # the converter's leaves import what only their route needs: their list is read, not imported
    exported = real_exports(name) if name.partition(".")[0] == "edge" else written_exports(tree)
    if not defined and exported is None:
        return
    assert exported is not None, f"{name} needs __all__"
    assert exported == sorted(exported, key=export_order)
    assert defined <= set(exported), f"missing from __all__: {sorted(defined - set(exported))}"


@pytest.mark.parametrize("name", ALL)
def test_docstrings_keep_the_grammar(name):
    tree = modules()[name]
    assert ast.get_docstring(tree), f"{name} needs a docstring"
    for label, node in documented(tree):
        text = ast.get_docstring(node)
        assert text, f"{name}.{label} needs a docstring"
        first = re.split(r"\n\s*\n", text)[0].replace("\n", " ")
        assert re.search(r"[.:]$", first), f"{name}.{label}: the first sentence ends with a full stop"
        if isinstance(node, ast.FunctionDef):
            check_arrays(f"{name}.{label}", node, text)
            check_raises(f"{name}.{label}", node, text)


def check_arrays(label: str, node: ast.FunctionDef, text: str) -> None:
    """A function that takes or returns one array says its shape and dtype."""
    annotations = [arg.annotation for arg in node.args.args] + [node.returns]
    if any(a is not None and ast.unparse(a) == "np.ndarray" for a in annotations):
        assert SHAPE.search(text), f"{label}: say the array's shape"
        assert DTYPE.search(text), f"{label}: say the array's dtype"


def check_raises(label: str, node: ast.FunctionDef, text: str) -> None:
    """A function that raises a Harrier error itself says so."""
    for inner in ast.walk(node):
        raised = inner.exc if isinstance(inner, ast.Raise) else None
        if isinstance(raised, ast.Call) and ast.unparse(raised.func).endswith("Error"):
            assert "Raises:" in text, f"{label} raises {ast.unparse(raised.func)}: say so under Raises:"


@pytest.mark.parametrize("name", ALL)
def test_modules_and_functions_keep_their_size(name):
    lines = len(path_of(name).read_text(encoding="utf-8").splitlines())
    assert lines <= MAX_MODULE_LINES, f"{name} has {lines} lines: split it"
    for node in ast.walk(modules()[name]):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = node.end_lineno - node.lineno + 1
            assert length <= MAX_FUNCTION_LINES, f"{name}.{node.name} has {length} lines: split it"


@pytest.mark.parametrize("name", ALL)
def test_no_options_are_passed_through_blindly(name):
    for node in ast.walk(modules()[name]):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.args.kwarg is None, f"{name}.{node.name} takes **{node.args.kwarg.arg}"
