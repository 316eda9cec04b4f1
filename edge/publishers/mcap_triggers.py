"""What makes a recording keep its ring: conditions on the messages, such as `region,score<0.4`."""

import re
from collections.abc import Callable

from edge.errors import ConfigError
from edge.wire.messages import ClassificationMessage, DetectionsMessage, Message, RegionMessage, StatusMessage

__all__ = ["Condition", "conditions_of"]

Condition = Callable[[Message], str]
"""Why a message keeps the ring, "" where it does not."""

_NUMBER = r"(\d*\.?\d+)"
_SCORE = re.compile(rf"(?:{_NUMBER}<)?score(?:\(([^()]+)\))?(?:([<>]){_NUMBER})?")
_ORDINARY_ENDS = ("connecting", "ended", "closed")
_CURE = "write region, region:NAME, status, score<0.4, 0.1<score<0.4 or score(person)>0.9, with commas between"


def conditions_of(text: str, where: str) -> list[Condition]:
    """Return the conditions in a list with commas; none where it is empty.

    Raises: ConfigError for what is none.
    """
    return [_condition(part.strip(), where) for part in text.split(",") if part.strip()]


def _condition(text: str, where: str) -> Condition:
    if text == "status":
        return _Changes()
    name = re.fullmatch(r"region(?::(.+))?", text)
    if name:
        return lambda message: _region(message, name[1])
    found = _SCORE.fullmatch(text.replace(" ", ""))
    if found is None or not (found[1] or found[3]):
        raise ConfigError(f"{where}: '{text}' triggers nothing", _CURE)
    low, label, sign, bound = found[1], found[2], found[3], found[4]
    if low and sign == ">":
        raise ConfigError(f"{where}: '{text}' bounds the score twice from below", _CURE)
    least = float(low or (bound if sign == ">" else 0.0))
    most = float(bound) if sign == "<" else 1.1
    if not least < most:
        raise ConfigError(f"{where}: no score fits '{text}'", _CURE)
    return lambda message: _score(message, least, most, label)


def _region(message: Message, name: str | None) -> str:
    if not isinstance(message, RegionMessage) or name not in (None, message.region):
        return ""
    return f"region {message.region} {message.event}"


def _score(message: Message, least: float, most: float, label: str | None) -> str:
    """Of detections any, of classes the best one."""
    if isinstance(message, DetectionsMessage):
        records = message.detections
    elif isinstance(message, ClassificationMessage):
        records = message.classes[:1]
    else:
        return ""
    for record in records:
        if least < record.score < most and label in (None, record.label) and not record.unseen_ms:
            return f"score {record.label} {record.score:.2f}"
    return ""


class _Changes:
    """Changes of state, but for those of every start and end."""

    def __init__(self) -> None:
        self._streaming = False

    def __call__(self, message: Message) -> str:
        """Return which change it was."""
        if not isinstance(message, StatusMessage) or message.state in _ORDINARY_ENDS:
            return ""
        if message.state == "streaming" and not self._streaming:
            self._streaming = True
            return ""
        return f"status {message.state} {message.reason}".strip()
