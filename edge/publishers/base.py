"""The contract every publisher keeps."""

from typing import Protocol

import msgspec

from edge.uri import Uri

__all__ = ["Publisher", "PublisherOptions"]


class PublisherOptions(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Options every publisher takes: the wire format, by its name in the registry."""

    format: str = "json"


class Publisher(Protocol):
    """Takes encoded messages, one per frame, and brings the newest to its readers.

    Built from a Uri; raises PublishError when it cannot start (port in use, unwritable file), and whatever
    `check` raises.
    address: where readers find it, with the real port where port 0 was asked for.
    sent and dropped count messages (per reader where there are several). failure: what is wrong just now, or "";
    a publisher goes on trying. reader_gone: the only reader it will ever have has hung up (a closed pipe).
    """

    address: str
    format: str
    sent: int
    dropped: int
    failure: str
    reader_gone: bool

    @staticmethod
    def check(uri: Uri) -> None:
        """Raise the ConfigError that a wrong URI deserves, without starting anything."""

    def send(self, payload: bytes, keep: bool = False) -> None:
        """Hand over one message; returns at once and never raises, whatever the readers do.

        keep: a change of state, which no newer message makes worthless.
        """

    def close(self, drain_s: float = 0.5) -> None:
        """Give readers up to `drain_s` to take what is pending, then stop; calling it twice is allowed."""
