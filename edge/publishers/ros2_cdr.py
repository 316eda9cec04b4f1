"""Messages as bytes of ROS 2: Common Data Representation (OMG DDSI-RTPS, XCDR version 1, little-endian).

Only the four types that `ros2://` publishes. Numbers are aligned to their size, counted from behind the four bytes
that name the representation; a string has its length, with the zero at its end, in front.
"""

import struct
from functools import lru_cache

from edge.wire.messages import ClassificationMessage, DetectionsMessage

__all__ = ["classification", "detection_array", "position_array", "text"]

_LITTLE_ENDIAN = b"\0\1\0\0"
_STAMP = struct.Struct("<iI")
_COUNT = struct.Struct("<I")
_SCORE = struct.Struct("<d")
_BOX = struct.Struct("<5d")  # centre x, y, theta; size x, y
_NO_POSE = struct.pack("<43d", *(0.0,) * 6, 1.0, *(0.0,) * 36)  # position, no rotation, covariance
_PLACE = struct.Struct("<7d")  # position, no rotation
_COVARIANCE = struct.Struct("<36d")
_NO_SIZE = bytes(24)
_MOST_S = 0x7FFFFFFF


def detection_array(message: DetectionsMessage, frame_id: str, numbers: bool = False) -> bytes:
    """Return a `vision_msgs/msg/Detection2DArray` (4.1.1): boxes in source px, stamped with the capture time.

    numbers: say classes by their number instead of their label.
    """
    stamp = _stamp(message.t_capture_ns)
    parts = [_padded(stamp + _string(frame_id), 4), _COUNT.pack(len(message.detections))]
    at = len(parts[0]) + _COUNT.size
    for record in message.detections:
        x1, y1, x2, y2 = record.box or (0.0, 0.0, 0.0, 0.0)
        head = _head(at & 7, frame_id, str(record.class_id) if numbers else record.label)
        name = _track("" if record.track_id is None else str(record.track_id))
        box = _BOX.pack((x1 + x2) / 2, (y1 + y2) / 2, 0.0, x2 - x1, y2 - y1)
        parts += (head[0], stamp, head[1], _SCORE.pack(record.score), _NO_POSE, box, name)
        at += len(head[0]) + len(head[1]) + len(name) + 400
    return _LITTLE_ENDIAN + b"".join(parts)


def position_array(message: DetectionsMessage, frame_id: str, numbers: bool = False) -> bytes:
    """Return a `vision_msgs/msg/Detection3DArray` (4.1.1): where things are in the base frame, as far as that is known.

    frame_id: of the base frame. The covariance has the square of position_sigma_m for x, y and z; sizes are 0.
    numbers: say classes by their number instead of their label.
    """
    placed = [record for record in message.detections if record.position_m is not None]
    head = _stamp(message.t_capture_ns) + _string(frame_id)
    body = _padded(head, 4) + _COUNT.pack(len(placed))
    for record in placed:
        place = _PLACE.pack(*(record.position_m or ()), 0.0, 0.0, 0.0, 1.0)
        variance = (record.position_sigma_m or 0.0) ** 2
        spread = [0.0] * 36
        spread[0] = spread[7] = spread[14] = variance
        what = _string(str(record.class_id) if numbers else record.label)
        body = _padded(_padded(body, 4) + head, 4) + _COUNT.pack(1) + what
        body = _padded(body, 8) + _SCORE.pack(record.score) + place + _COVARIANCE.pack(*spread) + place + _NO_SIZE
        body += _string("" if record.track_id is None else str(record.track_id))
    return _LITTLE_ENDIAN + body


def classification(message: ClassificationMessage, frame_id: str, numbers: bool = False) -> bytes:
    """Return a `vision_msgs/msg/Classification` (4.1.1), stamped with the capture time, best class first.

    numbers: say classes by their number instead of their label.
    """
    body = _stamp(message.t_capture_ns) + _string(frame_id)
    body = _padded(body, 4) + _COUNT.pack(len(message.classes))
    for record in message.classes:
        name = str(record.class_id) if numbers else record.label
        body = _padded(_padded(body, 4) + _string(name), 8) + _SCORE.pack(record.score)
    return _LITTLE_ENDIAN + body


def text(data: str) -> bytes:
    """Return a `std_msgs/msg/String`."""
    return _LITTLE_ENDIAN + _string(data)


@lru_cache(4096)
def _head(phase: int, frame_id: str, name: str) -> tuple[bytes, bytes]:
    """What stands before and behind the stamp of a detection that begins at an offset of `phase` modulo 8.

    Behind: frame, the count of hypotheses (1), the class, and padding up to its score.
    """
    before = bytes(-phase % 4)
    body = bytes(phase) + before + bytes(_STAMP.size)
    skip = len(body)
    body = _padded(body + _string(frame_id), 4) + _COUNT.pack(1) + _string(name)
    return before, _padded(body, 8)[skip:]


@lru_cache(4096)
def _track(name: str) -> bytes:
    return _string(name)


def _string(data: str) -> bytes:
    raw = data.encode("utf-8", "replace").replace(b"\0", b"")
    return _COUNT.pack(len(raw) + 1) + raw + b"\0"


def _padded(body: bytes, size: int) -> bytes:
    return body + bytes(-len(body) % size)


def _stamp(t_ns: int) -> bytes:
    """A `builtin_interfaces/msg/Time`, at its end from the year 2038 on."""
    seconds, ns = divmod(max(0, t_ns), 1_000_000_000)
    return _STAMP.pack(min(seconds, _MOST_S), ns)
