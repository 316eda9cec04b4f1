"""The README and the other pages: commands marked `sh run` are run, all others are at least understood."""

import argparse
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from tree import ROOT

from edge.cli import _parser
from edge.config import RunConfig
from edge.errors import ConfigError, PublishError
from edge.manifest import Manifest
from edge.registry import PLUGS, resolve
from edge.structs import as_struct, read_toml
from edge.uri import parse_uri

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```([^\n]*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#]+)(#[^)]*)?\)")
SCRIPT = re.compile(r"\./run(?: [a-z]+)?")


def blocks(page: Path, kind: str) -> list[str]:
    return [body for found, body in BLOCK.findall(page.read_text(encoding="utf-8")) if found == kind]


def commands(kind: str) -> list[tuple[str, str]]:
    return [(page.name, line) for page in PAGES for body in blocks(page, kind) for line in body.splitlines() if line]


def test_the_readme_opens_with_two_commands():
    shell = [body.strip() for kind, body in BLOCK.findall(PAGES[0].read_text()) if kind.startswith("sh")]
    assert shell[:2] == ["./run demo", "./run test"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target, _ in LINK.findall(page.read_text(encoding="utf-8")):
        assert "://" in target or (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize(("page", "line"), commands("sh"))
def test_shown_commands_are_understood(page, line):
    words = shlex.split(line)
    if SCRIPT.match(line):
        assert words[1] in ("demo", "test", "lint", "bench", "docs")
        return
    assert words[0] == "harrier", f"{page} shows '{line}': start it with ./run or harrier"
    arguments = _parser().parse_args(words[1:])
    for uri in (getattr(arguments, "source", None), *(getattr(arguments, "publish", None) or ())):
        if uri and "://" in uri:
            group = "sources" if uri == arguments.source else "publishers"
            assert parse_uri(uri).scheme in PLUGS[group]


def mentioned() -> list[tuple[str, str]]:
    """Page and words of each command that stands in a sentence or a table, and of those given as root."""
    found = set()
    for page in PAGES:
        codes = re.findall(r"`([^`\n]+)`", BLOCK.sub("", page.read_text(encoding="utf-8")))
        codes += [line for body in blocks(page, "console") for line in body.splitlines()]
        matches = [re.fullmatch(r"(?:sudo )?(?:\S+/)?harrier (.+)", code) for code in codes]
        found |= {(page.name, match[1]) for match in matches if match}
    return sorted(found)


@pytest.mark.parametrize(("page", "words"), mentioned())
def test_mentioned_commands_and_their_options_exist(page, words):
    parser, known = _parser(), set()
    for word in words.split():
        known |= {option for action in parser._actions for option in action.option_strings}
        inner = next((a.choices for a in parser._actions if isinstance(a, argparse._SubParsersAction)), {})
        if word in inner:
            parser = inner[word]
        elif re.match(r"-+[a-z]", word):
            assert word.partition("=")[0] in known, f"{page}: `harrier {words}` has no option {word}"
        else:
            assert not inner or not word.islower(), f"{page}: there is no command `harrier {words}`"


@pytest.mark.parametrize(("page", "body"), [(page.name, body) for page in PAGES for body in blocks(page, "sh run")])
def test_recipes_run(page, body, catalogue, tmp_path):
    catalogue("face")
    catalogue("astronaut")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    result = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", body],
        cwd=tmp_path,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, f"{page}:\n{body}\n{result.stderr}"
    assert result.stdout


@pytest.mark.parametrize(("page", "body"), [(page.name, b) for page in PAGES for b in blocks(page, "toml")])
def test_shown_configurations_and_manifests_are_valid(page, body, tmp_path):
    path = tmp_path / "shown.toml"
    path.write_text(body)
    struct = Manifest if "format = 1" in body else RunConfig
    try:
        shown = as_struct(read_toml(path), struct, page)
        for uri in map(parse_uri, shown.publish if isinstance(shown, RunConfig) else ()):
            resolve("publishers", uri.scheme).check(uri)
    except ConfigError as exc:
        pytest.fail(f"{page}: {exc}")
    except PublishError:
        pass  # a device or folder of the robot


@pytest.mark.parametrize(("page", "body"), [(page.name, b) for page in PAGES for b in blocks(page, "python")])
def test_shown_python_compiles_and_its_names_exist(page, body):
    compile(body, page, "exec")
    for line in body.splitlines():
        if line.startswith("from "):
            exec(line, {})


def test_every_plug_is_documented():
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    for group, marks in (("sources", "`{}://"), ("publishers", "`{}://"), ("decoders", "`{}`")):
        for name in PLUGS[group]:
            assert marks.format(name) in text, f"document the {group[:-1]} '{name}'"
