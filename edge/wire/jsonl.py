"""Messages as JSON lines: one object a line, UTF-8, newline at the end."""

import json

import msgspec

from edge.errors import WireError
from edge.wire.messages import Message, RegionMessage, ResultMessage

__all__ = ["decode", "encode"]

_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(Message)


def encode(message: Message, max_bytes: int | None = None) -> bytes:
    """Return one line, newline included. max_bytes is for formats that can leave something out; a line cannot."""
    if isinstance(message, ResultMessage) and message.t_capture_local_ns is not None:
        message = msgspec.structs.replace(message, t_capture_local_ns=None)  # means nothing to anybody else
    elif isinstance(message, RegionMessage) and message.t_event_local_ns is not None:
        message = msgspec.structs.replace(message, t_event_local_ns=None)
    try:
        return _ENCODER.encode(message) + b"\n"
    except UnicodeEncodeError:  # the name of a file need not be UTF-8
        text = json.dumps(msgspec.to_builtins(message), ensure_ascii=False, separators=(",", ":"))
        return text.encode("utf-8", "replace") + b"\n"


def decode(line: bytes) -> Message:
    """Return the message in one line.

    Raises: WireError when it is not one.
    """
    try:
        return _DECODER.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:  # the last: arrays in arrays in arrays
        raise WireError(f"not a Harrier message ({exc})", "check that the sender is harrier run") from exc
