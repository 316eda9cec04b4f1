"""TOML and URI values into typed structs, with errors that name the key and suggest the right one."""

import difflib
import re
import sys
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from edge.errors import ConfigError, EdgeError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["as_struct", "did_you_mean", "read_toml", "toml_tables", "toml_value"]

T = TypeVar("T")


def read_toml(path: Path, error: type[EdgeError] = ConfigError) -> dict[str, Any]:
    """Return the tables of a TOML file.

    Raises: `error`, naming the file and, for bad syntax, the line.
    """
    try:
        return toml_tables(path.read_text(encoding="utf-8-sig"), str(path), error)
    except FileNotFoundError as exc:
        raise error(f"no file {path}", "check the path") from exc
    except OSError as exc:
        raise error(f"cannot read {path} ({exc.strerror})", "check the path and its permissions") from exc
    except UnicodeDecodeError as exc:
        raise error(f"{path} is not a text file", "give a UTF-8 TOML file") from exc


def toml_tables(text: str, where: str, error: type[EdgeError] = ConfigError) -> dict[str, Any]:
    """Return the tables of a TOML text; `where` names it in errors.

    Raises: `error`, naming the line for bad syntax.
    """
    try:
        return tomllib.loads(text)
    except RecursionError as exc:
        raise error(f"{where} nests too deeply", "write it flat") from exc
    except tomllib.TOMLDecodeError as exc:
        raise error(f"{where} is not valid TOML ({exc})", "correct that line") from exc


def toml_value(text: str) -> Any:
    """Return what `text` means as the value of a TOML key, such as 0.5, true or [1, 2]; else the text itself."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def as_struct(values: Any, struct: type[T], where: str, error: type[EdgeError] = ConfigError, strict: bool = True) -> T:
    """Return `values` converted to a msgspec Struct; `where` names their origin in errors.

    With strict=False numbers and booleans may be given as text, as they are in a URI.
    Raises: `error` for an unknown key (with the nearest known one), a missing key, a wrong type or range.
    """
    try:
        return msgspec.convert(values, struct, strict=strict)
    except msgspec.ValidationError as exc:
        raise error(f"{where}: {_plain(exc)}", _cure(exc, struct)) from exc


def did_you_mean(word: str, known: list[str]) -> str:
    """Return a cure that names the nearest known word, or all of them when none is near."""
    near = difflib.get_close_matches(word, known, n=1)
    return f"did you mean '{near[0]}'?" if near else f"use one of {', '.join(sorted(known))}"


def _plain(exc: msgspec.ValidationError) -> str:
    text = str(exc)
    path = re.search(r" - at `\$\.?(.*)`$", text)
    if not path:
        return re.sub(r"[Oo]bject contains unknown field `(.*)`", r"unknown key '\1'", text)
    said = text[: path.start()]
    unknown = re.search(r"unknown field `(.*)`", said)
    if unknown:
        return f"unknown key '{unknown[1]}' in [{path[1]}]" if path[1] else f"unknown key '{unknown[1]}'"
    return f"'{path[1]}': {said}" if path[1] else said


def _cure(exc: msgspec.ValidationError, struct: Any) -> str:
    text = str(exc)
    path = re.search(r" - at `\$\.?(.*)`$", text)
    keys = re.sub(r"\[(\.{3}|\d+)\]", ".*", path[1]).split(".") if path else []
    if unknown := re.search(r"unknown field `([^`]*)`", text):
        return did_you_mean(unknown[1], sorted(_fields(_at(msgspec.inspect.type_info(struct), keys))))
    if missing := re.search(r"missing required field `([^`]*)`", text):
        return f"add '{missing[1]}'"
    if wrong := re.search(r"Invalid enum value '(.*)'", text):
        return did_you_mean(wrong[1], _literals(_at(msgspec.inspect.type_info(struct), keys)))
    if re.search(r"Expected `array.*got `(str|int)`", text):
        return "write a list, or WIDTHxHEIGHT for a size"
    if re.search(r"Expected `bool", text):
        return "write true or false (in a URI: yes or no)"
    return "correct the value"


def _at(info: Any, keys: list[str]) -> Any:
    """The type that stands at a path of keys; unions and dictionaries are looked through."""
    for key in keys:
        inner = [member for member in _members(info) if key in _fields(member)]
        if inner:
            info = _fields(inner[0])[key]
        else:  # the key of a dictionary, which any name may be
            kinds = ("value_type", "item_type")
            values = [getattr(member, kind) for member in _members(info) for kind in kinds if hasattr(member, kind)]
            info = values[0] if values else info
    return info


def _members(info: Any) -> list[Any]:
    return list(getattr(info, "types", (info,)))


def _fields(info: Any) -> dict[str, Any]:
    structs = [member for member in _members(info) if isinstance(member, msgspec.inspect.StructType)]
    return {field.encode_name: field.type for struct in structs for field in struct.fields}


def _literals(info: Any) -> list[str]:
    literals = [member for member in _members(info) if isinstance(member, msgspec.inspect.LiteralType)]
    return [str(value) for literal in literals for value in literal.values]
