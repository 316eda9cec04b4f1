"""The page itself, /healthz and /metrics."""

from pathlib import Path

from aiohttp import web

from edge.health import Health
from edge.web.answers import headers_for, json_answer, refused
from edge.web.audience import Audience
from edge.web.gate import Gate
from edge.web.metrics import Metrics
from edge.web.pictures import Pictures
from edge.web.power import Power
from edge.web.prometheus import CONTENT_TYPE
from edge.web.state import steady

__all__ = ["Pages"]

_STATIC = Path(__file__).with_name("static")
_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_WELL = ("ok", "degraded")


class Pages:
    """What is asked for with GET and never changes anything."""

    def __init__(
        self, gate: Gate, health: Health, metrics: Metrics, audience: Audience, pictures: Pictures, power: Power
    ) -> None:
        self._gate, self._health, self._metrics = gate, health, metrics
        self._audience, self._pictures, self._power = audience, pictures, power
        self._files = {path.name: path.read_bytes() for path in _STATIC.iterdir() if path.suffix in _TYPES}

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Say what is answered where."""
        router.add_get("/", self._file)
        for name in self._files:
            router.add_get(f"/{name}", self._file)
        router.add_get("/healthz", self._healthz)
        router.add_get("/metrics", self._metrics_text)

    async def _file(self, request: web.Request) -> web.StreamResponse:
        """A file of the page; it tells nothing of the run, so it needs no token."""
        if refusal := self._gate.name_refusal(request):
            return refused(request, refusal)
        name = request.path.strip("/") or "index.html"
        kind = _TYPES[Path(name).suffix]
        return web.Response(body=self._files[name], content_type=kind, charset="utf-8", headers=headers_for(request))

    async def _healthz(self, request: web.Request) -> web.StreamResponse:
        """The whole report for who may read, or asks on this machine; for others the state and nothing else."""
        report, gate = steady(self._health.report), self._gate
        status = 200 if report.state in _WELL else 503
        local = gate.from_here(request) and gate.name_refusal(request) is None
        if local or gate.read_refusal(request) is None:
            return json_answer(request, report, status)
        return json_answer(request, {"state": report.state}, status)

    async def _metrics_text(self, request: web.Request) -> web.StreamResponse:
        if refusal := self._gate.read_refusal(request):
            return refused(request, refusal)
        power = await self._power.look()
        viewers, drawn = self._audience.count, self._pictures.drawn
        text = steady(lambda: self._metrics.text(self._health.report(), power, viewers, drawn))
        return web.Response(body=text.encode(), headers={**headers_for(request), "Content-Type": CONTENT_TYPE})
