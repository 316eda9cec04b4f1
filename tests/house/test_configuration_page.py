"""docs/configuration.md has every key with its default, and every command and option of `harrier run`."""

import argparse
import re
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from tree import ROOT

from edge.cli import _parser
from edge.config import RunConfig
from edge.structs import toml_value

PAGE = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
ROW = re.compile(r"^\| `(\w+)` \| (.*?) \| .+ \|$", re.MULTILINE)
CODE = re.compile(r"`([^`]*)`$")


def tables(info: Any, path: str = "") -> Iterator[tuple[str, type]]:
    """The heading and the struct of each table of the file, the inner ones included."""
    members = getattr(info, "types", (info,))
    for member in members:
        if isinstance(member, msgspec.inspect.StructType):
            yield f"[{path}]" if path else "At the top", member.cls
            for field in member.fields:
                yield from tables(field.type, f"{path}.{field.encode_name}".lstrip("."))
        elif isinstance(member, msgspec.inspect.ListType):
            for heading, struct in tables(member.item_type, path):
                yield f"[{heading}]", struct
        elif isinstance(member, msgspec.inspect.DictType):
            yield from tables(member.value_type, f"{path}.LABEL")


TABLES = dict(tables(msgspec.inspect.type_info(RunConfig)))


def rows_under(heading: str) -> dict[str, str]:
    """Key -> what stands under `default`, of the table below a heading of the third level."""
    found = re.search(rf"^### {re.escape(heading)}\n(.*?)^##", PAGE, re.MULTILINE | re.DOTALL)
    assert found, f"docs/configuration.md has no part '### {heading}'"
    return dict(ROW.findall(found[1]))


def default_of(field: msgspec.structs.FieldInfo) -> Any:
    if field.default_factory is not msgspec.NODEFAULT:
        return field.default_factory()
    return field.default


@pytest.mark.parametrize("heading", TABLES)
def test_every_key_stands_there_with_its_default(heading):
    rows = rows_under(heading)
    is_table = {path.strip("[]").partition(".")[0] for path in TABLES} if heading == "At the top" else set()
    fields = {field.encode_name: field for field in msgspec.structs.fields(TABLES[heading])}
    assert set(rows) == set(fields) - is_table
    for name, said in rows.items():
        default, code = default_of(fields[name]), CODE.match(said)
        if default is msgspec.NODEFAULT:
            assert said == "required", f"{heading} {name}"
        elif default is None:
            assert not code or code[1] in fields, f"{heading} {name} has no default to write"
        else:
            assert code, f"{heading} {name}: write the default, {default!r}, as code"
            assert (toml_value(code[1]), type(toml_value(code[1]))) == (default, type(default)), f"{heading} {name}"


def commands_of(parser: argparse.ArgumentParser, words: str) -> Iterator[str]:
    """Every command that can be given, with the words that lead to it."""
    inner = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    for action in inner:
        for name, sub in action.choices.items():
            yield from commands_of(sub, f"{words} {name}")
    if not inner:
        yield words


@pytest.mark.parametrize("command", [*commands_of(_parser(), "harrier")])
def test_every_command_is_named(command):
    assert re.search(rf"`{re.escape(command)}[` ]", PAGE.partition("## Commands")[2]), f"name `{command}` there"


def test_every_option_of_run_is_named():
    options = re.search(r"^\| `harrier run .*", PAGE, re.MULTILINE)
    run = next(a for a in _parser()._actions if isinstance(a, argparse._SubParsersAction)).choices["run"]
    wanted = {option for action in run._actions for option in action.option_strings if option.startswith("--")}
    assert wanted - {"--help"} <= set(re.findall(r"--\w+", options[0]))


def test_there_are_tables_to_compare():
    assert {"[engine]", "[[region]]", "[geometry.sizes.LABEL]", "[wire]"} <= set(TABLES)
