"""The life of tracks: tentative, confirmed, lost, removed; as columns of fixed capacity, a row a track."""

import numpy as np

from edge.config import TrackingSection

__all__ = ["CONFIRMED", "LOST", "TENTATIVE", "TrackTable"]

TENTATIVE, CONFIRMED, LOST = 0, 1, 2

NUMBERS = 1 << 31  # track_ids are int32
NO_TRACK = 0xFFFF  # the binary wire sends the low 16 bits of a number, and this for none


class TrackTable:
    """What is known of each track; rows [0, count) are alive, in order of birth.

    states (T,) int8. ids (T,) int32, -1 until confirmed, so that numbers are not spent on false alarms.
    class_ids (T,) int32. hits (T,) int32: frames it was seen on. t_seen_ns (T,) int64: when last.
    columns: (T, ...) arrays of the tracker's own whose rows go with these.
    """

    def __init__(self, settings: TrackingSection, columns: tuple[np.ndarray, ...] = ()) -> None:
        capacity = settings.max_tracks
        self.capacity = capacity
        self.count = 0
        self.states = np.zeros(capacity, np.int8)
        self.ids = np.full(capacity, -1, np.int32)
        self.class_ids = np.zeros(capacity, np.int32)
        self.hits = np.zeros(capacity, np.int32)
        self.t_seen_ns = np.zeros(capacity, np.int64)
        self._columns: tuple[np.ndarray, ...] = (
            self.states,
            self.ids,
            self.class_ids,
            self.hits,
            self.t_seen_ns,
            *columns,
        )
        self.min_hits = settings.min_hits
        self._max_lost_ns = int(settings.max_lost_s * 1e9)
        self._next_id = 1

    def expire(self, t_ns: int) -> None:
        """Remove those who at t_ns have not been seen for too long."""
        keep = t_ns - self.t_seen_ns[: self.count] <= self._max_lost_ns
        if not keep.all():
            self._keep(keep)

    def settle(self, seen: np.ndarray, class_ids: np.ndarray, t_ns: int, births: int) -> np.ndarray:
        """Take in that rows `seen` (K,) int64, of class_ids (K,) int32 now, were seen at t_ns; return their new rows.

        Of the others the tentative are removed and the confirmed are lost; where there would be no room for so many
        births, those lost for longest are removed, too.
        """
        n = self.count
        states = self.states[:n]
        self.hits[seen] += 1
        self.t_seen_ns[seen] = t_ns
        self.class_ids[seen] = class_ids
        keep = states != TENTATIVE
        keep[seen] = True
        states[states == CONFIRMED] = LOST
        known = seen[states[seen] == LOST]
        states[known] = CONFIRMED
        self._confirm(seen[(states[seen] == TENTATIVE) & (self.hits[seen] >= self.min_hits)])
        excess = int(np.count_nonzero(keep)) + births - self.capacity
        if excess > 0:
            lost = np.flatnonzero(keep & (states == LOST))
            keep[lost[self.t_seen_ns[lost].argsort(kind="stable")[:excess]]] = False
        return seen if keep.all() else np.searchsorted(self._keep(keep), seen)

    def add(self, class_ids: np.ndarray, t_ns: int) -> slice:
        """Begin tracks of class_ids (K,) int32 at t_ns, as many as there is room for; return their rows."""
        rows = slice(self.count, min(self.count + len(class_ids), self.capacity))
        self.count = rows.stop
        self.states[rows] = TENTATIVE
        self.ids[rows] = -1
        self.class_ids[rows] = class_ids[: rows.stop - rows.start]
        self.hits[rows] = 1
        self.t_seen_ns[rows] = t_ns
        if self.min_hits <= 1:
            self._confirm(np.arange(rows.start, rows.stop))
        return rows

    def clear(self) -> None:
        """Remove all tracks; numbers go on."""
        self.count = 0

    def _keep(self, keep: np.ndarray) -> np.ndarray:
        """Remove the rows where `keep` (N,) is false; return the old rows of those that are left."""
        left = keep.nonzero()[0]
        for column in self._columns:
            column[: len(left)] = column[left]
        self.count = len(left)
        return left

    def _confirm(self, rows: np.ndarray) -> None:
        self.states[rows] = CONFIRMED
        for row in rows.tolist():
            if self._next_id & NO_TRACK == NO_TRACK:
                self._next_id = (self._next_id + 1) % NUMBERS
            self.ids[row] = self._next_id
            self._next_id = (self._next_id + 1) % NUMBERS
