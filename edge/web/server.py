"""The live page of a run, /healthz and /metrics: one thread that serves, beside the loop and never in its way."""

import asyncio
import contextlib
import logging
import socket
import ssl
import threading
from collections.abc import Awaitable, Callable

from aiohttp import web

from edge.config import WebSection
from edge.health import Health
from edge.pipeline import Pipeline
from edge.publishers.listening import listening_socket
from edge.publishers.newcomers import Newcomers, TurnedAway, hang_up
from edge.updates import Updater
from edge.uri import parse_uri
from edge.web.api import Api
from edge.web.audience import Audience
from edge.web.control import Control
from edge.web.gate import Gate
from edge.web.live import Live
from edge.web.metrics import Metrics
from edge.web.options import address_of, checked
from edge.web.pages import Pages
from edge.web.pictures import Pictures
from edge.web.power import Power
from edge.web.state import State

__all__ = ["LivePage"]

log = logging.getLogger("harrier")

_REQUEST_WITHIN_S = 5.0
_MOST_CONNECTIONS = 128  # the rest is not let in, to keep descriptors for the robot
_COLLECT_S = 5.0  # so that up to 800 steps a second are all in the histograms, however seldom somebody asks
_SILENT = logging.Logger("live page", logging.CRITICAL + 1)  # a stranger's broken request is no news


class LivePage:
    """Serves [web] of a run: a context manager that starts and ends its threads.

    address: where the page is, with the real port where port 0 was asked for. command: "start" or "stop" where the page
    asked for it; the loop takes it and sets "" again. failure: why nobody is served any more, "" for nothing.
    Raises: ConfigError for a wrong section, PublishError when the port is in use.
    """

    @staticmethod
    def check(section: WebSection) -> None:
        """Check address, access and files without starting anything.

        Raises: ConfigError.
        """
        checked(section)

    def __init__(self, section: WebSection, pipeline: Pipeline, health: Health, updater: Updater | None) -> None:
        self._context = checked(section, warn=True)
        host, port = address_of(section)
        self._socket = listening_socket(parse_uri(f"http://{section.listen}"), host, port)
        real_host, real_port = self._socket.getsockname()[:2]
        shown = f"[{real_host}]" if ":" in real_host else real_host
        self.address = f"{'https' if self._context else 'http'}://{shown}:{real_port}"
        self.command = self.failure = ""
        self._pipeline = pipeline
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._audience = Audience(section.max_viewers)
        self._pictures = Pictures(pipeline, section, self._hand_over)
        self._audience.on_change = self._audience_changed
        power, gate = Power(), Gate(section, host)
        control = Control(pipeline, health, updater, self._pictures, section, self._ask_run)
        self._state = state = State(pipeline, health, control, self._pictures, power)
        self._metrics = Metrics(pipeline)
        self._power = power
        self._routes = (
            Pages(gate, health, self._metrics, self._audience, self._pictures, power),
            Live(gate, self._audience, state),
            Api(gate, pipeline, control, state, self._audience, power),
        )
        self._beginning = Newcomers()
        self._thread = threading.Thread(target=self._run, name="live page", daemon=True)

    def __enter__(self) -> "LivePage":
        self._pipeline.viewers.append(self._pictures)
        self._thread.start()
        log.info("live page at %s", self.address)
        return self

    def __exit__(self, *exc: object) -> None:
        with contextlib.suppress(RuntimeError):  # it has ended by itself
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(3.0)
        with contextlib.suppress(ValueError):
            self._pipeline.viewers.remove(self._pictures)
        self._pictures.close()

    def _ask_run(self, command: str) -> None:
        self.command = command

    def _hand_over(self, jpeg: bytes) -> None:
        """From the drawing thread."""
        with contextlib.suppress(RuntimeError):  # closed: nobody to show it to
            self._loop.call_soon_threadsafe(self._audience.show, jpeg)

    def _audience_changed(self) -> None:
        self._pictures.wanted = self._audience.waiting

    def _run(self) -> None:
        # no lower priority: a thread that holds the GIL while others are preferred would keep the loop waiting
        try:
            self._loop.run_until_complete(self._serve(self._socket, self._context))
        except Exception as exc:  # a defect: the loop goes on without a page
            self.failure = f"stopped serving ({exc!r}): report this as a defect"
            log.warning("live page: %s", self.failure)
        finally:
            self._socket.close()
            self._loop.close()

    async def _serve(self, sock: socket.socket, context: ssl.SSLContext | None) -> None:
        self._loop.set_exception_handler(lambda _loop, told: log.debug("live page: %s", told.get("message")))
        application = web.Application(client_max_size=64 * 1024, logger=_SILENT, middlewares=[self._note_request])
        for routes in self._routes:
            routes.add_to(application.router)
        runner = web.AppRunner(application, access_log=None, logger=_SILENT, keepalive_timeout=15.0)
        await runner.setup()
        patience_s = _REQUEST_WITHIN_S if context else None
        server = await self._loop.create_server(
            lambda: self._accept(runner), sock=sock, ssl=context, ssl_handshake_timeout=patience_s
        )
        work = (self._stop.wait(), self._audience.tell_all(self._state), self._collect())
        done, _ = await asyncio.wait({asyncio.ensure_future(part) for part in work}, return_when="FIRST_COMPLETED")
        server.close()
        for connection in runner.server.connections if runner.server else ():
            hang_up(connection)
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)
        for part in done:
            part.result()  # the stop, or a defect

    @web.middleware
    async def _note_request(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        self._beginning.asked(request.protocol)
        try:
            return await handler(request)
        except (web.HTTPException, ConnectionError):
            raise
        except Exception as exc:
            log.warning("live page: %s failed (%r): report this as a defect", request.path, exc)
            return web.Response(status=500, text="a defect: see the log of harrier run\n")

    def _accept(self, runner: web.AppRunner) -> asyncio.BaseProtocol:
        """Return who deals with a new connection: nobody, where there are too many."""
        server = runner.server
        if server is None or len(server.connections) >= _MOST_CONNECTIONS:
            return TurnedAway()
        return self._beginning.let_in(server(), _REQUEST_WITHIN_S)

    async def _collect(self) -> None:
        """Now and then what else is needed than what the loop does anyway."""
        while True:
            await asyncio.sleep(_COLLECT_S)
            self._metrics.collect()
            if self._audience.count:
                await self._power.look()
