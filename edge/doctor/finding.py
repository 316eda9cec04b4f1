"""What a check found: a level, the fact, why it matters, and what cures it."""

from dataclasses import dataclass
from typing import Literal

__all__ = ["LEVELS", "Finding", "Level", "note", "ok", "problem", "warning"]

Level = Literal["ok", "note", "warning", "problem"]

LEVELS: tuple[Level, ...] = ("ok", "note", "warning", "problem")
"""From harmless to grave: problem means that something does not work, warning that it works badly or at times."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report. id: the check, as docs/doctor.md lists it; subject: which device, file or service.

    cure begins with the command to give, where one command does it.
    """

    id: str
    level: Level
    subject: str
    found: str
    why: str = ""
    cure: str = ""

    @property
    def group(self) -> str:
        """The first part of the id."""
        return self.id.partition(".")[0]


def ok(name: str, subject: str, found: str) -> Finding:
    """Return a finding that needs nothing."""
    return Finding(name, "ok", subject, found)


def note(name: str, subject: str, found: str, why: str = "", cure: str = "") -> Finding:
    """Return a finding that is worth knowing."""
    return Finding(name, "note", subject, found, why, cure)


def warning(name: str, subject: str, found: str, why: str, cure: str) -> Finding:
    """Return a finding that makes things slow, uncertain or harder than they need to be."""
    return Finding(name, "warning", subject, found, why, cure)


def problem(name: str, subject: str, found: str, why: str, cure: str) -> Finding:
    """Return a finding that keeps something from working."""
    return Finding(name, "problem", subject, found, why, cure)
