"""ByteTrack (Zhang et al., 2022): strong detections first, then weak ones for the tracks that found none.

Beside the paper's method: real time between frames, classes, the camera's own motion, keypoints, and for every box how
it moves and how sure that is.
"""

from typing import ClassVar

import msgspec
import numpy as np

from edge.config import TrackingSection
from edge.detections import Detections
from edge.tracking.affinity import Affinity, nearness
from edge.tracking.assignment import assign, default_solver
from edge.tracking.base import score_limits
from edge.tracking.kalman import BoxFilter, xywh_of, xyxy_of
from edge.tracking.table import CONFIRMED, LOST, TENTATIVE, TrackTable

__all__ = ["ByteTracker"]

Pairs = tuple[list[int], list[int]]


class ByteTracker:
    """The tracker of the paper, over arrays made once; see `edge.tracking.base.Tracker`."""

    predicts: ClassVar[bool] = True

    def __init__(self, settings: TrackingSection, capacity: int, keypoint_count: int = 0) -> None:
        self.settings = settings
        self._take_limits(settings)
        self._filter = BoxFilter(settings.max_tracks)
        self._points = np.zeros((settings.max_tracks, keypoint_count, 2))  # in parts of the box, from its centre
        self._table = TrackTable(settings, (self._filter.state, self._points))
        self._affinity = Affinity(settings.max_tracks, capacity, settings.class_aware)
        self._solver = default_solver()
        self._coast_ns = int(settings.coast_s * 1e9)
        self._t_ns: int | None = None

    def set_high_score(self, score: float) -> None:
        """Let a detection from this score on count as seen; tracks go on."""
        self._take_limits(msgspec.structs.replace(self.settings, high_score=score))

    def _take_limits(self, settings: TrackingSection) -> None:
        # in the precision of the scores: what has just the score counts
        self.low_score, self._high, self._new = (float(np.float32(limit)) for limit in score_limits(settings))

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
        seen, scores = xywh_of(detections.xyxy[:count]), detections.scores[:count].tolist()
        rows, columns, free = self._associate(detections, seen, scores)
        born = [column for column in free if scores[column] >= self._new]
        rows = table.settle(rows, t_capture_ns, len(born))
        if rows:
            at, of = np.array(rows), np.array(columns)
            if not self.settings.class_aware:
                table.class_ids[at] = detections.class_ids[of]
            gains = self._filter.update(at, seen.take(of, axis=0), detections.scores.take(of))
            self._take_points(at, of, gains, detections)
        if born:
            fresh = table.add(detections.class_ids[born], t_capture_ns)
            new = list(range(fresh.start, fresh.stop))
            born = born[: len(new)]
            self._filter.start(fresh, seen[born], detections.scores[born])
            self._take_points(np.array(new, int), np.array(born, int), np.ones(len(born)), detections)
            rows, columns = rows + new, columns + born
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
            self._filter.stand(n)
        else:
            self._filter.warp(n, current_from_previous, dt_s)

    def _associate(
        self, detections: Detections, seen: np.ndarray, scores: list[float]
    ) -> tuple[list[int], list[int], list[int]]:
        """Rows and detections that belong together, and the strong detections that are left.

        seen (M, 4) float64 xywh are the detections.
        """
        settings, states = self.settings, self._table.states
        n = len(states)
        low, high = self.low_score, self._high
        strong = [column for column, score in enumerate(scores) if score >= high]
        if not n or not scores:
            return [], [], strong
        iou = self._affinity.iou(self._filter.corners(n), self._table.class_ids[:n], detections)
        scored = iou * detections.scores[: len(scores)]  # overlap counts as much as the detection's score
        pairs: Pairs = [], []
        first_tentative = n - states.count(TENTATIVE)
        known = list(range(first_tentative))
        known, strong = self._match(pairs, scored, known, strong, settings.min_iou)
        if known:
            weak = [column for column, score in enumerate(scores) if low <= score < high]
            lost = [row for row in known if states[row] == LOST]
            late = [row for row in known if states[row] != LOST]
            still, _ = self._match(pairs, iou, late, weak, settings.weak_min_iou)
            known = lost + still
        if strong:
            _, strong = self._match(pairs, scored, list(range(first_tentative, n)), strong, settings.min_iou)
        if strong and known and settings.reach:  # not in the paper: near enough, without overlap
            boxes = self._filter.mean[known, :4]
            near = nearness(boxes, self._filter.sigma_px(np.array(known)), seen[strong], settings.reach)
            if settings.class_aware:
                near *= self._table.class_ids[known][:, None] == detections.class_ids[strong]
            _, strong = self._take(pairs, near, known, strong)
        return *pairs, strong

    def _match(
        self, pairs: Pairs, overlap: np.ndarray, rows: list[int], columns: list[int], least: float
    ) -> tuple[list[int], list[int]]:
        """Add to `pairs` those of `rows` and `columns` of most overlap above `least`; the rows and columns left."""
        if not rows or not columns:
            return rows, columns
        n, m = len(rows), len(columns)
        if rows[-1] == n - 1 and columns[-1] == m - 1:  # the first ones: nothing need be gathered
            gain = overlap[:n, :m]
        else:
            gain = overlap.take(rows, axis=0).take(columns, axis=1)
        return self._take(pairs, gain, rows, columns, least)

    def _take(
        self, pairs: Pairs, gain: np.ndarray, rows: list[int], columns: list[int], least: float = 0.0
    ) -> tuple[list[int], list[int]]:
        """Add to `pairs` what is assigned by (N, M) `gain` of `rows` and `columns`; the rows and columns left."""
        some, those = assign(gain, self._solver, least)
        pairs[0].extend([rows[i] for i in some])
        pairs[1].extend([columns[i] for i in those])
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
        self, rows: list[int], columns: list[int], detections: Detections, into: Detections, t_ns: int
    ) -> None:
        """Refill `into` with the confirmed of `rows`, in the order of the detections, then with who is coasting."""
        table, states = self._table, self._table.states
        order = sorted(zip(columns, rows, strict=True))
        shown = [row for _, row in order if states[row] == CONFIRMED][: into.capacity]
        seen, when = len(shown), table.t_seen_ns
        if self._coast_ns:
            coasting = [row for row, s in enumerate(states) if s == LOST and t_ns - when[row] <= self._coast_ns]
            shown += coasting[: into.capacity - seen]
        n = into.count = len(shown)
        if not n:
            return
        at = np.array(shown)
        boxes = xyxy_of(self._filter.mean[at, :4]) if into.motion is None else self._filter.tell_motion(at, into.motion)
        into.xyxy[:n] = boxes
        if into.keypoints is not None:
            state = self._filter.mean[at, None, :4]
            into.keypoints[:n] = state[..., :2] + self._points[at] * state[..., 2:]
        into.scores[:n] = self._filter.score.take(at)
        table.class_ids.take(at, out=into.class_ids[:n], mode="clip")
        table.ids.take(at, out=into.track_ids[:n], mode="clip")
        if not self.settings.smooth:
            found = [column for column, row in order if states[row] == CONFIRMED][:seen]
            into.xyxy[:seen] = detections.xyxy[found]
            if into.keypoints is not None and detections.keypoints is not None:
                into.keypoints[:seen] = detections.keypoints[found]
        if into.motion is not None:
            into.motion.unseen_s[:n] = 0
            if n > seen:
                into.motion.unseen_s[seen:n] = [(t_ns - when[row]) * 1e-9 for row in shown[seen:]]


def _without(values: list[int], places: list[int]) -> list[int]:
    """The values but for those at `places`."""
    if len(places) == len(values):
        return []
    gone = set(places)
    return [value for i, value in enumerate(values) if i not in gone]
