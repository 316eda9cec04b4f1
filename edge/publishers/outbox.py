"""What waits for a reader: changes of state and events in order, the last greeting, the newest of each other kind."""

from collections import deque
from typing import Generic, TypeVar

from edge.wire.messages import RESULT_KINDS

__all__ = ["Outbox"]

_QUEUED = {"status": 64, "region": 64}  # how many of a kind wait: each of them counts
_GREETING = ("hello", "labels")

T = TypeVar("T")


class Outbox(Generic[T]):
    """Messages that wait for one reader, as structs or as bytes. Not locked: its owner sees to that.

    Changes of state and events stay, in order, the newest 64 of each; a HELLO takes the place of a greeting (HELLO and
    LABELS) that still waits. Of every other kind only the newest waits, behind what came before it.
    dropped counts the results that were replaced, and the changes of state and events beyond 64.
    """

    def __init__(self) -> None:
        self.dropped = 0
        self._waiting: deque[tuple[str, T]] = deque()
        self._queued = dict.fromkeys(_QUEUED, 0)

    def __len__(self) -> int:
        return len(self._waiting)

    def has(self, results: bool = True) -> bool:
        """Return whether `take` would give something."""
        return any(results or kind not in RESULT_KINDS for kind, _ in self._waiting)

    def put(self, kind: str, item: T) -> None:
        """Add a message, dropping what it replaces, or the oldest change of state or event when there are too many."""
        if kind in _QUEUED:
            self._queued[kind] += 1
            if self._queued[kind] > _QUEUED[kind]:
                self._queued[kind] -= 1
                self._remove(kind)
                self.dropped += 1
        elif kind == "hello":
            if self._waiting:
                self._waiting = deque(pair for pair in self._waiting if pair[0] not in _GREETING)
        elif kind != "labels" and self._waiting and self._remove(kind):
            self.dropped += kind in RESULT_KINDS
        self._waiting.append((kind, item))

    def take(self, results: bool = True) -> tuple[str, T] | None:
        """Return the next message and its kind, or None; results=False passes over results, which go on waiting."""
        for at, (kind, item) in enumerate(self._waiting):
            if results or kind not in RESULT_KINDS:
                del self._waiting[at]
                if kind in _QUEUED:
                    self._queued[kind] -= 1
                return kind, item
        return None

    def put_back(self, kind: str, item: T) -> None:
        """Undo a `take`, before anything else is put."""
        self._waiting.appendleft((kind, item))
        if kind in _QUEUED:
            self._queued[kind] += 1

    def _remove(self, kind: str) -> bool:
        """Remove the oldest message of a kind; whether there was one."""
        for at, (waiting, _) in enumerate(self._waiting):
            if waiting == kind:
                del self._waiting[at]
                return True
        return False
