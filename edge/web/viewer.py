"""One page that looks: what it asks for in, and out only what it can take.

It is sent the state as it is when there is room for it, and a picture when it has asked for one, which it does when it
has shown the one before: on a slow network, or in a tab that nobody sees, pictures are skipped, not queued.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from aiohttp import WSMsgType, web

__all__ = ["Asked", "Viewer", "read_asked"]


class Asked(msgspec.Struct):
    """What a page sends: first the token, where it has one; that it wants a picture; a number to send back."""

    token: str | None = None
    picture: bool = False
    ping: float | None = None


_DECODER = msgspec.json.Decoder(Asked)


class Viewer:
    """A WebSocket whose page may look. state: the newest that it is to be sent.

    next_picture: waits for one and returns its JPEG.
    """

    def __init__(
        self, ws: web.WebSocketResponse, transport: asyncio.Transport, next_picture: Callable[[], Awaitable[bytes]]
    ) -> None:
        self._ws, self._next_picture = ws, next_picture
        self._state: bytes | None = None
        self._picture: bytes | None = None
        self._pong: float | None = None
        self._wake, self._wanted = asyncio.Event(), asyncio.Event()
        transport.set_write_buffer_limits(high=1, low=0)  # sending waits until all of it has left; 0 stops TLS for good

    def tell(self, state: bytes) -> None:
        """Send this next, in place of an older one that has not left yet."""
        self._state = state
        self._wake.set()

    async def talk(self, first: bytes) -> None:
        """Serve it until it is gone."""
        await self._ws.send_frame(first, WSMsgType.TEXT)
        tasks = {asyncio.ensure_future(part) for part in (self._read(), self._write(), self._fetch())}
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _read(self) -> None:
        while (asked := await read_asked(self._ws)) is not None:
            if asked.picture:
                self._wanted.set()
            if asked.ping is not None:
                self._pong = asked.ping
                self._wake.set()

    async def _fetch(self) -> None:
        while True:
            await self._wanted.wait()
            self._picture = await self._next_picture()
            self._wanted.clear()
            self._wake.set()

    async def _write(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            if self._pong is not None:
                pong, self._pong = self._pong, None
                await self._ws.send_frame(msgspec.json.encode({"kind": "pong", "ping": pong}), WSMsgType.TEXT)
            if self._state is not None:
                state, self._state = self._state, None
                await self._ws.send_frame(state, WSMsgType.TEXT)
            if self._picture is not None:
                picture, self._picture = self._picture, None
                await self._ws.send_frame(picture, WSMsgType.BINARY)


async def read_asked(ws: web.WebSocketResponse) -> Asked | None:
    """Return the next thing it asks for, None when it is gone or sends what no page of ours does."""
    message: Any = await ws.receive()
    if message.type is not WSMsgType.TEXT:
        return None
    with contextlib.suppress(msgspec.DecodeError):
        return _DECODER.decode(message.data)
    return None
