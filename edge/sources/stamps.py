"""Capture times: stream time stamps brought to CLOCK_MONOTONIC, and due times of what is paced."""

from edge.clock import monotonic_ns

__all__ = ["Pacer", "PtsClock"]

_DRIFT_PPM = 200  # two crystals differ by less
_RESET_NS = 5_000_000_000  # beyond this the stream's clock was reset, not late
_MAX_GAP_NS = 10_000_000_000  # a longer pause in a file is a broken stamp
_MAX_LAG_NS = 500_000_000


class PtsClock:
    """Presentation time stamps to CLOCK_MONOTONIC, anchored at the fastest arrival seen.

    The smallest (arrival - pts) is the path's least delay. It may rise by 200 ppm, more than two crystals
    differ, so that a drifting camera clock does not make its frames look ever older. A stamp that goes back,
    or is off by more than 5 s, starts anew.
    """

    def __init__(self) -> None:
        self._offset_ns: int | None = None
        self._pts_ns = 0
        self._t_arrival_ns = 0

    def capture_ns(self, pts_ns: int, t_arrival_ns: int) -> int:
        """Return when the frame with this stamp was taken, never later than its arrival."""
        offset_ns = t_arrival_ns - pts_ns
        if self._offset_ns is None or pts_ns < self._pts_ns or abs(offset_ns - self._offset_ns) > _RESET_NS:
            self._offset_ns = offset_ns
        else:
            drift_ns = (t_arrival_ns - self._t_arrival_ns) * _DRIFT_PPM // 1_000_000
            self._offset_ns = min(offset_ns, self._offset_ns + drift_ns)
        self._pts_ns, self._t_arrival_ns = pts_ns, t_arrival_ns
        return pts_ns + self._offset_ns


class Pacer:
    """Due times, each a gap after the last; a producer that cannot keep up runs slower, not ever later."""

    def __init__(self) -> None:
        self._t_due_ns: int | None = None

    def due_ns(self, gap_ns: int) -> int:
        """Return when the next frame is due, `gap_ns` after the one before; the first is due now."""
        now_ns = monotonic_ns()
        t_ns = now_ns if self._t_due_ns is None else self._t_due_ns + min(gap_ns, _MAX_GAP_NS)
        self._t_due_ns = now_ns if now_ns - t_ns > _MAX_LAG_NS else t_ns
        return self._t_due_ns
