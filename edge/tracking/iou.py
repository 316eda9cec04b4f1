"""The plain IoU tracker (Bochinski et al., 2017): what overlaps the last box most is the same object.

No motion model: for frames that come quickly beside how fast things move. Differs from the paper in that pairs are
chosen for the most overlap together, not one after the other.
"""

from typing import ClassVar

import msgspec
import numpy as np

from edge.config import TrackingSection
from edge.detections import Detections
from edge.tracking.affinity import Affinity
from edge.tracking.assignment import assign, default_solver
from edge.tracking.base import score_limits
from edge.tracking.table import TrackTable

__all__ = ["IouTracker"]


class IouTracker:
    """Overlap with the box a track was last seen at, over arrays made once; see `edge.tracking.base.Tracker`.

    It publishes boxes as they were detected, does not predict, and has no use for weak detections nor for the camera's
    motion.
    """

    predicts: ClassVar[bool] = False

    def __init__(self, settings: TrackingSection, capacity: int, keypoint_count: int = 0) -> None:
        self._settings, self._least = settings, settings.min_iou
        _, self.low_score, self._new = score_limits(settings)
        self._boxes = np.zeros((settings.max_tracks, 4), np.float32)
        self._table = TrackTable(settings, (self._boxes,))
        self._affinity = Affinity(settings.max_tracks, capacity, settings.class_aware)
        self._solver = default_solver()

    def set_high_score(self, score: float) -> None:
        """Let a detection from this score on count as seen; tracks go on."""
        limits = score_limits(msgspec.structs.replace(self._settings, high_score=score))
        _, self.low_score, self._new = limits

    @property
    def next_id(self) -> int:
        """The number the next track gets."""
        return self._table.next_id

    @next_id.setter
    def next_id(self, number: int) -> None:
        """Go on with this number, which is higher than those given."""
        self._table.next_id = number

    def reset(self) -> None:
        """Forget all tracks; numbers go on."""
        self._table.clear()

    def update(
        self,
        detections: Detections,
        into: Detections,
        t_capture_ns: int,
        current_from_previous: np.ndarray | None = None,
    ) -> None:
        """Take one frame's detections and refill `into` with what is tracked; see `Tracker.update`.

        current_from_previous: (3, 3) float64 homography; not used.
        """
        table, n = self._table, detections.count
        table.expire(t_capture_ns)
        strong = (detections.scores[:n] >= self.low_score).nonzero()[0]
        count = table.count
        iou = self._affinity.iou(self._boxes[:count].T, table.class_ids[:count], detections)
        found, chosen = assign(iou[:, strong], self._solver, self._least)
        columns = strong[chosen]
        born = np.delete(strong, chosen)
        born = born[detections.scores[born] >= self._new]
        table.class_ids[found] = detections.class_ids[columns]
        rows = table.settle(found, t_capture_ns, len(born))
        fresh = table.add(detections.class_ids[born], t_capture_ns)
        rows += range(fresh.start, fresh.stop)
        columns = np.concatenate([columns, born[: fresh.stop - fresh.start]])
        self._boxes[rows] = detections.xyxy[columns]
        ids = table.ids[rows]
        shown = (ids >= 0).nonzero()[0]
        shown = shown[columns[shown].argsort()][: into.capacity]
        into.take(detections, columns[shown])
        into.track_ids[: into.count] = ids[shown]
