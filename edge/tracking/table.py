"""The life of tracks: tentative, confirmed, lost, removed; as columns of fixed capacity, a row a track."""

import numpy as np

from edge.config import TrackingSection

__all__ = ["CONFIRMED", "LOST", "TENTATIVE", "TrackTable"]

TENTATIVE, CONFIRMED, LOST = 0, 1, 2

NUMBERS = 1 << 31  # track_ids are int32
NO_TRACK = 0xFFFF  # the binary wire sends the low 16 bits of a number, and this for none


class TrackTable:
    """What is known of each track; rows [0, count) are alive, in order of birth, the tentative last.

    states: of each row. hits: frames it was seen on while tentative. t_seen_ns: when last. These are lists: what is
    asked of them goes through a few dozen rows one by one. ids (T,) int32, -1 until confirmed, so that numbers are not
    spent on false alarms; next_id comes next. class_ids (T,) int32. columns: (T, ...) arrays of the tracker's own whose
    rows go with these.
    """

    def __init__(self, settings: TrackingSection, columns: tuple[np.ndarray, ...] = ()) -> None:
        self.capacity = settings.max_tracks
        self.states: list[int] = []
        self.hits: list[int] = []
        self.t_seen_ns: list[int] = []
        self.ids = np.full(self.capacity, -1, np.int32)
        self.class_ids = np.zeros(self.capacity, np.int32)
        self._columns = tuple(column for column in (self.ids, self.class_ids, *columns) if column.size)
        self._min_hits = settings.min_hits
        self._max_lost_ns = int(settings.max_lost_s * 1e9)
        self.next_id = 1

    @property
    def count(self) -> int:
        """How many tracks are alive."""
        return len(self.states)

    def expire(self, t_ns: int) -> None:
        """Remove those who at t_ns have not been seen for too long."""
        seen = self.t_seen_ns
        if seen and t_ns - min(seen) > self._max_lost_ns:
            self._keep([row for row, t in enumerate(seen) if t_ns - t <= self._max_lost_ns])

    def settle(self, seen: list[int], t_ns: int, births: int) -> list[int]:
        """Take in that rows `seen` were seen at t_ns; return their new rows.

        Of the others the tentative are removed and the confirmed are lost; where there would be no room for so many
        births, those lost for longest are removed, too.
        """
        states, hits, when = self.states, self.hits, self.t_seen_ns
        for row in seen:
            when[row] = t_ns
            if states[row] != TENTATIVE:
                states[row] = CONFIRMED
                continue
            hits[row] += 1
            if hits[row] >= self._min_hits:
                self._confirm(row)
        gone = set()
        for row in set(range(len(states))).difference(seen):
            if states[row] == TENTATIVE:
                gone.add(row)
            else:
                states[row] = LOST
        excess = len(states) - len(gone) + births - self.capacity
        if excess > 0:
            lost = [row for row, state in enumerate(states) if state == LOST]
            gone.update(sorted(lost, key=self.t_seen_ns.__getitem__)[:excess])
        if not gone:
            return seen
        left = [row for row in range(len(states)) if row not in gone]
        place = {row: i for i, row in enumerate(left)}
        self._keep(left)
        return [place[row] for row in seen]

    def add(self, class_ids: np.ndarray, t_ns: int) -> slice:
        """Begin tracks of class_ids (K,) int32 at t_ns, as many as there is room for; return their rows."""
        first = len(self.states)
        rows = slice(first, min(first + len(class_ids), self.capacity))
        births = rows.stop - rows.start
        self.states += [TENTATIVE] * births
        self.hits += [1] * births
        self.t_seen_ns += [t_ns] * births
        self.ids[rows] = -1
        self.class_ids[rows] = class_ids[:births]
        if self._min_hits <= 1:
            for row in range(rows.start, rows.stop):
                self._confirm(row)
        return rows

    def clear(self) -> None:
        """Remove all tracks; numbers go on."""
        for rows in (self.states, self.hits, self.t_seen_ns):
            rows.clear()

    def _keep(self, left: list[int]) -> None:
        """Remove all other rows."""
        for rows in (self.states, self.hits, self.t_seen_ns):
            rows[:] = [rows[row] for row in left]
        if left and left[-1] != len(left) - 1:  # the youngest, which go first, are last: often nothing moves
            at = np.array(left)
            for column in self._columns:
                column[: len(left)] = column.take(at, axis=0)

    def _confirm(self, row: int) -> None:
        self.states[row] = CONFIRMED
        if self.next_id & NO_TRACK == NO_TRACK:
            self.next_id = (self.next_id + 1) % NUMBERS
        self.ids[row] = self.next_id
        self.next_id = (self.next_id + 1) % NUMBERS
