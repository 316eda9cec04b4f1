"""The findings as a table for people, and as JSON."""

import re
import textwrap
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from itertools import groupby
from typing import Any

from edge.doctor.finding import LEVELS, Finding

__all__ = ["as_json", "report_text", "summary"]

_COLOUR = {"ok": "32", "note": "36", "warning": "33", "problem": "1;31"}
_TITLES = {
    "python": "Python and packages",
    "video": "OpenCV and GStreamer",
    "nvidia": "NVIDIA",
    "edgetpu": "Edge TPU",
    "heat": "temperature",
    "service": "systemd",
    "config": "configuration",
    "doctor": "what could not be looked at",
}
_LEVEL_WIDTH = max(map(len, LEVELS))
_MOST_SUBJECT = 24
_MOST_WIDTH = 120


def summary(findings: Iterable[Finding]) -> dict[str, int]:
    """Return how many findings there are of each level, the gravest first."""
    counts = Counter(finding.level for finding in findings)
    return {level: counts[level] for level in reversed(LEVELS)}


def as_json(findings: Sequence[Finding], version: str, root: str) -> dict[str, Any]:
    """Return the report as docs/doctor.md describes it."""
    return {
        "format": 1,
        "harrier": version,
        "root": root,
        "summary": summary(findings),
        "findings": [asdict(finding) for finding in findings],
    }


def report_text(findings: Sequence[Finding], width: int, colour: bool) -> str:
    """Return all findings by group, then what to do, the gravest last, then one line that sums up.

    width: of the terminal, in characters.
    """
    width = max(60, min(width, _MOST_WIDTH))
    indent = 2 + _LEVEL_WIDTH + 2 + min(_MOST_SUBJECT, max((len(f.subject) for f in findings), default=0)) + 2
    lines = []
    order = list(dict.fromkeys(finding.group for finding in findings))
    for group, members in groupby(sorted(findings, key=lambda f: order.index(f.group)), key=lambda f: f.group):
        lines += ["", _painted(_TITLES.get(group, group), "1", colour)]
        for finding in members:
            lines += _row(finding, width, indent, colour)
    todo = sorted((f for f in findings if f.level != "ok" and (f.cure or f.why)), key=lambda f: LEVELS.index(f.level))
    if todo:
        lines += ["", _painted("what to do", "1", colour)]
    for finding in todo:
        lines += _advice(finding, width, colour)
    lines += ["", _summary_line(findings, colour)]
    return "\n".join(lines[1:])


def _row(finding: Finding, width: int, indent: int, colour: bool) -> list[str]:
    head = f"  {_level(finding, colour)}  {_printable(finding.subject):<{indent - _LEVEL_WIDTH - 6}}  "
    body = textwrap.wrap(_printable(finding.found), width - indent, break_on_hyphens=False, break_long_words=False)
    first, *rest = body or [""]
    if len(finding.subject) > _MOST_SUBJECT:
        return [head.rstrip(), *(" " * indent + line for line in body)]
    return [head + first, *(" " * indent + line for line in rest)]


def _advice(finding: Finding, width: int, colour: bool) -> list[str]:
    head = f"  {_level(finding, colour)}  "
    indent = " " * (4 + _LEVEL_WIDTH)
    lines = []
    for text in filter(None, (f"{finding.subject}: {finding.found}", finding.why)):
        lines += textwrap.wrap(_printable(text), width - len(indent), break_on_hyphens=False, break_long_words=False)
    lines = [head + lines[0], *(indent + line for line in lines[1:])]
    # a cure stays on its line: so it can be copied
    return [*lines, f"{indent}-> {_painted(_printable(finding.cure), '1', colour)}"] if finding.cure else lines


def _summary_line(findings: Sequence[Finding], colour: bool) -> str:
    words = []
    for level, count in summary(findings).items():
        if count or level == "problem":
            name = level if count == 1 or level == "ok" else f"{level}s"
            words.append(_painted(f"{count} {name}", _COLOUR[level], colour and count > 0))
    return ", ".join(words)


def _level(finding: Finding, colour: bool) -> str:
    return _painted(f"{finding.level:<{_LEVEL_WIDTH}}", _COLOUR[finding.level], colour)


def _painted(text: str, code: str, colour: bool) -> str:
    return f"\x1b[{code}m{text}\x1b[0m" if colour else text


def _printable(text: str) -> str:
    """The text without control characters: a device's name is what its maker, or a stranger, wrote into it."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f]+", " ", text)
