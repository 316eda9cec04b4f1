"""What a program, or the page, may ask to know or to change: JSON in, JSON out."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import msgspec
from aiohttp import web

from edge.errors import EdgeError
from edge.pipeline import Pipeline
from edge.web.answers import failed, headers_for, json_answer, refused
from edge.web.audience import Audience
from edge.web.control import Control, ModelRequest, RecordRequest, ThresholdsRequest, TriggerRequest
from edge.web.gate import Gate, Refusal
from edge.web.models import choices
from edge.web.power import Power
from edge.web.state import State

__all__ = ["Api"]

T = TypeVar("T")

_KINDS = {"png": "image/png", "json": "application/json"}


class _Nothing(msgspec.Struct, forbid_unknown_fields=True):
    """A request that says all by its address."""


class Api:
    """Everything under /api/."""

    def __init__(
        self, gate: Gate, pipeline: Pipeline, control: Control, state: State, audience: Audience, power: Power
    ) -> None:
        self._gate, self._pipeline, self._control = gate, pipeline, control
        self._state, self._audience, self._power = state, audience, power

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Say what is answered where."""
        control = self._control
        router.add_get("/api/state", self._now)
        router.add_get("/api/models", self._models)
        router.add_get("/api/snapshots/{name}", self._snapshot)
        self._add(router, "thresholds", ThresholdsRequest, control.set_thresholds)
        self._add(router, "model", ModelRequest, control.switch)
        self._add(router, "snapshot", _Nothing, lambda _: control.snapshot())
        self._add(router, "record", RecordRequest, control.set_recording)
        self._add(router, "trigger", TriggerRequest, control.trigger)
        self._add(router, "pause", _Nothing, lambda _: control.rest(True))
        self._add(router, "resume", _Nothing, lambda _: control.rest(False))

    def _add(
        self,
        router: web.UrlDispatcher,
        name: str,
        kind: type[T],
        change: Callable[[T], Awaitable[dict[str, Any] | None]],
    ) -> None:
        async def answer(request: web.Request) -> web.StreamResponse:
            if refusal := self._gate.change_refusal(request):
                return refused(request, refusal)
            try:
                asked = msgspec.json.decode(await request.read() or b"{}", type=kind)
                return json_answer(request, await change(asked))
            except msgspec.DecodeError as exc:
                return refused(request, Refusal(400, str(exc)))
            except EdgeError as exc:
                return failed(request, exc)

        router.add_post(f"/api/{name}", answer)

    async def _now(self, request: web.Request) -> web.StreamResponse:
        if refusal := self._gate.read_refusal(request):
            return refused(request, refusal)
        await self._power.look()
        return json_answer(request, self._state.now(self._audience.count))

    async def _models(self, request: web.Request) -> web.StreamResponse:
        if refusal := self._gate.read_refusal(request):
            return refused(request, refusal)
        try:
            return json_answer(request, await asyncio.to_thread(choices, self._pipeline))
        except EdgeError as exc:
            return failed(request, exc)

    async def _snapshot(self, request: web.Request) -> web.StreamResponse:
        if refusal := self._gate.read_refusal(request):
            return refused(request, refusal)
        name = request.match_info["name"]
        data = self._control.snapshots.get(name)
        if data is None:
            return refused(request, Refusal(404, "this snapshot is gone: only the last few are kept"))
        told = {**headers_for(request), "Content-Disposition": f'attachment; filename="harrier-{name}"'}
        return web.Response(body=data, content_type=_KINDS[name.rpartition(".")[2]], headers=told)
