"""The contract of a link: bytes from a publisher, and where the transport goes both ways, bytes to it."""

from typing import Literal, Protocol

from edge.uri import Uri

__all__ = ["Framing", "Link"]

Framing = Literal["serial", "stream", "message"]
"""How binary messages are framed: between zeros with COBS, behind a prefix, or one whole message a receive."""


class Link(Protocol):
    """One way to a publisher. Built from a Uri without touching anything; raises ConfigError for a wrong one.

    One thread opens, receives and closes; `send` may come from another. After `close` it can be opened again.
    framing: see Framing. two_way: whether what is sent reaches the publisher.
    """

    framing: Framing
    two_way: bool

    def __init__(self, uri: Uri) -> None: ...

    def open(self, timeout_s: float) -> None:
        """Connect, trying for at most `timeout_s`; it may give up sooner, the caller tries again.

        Raises: SourceTimeoutError when nobody answers, PublishError when this side cannot be set up (address in use,
        no such device), ConfigError for what no retry mends (an impossible name, an untrusted certificate).
        """

    def receive(self, timeout_s: float) -> bytes:
        """Return what has arrived, b"" when nothing did within `timeout_s`.

        Raises: EndOfStreamError when the other side is gone.
        """

    def send(self, data: bytes) -> None:
        """Send one framed message; what cannot be sent at once is dropped, whole."""

    def close(self) -> None:
        """Let go of everything; calling it twice is allowed."""
