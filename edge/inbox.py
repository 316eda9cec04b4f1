"""What has arrived and was not read yet, for readers that wait in a thread or in an event loop."""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable

from edge.errors import EdgeError
from edge.publishers.outbox import Outbox
from edge.wire.messages import Message

__all__ = ["Inbox"]

_MOST_WAITING = 10_000


class _All:
    """As Outbox, but nothing is replaced; the oldest of very many is dropped."""

    def __init__(self) -> None:
        self.dropped = 0
        self._waiting: deque[tuple[str, Message]] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, kind: str, item: Message) -> None:
        self._waiting.append((kind, item))
        if len(self._waiting) > _MOST_WAITING:
            self._waiting.popleft()
            self.dropped += 1

    def take(self) -> tuple[str, Message] | None:
        return self._waiting.popleft() if self._waiting else None


class Inbox:
    """The newest result and every change of state, in order; with `every` all messages, the newest 10,000 of them."""

    def __init__(self, every: bool) -> None:
        self.failure: EdgeError | None = None
        self._waiting: Outbox[Message] | _All = _All() if every else Outbox()
        self._changed = threading.Condition()
        self._wakers: set[Callable[[], object]] = set()

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def dropped(self) -> int:
        """How many messages were replaced or dropped before they were read."""
        return self._waiting.dropped

    def put(self, messages: Iterable[Message]) -> None:
        """Add messages and wake whoever waits."""
        with self._changed:
            for message in messages:
                self._waiting.put(message.kind, message)
            self._wake()

    def end(self, failure: EdgeError) -> None:
        """Say that nothing more will come; the first reason given is the one that readers are told."""
        with self._changed:
            self.failure = self.failure or failure
            self._wake()

    def get(self, timeout_s: float | None) -> Message | None:
        """Return the next message; None when none comes within `timeout_s`.

        Raises: what `end` was told, once nothing is left.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        with self._changed:
            while (message := self._next()) is None:
                left_s = None if deadline is None else deadline - time.monotonic()
                if left_s is not None and left_s <= 0:
                    return None
                self._changed.wait(left_s)
        return message

    async def get_async(self, timeout_s: float | None) -> Message | None:
        """Return the next message as `get` does, without blocking the event loop.

        Raises: as `get`.
        """
        loop, arrived = asyncio.get_running_loop(), asyncio.Event()
        deadline = None if timeout_s is None else time.monotonic() + timeout_s

        def wake() -> object:
            return loop.call_soon_threadsafe(arrived.set)

        with self._changed:
            self._wakers.add(wake)
        try:
            while True:
                arrived.clear()
                with self._changed:
                    message = self._next()
                left_s = None if deadline is None else deadline - time.monotonic()
                if message is not None or (left_s is not None and left_s <= 0):
                    return message
                try:
                    await asyncio.wait_for(arrived.wait(), left_s)
                except asyncio.TimeoutError:
                    pass  # it may have come at the last moment
        finally:
            with self._changed:
                self._wakers.discard(wake)

    def _next(self) -> Message | None:
        item = self._waiting.take()
        if item is None and self.failure is not None:
            raise self.failure
        return item[1] if item is not None else None

    def _wake(self) -> None:
        self._changed.notify_all()
        for wake in list(self._wakers):
            try:
                wake()
            except RuntimeError:  # its event loop was closed
                self._wakers.discard(wake)
