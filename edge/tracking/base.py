"""The contract every tracker keeps."""

from typing import ClassVar, Protocol

import msgspec
import numpy as np

from edge.config import TrackingSection
from edge.detections import Detections
from edge.registry import resolve

__all__ = ["Tracker", "open_tracker", "score_limits"]

HIGH_SCORE = 0.5  # where neither the settings nor a model say what counts as seen


class Tracker(Protocol):
    """Says which detections are the same object as before, by giving them the same track_ids.

    Built from the settings, how many detections a frame may have, and how many keypoints
    each has. predicts: whether it fills `into.motion`. low_score: the weakest detections it makes use of. next_id: the
    number the next track gets; one that goes on from another tracker is told where that one stopped.
    """

    predicts: ClassVar[bool]
    low_score: float
    next_id: int

    def __init__(self, settings: TrackingSection, capacity: int, keypoint_count: int = 0) -> None: ...

    def update(
        self,
        detections: Detections,
        into: Detections,
        t_capture_ns: int,
        current_from_previous: np.ndarray | None = None,
    ) -> None:
        """Take one frame's detections (xyxy, source px) and refill `into`, another object, with what is tracked.

        Each row of `into` is an object seen on this frame, in the order of the detections, with the number of its
        track in track_ids. No number is given to a second track. t_capture_ns (CLOCK_MONOTONIC) does not go back.
        current_from_previous: (3, 3) float64 homography, px to px, of the camera's own motion since the last frame,
        where that is known.
        """

    def set_high_score(self, score: float) -> None:
        """Let a detection from this score (0 to 1) on count as seen, from the next frame on; tracks go on.

        low_score goes down with it where it would be higher, as `score_limits` has it.
        """

    def reset(self) -> None:
        """Forget all tracks, as after a jump of the camera; numbers go on."""


def open_tracker(
    settings: TrackingSection | None, score: float, capacity: int, keypoint_count: int, before: Tracker | None = None
) -> Tracker | None:
    """Return the tracker that is configured, None for none.

    Where it has no high_score, what has `score` (0 to 1) counts as seen. before: whose numbers go on, so that none is
    given twice.
    Raises: ConfigError for a name that no tracker has.
    """
    if settings is None:
        return None
    if settings.high_score is None:
        settings = msgspec.structs.replace(settings, high_score=score)
    tracker: Tracker = resolve("trackers", settings.tracker)(settings, capacity, keypoint_count)
    if before:
        tracker.next_id = before.next_id
    return tracker


def score_limits(settings: TrackingSection) -> tuple[float, float, float]:
    """Return the scores from which a detection keeps a track going, counts as seen, and begins a track."""
    high = HIGH_SCORE if settings.high_score is None else settings.high_score
    return min(settings.low_score, high), high, max(high, settings.new_score or 0.0)
