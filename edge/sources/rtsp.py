"""What RTSP needs beside OpenCV: the camera's address, FFmpeg's transport, and why a connection failed."""

import difflib
import os
import socket

from edge.errors import ConfigError, SourceError, SourceOpenError
from edge.structs import did_you_mean
from edge.uri import Uri

__all__ = ["split_query", "use_transport", "why_no_stream"]

_ENVIRONMENT = "OPENCV_FFMPEG_CAPTURE_OPTIONS"
_UDP = "rtsp_transport;udp"


def split_query(uri: Uri, known: list[str]) -> tuple[str, dict[str, str]]:
    """Return the camera's address with the query parameters that are its own, and our options.

    Raises: ConfigError for a parameter that looks like a misspelt option.
    """
    base, _, query = uri.text.partition("?")
    theirs = []
    for part in query.split("&"):
        name = part.partition("=")[0]
        if name in known or not part:
            continue
        if difflib.get_close_matches(name, known, n=1, cutoff=0.8):
            raise ConfigError(f"{uri.safe_text}: unknown option '{name}'", did_you_mean(name, known))
        theirs.append(part)
    ours = {name: value for name, value in uri.query.items() if name in known}
    return base + ("?" + "&".join(theirs) if theirs else ""), ours


def use_transport(transport: str) -> None:
    """Choose tcp or udp for FFmpeg inside OpenCV, for the whole process; a user's own setting stays.

    FFmpeg prefers tcp there, and takes udp only from the environment.
    Raises: SourceOpenError when tcp is wanted after udp was chosen.
    """
    if transport == "udp":
        os.environ.setdefault(_ENVIRONMENT, _UDP)
    elif os.environ.get(_ENVIRONMENT) == _UDP:
        raise SourceOpenError(
            "another source of this process reads RTSP over udp, and that holds for all",
            "use one transport for all, or one process per source",
        )


def why_no_stream(name: str, host: str, port: int) -> SourceError:
    """Return the reason of a failed open, which OpenCV does not tell: is there a server at all?"""
    try:
        socket.create_connection((host, port), timeout=1.0).close()
    except OSError as exc:
        return SourceError(f"{name} cannot be reached ({exc})", "check address, network and camera power")
    return SourceError(
        f"{name} answers but gives no video", "check path, user, password and codec with `ffprobe URL`"
    )
