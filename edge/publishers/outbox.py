"""What waits for a reader: every kept message in order, and only the newest of the others."""

from collections import deque

__all__ = ["Outbox"]

_MOST_KEPT = 64


class Outbox:
    """Messages that wait for one reader. Not locked: its owner sees to that.

    Kept messages (changes of state) stay, in order, the newest 64 of them. Of the others (results) only the newest
    waits, behind the kept ones that came before it. dropped counts what was replaced.
    """

    def __init__(self) -> None:
        self.dropped = 0
        self._waiting: deque[tuple[bytes, bool]] = deque()
        self._kept = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, payload: bytes, keep: bool) -> None:
        """Add a message, dropping the result that still waits, or the oldest kept one when there are too many."""
        stale = None if keep else next((item for item in self._waiting if not item[1]), None)
        if keep:
            self._kept += 1
            if self._kept > _MOST_KEPT:
                stale = next(item for item in self._waiting if item[1])
                self._kept -= 1
        if stale is not None:
            self._waiting.remove(stale)
            self.dropped += 1
        self._waiting.append((payload, keep))

    def take(self) -> tuple[bytes, bool] | None:
        """Return the next message and whether it is a kept one, or None."""
        if not self._waiting:
            return None
        payload, keep = self._waiting.popleft()
        self._kept -= keep
        return payload, keep
