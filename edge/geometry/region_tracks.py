"""On which side of every zone and line each track is, with hysteresis, for a bounded number of tracks."""

from dataclasses import dataclass

import numpy as np

__all__ = ["Change", "RegionTracks"]


@dataclass(frozen=True, slots=True)
class Change:
    """A track is on side `side` (1 inside or right, -1 outside or left) of a region now; before: the side it left.

    t_ns: when it was first seen there. t_before_ns: when it came to the side it left. way (2, 2) float64: the last
    point on that side and the present one, px. lost: the track is gone. stays: it has been there for the whole dwell.
    """

    region: int
    track_id: int
    class_id: int
    side: int
    before: int
    t_ns: int
    t_before_ns: int
    way: np.ndarray
    lost: bool = False
    stays: bool = False


class RegionTracks:
    """The memory of `Regions`: arrays over (tracks, regions), made once; the track unseen for longest makes room."""

    def __init__(self, settle_ns: np.ndarray, dwell_ns: np.ndarray, lost_ns: np.ndarray, tracks: int) -> None:
        """Take times (regions,) int64 in ns: to settle on a side, to stay until told (0: never), to be gone."""
        self._settle_ns, self._dwell_ns, self._lost_ns = settle_ns, dwell_ns, lost_ns
        shape = (tracks, len(settle_ns))
        self._slots: dict[int, int] = {}
        self._free = list(range(tracks))
        self._ids = np.full(tracks, -1, np.int64)
        self._classes = np.zeros(tracks, np.int64)
        self._seen_ns = np.zeros(tracks, np.int64)
        self._side = np.zeros(shape, np.int8)  # 0 where not known
        self._since_ns = np.zeros(shape, np.int64)  # when it came to that side
        self._other_ns = np.full(shape, -1, np.int64)  # when it was first seen on another side; -1: it is not
        self._told = np.zeros(shape, bool)  # that it stays
        self._points = np.zeros((*shape, 2))

    def update(
        self, track_ids: list[int], classes: np.ndarray, sides: np.ndarray, points: np.ndarray, t_ns: int
    ) -> list[Change]:
        """Return what changed with a frame at t_ns.

        track_ids and classes (N,) int64; sides (N, regions) int8, 0 where the track is too near an edge to tell;
        points (N, regions, 2) float64, px.
        """
        changes = self._forget(t_ns)
        rows = np.array([self._slots.get(track_id, -1) for track_id in track_ids], np.int64)
        self._seen_ns[rows[rows >= 0]] = t_ns  # first, so that none of these makes room for a new one
        for i in np.flatnonzero(rows < 0).tolist():
            rows[i] = self._row(track_ids[i], t_ns, changes)
        self._classes[rows] = classes
        old = self._side[rows]
        other = (sides != 0) & (sides != old)
        if other.any() or (self._other_ns[rows] >= 0).any():
            self._settle(rows, other, sides, points, t_ns, changes)
        keeps = (self._side[rows] == sides)[..., None]
        self._points[rows] = np.where(keeps, points, self._points[rows])
        if self._dwell_ns.any():
            self._tell_who_stays(rows, points, t_ns, changes)
        return changes

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
            row, t_first_ns = int(rows[i]), int(first[i, region])
            way = np.stack([self._points[row, region], points[i, region]])
            changes.append(self._change(row, region, int(sides[i, region]), t_first_ns, way))
            self._side[row, region], self._since_ns[row, region] = sides[i, region], t_first_ns
            self._told[row, region] = False
        self._other_ns[rows] = np.where(settled, -1, first)

    def _tell_who_stays(self, rows: np.ndarray, points: np.ndarray, t_ns: int, changes: list[Change]) -> None:
        stays = (self._side[rows] > 0) & ~self._told[rows] & (self._dwell_ns > 0)
        stays &= t_ns - self._since_ns[rows] >= self._dwell_ns
        for i, region in np.argwhere(stays).tolist():
            changes.append(self._change(int(rows[i]), region, 1, t_ns, points[[i, i], region], stays=True))
            self._told[rows[i], region] = True

    def _row(self, track_id: int, t_ns: int, changes: list[Change]) -> int:
        """A row for a new track."""
        if not self._free:
            self._drop(min(self._slots.values(), key=lambda r: int(self._seen_ns[r])), changes)
        row = self._slots[track_id] = self._free.pop()
        self._ids[row], self._seen_ns[row] = track_id, t_ns
        self._side[row], self._other_ns[row], self._told[row] = 0, -1, False
        return row

    def _forget(self, t_ns: int) -> list[Change]:
        """Let go of tracks that are gone; a region that waits less long for them loses them earlier."""
        changes: list[Change] = []
        rows = np.fromiter(self._slots.values(), np.int64, len(self._slots))
        unseen_ns = t_ns - self._seen_ns[rows]
        for i in np.flatnonzero(unseen_ns > self._lost_ns.min()).tolist():
            if unseen_ns[i] > self._lost_ns.max():
                self._drop(int(rows[i]), changes)
            else:
                self._lose(int(rows[i]), unseen_ns[i] > self._lost_ns, changes)
        return changes

    def _drop(self, row: int, changes: list[Change]) -> None:
        self._lose(row, np.ones(len(self._lost_ns), bool), changes)
        del self._slots[int(self._ids[row])]
        self._free.append(row)

    def _lose(self, row: int, gone: np.ndarray, changes: list[Change]) -> None:
        for region in np.flatnonzero(gone & (self._side[row] != 0)).tolist():
            way = self._points[row, [region, region]]
            changes.append(self._change(row, region, -1, int(self._seen_ns[row]), way, lost=True))
        self._side[row, gone] = 0

    def _change(
        self, row: int, region: int, side: int, t_ns: int, way: np.ndarray, lost: bool = False, stays: bool = False
    ) -> Change:
        before, since_ns = int(self._side[row, region]), int(self._since_ns[row, region])
        track_id, class_id = int(self._ids[row]), int(self._classes[row])
        return Change(region, track_id, class_id, side, before, t_ns, since_ns, way, lost, stays)
