"""URIs that name sources and publishers: `scheme://rest?option=value`."""

import re
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import parse_qsl, unquote

import msgspec

from edge.errors import ConfigError
from edge.structs import as_struct

__all__ = ["Uri", "mask_secrets", "parse_uri"]

T = TypeVar("T", bound=msgspec.Struct)

_FOREIGN_QUERIES = {"rtsp"}  # the camera's own parameters stand there too, in whatever form it likes
_RAW_SCHEMES = {"gst"}  # the rest is a pipeline description, in which ? and & have no meaning


@dataclass(frozen=True, slots=True)
class Uri:
    """A parsed URI. `rest` is everything between `://` and `?`, percent-decoded."""

    text: str
    scheme: str
    rest: str
    query: dict[str, str]

    @property
    def safe_text(self) -> str:
        """The URI without passwords, for logs and messages."""
        return mask_secrets(self.text)

    def options(self, struct: type[T]) -> T:
        """Return the query as a msgspec Struct of options.

        Raises: ConfigError for an unknown option or a value of the wrong type.
        """
        values: dict[str, Any] = dict(self.query)
        for key, value in values.items():
            if value.lower() in ("yes", "on", "no", "off"):
                values[key] = value.lower() in ("yes", "on")
            elif re.fullmatch(r"\d+x\d+", value):
                values[key] = [int(n) for n in value.split("x")]
        return as_struct(values, struct, self.safe_text, strict=False)

    def host_port(self) -> tuple[str, int]:
        """Return host ("" for all interfaces) and port of `host:port` or `[v6]:port`.

        Raises: ConfigError when there is no port in 0..65535 or something follows it.
        """
        match = re.fullmatch(r"(?:\[(?P<v6>[^\]]+)\]|(?P<host>[^:/]*)):(?P<port>\d{1,5})/?", self.rest)
        if not match or int(match["port"]) > 65535:
            raise ConfigError(f"{self.safe_text} names no host and port", f"write {self.scheme}://127.0.0.1:7788")
        return match["v6"] or match["host"], int(match["port"])


def mask_secrets(text: str) -> str:
    """Return the text with passwords in URLs and the values of keys like `password` or `token` replaced by ***."""
    text = re.sub(r"(://[^:@/?\s]*):[^\s?]*@", r"\1:***@", text)  # up to the last @: passwords may hold / and @
    keys = r"pw|pwd|pass|passw(?:or)?d|token|secret|auth|key"
    return re.sub(rf"(\b[\w-]*(?:{keys})=)[^\s&]+", r"\1***", text, flags=re.IGNORECASE)


def parse_uri(text: str) -> Uri:
    """Return the parts of a URI.

    Raises: ConfigError when there is no `scheme://`, an option has no value, or there is a zero byte.
    """
    match = re.fullmatch(r"([a-z][a-z0-9+.-]*)://(.*)", text.strip(), re.IGNORECASE | re.DOTALL)
    if not match:
        raise ConfigError(
            f"'{mask_secrets(text)}' is not a URI", "write scheme://..., for example tcp://127.0.0.1:7788"
        )
    scheme, rest = match[1].lower(), match[2]
    if scheme in _RAW_SCHEMES:
        return Uri(text, scheme, rest, {})
    if "\0" in unquote(rest):
        raise ConfigError(f"'{mask_secrets(text)}' has a zero byte, which no name can have", "leave out %00")
    rest, _, query = rest.partition("?")
    strict = bool(query) and scheme not in _FOREIGN_QUERIES
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=strict)
    except ValueError as exc:
        raise ConfigError(f"'{mask_secrets(text)}' has a malformed query", "write ?option=value&option=value") from exc
    return Uri(text, scheme, unquote(rest), dict(pairs))
