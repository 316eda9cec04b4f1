"""A connection to a publisher, as the program of a robot uses it."""

import asyncio
import math
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Literal

from edge.errors import ConfigError, EndOfStreamError, PublishError
from edge.feed import ConnectionState, Feed
from edge.inbox import Inbox
from edge.links.base import Link
from edge.structs import did_you_mean
from edge.wire.layout import MAX_COUNT, NO_CLASS
from edge.wire.messages import ClassificationMessage, ControlMessage, DetectionsMessage, HelloMessage, Message

__all__ = ["DEFAULT_KINDS", "READER_KINDS", "Connection"]

DEFAULT_KINDS = ("detections", "classification", "status", "region")
READER_KINDS = (*DEFAULT_KINDS, "heartbeat", "hello", "labels")

_LEAST_RATE_HZ, _MOST_RATE_HZ = 0.1, 6553.5
_NEEDED_KINDS = ("status", "heartbeat", "hello", "labels", "clock")


class Connection:
    """Messages of one publisher. Made by `edge.connect`; a context manager and an iterator, blocking and asyncio.

    Connects in a thread of its own, and again whenever the publisher was gone, so that it can be made before the
    publisher runs; `state` and `error` say how that goes. Whoever is slow gets the newest result, every change of state
    and every event, never a backlog of results. The arguments are those of `edge.connect`.
    Raises: ConfigError for an unknown kind, or a token or credit where the transport goes one way.
    """

    def __init__(
        self,
        link: Link,
        name: str,
        *,
        kinds: Sequence[str] = DEFAULT_KINDS,
        every: bool = False,
        token: str = "",
        credit: bool = False,
        reconnect: bool = True,
        timeout_s: float = 10.0,
    ) -> None:
        if (token or credit) and not link.two_way:
            raise ConfigError(f"{name} goes one way", "leave out token and credit")
        wanted = frozenset(_known(kinds))
        self._inbox = Inbox(every)
        self._feed = Feed(
            link,
            name,
            self._inbox,
            lambda message: message.kind in wanted,
            token=token,
            credit=credit,
            reconnect=reconnect,
            timeout_s=timeout_s,
        )

    def __enter__(self) -> "Connection":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> "Connection":
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.to_thread(self.close)

    def __iter__(self) -> Iterator[Message]:
        """Yield messages until the connection is closed."""
        while True:
            try:
                message = self.read()
            except EndOfStreamError:
                return
            if message is not None:
                yield message

    async def __aiter__(self) -> AsyncIterator[Message]:
        """Yield messages until the connection is closed."""
        while True:
            try:
                message = await self.read_async()
            except EndOfStreamError:
                return
            if message is not None:
                yield message

    @property
    def state(self) -> ConnectionState:
        """What the connection is doing; "lost" is tried again, "failed" is not."""
        return self._feed.state

    @property
    def error(self) -> str:
        """Why there is no connection just now, or "" once something came."""
        return self._feed.error

    @property
    def alive(self) -> bool:
        """Whether it is connected and heard a result or heartbeat within three heartbeats; False: vision is dead."""
        return self._feed.alive

    @property
    def hello(self) -> HelloMessage | None:
        """What the stream says of itself, once it has."""
        return self._feed.reception.hello

    @property
    def labels(self) -> dict[int, str]:
        """Names of the classes by class id, as far as the publisher has told them."""
        return self._feed.reception.labels

    @property
    def damaged(self) -> int:
        """How many messages arrived damaged and were passed over."""
        return self._feed.damaged

    @property
    def dropped(self) -> int:
        """How many messages were replaced by newer ones before they were read."""
        return self._inbox.dropped

    def read(self, timeout_s: float | None = None) -> Message | None:
        """Return the next message, waiting for it; None when there is none within `timeout_s`.

        Raises: EndOfStreamError once the connection is closed; what no retry mends, such as WireVersionError and
        ConfigError; and without `reconnect` SourceTimeoutError, SourceOpenError and PublishError.
        """
        self._feed.ask()
        return self._inbox.get(timeout_s)

    async def read_async(self, timeout_s: float | None = None) -> Message | None:
        """Return the next message as `read` does, without blocking the event loop.

        Raises: as `read`.
        """
        self._feed.ask()
        return await self._inbox.get_async(timeout_s)

    def latest(self, max_age_ms: float | None = None) -> DetectionsMessage | ClassificationMessage | None:
        """Return the newest result if it is surely not older than `max_age_ms` now, else None; never waits.

        Without `max_age_ms` its time to live rules. To its age the error of the clocks is added.
        Raises: what no retry mends, as `read` does.
        """
        self._feed.ask(regardless=True)  # who only ever asks for the newest never empties the inbox
        message, failure = self._feed.newest, self._inbox.failure
        if message is not None:
            limit_ms = max_age_ms if max_age_ms is not None else message.ttl_ms or math.inf
            if message.age_now_ms() + (message.clock_error_ms or 0.0) <= limit_ms:
                return message
        if failure is not None and not isinstance(failure, EndOfStreamError):
            raise failure
        return None

    def subscribe(self, kinds: Sequence[str] = (), max_rate_hz: float = 0.0, class_ids: Sequence[int] = ()) -> None:
        """Ask the publisher to send only these, now and after every reconnect; needs `control=view` there.

        Empty and 0: all. Heartbeats, states and names come in any case.
        Raises: ConfigError for an unknown kind, a rate or class that cannot be asked for, or where the transport goes
        one way.
        """
        if max_rate_hz and not _LEAST_RATE_HZ <= max_rate_hz <= _MOST_RATE_HZ:
            raise ConfigError(
                f"{max_rate_hz} Hz cannot be asked for",
                f"use {_LEAST_RATE_HZ} to {_MOST_RATE_HZ}, or 0 for all",
            )
        if len(class_ids) > MAX_COUNT or not all(isinstance(c, int) and 0 <= c < NO_CLASS for c in class_ids):
            raise ConfigError(
                "class_ids are not up to 255 class numbers", "give numbers; `labels` tells which name has which"
            )
        wanted = tuple(dict.fromkeys((*_known(kinds), *_NEEDED_KINDS))) if kinds else ()
        self._check_two_way()
        self._feed.view = ControlMessage(kinds=wanted, max_rate_hz=max_rate_hz, class_ids=tuple(class_ids))
        self._feed.send(self._feed.view)

    def command(self, command: Literal["start", "stop"]) -> None:
        """Start or stop the whole run; needs `control=all` at the publisher, whose states tell whether it obeyed.

        Raises: ConfigError for another word or where the transport goes one way, PublishError while not connected.
        """
        if command not in ("start", "stop"):
            raise ConfigError(f"there is no command '{command}'", "use 'start' or 'stop'")
        self._check_two_way()
        if self.state != "connected":
            raise PublishError(f"{self._feed.name} is not connected ({self.state})", "try again when it is")
        view = self._feed.view or ControlMessage()  # a CONTROL message always says what is to be sent, too
        self._feed.send(
            ControlMessage(kinds=view.kinds, max_rate_hz=view.max_rate_hz, class_ids=view.class_ids, command=command)
        )

    def close(self) -> None:
        """Hang up and end whoever reads; calling it twice is allowed."""
        self._feed.close()

    def _check_two_way(self) -> None:
        if not self._feed.link.two_way:
            raise ConfigError(f"{self._feed.name} goes one way", "use a transport that goes both ways, such as tcp://")


def _known(kinds: Sequence[str]) -> Sequence[str]:
    for kind in kinds:
        if kind not in READER_KINDS:
            raise ConfigError(f"there is no kind '{kind}' to read", did_you_mean(kind, list(READER_KINDS)))
    return kinds
