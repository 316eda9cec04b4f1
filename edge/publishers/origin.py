"""Which web pages may connect: a browser connects to this machine for any page its user happens to open."""

import ipaddress
import socket
from collections.abc import Collection
from urllib.parse import urlsplit

from edge.publishers.access import is_loopback

__all__ = ["origin_allowed"]


def origin_allowed(origin: str | None, host: str, listens_on: str, allowed: Collection[str]) -> bool:
    """Return whether a page of `origin` may connect to `host`, which are the two headers the browser sent.

    It may when it is among `allowed`, or comes from this very host. That must be an address or a name known to be ours:
    to a name that a stranger's name server points at us (DNS rebinding) every page of that name would be of this host.
    Programs send no origin; they are not what this is about.
    """
    if origin is None or "*" in allowed:
        return True
    if origin.rstrip("/").lower() in {entry.rstrip("/").lower() for entry in allowed}:
        return True
    page, here = _name(origin), _name(f"//{host}")
    return bool(here) and (page == here or (is_loopback(page) and is_loopback(here))) and _is_ours(here, listens_on)


def _name(url: str) -> str:
    try:
        return (urlsplit(url).hostname or "").rstrip(".").lower()
    except ValueError:
        return ""


def _is_ours(name: str, listens_on: str) -> bool:
    try:
        ipaddress.ip_address(name.partition("%")[0])
        return True
    except ValueError:
        own = socket.gethostname().lower()
        return name in {"localhost", listens_on.lower(), own, f"{own.partition('.')[0]}.local"}
