"""Zenoh sessions as Harrier opens them: no multicast, and this machine only unless more is asked for."""

import json
import logging
from pathlib import Path

import zenoh

from edge.errors import ConfigError, PublishError
from edge.publishers.access import is_loopback
from edge.uri import Uri

__all__ = ["ROUTER", "check_endpoints", "connected", "open_session", "prefix_of", "settings_of"]

log = logging.getLogger("harrier")

ROUTER = "tcp/127.0.0.1:7447"
"""Where Zenoh's routers listen, and Harrier where it is told nothing."""


def prefix_of(uri: Uri, default: str) -> str:
    """Return the key all messages stand under: the URI's path, without a last `/detections`.

    Raises: ConfigError for what cannot be a Zenoh key.
    """
    prefix = uri.rest.strip("/").removesuffix("/detections") or default
    if any(c in prefix for c in "*$?#@ ") or "//" in prefix:
        raise ConfigError(f"'{prefix}' cannot be a Zenoh key", "write zenoh://robot1/front")
    return prefix


def check_endpoints(uri: Uri, listen: str, insecure: bool) -> None:
    """Check that what listens does so on loopback, or that somebody wanted it otherwise, which is logged.

    Raises: ConfigError.
    """
    for endpoint in filter(None, listen.split(",")):
        _, _, place = endpoint.partition("/")
        if is_loopback(place.rpartition(":")[0].strip("[]")) or endpoint.startswith("unixsock-stream/"):
            continue
        if not insecure:
            raise ConfigError(
                f"{uri.safe_text} would give what the camera sees to anybody who can reach {place or endpoint}",
                "add insecure=true, or give config=FILE with TLS and access control, or listen on tcp/127.0.0.1:7447",
            )
        log.warning("%s: insecure, whoever reaches %s can read it", uri.safe_text, place)


def settings_of(mode: str, connect: str, listen: str, config: str, timeout_s: float = 0.0) -> zenoh.Config:
    """Return the configuration of a session; see `open_session`.

    Raises: ConfigError for a file or an endpoint that Zenoh does not take.
    """
    path = Path(config).expanduser()
    if config and not path.is_file():
        raise ConfigError(f"config={config} is not a file", "give a Zenoh configuration (JSON5)")
    values: dict[str, object] = {"connect/endpoints": _split(connect), "listen/endpoints": _split(listen)}
    if config:
        values = {key: endpoints for key, endpoints in values.items() if endpoints}
    else:
        values |= {"mode": mode, "scouting/multicast/enabled": False, "scouting/delay": 0}
        values["timestamping/enabled"] = True  # what is kept for late subscribers needs it
        values["connect/retry"] = {"period_init_ms": 200, "period_max_ms": 2000, "period_increase_factor": 2}
    if mode == "client":
        values["connect/timeout_ms"] = max(1, int(timeout_s * 1000))
    try:
        settings = zenoh.Config.from_file(path) if config else zenoh.Config()
        for key, value in values.items():
            settings.insert_json5(key, json.dumps(value))
    except zenoh.ZError as exc:
        raise ConfigError(f"Zenoh does not take {config or connect or listen} ({_first(exc)})", "correct it") from exc
    return settings


def open_session(mode: str, connect: str, listen: str, config: str, timeout_s: float = 0.0) -> zenoh.Session:
    """Return a session; connect and listen are endpoints with commas between them, config a JSON5 file or "".

    A peer goes on trying to connect in the background; a client is connected, or fails after timeout_s.
    Raises: PublishError when it cannot be opened, ConfigError for a file or an endpoint that Zenoh does not take.
    """
    settings = settings_of(mode, connect, listen, config, timeout_s)
    try:
        return zenoh.open(settings)
    except zenoh.ZError as exc:
        where = listen or connect or config
        if "in use" in str(exc):
            raise PublishError(f"{where} is in use", f"connect to what runs there: connect={where}") from exc
        raise PublishError(f"Zenoh cannot open {where} ({_first(exc)})", "check address and port") from exc


def connected(session: zenoh.Session) -> bool:
    """Return whether the session is linked to anything."""
    return bool(session.info.routers_zid() or session.info.peers_zid())


def _split(endpoints: str) -> list[str]:
    return [endpoint.strip() for endpoint in endpoints.split(",") if endpoint.strip()]


def _first(exc: Exception) -> str:
    """Zenoh's message without the places in its own source code."""
    return str(exc).partition(" at /")[0].strip(" .")
