"""The publisher's clock as seen from a reader: NTP's four times, and what they prove.

A question is sent at t1 and its answer comes back at t4 by the reader's CLOCK_MONOTONIC; the publisher received it at
T2 and answered at T3 by its Unix clock (Mills, RFC 5905). Nothing arrives before it was sent, so the offset "publisher
minus reader" is at most T2 - t1 and at least T3 - t4, however unequal the two ways were: half the round trip to either
side of NTP's own estimate. Each exchange is such an interval; from then on it widens by what two clocks may drift
apart. The offset lies in what the last exchanges have in common (Marzullo, "Maintaining the time in a distributed
system", 1984), so the one with the shortest round trip rules, as in Mills' clock filter, and the error is never more
than half of that and the drift since. Where they have nothing in common, a clock was set: all but the newest is
forgotten, and questions come quickly again.
"""

from collections import deque
from typing import NamedTuple

from edge.wire.messages import ClockMessage

__all__ = ["ClockSync", "LocalTime"]

_DRIFT_PPM = 500  # the most that a kernel slews a clock for NTP, crystals included
_WINDOW = 8
_QUICK = 8  # exchanges
_QUICK_NS = 50_000_000
_SLOW_NS = 1_000_000_000
_LOST_NS = 1_000_000_000  # a question that old is not waited for, though its answer would still be taken
_FORGET_NS = 60_000_000_000  # an unanswered minute: nobody knows whether a clock was set
_MOST_ASKED = 8


class LocalTime(NamedTuple):
    """A moment on this process's CLOCK_MONOTONIC, in ns, and the most by which it may be wrong."""

    t_ns: int
    error_ns: int


class _Offset(NamedTuple):
    """Publisher's clock minus ours at a moment of ours: the least and the most it can have been."""

    t_ns: int
    least_ns: int
    most_ns: int


def _at(offset: _Offset, t_ns: int) -> _Offset:
    """The same at a later moment, after which less is known."""
    drift = (t_ns - offset.t_ns) * _DRIFT_PPM // 1_000_000 + 1
    return _Offset(t_ns, offset.least_ns - drift, offset.most_ns + drift)


class ClockSync:
    """Questions for the time, and the offset that the answers allow. All `now_ns` are CLOCK_MONOTONIC.

    restarts counts how often a clock was found to have been set.
    """

    def __init__(self) -> None:
        self.restarts = 0
        self._exchanges: deque[_Offset] = deque(maxlen=_WINDOW)
        self._offset: _Offset | None = None  # what they have in common, when the newest came
        self._asked: deque[int] = deque(maxlen=_MOST_ASKED)
        self._quick_left = _QUICK
        self._due_ns: int | None = None

    def due_in_ns(self, now_ns: int) -> int:
        """Return in how many ns the next question should be sent; 0 for now."""
        return 0 if self._due_ns is None else max(0, self._due_ns - now_ns)

    def question(self, now_ns: int) -> ClockMessage:
        """Return a question to be sent at this very moment."""
        self._asked.append(now_ns)
        self._due_ns = now_ns + _LOST_NS  # sooner once it is answered: a slow line gets one at a time
        return ClockMessage(reply=False, t_request_ns=now_ns)

    def take(self, answer: ClockMessage, now_ns: int) -> None:
        """Take an answer that arrived just now; one to a question of somebody else is passed over."""
        if not answer.reply or answer.t_request_ns not in self._asked:
            return
        self._asked.remove(answer.t_request_ns)
        self._quick_left = max(0, self._quick_left - 1)
        self._due_ns = answer.t_request_ns + (_QUICK_NS if self._quick_left else _SLOW_NS)
        most_ns = answer.t_receive_ns - answer.t_request_ns
        exchange = _at(_Offset(answer.t_request_ns, answer.t_reply_ns - now_ns, most_ns), now_ns)
        if exchange.least_ns > exchange.most_ns or answer.t_reply_ns < answer.t_receive_ns:
            return  # set between the two
        self._exchanges.append(exchange)
        self._offset = self._common(now_ns)
        if self._offset is None:
            self.restart()
            self._exchanges.append(exchange)
            self._offset = exchange

    def restart(self) -> None:
        """Forget what is known: a clock was set."""
        self.restarts += 1
        self._exchanges.clear()
        self._offset = None
        self._quick_left = _QUICK
        self._due_ns = None

    def local(self, t_unix_ns: int, now_ns: int) -> LocalTime | None:
        """Return a moment by the publisher's Unix clock as one by ours, or None while the clocks are not compared."""
        if self._offset is None or now_ns - self._offset.t_ns > _FORGET_NS:
            return None
        _, least_ns, most_ns = _at(self._offset, now_ns)
        return LocalTime(t_unix_ns - (least_ns + most_ns) // 2, (most_ns - least_ns + 1) // 2)

    def _common(self, now_ns: int) -> _Offset | None:
        """What the last exchanges have in common at this moment; None where they contradict each other."""
        recent = [_at(one, now_ns) for one in self._exchanges if now_ns - one.t_ns < _FORGET_NS]
        least_ns, most_ns = max(one.least_ns for one in recent), min(one.most_ns for one in recent)
        return None if least_ns > most_ns else _Offset(now_ns, least_ns, most_ns)
