"""From the loop to the thread that serves readers: what the loop has said and that thread has not taken yet."""

import threading

from edge.publishers.outbox import Outbox
from edge.wire.messages import Message

__all__ = ["Handover"]


class Handover:
    """An outbox between two threads, which also knows whether the one that takes has to be woken.

    awake: whether it has been, and has not found everything taken since.
    """

    def __init__(self) -> None:
        self.awake = False
        self._outbox: Outbox[Message] = Outbox()
        self._told_dropped = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._outbox)

    def put(self, message: Message) -> bool:
        """Add a message; return whether whoever takes has to be woken."""
        with self._lock:
            self._outbox.put(message.kind, message)
            asleep, self.awake = not self.awake, True
        return asleep

    def take(self) -> tuple[Message | None, int]:
        """Return the next message, None when all are taken, and how many results were replaced since the last call."""
        with self._lock:
            taken = self._outbox.take()
            missed = self._outbox.dropped - self._told_dropped
            self._told_dropped += missed
            self.awake = taken is not None
        return (None if taken is None else taken[1]), missed
