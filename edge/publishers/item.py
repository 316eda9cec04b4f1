"""A message on its way to many readers."""

from collections.abc import Callable

import msgspec

from edge.errors import WireError
from edge.wire.building import restamped
from edge.wire.messages import (
    EVENT_KINDS,
    RESULT_KINDS,
    ClassificationMessage,
    DetectionsMessage,
    Message,
    RegionMessage,
)

__all__ = ["Item"]

_STAMP_HOLDS_NS = 2_000_000


class Item:
    """A message on its way to many readers, encoded once for all who take it at about the same time."""

    def __init__(self, message: Message, encode: Callable[[Message], bytes], clock: Callable[[], int]) -> None:
        self.message = message
        self.kind = message.kind
        self._encode = encode
        self._clock = clock
        self._stamps = self.kind in RESULT_KINDS | EVENT_KINDS
        self._encoded: dict[frozenset[int], tuple[int, bytes]] = {}

    def concerns(self, class_ids: frozenset[int]) -> bool:
        """Return whether a reader that wants only these classes wants this message; all of it where there are none."""
        return not class_ids or not isinstance(self.message, RegionMessage) or self.message.class_id in class_ids

    def payload(self, class_ids: frozenset[int] = frozenset()) -> bytes:
        """Return the bytes, with the age of now (within 2 ms) and only the classes asked for; b"" if too large."""
        now = self._clock()
        t_ns, payload = self._encoded.get(class_ids, (0, b""))
        if not t_ns or (self._stamps and now - t_ns > _STAMP_HOLDS_NS):
            try:
                payload = self._encode(restamped(_only(self.message, class_ids) if class_ids else self.message))
            except WireError:
                payload = b""
            self._encoded[class_ids] = now, payload
        return payload


def _only(message: Message, class_ids: frozenset[int]) -> Message:
    if isinstance(message, DetectionsMessage):
        kept = [record for record in message.detections if record.class_id in class_ids]
        return msgspec.structs.replace(message, detections=kept)
    if isinstance(message, ClassificationMessage):
        return msgspec.structs.replace(message, classes=[r for r in message.classes if r.class_id in class_ids])
    return message
