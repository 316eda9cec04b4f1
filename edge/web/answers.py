"""Answers as the live page gives them: JSON, refusals, and the headers that all have."""

import re

from aiohttp import web

from edge.errors import ConfigError, DeviceError, EdgeError
from edge.web.gate import Refusal
from edge.web.state import as_json

__all__ = ["failed", "headers_for", "json_answer", "refused"]

_HOST = re.compile(r"[\w.:\[\]-]+")
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; connect-src 'self'"
)


def headers_for(request: web.BaseRequest) -> dict[str, str]:
    """Return what keeps a browser from guessing, keeping, framing, or fetching anything from elsewhere."""
    host = request.host
    sockets = f" ws://{host} wss://{host}" if _HOST.fullmatch(host) else ""  # 'self' is not enough for old Safaris
    return {
        "Cache-Control": "no-store",
        "Content-Security-Policy": _POLICY + sockets,
        "Cross-Origin-Resource-Policy": "same-origin",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
    }


def json_answer(request: web.BaseRequest, told: object, status: int = 200) -> web.Response:
    """Return `told` as JSON."""
    headers = headers_for(request)
    return web.Response(body=as_json(told), status=status, content_type="application/json", headers=headers)


def refused(request: web.BaseRequest, refusal: Refusal) -> web.Response:
    """Return why not."""
    answer = json_answer(request, {"error": refusal.why}, refusal.status)
    if refusal.status == 401:
        answer.headers["WWW-Authenticate"] = "Bearer"
    return answer


def failed(request: web.BaseRequest, exc: EdgeError) -> web.Response:
    """Return cause and cure of what went wrong: 400 for a wrong request, 503 for what may work later."""
    status = 400 if isinstance(exc, ConfigError) else 503 if isinstance(exc, DeviceError) else 500
    return json_answer(request, {"error": exc.cause, "cure": exc.cure}, status)
