"""One reader of `ws://`: its messages in, and out only what it can take."""

import asyncio
import contextlib
from collections.abc import Callable

from aiohttp import WSCloseCode, WSMsgType, web

from edge.clock import monotonic_ns
from edge.publishers.session import Session

__all__ = ["WebSocketReader", "token_of"]


class WebSocketReader:
    """A connected WebSocket and its session; `wake` is set when there may be something for it.

    Nothing is written while anything of the last message has not yet left for the network, so a slow reader waits for
    the newest result, not behind old ones.
    """

    def __init__(
        self, ws: web.WebSocketResponse, transport: asyncio.Transport, session: Session, as_text: bool
    ) -> None:
        self.session = session
        self.wake = asyncio.Event()
        self._ws = ws
        self._transport = transport
        self._opcode = WSMsgType.TEXT if as_text else WSMsgType.BINARY
        transport.set_write_buffer_limits(high=1, low=0)  # sending waits until all of it has left; 0 stops TLS for good
        beneath = getattr(getattr(transport, "_ssl_protocol", None), "_transport", None)
        if isinstance(beneath, asyncio.WriteTransport):  # asyncio has no public way to what TLS writes into
            beneath.set_write_buffer_limits(high=0)

    @property
    def busy(self) -> bool:
        """Whether something is still on its way to it."""
        return self.session.pending or self._transport.get_write_buffer_size() > 0

    async def talk(self, on_received: Callable[[], None]) -> None:
        """Serve it until it is gone, or until the session has ended."""
        tasks = {asyncio.ensure_future(self._read(on_received)), asyncio.ensure_future(self._write())}
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def hang_up(self, code: WSCloseCode, patience_s: float) -> None:
        """Say why, and close, whether it listens or not."""
        with contextlib.suppress(asyncio.TimeoutError, ConnectionError):
            reason = self.session.ended.encode()[:120]
            await asyncio.wait_for(self._ws.close(code=code, message=reason, drain=False), patience_s)
        self._transport.abort()

    async def _read(self, on_received: Callable[[], None]) -> None:
        session = self.session
        while not session.ended:
            message = await self._ws.receive()
            if message.type is WSMsgType.BINARY:
                session.receive(message.data)
            elif message.type is WSMsgType.TEXT:
                session.receive(message.data.encode())
            elif message.type is WSMsgType.PING:
                if session.allow(1):
                    await self._ws.pong(message.data)
            elif message.type is not WSMsgType.PONG or not session.allow(1):
                return
            on_received()
            self.wake.set()

    async def _write(self) -> None:
        session = self.session
        while not session.ended:
            payload = session.take()
            if payload is not None:
                await self._ws.send_frame(payload, self._opcode)
                continue
            self.wake.clear()
            due_ns = session.due_ns
            if session.ended:
                return
            if due_ns is None:
                await self.wake.wait()
            else:
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(self.wake.wait(), max(0.0, (due_ns - monotonic_ns()) / 1e9))


def token_of(request: web.BaseRequest) -> str:
    """Return the token that came with the request: programs can send a header, pages a query."""
    scheme, _, bearer = request.headers.get("Authorization", "").partition(" ")
    return bearer.strip() if scheme.lower() == "bearer" else request.query.get("token", "")
