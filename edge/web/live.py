"""Whoever looks: the page's WebSocket, and pictures for programs that show no page."""

import asyncio
import contextlib
import socket

from aiohttp import web

from edge.web.answers import headers_for, json_answer, refused
from edge.web.audience import Audience
from edge.web.gate import Gate, Refusal
from edge.web.state import State
from edge.web.viewer import Viewer, read_asked

__all__ = ["NO_TOKEN", "Live"]

NO_TOKEN = 4401  # the code a WebSocket is closed with

_TOKEN_WITHIN_S = 3.0
_PICTURE_S = 2.0
_PING_S = 20.0  # a page that answers no ping within half of this is gone
_SEND_BUFFER_BYTES = 65536  # small, so that few old pictures wait in the kernel for a slow viewer
_LOOK_S = 0.02
_BOUNDARY = "harrier-picture"
_FULL = Refusal(503, "as many look as may look ([web] max_viewers)")


class Live:
    """What goes on and on, or waits for a picture."""

    def __init__(self, gate: Gate, audience: Audience, state: State) -> None:
        self._gate, self._audience, self._state = gate, audience, state

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Say what is answered where."""
        router.add_get("/live", self._look)
        router.add_get("/live.mjpg", self._mjpeg)
        router.add_get("/picture.jpg", self._picture)

    async def _look(self, request: web.Request) -> web.StreamResponse:
        if refusal := self._gate.socket_refusal(request):
            return refused(request, refusal)
        if self._audience.full:
            return refused(request, _FULL)
        ws = web.WebSocketResponse(heartbeat=_PING_S, compress=False, max_msg_size=4096, timeout=0.2, writer_limit=0)
        if not ws.can_prepare(request):
            return refused(request, Refusal(426, "open this as a WebSocket"))
        await ws.prepare(request)
        transport = request.transport
        if transport is None:
            return ws  # it is gone already
        if not await self._may_look(request, ws):
            await ws.close(code=NO_TOKEN, message=b"show the token first")
            return ws
        page = Viewer(ws, transport, self._audience.next_picture)
        async with self._audience.seat(page):
            with contextlib.suppress(ConnectionError):
                await page.talk(self._state.first(self._gate.why_not(request)))
        with contextlib.suppress(asyncio.TimeoutError, ConnectionError):
            await asyncio.wait_for(ws.close(drain=False), 1.0)
        return ws

    async def _may_look(self, request: web.Request, ws: web.WebSocketResponse) -> bool:
        if self._gate.token_is("") or self._gate.has_token(request):
            return True
        with contextlib.suppress(asyncio.TimeoutError):
            asked = await asyncio.wait_for(read_asked(ws), _TOKEN_WITHIN_S)
            return asked is not None and asked.token is not None and self._gate.token_is(asked.token)
        return False

    async def _picture(self, request: web.Request) -> web.StreamResponse:
        if refusal := self._refusal(request):
            return refused(request, refusal)
        async with self._audience.seat():
            try:
                jpeg = await asyncio.wait_for(self._audience.next_picture(), _PICTURE_S)
            except asyncio.TimeoutError:
                return json_answer(request, {"error": f"no picture came within {_PICTURE_S:g} s"}, 503)
        return web.Response(body=jpeg, content_type="image/jpeg", headers=headers_for(request))

    async def _mjpeg(self, request: web.Request) -> web.StreamResponse:
        """Picture after picture, as `<img>` and many programs show them."""
        if refusal := self._refusal(request):
            return refused(request, refusal)
        kind = f"multipart/x-mixed-replace; boundary={_BOUNDARY}"
        response = web.StreamResponse(headers={**headers_for(request), "Content-Type": kind})
        await response.prepare(request)
        transport = request.transport
        if transport is None:
            return response
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
        async with self._audience.seat():
            with contextlib.suppress(ConnectionError):
                while True:
                    jpeg = await self._audience.next_picture()
                    head = f"--{_BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
                    await response.write(head.encode() + jpeg + b"\r\n")
                    while transport.get_write_buffer_size():  # what has not left by now is not followed by more
                        await asyncio.sleep(_LOOK_S)
        return response

    def _refusal(self, request: web.Request) -> Refusal | None:
        return self._gate.read_refusal(request) or (_FULL if self._audience.full else None)
