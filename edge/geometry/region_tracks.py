"""On which side of every zone and line each track is, with hysteresis, for a bounded number of tracks."""

import math
from dataclasses import dataclass

import numpy as np

__all__ = ["Change", "RegionTracks"]


@dataclass(frozen=True, slots=True)
class Change:
    """A track is on side `side` (1 inside or right, -1 outside or left) of a region now; before: the side it left.

    t_ns: when it was first seen there. t_before_ns: when it came to the side it left. way: of a line, two points (2,)
    float64, the last on that side and the present one, px. lost: the track is gone. stays: it has been there for the
    whole dwell.
    """

    region: int
    track_id: int
    class_id: int
    side: int
    before: int
    t_ns: int
    t_before_ns: int
    way: tuple[np.ndarray, ...] = ()
    lost: bool = False
    stays: bool = False


class RegionTracks:
    """The memory of `Regions`: arrays over (tracks, regions), made once; the track unseen for longest makes room.

    Regions from `zones` on are lines. Most frames change nothing, so what only time can bring about (tracks that are
    gone, or stay) is looked for when it is due.
    """

    def __init__(
        self, settle_ns: np.ndarray, dwell_ns: np.ndarray, lost_ns: np.ndarray, tracks: int, zones: int
    ) -> None:
        """Take times (regions,) int64 in ns: to settle on a side, to stay until told (0: never), to be gone."""
        self._settle_ns, self._dwell_ns, self._lost_ns = settle_ns, dwell_ns, lost_ns
        self._least_lost_ns = int(lost_ns.min()) if len(lost_ns) else 0
        self._most_lost_ns = int(lost_ns.max()) if len(lost_ns) else 0
        self._zones = zones
        shape = (tracks, len(settle_ns))
        self._slots: dict[int, int] = {}
        self._free = list(range(tracks))
        self._ids = [-1] * tracks
        self._classes = [0] * tracks
        self._seen_ns = [0] * tracks
        self._side = np.zeros(shape, np.int8)  # 0 where not known
        self._since_ns = np.zeros(shape, np.int64)  # when it came to that side
        self._other_ns = np.full(shape, -1, np.int64)  # when it was first seen on another side; -1: it is not
        self._told = np.zeros(shape, bool)  # that it stays
        self._points = np.zeros((tracks, shape[1] - zones, 2))
        self._unsettled = False  # whether any has been on another side, not yet for long enough
        self._forget_ns: float = math.inf  # not before this a track can be gone,
        self._dwell_due_ns: float = math.inf  # nor one have stayed

    def inside(self, region: int) -> int:
        """Return how many tracks are inside of a zone."""
        return int(np.count_nonzero(self._side[:, region] > 0))

    def update(
        self, track_ids: list[int], classes: list[int], sides: np.ndarray, points: np.ndarray, t_ns: int
    ) -> list[Change]:
        """Return what changed with a frame at t_ns.

        sides (N, regions) int8, 0 where the track is too near an edge to tell; points (N, lines, 2) float64, px.
        """
        changes: list[Change] = []
        rows = self._rows(track_ids, classes, t_ns, changes)  # first: who is seen again is not gone, whatever the gap
        if t_ns > self._forget_ns:
            self._forget(t_ns, changes)
        at = np.array(rows, np.int64)
        other = sides != self._side.take(at, axis=0)
        changing = self._unsettled or np.count_nonzero(other)  # quicker than any()
        if changing:
            other &= sides != 0
            if self._unsettled or np.count_nonzero(other):
                self._settle(at, other, sides, points, t_ns, changes)
        if points.size and changing:
            keeps = self._side.take(at, axis=0)[:, self._zones :] == sides[:, self._zones :]
            points = np.where(keeps[..., None], points, self._points.take(at, axis=0))
        if points.size:
            self._points[at] = points
        if t_ns >= self._dwell_due_ns:
            self._tell_who_stays(at, t_ns, changes)
        return changes

    def drop_all(self) -> list[Change]:
        """Forget every track, and return what that changes: those that were inside are lost."""
        changes: list[Change] = []
        for row in list(self._slots.values()):
            self._drop(row, changes)
        self._forget_ns = math.inf
        return changes

    def _rows(self, track_ids: list[int], classes: list[int], t_ns: int, changes: list[Change]) -> list[int]:
        rows = [self._slots.get(track_id, -1) for track_id in track_ids]
        for row, class_id in zip(rows, classes, strict=True):
            if row >= 0:
                self._seen_ns[row] = t_ns  # first, so that none of these makes room for a new one
                self._classes[row] = class_id
        if -1 in rows:
            for i, row in enumerate(rows):
                if row < 0:
                    rows[i] = row = self._row(track_ids[i], t_ns, changes)
                    self._classes[row] = classes[i]
        return rows

    def _settle(
        self,
        rows: np.ndarray,
        other: np.ndarray,
        sides: np.ndarray,
        points: np.ndarray,
        t_ns: int,
        changes: list[Change],
    ) -> None:
        """Take over the sides of those that have been on another for long enough."""
        first = self._other_ns[rows]
        first = np.where(other, np.where(first < 0, t_ns, first), -1)
        settled = other & (t_ns - first >= self._settle_ns)
        for i, region in np.argwhere(settled).tolist():
            row, t_first_ns, line = int(rows[i]), int(first[i, region]), region - self._zones
            way = (self._points[row, line].copy(), points[i, line]) if line >= 0 else ()
            changes.append(self._change(row, region, int(sides[i, region]), t_first_ns, way))
            self._side[row, region], self._since_ns[row, region] = sides[i, region], t_first_ns
            self._told[row, region] = False
            if sides[i, region] > 0 and self._dwell_ns[region]:
                self._dwell_due_ns = min(self._dwell_due_ns, t_first_ns + int(self._dwell_ns[region]))
        self._other_ns[rows] = np.where(settled, -1, first)
        self._unsettled = bool((self._other_ns >= 0).any())

    def _tell_who_stays(self, rows: np.ndarray, t_ns: int, changes: list[Change]) -> None:
        waiting = (self._side > 0) & ~self._told & (self._dwell_ns > 0)
        stays = waiting[rows] & (t_ns - self._since_ns[rows] >= self._dwell_ns)
        for i, region in np.argwhere(stays).tolist():
            changes.append(self._change(int(rows[i]), region, 1, t_ns, stays=True))
            self._told[rows[i], region] = True
            waiting[rows[i], region] = False
        due = (self._since_ns + self._dwell_ns)[waiting]
        self._dwell_due_ns = int(due.min()) if len(due) else math.inf

    def _row(self, track_id: int, t_ns: int, changes: list[Change]) -> int:
        """A row for a new track."""
        if not self._free:
            self._drop(min(self._slots.values(), key=self._seen_ns.__getitem__), changes)
        row = self._slots[track_id] = self._free.pop()
        self._ids[row], self._seen_ns[row] = track_id, t_ns
        self._side[row], self._other_ns[row], self._told[row] = 0, -1, False
        self._forget_ns = min(self._forget_ns, t_ns + self._least_lost_ns)
        return row

    def _forget(self, t_ns: int, changes: list[Change]) -> None:
        """Let go of tracks that are gone; a region that waits less long for them loses them earlier."""
        for row in list(self._slots.values()):
            unseen_ns = t_ns - self._seen_ns[row]
            if unseen_ns > self._most_lost_ns:
                self._drop(row, changes)
            elif unseen_ns > self._least_lost_ns:
                self._lose(row, unseen_ns > self._lost_ns, changes)
        seen = [self._seen_ns[row] for row in self._slots.values()]
        self._forget_ns = min(seen) + self._least_lost_ns if seen else math.inf

    def _drop(self, row: int, changes: list[Change]) -> None:
        self._lose(row, np.ones(len(self._lost_ns), bool), changes)
        del self._slots[self._ids[row]]
        self._free.append(row)

    def _lose(self, row: int, gone: np.ndarray, changes: list[Change]) -> None:
        regions = np.flatnonzero(gone & (self._side[row] != 0)).tolist()
        changes.extend(self._change(row, region, -1, self._seen_ns[row], lost=True) for region in regions)
        self._side[row, gone] = 0

    def _change(
        self,
        row: int,
        region: int,
        side: int,
        t_ns: int,
        way: tuple[np.ndarray, ...] = (),
        lost: bool = False,
        stays: bool = False,
    ) -> Change:
        before, since_ns = int(self._side[row, region]), int(self._since_ns[row, region])
        return Change(
            region, self._ids[row], self._classes[row], side, before, t_ns, since_ns, way, lost=lost, stays=stays
        )
