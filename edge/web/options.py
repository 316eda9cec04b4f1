"""Where the live page listens, from [web] or `--web`, and that it is not open to everybody unasked."""

import ssl

import msgspec

from edge.config import WebSection
from edge.errors import ConfigError
from edge.publishers.access import check_access, listen_options, tls_context, warn_if_open
from edge.structs import as_struct
from edge.uri import Uri, parse_uri

__all__ = ["address_of", "checked", "web_section"]


def web_section(text: str, base: WebSection | None) -> WebSection:
    """Return what `--web HOST:PORT?option=value` means; what it does not say is as in `base`.

    Raises: ConfigError for an unknown option or a wrong value.
    """
    if text.isdecimal():
        text = f"127.0.0.1:{text}"
    uri = parse_uri(text if "://" in text else f"http://{text}")
    values = {**msgspec.to_builtins(base or WebSection()), **uri.query, "listen": uri.rest}
    return as_struct(values, WebSection, f"--web {uri.safe_text}", strict=False)


def address_of(section: WebSection) -> tuple[str, int]:
    """Return host ("" for all addresses) and port.

    Raises: ConfigError when there is none.
    """
    try:
        return _uri(section).host_port()
    except ConfigError as exc:
        raise ConfigError(f"'{section.listen}' of [web] is no host and port", "write 127.0.0.1:8080") from exc


def checked(section: WebSection, warn: bool = False) -> ssl.SSLContext | None:
    """Check address, access and files; return the TLS settings, None without a certificate.

    warn: log it where only `insecure` lets it listen there.
    Raises: ConfigError.
    """
    host, _ = address_of(section)
    uri = _uri(section)
    options = listen_options(uri)
    check_access(uri, host, options)
    if warn:
        warn_if_open(uri, host, options)
    return tls_context(options)


def _uri(section: WebSection) -> Uri:
    """The section as the publishers that listen have it, whose rules hold here, too."""
    query = {name: getattr(section, name) for name in ("token", "cert", "key") if getattr(section, name)}
    if section.insecure:
        query["insecure"] = "true"
    return Uri(f"http://{section.listen}", "http", section.listen, query)
