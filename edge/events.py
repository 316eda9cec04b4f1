"""What a track did to a region of the picture; it knows neither tracker nor geometry."""

from dataclasses import dataclass, field
from typing import Literal

__all__ = ["Direction", "RegionEvent"]

Direction = Literal["", "left_to_right", "right_to_left"]


@dataclass(frozen=True, slots=True)
class RegionEvent:
    """What a track did to a region.

    t_capture_ns (CLOCK_MONOTONIC) is of the frame on which it was first seen to have done so. direction: of a crossing,
    looking from the line's first point to its second. dwell_s: how long it had been inside, for leave and dwell.
    lost: it did not leave, it was not seen any more since t_capture_ns. index: of the region among all that are
    configured. inside: how many tracks are in the zone after the frame that told, None for lines.
    """

    region: str
    kind: Literal["enter", "leave", "cross", "dwell"]
    track_id: int
    class_id: int
    t_capture_ns: int
    direction: Direction = ""
    dwell_s: float = 0.0
    lost: bool = False
    index: int = field(default=0, compare=False)
    inside: int | None = field(default=None, compare=False)
