"""Results to web pages and programs over WebSocket, each reader with its own slot for the newest."""

import asyncio
import contextlib
import errno
import logging
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import msgspec
from aiohttp import WSCloseCode, web

from edge.errors import ConfigError
from edge.publishers.access import ListenOptions, check_access, listen_options, tls_context, warn_if_open
from edge.publishers.base import PublisherBase
from edge.publishers.handover import Handover
from edge.publishers.listening import listening_socket
from edge.publishers.newcomers import Newcomers, TurnedAway, hang_up
from edge.publishers.origin import origin_allowed
from edge.publishers.session import Channel, ClientCounts
from edge.publishers.websocket_reader import WebSocketReader, token_of
from edge.uri import Uri
from edge.wire.jsonl import encode as encode_json
from edge.wire.messages import HelloMessage, Message

__all__ = ["WebSocketOptions", "WebSocketPublisher"]

log = logging.getLogger("harrier")

_SEND_BUFFER_BYTES = 8192  # small, so that little stale data waits in the kernel behind a slow reader
_NICENESS = 5  # the loop comes first
_PING_S = 20.0  # a reader that answers no ping within half of this is gone
_GOODBYE_S = 0.2
_REQUEST_WITHIN_S = 5.0  # to become a reader, or to have taken the page
_MOST_BEGINNING = 256  # connections that are no readers; the rest is not let in, to keep descriptors for the robot
_LOG_PERIOD_S = 1.0
_PAGE_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY"}
_SILENT = logging.Logger("websocket", logging.CRITICAL + 1)  # a stranger's broken request is no news


class WebSocketOptions(ListenOptions, kw_only=True):
    """Options of ws://, beside those of every publisher that listens.

    origins: pages from elsewhere that may connect, separated by commas, such as http://panel.local:8000.
    page: an HTML file that a browser gets at the same address.
    """

    max_clients: Annotated[int, msgspec.Meta(ge=1)] = 64
    origins: str = ""
    page: str = ""


