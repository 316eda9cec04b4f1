"""What a person may type for a source, turned into a URI."""

import re
from pathlib import Path
from urllib.parse import quote

from edge.errors import SourceOpenError
from edge.sources.capture import PICTURE_SUFFIXES
from edge.uri import Uri, parse_uri

__all__ = ["source_uri"]


def source_uri(text: str) -> Uri:
    """Return the URI behind what a person types: a URI, camera number, device, video, recording, picture or folder.

    A number and a device may carry options, as in `0?size=1280x720`.
    Raises: ConfigError for a malformed URI, SourceOpenError when nothing of that name exists.
    """
    if "://" in text:
        return parse_uri(text)
    path = Path(text)
    if text and path.exists() and not text.startswith("/dev/"):
        suffix = path.suffix.lower()
        scheme = "images" if path.is_dir() or suffix in PICTURE_SUFFIXES else "replay" if suffix == ".mcap" else "file"
        return parse_uri(f"{scheme}://{quote(str(path.absolute()))}")
    if re.match(r"\d+(\?|$)", text):
        return parse_uri(f"v4l2:///dev/video{text}")
    if text.startswith("/dev/"):
        return parse_uri(f"v4l2://{text}")
    raise SourceOpenError(
        f"there is no file '{text}', and it is no URI",
        "check the path, or write a camera number or a URI such as rtsp://HOST/PATH",
    )
