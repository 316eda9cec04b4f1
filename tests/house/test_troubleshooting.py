"""docs/troubleshooting.md quotes what Harrier really says: each message there is found in the source."""

import ast
import re

import pytest
from tree import ROOT, modules

PAGE = ROOT / "docs" / "troubleshooting.md"
ROW = re.compile(r"^\| (`+) ?(.+?) ?\1 \|", re.MULTILINE)
MESSAGES = [message for _, message in ROW.findall(PAGE.read_text(encoding="utf-8"))]
SLOT = "\0"  # what differs from case to case
LEAST_LITERAL = 8  # characters besides that


def template(node: ast.expr) -> str:
    """A string of the source, with a slot for whatever is put in."""
    if isinstance(node, ast.Constant):
        return re.sub(r"%(\.\d+)?[sdgf]", SLOT, str(node.value))
    assert isinstance(node, ast.JoinedStr)
    return "".join(str(part.value) if isinstance(part, ast.Constant) else SLOT for part in node.values)


def docstrings(tree: ast.Module) -> set[int]:
    """The nodes that are documentation, not something that is said."""
    owners = [node for node in ast.walk(tree) if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)]
    return {id(owner.body[0].value) for owner in owners if ast.get_docstring(owner) is not None}


def templates() -> set[str]:
    """Every text in the three packages, and what the script `run` says."""
    script = re.findall(r'echo "(.*)"', (ROOT / "run").read_text(encoding="utf-8"))
    found = {re.sub(r"\$\w+|\$\([^)]*\)", SLOT, said) for said in script}
    for tree in modules().values():
        formatted = [node for node in ast.walk(tree) if isinstance(node, ast.JoinedStr)]
        left_out = docstrings(tree) | {id(part) for node in formatted for part in node.values}
        plain = [node for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
        texts = formatted + [node for node in plain if id(node) not in left_out]
        found |= {" ".join(template(node).split()) for node in texts}
    return {text for text in found if len(text.replace(SLOT, "")) >= LEAST_LITERAL}


def says(text: str, message: str) -> bool:
    """Whether a template can become this message without the slots making up most of it."""
    parts = text.split(SLOT)
    if 2 * sum(map(len, parts)) < len(message) or not all(part in message for part in parts):
        return False
    return re.fullmatch(".*".join(map(re.escape, parts)), message) is not None


def wordings(message: str) -> set[str]:
    """A message as it is quoted, and without what is put before and behind it elsewhere in the source."""
    bare = re.sub(r" N( s| ms)?$", "", message)
    return {message, bare, message.partition(" ")[2], bare.partition(" ")[2]}


def is_said(message: str, known: set[str]) -> bool:
    return any(says(text, wording) for wording in wordings(message) for text in known)


@pytest.fixture(scope="module")
def known() -> set[str]:
    return templates()


@pytest.mark.parametrize("message", MESSAGES)
def test_a_quoted_message_is_said_somewhere(message, known):
    assert is_said(message, known), f"nothing in the source says: {message}"


def test_what_nobody_says_is_noticed(known):
    assert len(MESSAGES) >= 60
    assert not is_said("there is no frobnicator here at all", known)
    assert not is_said("no permission to frobnicate PATH", known)
