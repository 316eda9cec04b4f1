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

__all__ = ["as_struct", "did_you_mean", "read_toml"]

T = TypeVar("T")


def read_toml(path: Path, error: type[EdgeError] = ConfigError) -> dict[str, Any]:
    """Return the tables of a TOML file.

    Raises: `error`, naming the file and, for bad syntax, the line.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as exc:
        raise error(f"no file {path}", "check the path") from exc
    except OSError as exc:
        raise error(f"cannot read {path} ({exc.strerror})", "check the path and its permissions") from exc
    except UnicodeDecodeError as exc:
        raise error(f"{path} is not a text file", "give a UTF-8 TOML file") from exc
    except tomllib.TOMLDecodeError as exc:
        raise error(f"{path} is not valid TOML ({exc})", "correct that line") from exc


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
    unknown = re.search(r"unknown field `([^`]*)`", str(exc))
    if not unknown:
        missing = re.search(r"missing required field `([^`]*)`", str(exc))
        return f"add '{missing[1]}'" if missing else "correct the value"
    return did_you_mean(unknown[1], sorted(_keys(struct)))


def _keys(struct: Any) -> set[str]:
    """All keys a struct and the structs inside it accept; a typo is rarely far from the right table."""
    names: set[str] = set()
    pending, seen = [msgspec.inspect.type_info(struct)], set()
    while pending:
        info = pending.pop()
        if isinstance(info, msgspec.inspect.StructType) and info.cls not in seen:
            seen.add(info.cls)
            names.update(f.encode_name for f in info.fields)
            pending.extend(f.type for f in info.fields)
        pending.extend(getattr(info, "types", ()))
        pending.extend(t for t in (getattr(info, "value_type", None), getattr(info, "item_type", None)) if t)
    return names