class WebSocketPublisher(PublisherBase):
    """`ws://host:port`: a server whose readers get one message a frame, text for JSON, else binary; TLS with cert, key.

    A reader whose last message is still on its way out gets nothing more until it is through; then it gets the
    newest. Results it missed are counted. Port 0 takes a free port.
    """

    @staticmethod
    def check(uri: Uri) -> None:
        """Check address, options and files.

        Raises: ConfigError.
        """
        host, _ = uri.host_port()
        options = _options(uri)
        check_access(uri, host, options)
        tls_context(options)

    def __init__(self, uri: Uri) -> None:
        self.check(uri)
        self._host, port = uri.host_port()
        self._options = options = _options(uri)
        warn_if_open(uri, self._host, options)
        context = tls_context(options)
        sock = listening_socket(uri, self._host, port)
        real_host, real_port = sock.getsockname()[:2]
        host = f"[{real_host}]" if ":" in real_host else real_host
        super().__init__(f"{'wss' if context else 'ws'}://{host}:{real_port}", options.format or "json")
        self._channel = Channel(options, self._encode)
        self._origins = [origin.strip() for origin in options.origins.split(",") if origin.strip()]
        self._readers: set[WebSocketReader] = set()
        self._beginning = Newcomers()
        self._logged_s = 0.0
        self._handover = Handover()
        self._loop = asyncio.new_event_loop()
        self._closing: float | None = None
        self._stop = asyncio.Event()
        self._thread = threading.Thread(
            target=self._run, args=(sock, context), name=f"publish {self.address}", daemon=True
        )
        self._thread.start()

    @property
    def client_count(self) -> int:
        """How many readers are connected now."""
        return len(self._channel.sessions)

    @property
    def clients(self) -> list[ClientCounts]:
        """The readers connected now, with what each was sent and has missed."""
        return self._channel.clients

    def send(self, message: Message) -> None:
        """Put one message in the slot and wake the server thread."""
        asleep = self._handover.put(message)
        if asleep:
            self._call(self._offer)

    def close(self, drain_s: float = 0.5) -> None:
        """Let readers take what is pending for at most `drain_s`, then hang up."""
        if self._closing is None:
            self._closing = time.monotonic() + drain_s
            self._call(self._stop.set)
        self._thread.join(drain_s + 0.5)

    def _call(self, function: Callable[[], None]) -> None:
        with contextlib.suppress(RuntimeError):  # closed: nobody to tell
            self._loop.call_soon_threadsafe(function)

    def _encode(self, message: Message) -> bytes:
        return self.encode(message).rstrip(b"\n") if self.format == "json" else self.encode(message)

    def _run(self, sock: socket.socket, context: ssl.SSLContext | None) -> None:
        with contextlib.suppress(OSError, AttributeError):  # not every system has priorities of threads
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
        try:
            self._loop.run_until_complete(self._serve(sock, context))
        except Exception as exc:  # a defect: the loop goes on, and the run says that nobody is served
            self.failure = f"stopped serving ({exc!r}): report this as a defect"
        finally:
            sock.close()
            self._loop.close()

    async def _serve(self, sock: socket.socket, context: ssl.SSLContext | None) -> None:
        """Serve until told to stop; then give readers the time they were promised and let none of them hold us up."""
        self._loop.set_exception_handler(self._trouble)
        site = web.Server(self._answer, access_log=None, logger=_SILENT)
        patience_s = _REQUEST_WITHIN_S if context else None
        server = await self._loop.create_server(
            lambda: self._accept(site), sock=sock, ssl=context, ssl_handshake_timeout=patience_s
        )
        await self._stop.wait()
        server.close()
        self._offer()
        while time.monotonic() < (self._closing or 0.0) and any(reader.busy for reader in self._readers):
            await asyncio.sleep(0.005)
        for reader in self._readers:
            reader.session.ended = reader.session.ended or "the run has ended"
            reader.wake.set()
        goodbye = time.monotonic() + _GOODBYE_S
        while self._readers and time.monotonic() < goodbye:
            await asyncio.sleep(0.005)
        for connection in site.connections:
            hang_up(connection)
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)

    def _trouble(self, _loop: asyncio.AbstractEventLoop, context: dict) -> None:
        exc = context.get("exception")
        if isinstance(exc, OSError) and exc.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
            self.failure = f"no new reader can connect ({exc.strerror}): raise `ulimit -n`"
        else:
            log.debug("%s: %s (%r)", self.address, context.get("message"), exc)

    def _accept(self, site: web.Server) -> asyncio.Protocol:
        """Return who deals with a new connection: nobody, where too many are no readers yet."""
        self.failure = ""
        if len(self._beginning) >= _MOST_BEGINNING:  # those that are gone again count until their time is over
            return TurnedAway()
        return self._beginning.let_in(site(), _REQUEST_WITHIN_S)

    def _offer(self) -> None:
        """Give every reader what the loop has handed over."""
        while True:
            message, missed = self._handover.take()
            if missed:
                self._channel.missed(missed)
            if message is None:
                break
            item = self._channel.put(message)
            for reader in self._readers:
                reader.session.put(item)
                reader.wake.set()
        self._report()

    def _report(self) -> None:
        channel = self._channel
        self.sent, self.dropped = channel.sent, channel.dropped
        if channel.command:
            self.command, channel.command = channel.command, ""

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request: a reader that connects, or a browser that wants the page."""
        if (answer := self._other_answer(request)) is not None:
            answer.force_close()
            return answer
        self._beginning.asked(request.protocol)
        ws = web.WebSocketResponse(
            timeout=_GOODBYE_S,
            heartbeat=_PING_S,
            autoping=False,  # pings count as messages
            autoclose=False,  # it would wait for a reader that is going to take the answer; `hang_up` does not
            compress=False,
            max_msg_size=self._options.max_message_bytes,
            writer_limit=0,
        )
        await ws.prepare(request)
        transport = request.transport
        if transport is None:
            return ws  # it is gone already
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
        session = self._channel.open(request.remote or "")
        if token := token_of(request):
            session.receive(encode_json(HelloMessage(token=token)))
        reader = WebSocketReader(ws, transport, session, self.format == "json")
        self._readers.add(reader)
        try:
            await reader.talk(self._report)
        finally:
            over = self._stop.is_set()
            self._log(request.remote, "" if over else session.ended)
            code = WSCloseCode.POLICY_VIOLATION if session.ended else WSCloseCode.OK
            await reader.hang_up(WSCloseCode.GOING_AWAY if over else code, 2 * _GOODBYE_S)
            self._channel.close(session)
            self._readers.discard(reader)
        return ws

    def _other_answer(self, request: web.BaseRequest) -> web.Response | None:
        """The page, or why this is no reader to be let in; None for one that is."""
        if request.path != "/" or request.method != "GET":
            return web.Response(status=404, text="there is nothing here\n")
        if request.headers.get("Upgrade", "").lower() != "websocket":
            return self._page()
        if not origin_allowed(request.headers.get("Origin"), request.host, self._host, self._origins):
            self._log(request.remote, f"a page of {request.headers['Origin'][:100]!r} is not in origins=")
            return web.Response(status=403, text="pages of this origin may not connect; see origins=\n")
        if self._channel.full:
            self._log(request.remote, f"{self.client_count} readers are connected already (max_clients)")
            return web.Response(status=503, text="as many readers as may be are connected\n")
        return None

    def _page(self) -> web.Response:
        if not self._options.page:
            return web.Response(status=426, text=f"open {self.address} as a WebSocket, or give page=FILE\n")
        try:
            text = Path(self._options.page).expanduser().read_bytes()
        except OSError as exc:
            return web.Response(status=500, text=f"the page cannot be read ({exc.strerror})\n")
        return web.Response(body=text, content_type="text/html", charset="utf-8", headers=_PAGE_HEADERS)

    def _log(self, address: str | None, reason: str) -> None:
        """Say why a reader is refused or hung up on, but not as often as a bad one might like."""
        now = time.monotonic()
        if reason and now - self._logged_s > _LOG_PERIOD_S:
            self._logged_s = now
            log.warning("%s: hung up on %s: %s", self.address, address, reason)


def _options(uri: Uri) -> WebSocketOptions:
    """Return the options. Raises: ConfigError, also for a page that is not there."""
    options = listen_options(uri, WebSocketOptions)
    assert isinstance(options, WebSocketOptions)
    if options.page and not Path(options.page).expanduser().is_file():
        raise ConfigError(f"page={options.page} is not a file", "give an HTML file, or leave it out")
    return options
