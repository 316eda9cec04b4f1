"""Where a KServe v2 server is, which of its models is meant and how it is to be asked: a URI and its options."""

import re
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from edge.errors import ConfigError
from edge.uri import Uri

__all__ = ["KserveAddress", "KserveOptions", "address_of"]


class KserveOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Options of `kserve+grpc://host:port/model` and `kserve+http://host:port/model`.

    version: of the model; the server's choice where it is left out. deadline_ms: instead of that of [engine].
    shared_memory: "system" insists on it, "auto" uses it where the server is on this machine and takes it.
    encoding: of tensors over HTTP; "auto" is binary where the server knows that. tls, ca: encrypt, trusting the
    system's authorities or those of a PEM file. token or token_file: who we are, sent as `Authorization: Bearer`, or
    as it stands in the header token_header names. authority: the host name a gateway chooses the service by.
    """

    version: str = ""
    deadline_ms: Annotated[float, msgspec.Meta(gt=0, le=60_000)] | None = None
    shared_memory: Literal["auto", "system", "off"] | bool = "auto"  # in a URI `off` reads as False
    encoding: Literal["auto", "binary", "json"] = "auto"
    tls: bool = False
    ca: str = ""
    token: str = ""
    token_file: str = ""
    token_header: str = ""
    authority: str = ""


@dataclass(frozen=True, slots=True)
class KserveAddress:
    """A model on a server. `text` names both for people and holds no secret."""

    host: str
    port: int
    model: str
    options: KserveOptions

    @property
    def host_port(self) -> str:
        """`host:port`, an IPv6 address in brackets."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def text(self) -> str:
        """The model and its server, for messages."""
        return f"{self.model} on {self.host_port}"

    @property
    def path(self) -> str:
        """The model's path below the server's root."""
        version = f"/versions/{self.options.version}" if self.options.version else ""
        return f"/v2/models/{self.model}{version}"

    def headers(self) -> dict[str, str]:
        """Return the header that says who we are, if any; a token's file is read anew, for tokens that expire.

        Raises: ConfigError when that file cannot be read or holds no token.
        """
        token = self.options.token or _token_in(self.options.token_file)
        if not token:
            return {}
        if self.options.token_header:
            return {self.options.token_header.lower(): token}
        return {"authorization": f"Bearer {token}"}

    def tls_context(self) -> ssl.SSLContext | None:
        """Return what checks the server's certificate, None without TLS.

        Raises: ConfigError when `ca` holds no certificate.
        """
        if not self.options.tls:
            return None
        ca = self.options.ca
        try:
            return ssl.create_default_context(cafile=str(Path(ca).expanduser()) if ca else None)
        except (OSError, ValueError) as exc:
            raise ConfigError(f"ca={ca} holds no certificate ({exc})", "give the PEM file of the authority") from exc


def address_of(uri: Uri) -> KserveAddress:
    """Return the address a URI means.

    Raises: ConfigError for an unknown option, a wrong value, or no host, port and model.
    """
    options = uri.options(KserveOptions)
    match = re.fullmatch(r"(?:\[([^\]]+)\]|([^:/]+)):(\d{1,5})/([^/\s]+)", uri.rest)
    if not match or not 0 < int(match[3]) < 65536:
        raise ConfigError(
            f"{uri.safe_text} names no server and model", f"write {uri.scheme}://HOST:PORT/MODEL, such as 10.0.0.5:8001"
        )
    if options.token and options.token_file:
        raise ConfigError(f"{uri.safe_text} has two tokens", "give token or token_file")
    if options.shared_memory is True:
        raise ConfigError(f"{uri.safe_text}: shared_memory=on does not say which", "write shared_memory=system")
    if options.ca and not options.tls:
        raise ConfigError(f"{uri.safe_text} has ca= without TLS", "add tls=yes")
    if not (options.token + options.token_header + options.authority).isprintable():
        raise ConfigError(f"{uri.safe_text} has a control character in an option", "leave it out")
    return KserveAddress(match[1] or match[2], int(match[3]), match[4], options)


def _token_in(path: str) -> str:
    if not path:
        return ""
    try:
        token = Path(path).expanduser().read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "it is no text"
        raise ConfigError(f"cannot read token_file={path} ({reason})", "check the path and its permissions") from exc
    if not token or not token.isprintable():
        raise ConfigError(f"token_file={path} holds no token", "put the token and nothing else there")
    return token
