"""What a source says about itself: states, events and counters."""

from dataclasses import dataclass
from typing import Literal

__all__ = ["SourceEvent", "SourceState", "SourceStats"]

SourceState = Literal["connecting", "streaming", "stalled", "lost", "ended", "closed"]


@dataclass(frozen=True, slots=True)
class SourceEvent:
    """A change of state, or something to know in the same state; t_ns is CLOCK_MONOTONIC."""

    state: SourceState
    reason: str
    t_ns: int


@dataclass(frozen=True, slots=True)
class SourceStats:
    """Counters since the start.

    captured: frames given a sequence number. delivered: those read. dropped: those replaced unread by newer
    ones. corrupt: frames that could not be decoded, never numbered. reconnects: streams that came back after
    a loss. abandoned: capture threads that hung and were left behind.
    """

    captured: int
    delivered: int
    dropped: int
    corrupt: int
    reconnects: int
    abandoned: int
