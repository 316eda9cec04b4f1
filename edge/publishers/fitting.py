"""Messages cut to the bytes there are: the weakest detections go, and the message says how many."""

from collections.abc import Callable, Sequence

import msgspec

from edge.errors import WireError
from edge.wire.messages import ClassificationMessage, DetectionRecord, DetectionsMessage, Message

__all__ = ["fitted"]


def fitted(encode: Callable[[Message, int | None], bytes], message: Message, max_bytes: int) -> bytes:
    """Return the encoded message, a result in at most max_bytes; other kinds are short and stay whole.

    The binary encoder leaves out detections itself; for a format that does not, the most that fit are tried here.
    Raises: WireError when a result does not fit even without detections.
    """
    if not isinstance(message, DetectionsMessage | ClassificationMessage):
        return encode(message, None)
    data = encode(message, max_bytes)
    if len(data) <= max_bytes:
        return data
    records = message.detections if isinstance(message, DetectionsMessage) else message.classes
    best, low, high = b"", 0, len(records) - 1
    while low <= high:
        count = (low + high) // 2
        data = encode(_strongest(message, records, count), None)
        if len(data) <= max_bytes:
            best, low = data, count + 1
        else:
            high = count - 1
    if not best:
        raise WireError(f"a {message.kind} message needs more than {max_bytes} bytes", "allow more: max_bytes=1024")
    return best


def _strongest(
    message: DetectionsMessage | ClassificationMessage, records: Sequence[DetectionRecord], count: int
) -> Message:
    """The message with its `count` strongest records, in the order they had."""
    order = sorted(range(len(records)), key=lambda i: -records[i].score)[:count]
    kept = [records[i] for i in sorted(order)]
    if isinstance(message, ClassificationMessage):
        return msgspec.structs.replace(message, classes=kept)
    return msgspec.structs.replace(message, detections=kept, omitted=message.omitted + len(records) - count)
