"""Who may see the page, and who may change something.

Two dangers come with a server on loopback: a page from elsewhere that the same browser shows may send requests here
(CSRF), and may even read the answers once its own name points at this machine (DNS rebinding). So the name a browser
asks for must be ours, and whatever changes something needs a header that a page from elsewhere cannot send unasked.
"""

import hmac
from dataclasses import dataclass
from urllib.parse import urlsplit

from aiohttp import web

from edge.config import WebSection
from edge.publishers.access import is_loopback
from edge.publishers.origin import origin_allowed
from edge.publishers.websocket_reader import token_of

__all__ = ["Gate", "Refusal"]

_OWN_HEADER = "X-Harrier"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is refused, with its HTTP status."""

    status: int
    why: str


_STRANGE = Refusal(403, "this machine is not known by that name: use its address, or add the name to [web] names")
_NO_TOKEN = Refusal(401, "show the token: Authorization: Bearer TOKEN")


class Gate:
    """The rules of [web]; host: where it listens, "" for all addresses."""

    def __init__(self, section: WebSection, host: str) -> None:
        self._token, self._control, self._host = section.token.encode(), section.control, host
        self._names = {name.lower() for name in section.names}

    def token_is(self, token: str) -> bool:
        """Whether this is the token; any is, where there is none."""
        return not self._token or hmac.compare_digest(token.encode("utf-8", "replace"), self._token)

    def has_token(self, request: web.BaseRequest) -> bool:
        """Whether the request shows a token that is asked for."""
        return bool(self._token) and self.token_is(token_of(request))

    def from_here(self, request: web.BaseRequest) -> bool:
        """Whether the request comes from this machine."""
        return is_loopback(request.remote or "")

    def name_refusal(self, request: web.BaseRequest) -> Refusal | None:
        """Why the name asked for is not ours; who shows the token may use any."""
        name = (urlsplit(f"//{request.host}").hostname or "").lower() if _is_host(request.host) else ""
        known = name in self._names or origin_allowed(f"http://{request.host}", request.host, self._host, ())
        return None if known or self.has_token(request) else _STRANGE

    def read_refusal(self, request: web.BaseRequest) -> Refusal | None:
        """Why the request may not see what the camera sees."""
        if refusal := self.name_refusal(request):
            return refusal
        if self.has_token(request):
            return None
        if self._token:
            return _NO_TOKEN
        if request.headers.get("Sec-Fetch-Site", "none") not in ("same-origin", "none"):
            return Refusal(403, "pages from elsewhere may not show this")
        return None

    def socket_refusal(self, request: web.BaseRequest) -> Refusal | None:
        """Why no WebSocket is opened; its first message may bring the token."""
        return self.name_refusal(request) or _foreign(request)

    def change_refusal(self, request: web.BaseRequest) -> Refusal | None:
        """Why the request may not change anything."""
        if refusal := self.read_refusal(request) or _foreign(request):
            return refusal
        if request.headers.get(_OWN_HEADER) != "1" or request.content_type != "application/json":
            return Refusal(403, f"send {_OWN_HEADER}: 1 and Content-Type: application/json")
        if not self.may_change(request):
            return Refusal(403, self.why_not(request))
        return None

    def may_change(self, request: web.BaseRequest) -> bool:
        """Whether its sender may change something, had he shown the token."""
        return not self.why_not(request)

    def why_not(self, request: web.BaseRequest) -> str:
        """Return why nobody there may change anything, "" where he may."""
        if not self._control:
            return "[web] control = false: nothing can be changed here"
        if not self._token and not self.from_here(request):
            return "without a token only this machine itself may change anything: set [web] token"
        return ""


def _foreign(request: web.BaseRequest) -> Refusal | None:
    """Why the page that sends it is none of ours; programs send no origin."""
    origin = request.headers.get("Origin")
    if origin is None or (_is_host(origin) and urlsplit(origin).netloc.lower() == request.host.lower()):
        return None
    return Refusal(403, "pages from elsewhere may not do this")


def _is_host(text: str) -> bool:
    try:
        return bool(urlsplit(text if "//" in text else f"//{text}").hostname)
    except ValueError:
        return False
