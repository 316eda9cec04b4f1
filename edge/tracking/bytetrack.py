"""ByteTrack (Zhang et al., 2022): strong detections first, then weak ones for the tracks that found none.

Beside the paper's method: real time between frames, classes, the camera's own motion, keypoints, and for every box how
it moves and how sure that is.
"""

from typing import ClassVar

import numpy as np

from edge.config import TrackingSection
from edge.detections import Detections
from edge.tracking.affinity import Affinity, nearness
from edge.tracking.assignment import assign, default_solver
from edge.tracking.base import score_limits
from edge.tracking.kalman import BoxFilter, xywh_of, xyxy_of
from edge.tracking.table import CONFIRMED, LOST, TENTATIVE, TrackTable

__all__ = ["ByteTracker"]


class ByteTracker:
    """The tracker of the paper, over arrays made once; see `edge.tracking.base.Tracker`."""

    predicts: ClassVar[bool] = True

    def __init__(self, settings: TrackingSection, capacity: int, keypoint_count: int = 0) -> None:
        self.settings = settings
        self.low_score, self._high, self._new = score_limits(settings)
        self._filter = BoxFilter(settings.max_tracks)
        self._points = np.zeros((settings.max_tracks, keypoint_count, 2))  # in parts of the box, from its centre
        self._scores = np.zeros(settings.max_tracks, np.float32)  # of the last detection
        self._table = TrackTable(settings, (self._filter.state, self._points, self._scores))
        self._affinity = Affinity(settings.max_tracks, capacity, settings.class_aware)
        self._solver = default_solver()
        self._coast_ns = int(settings.coast_s * 1e9)
        self._t_ns: int | None = None

    def reset(self) -> None:
        """Forget all tracks; numbers go on."""
        self._table.clear()
        self._t_ns = None

    def update(
        self,
        detections: Detections,
        into: Detections,
        t_capture_ns: int,
        current_from_previous: np.ndarray | None = None,
    ) -> None:
        """Take one frame's detections and refill `into` with what is tracked; see `Tracker.update`.

        current_from_previous: (3, 3) float64 homography, px to px, or None.
        """
        table, count = self._table, detections.count
        self._advance(t_capture_ns, current_from_previous)
        seen, scores = xywh_of(detections.xyxy[:count]), detections.scores[:count]
        rows, columns, free = self._associate(detections, seen, scores)
        born = free[scores[free] >= self._new]
        rows = table.settle(rows, detections.class_ids[columns], t_capture_ns, len(born))
        gains = self._filter.update(rows, seen[columns], scores[columns])
        self._take_points(rows, columns, gains, detections)
        if len(born):
            fresh = table.add(detections.class_ids[born], t_capture_ns)
            born, new_rows = born[: fresh.stop - fresh.start], np.arange(fresh.start, fresh.stop)
            self._filter.start(fresh, seen[born])
            self._take_points(new_rows, born, np.ones(len(born)), detections)
            rows, columns = np.concatenate([rows, new_rows]), np.concatenate([columns, born])
        self._scores[rows] = scores[columns]
        self._publish(rows, columns, detections, into, t_capture_ns)

    def _advance(self, t_ns: int, current_from_previous: np.ndarray | None) -> None:
        """Bring all tracks to the time of the new frame."""
        self._table.expire(t_ns)
        n = self._table.count
        dt_s = 0.0 if self._t_ns is None else max(0, t_ns - self._t_ns) / 1e9
        self._t_ns = t_ns
        if not n:
            return
        self._filter.predict(n, dt_s)
        if current_from_previous is None:
            self._filter.flow[:n] = 0
        else:
            self._filter.warp(n, current_from_previous, dt_s)

    def _associate(
        self, detections: Detections, seen: np.ndarray, scores: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Rows and detections (K,) that belong together, and the strong detections (F,) that are left.

        seen (M, 4) float64 xywh are the detections.
        """
        table, settings = self._table, self.settings
        n = table.count
        strong = (scores >= self._high).nonzero()[0]
        if not n or not len(seen):
            return _NONE, _NONE, strong
        states, mean = table.states[:n], self._filter.mean[:n, :4]
        iou = self._affinity.iou(xyxy_of(mean).astype(np.float32), table.class_ids[:n], detections)
        known = (states != TENTATIVE).nonzero()[0]
        pairs: list[tuple[np.ndarray, np.ndarray]] = []
        known, strong = self._match(pairs, iou, known, strong, settings.min_iou, scores)
        if len(known):
            weak = ((scores >= self.low_score) & (scores < self._high)).nonzero()[0]
            lost = states[known] == LOST
            still, _ = self._match(pairs, iou, known[~lost], weak, settings.weak_min_iou, None)
            known = np.concatenate([known[lost], still])
        if len(strong):
            tentative = (states == TENTATIVE).nonzero()[0]
            _, strong = self._match(pairs, iou, tentative, strong, settings.min_iou, scores)
        if len(strong) and len(known) and settings.reach:  # not in the paper: near enough, without overlap
            near = nearness(mean[known], self._filter.sigma_px(known), seen[strong], settings.reach)
            near[iou[known[:, None], strong] < 0] = -1
            some, those = assign(near, self._solver)
            pairs.append((known[some], strong[those]))
            strong = _without(strong, those)
        if not pairs:
            return _NONE, _NONE, strong
        return np.concatenate([rows for rows, _ in pairs]), np.concatenate([columns for _, columns in pairs]), strong

    def _match(
        self,
        pairs: list[tuple[np.ndarray, np.ndarray]],
        iou: np.ndarray,
        rows: np.ndarray,
        columns: np.ndarray,
        least: float,
        scores: np.ndarray | None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Add to `pairs` those of `rows` and `columns` of most overlap above `least`; the rows and columns left.

        scores: where given, overlap counts as much as the detection's score.
        """
        if not len(rows) or not len(columns):
            return rows, columns
        gain = iou[rows[:, None], columns]
        if scores is not None:
            gain *= scores[columns]
        gain -= least
        some, those = assign(gain, self._solver)
        pairs.append((rows[some], columns[those]))
        return _without(rows, some), _without(columns, those)

    def _take_points(self, rows: np.ndarray, columns: np.ndarray, gains: np.ndarray, detections: Detections) -> None:
        """Move the keypoints of `rows` towards those seen, which go along with the box otherwise."""
        if detections.keypoints is None or not len(rows):
            return
        state = self._filter.mean[rows, None, :4]
        seen = (detections.keypoints[columns] - state[..., :2]) / state[..., 2:]
        points = self._points[rows]
        self._points[rows] = points + gains[:, None, None] * (seen - points)

    def _publish(
        self, rows: np.ndarray, columns: np.ndarray, detections: Detections, into: Detections, t_ns: int
    ) -> None:
        """Refill `into` with the confirmed of `rows`, in the order of the detections, then with who is coasting."""
        table = self._table
        shown = (table.states[rows] == CONFIRMED).nonzero()[0]
        shown = shown[columns[shown].argsort()][: into.capacity]
        rows = rows[shown]
        into.take(detections, columns[shown])
        seen = into.count
        if self._coast_ns:
            n = table.count
            lost = (table.states[:n] == LOST).nonzero()[0]
            if len(lost):
                lost = lost[t_ns - table.t_seen_ns[lost] <= self._coast_ns]
                rows = np.concatenate([rows, lost[: into.capacity - seen]])
                into.count = len(rows)
        n = into.count
        first = 0 if self.settings.smooth else seen  # from here on boxes are the filter's
        state = self._filter.mean[rows[first:], :4]
        into.xyxy[first:n] = xyxy_of(state)
        if into.keypoints is not None:
            into.keypoints[first:n] = state[:, None, :2] + self._points[rows[first:]] * state[:, None, 2:]
        if n > seen:
            into.scores[seen:n] = self._scores[rows[seen:]]
            into.class_ids[seen:n] = table.class_ids[rows[seen:]]
        into.track_ids[:n] = table.ids[rows]
        if into.motion is not None:
            self._filter.tell_motion(rows, into.motion)
            into.motion.unseen_s[:n] = (t_ns - table.t_seen_ns[rows]) * 1e-9


_NONE = np.empty(0, np.int64)


def _without(values: np.ndarray, places: np.ndarray) -> np.ndarray:
    """The (N,) values but for those at `places`."""
    left = np.ones(len(values), bool)
    left[places] = False
    return values[left]
