"""What a YOLO `data.yaml` says, in the spellings in use, without a parser of all of YAML."""

import re
from collections.abc import Iterator
from pathlib import Path

from edge.errors import ConfigError
from edge.evaluation.datasets import read_text

__all__ = ["class_count_of_yaml", "has_keypoints", "names_of_yaml", "paths_of_yaml"]

_QUOTED = r"""'(?:[^']|'')*'|"[^"]*\""""
_WORD = re.compile(rf"\s*(?:['\"]?(\d+)['\"]?\s*:\s+)?({_QUOTED}|[^,\[\]{{}}'\"]+?)\s*(?:,|$)")
_LINE = re.compile(rf"\s*(?:-|['\"]?(\d+)['\"]?\s*:)\s+({_QUOTED}|.*?)\s*(?:\s#.*)?$")
_PATH = re.compile(rf"['\"]?(path|train|val|test)['\"]?\s*:\s+({_QUOTED}|[^\[\s].*?)\s*(?:\s#.*)?$")


def names_of_yaml(folder: Path) -> list[str]:
    """Return the names in `data.yaml` (or .yml) in a folder, else in the one above; [] without the file.

    folder: or the file itself, whatever it is called; so in all functions here.

    Raises: ConfigError naming the line that is in an unknown form, and where class numbers are missing or twice there.
    """
    path = _yaml_of(folder, folder.absolute().parent)
    if path is None:
        return []
    lines = read_text(path).splitlines()
    start = next((i for i, line in enumerate(lines) if re.match(r"['\"]?names['\"]?\s*:", line)), None)
    if start is None:
        return []
    inline = re.sub(r"\s#.*", "", lines[start].partition(":")[2]).strip()
    entries = list(_on_one_line(inline, path, start + 1) if inline else _on_lines(lines, path, start + 1))
    numbers = [int(number) if number else i for i, (number, _) in enumerate(entries)]
    if sorted(numbers) != list(range(len(numbers))):
        raise ConfigError(f"{path}: the class numbers of names have gaps, or one is twice there", "number from 0")
    return [_plain(word) for _, (_, word) in sorted(zip(numbers, entries, strict=True))]


def class_count_of_yaml(folder: Path) -> int | None:
    """Return the `nc` of a `data.yaml` in a folder, else of that in the one above; None where nothing says it.

    Raises: ConfigError when it cannot be read.
    """
    path = _yaml_of(folder, folder.absolute().parent)
    stated = (
        [re.match(r"['\"]?nc['\"]?\s*:\s*(\d{1,9})\s*(?:#|$)", n) for n in read_text(path).splitlines()] if path else []
    )
    return next((int(entry[1]) for entry in stated if entry), None)


def has_keypoints(folder: Path) -> bool:
    """Return whether a `data.yaml` in a folder, or in the one above, says that labels have keypoints after the box.

    Raises: ConfigError when it cannot be read.
    """
    path = _yaml_of(folder, folder.absolute().parent)
    return path is not None and any(re.match(r"['\"]?kpt_shape['\"]?\s*:", n) for n in read_text(path).splitlines())


def paths_of_yaml(folder: Path) -> dict[str, Path]:
    """Return the folder of pictures, or the list of them, of each split that a folder's own `data.yaml` names.

    Only what is there: exported files often keep the paths of the machine they were written on.
    Raises: ConfigError when it cannot be read.
    """
    path = _yaml_of(folder)
    entries = map(_PATH.match, read_text(path).splitlines() if path else [])
    stated = {entry[1]: _plain(entry[2]) for entry in entries if entry}
    folder = path.parent if path else folder
    root = folder / stated.pop("path", "")
    found = {}
    for name, value in stated.items():
        places = (root / value, folder / value, folder / value.removeprefix("../"))
        place = next((p for p in places if p.is_dir() or (p.suffix == ".txt" and p.is_file())), None)
        if place:
            found[name] = place
    return found


def _yaml_of(*folders: Path) -> Path | None:
    return next((p for f in folders for p in (f, f / "data.yaml", f / "data.yml") if p.is_file()), None)


def _on_one_line(text: str, path: Path, number: int) -> Iterator[tuple[str | None, str]]:
    """The number, None in a list, and the name of each entry of [first, second] or {0: first, 1: second}."""
    inner, at = text[1:-1].strip().removesuffix(","), 0
    known = text[0] + text[-1] in ("[]", "{}")
    while not known or at < len(inner):
        entry = _WORD.match(inner, at) if known else None
        if entry is None or (entry[1] is not None) != (text[0] == "{"):
            cure = "write names: [first, second] on one line"
            raise ConfigError(f"{path}:{number} has names in an unknown form", cure)
        yield entry[1], entry[2]
        at = entry.end()


def _on_lines(lines: list[str], path: Path, start: int) -> Iterator[tuple[str | None, str]]:
    """The same of the lines behind `names:`, each '- name' or '0: name'."""
    for number, line in enumerate(lines[start:], start + 1):
        entry = _LINE.match(line)
        if entry and entry[2]:
            yield entry[1], entry[2]
        elif line.strip() and not line.lstrip().startswith("#"):
            if line[0].isspace():
                raise ConfigError(f"{path}:{number} is not a class name", "write '- name' or '0: name'")
            break


def _plain(word: str) -> str:
    """A name without its quotes."""
    quote = word[:1] if len(word) > 1 and word[:1] == word[-1:] and word[:1] in "'\"" else ""
    return word[1:-1].replace("''", "'") if quote == "'" else word[1:-1] if quote else word
