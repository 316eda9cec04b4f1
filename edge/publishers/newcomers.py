"""Connections to an HTTP server that have asked for nothing yet: those who do not ask in time are hung up on."""

import asyncio

from aiohttp import web

__all__ = ["Newcomers", "TurnedAway", "hang_up"]


class Newcomers:
    """Whose first request is still to come, and how many those are; who is gone counts until its time is over."""

    def __init__(self) -> None:
        self._waiting: set[web.RequestHandler] = set()

    def __len__(self) -> int:
        return len(self._waiting)

    def let_in(self, connection: web.RequestHandler, within_s: float) -> web.RequestHandler:
        """Return the connection, which has so many seconds to ask for something; on the loop's thread."""
        self._waiting.add(connection)
        asyncio.get_running_loop().call_later(within_s, self._expect_request, connection)
        return connection

    def asked(self, connection: object) -> None:
        """It has asked for something."""
        self._waiting.discard(connection)  # type: ignore[arg-type]

    def _expect_request(self, connection: web.RequestHandler) -> None:
        if connection in self._waiting:
            self._waiting.discard(connection)
            hang_up(connection)


class TurnedAway(asyncio.Protocol):
    """Hangs up at once: for who comes when there is no room."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Hang up."""
        transport.close()


def hang_up(connection: web.RequestHandler) -> None:
    """End a connection without a word, where it is still there."""
    if connection.transport is not None:
        connection.transport.abort()
