"""What came of one job: the file, or why there is none."""

from dataclasses import dataclass, field
from typing import Any

from edge.manifest import Target

__all__ = ["Made"]


@dataclass(slots=True)
class Made:
    """One target as it was made. target None: it could not be made here, for the reason in `missing`.

    source: the target it was made from, whose accuracy is its own.

    kept_float: layers that stayed in float. frontier: what a search found, rows of kept (a number), fidelity,
    latency_ms and chosen. details: what the format's own tool said, ready for JSON.
    """

    name: str
    target: Target | None = None
    missing: str = ""
    source: str = ""
    observer: str = ""
    kept_float: list[str] = field(default_factory=list)
    frontier: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)
