"""Who may connect to a publisher that listens: the options, the rule for addresses other than loopback, TLS."""

import ipaddress
import logging
import ssl
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from edge.errors import ConfigError
from edge.publishers.base import PublisherOptions, options_of
from edge.uri import Uri

__all__ = ["ListenOptions", "check_access", "is_loopback", "listen_options", "tls_context", "warn_if_open"]

log = logging.getLogger("harrier")

_MOST_TOKEN_BYTES = 255
_Count = Annotated[int, msgspec.Meta(ge=1)]


class ListenOptions(PublisherOptions, kw_only=True):
    """Options of publishers that readers connect to.

    token: what a reader's HELLO must carry. cert, key: PEM files for TLS. insecure: anybody may connect from anywhere.
    control: what a reader's CONTROL may change: nothing, that reader's own view, or also whether the run runs.
    max_clients: readers at a time. max_message_bytes, max_messages_hz: of what one reader sends.
    """

    token: str = ""
    insecure: bool = False
    cert: str = ""
    key: str = ""
    control: Literal["off", "view", "all"] | bool = "off"  # in a URI `off` reads as False
    max_clients: _Count = 1024
    max_message_bytes: _Count = 4096
    max_messages_hz: _Count = 200


def listen_options(uri: Uri, options: type[ListenOptions] = ListenOptions) -> ListenOptions:
    """Return the URI's options, or those of a struct that adds some.

    Raises: ConfigError for an unknown option, a wrong value, an empty token, half a pair of TLS files, or one that
    is not there.
    """
    found = options_of(uri, options)
    if "token" in uri.query and not found.token:
        raise ConfigError(f"{uri.safe_text} has an empty token", "give token=SECRET, or leave it out")
    if len(found.token.encode()) > _MOST_TOKEN_BYTES:
        raise ConfigError(f"the token has more than {_MOST_TOKEN_BYTES} bytes", "shorten it: a HELLO has no more room")
    if found.control is True:
        raise ConfigError("control=on does not say how much", "write control=view or control=all")
    if bool(found.cert) != bool(found.key):
        raise ConfigError(f"{uri.safe_text} has half of what TLS needs", "give both cert=FILE and key=FILE")
    for name, path in (("cert", found.cert), ("key", found.key)):
        if path and not Path(path).expanduser().is_file():
            raise ConfigError(f"{name}={path} is not a file", f"give the PEM file of the {name}")
    return found


def check_access(uri: Uri, host: str, options: ListenOptions) -> None:
    """Check that a publisher that listens on `host` ("" for all addresses) is not open to everybody unasked.

    Raises: ConfigError.
    """
    if not (is_loopback(host) or options.token or options.cert or options.insecure):
        everywhere = host or "all addresses"
        raise ConfigError(
            f"{uri.safe_text} would give what the camera sees to anybody who can reach {everywhere}",
            "add token=SECRET, or cert=FILE&key=FILE for TLS, or insecure=true, or listen on 127.0.0.1",
        )


def warn_if_open(uri: Uri, host: str, options: ListenOptions) -> None:
    """Log a warning when only `insecure` lets a publisher listen there."""
    if options.insecure and not (is_loopback(host) or options.token or options.cert):
        log.warning("%s: insecure, whoever reaches %s can read it", uri.safe_text, host or "any address of this board")


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach the host; names other than localhost count as others."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False


def tls_context(options: ListenOptions) -> ssl.SSLContext | None:
    """Return the server's TLS settings, None where no certificate is given.

    Raises: ConfigError naming the file that is wrong.
    """
    if not options.cert:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    cert, key = str(Path(options.cert).expanduser()), str(Path(options.key).expanduser())
    try:
        # an encrypted key would ask at the terminal, where a robot has nobody to answer
        context.load_cert_chain(cert, key, password=lambda: b"")
    except ssl.SSLError as exc:
        why = exc.reason or str(exc)
        if "KEY_VALUES_MISMATCH" in why:
            raise ConfigError(f"key={key} is not the key of cert={cert}", "give the two files of one pair") from exc
        raise ConfigError(_not_pem(cert, key, why), "give PEM files, the key without a password") from exc
    except (OSError, ValueError) as exc:
        raise ConfigError(f"cannot read cert={cert} or key={key} ({exc})", "check the files' permissions") from exc
    return context


def _not_pem(cert: str, key: str, why: str) -> str:
    """Say which of the two files TLS does not take."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(cert)
    except (ssl.SSLError, OSError):
        return f"cert={cert} is no certificate that TLS can use ({why})"
    return f"key={key} is no private key that TLS can use ({why})"
