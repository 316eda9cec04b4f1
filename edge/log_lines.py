"""Log lines: for people, for machines as JSON, and with their priority where systemd's journal takes them."""

import json
import logging
import math
import os
import sys
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

__all__ = ["JsonLines", "TextLines", "are_for_people", "goes_to_journal"]

_PRIORITIES = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}  # syslog's


class TextLines(logging.Formatter):
    """`harrier: MESSAGE`; in the journal after the line's priority, so that `journalctl -p warning` finds it."""

    def __init__(self, journal: bool = False) -> None:
        super().__init__("harrier: %(message)s")
        self._journal = journal

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        return _marked(super().format(record), record, self._journal)


class JsonLines(logging.Formatter):
    """One JSON object a line: t (UTC), level, logger, message, and of what it was made: event and values.

    event is the same for every occurrence ("target %s failed %d times (%s); ..."), values is what stands in its places:
    what counts or filters lines needs no pattern for a text.
    """

    def __init__(self, journal: bool = False) -> None:
        super().__init__()
        self._journal = journal

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; what JSON cannot tell stands in it as text."""
        given = record.args or ()
        values = list(given.values()) if isinstance(given, Mapping) else list(given)
        told = {
            "t": datetime.fromtimestamp(record.created, timezone.utc).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": str(record.msg),
            "values": [_plain(value) for value in values],
            "message": record.getMessage(),
        }
        if record.exc_info:
            told["exception"] = self.formatException(record.exc_info)
        return _marked(json.dumps(told), record, self._journal)


def are_for_people() -> bool:
    """Return whether what goes to standard error is read as text, so that progress may stand between the lines."""
    return not any(isinstance(handler.formatter, JsonLines) for handler in logging.getLogger().handlers)


def goes_to_journal() -> bool:
    """Return whether standard error is connected to systemd's journal, as JOURNAL_STREAM tells."""
    try:
        status = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError, AttributeError):
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def _marked(text: str, record: logging.LogRecord, journal: bool) -> str:
    if not journal:
        return text
    mark = f"<{_PRIORITIES.get(record.levelno, 6)}>"
    return "\n".join(mark + line for line in text.splitlines())


def _plain(value: Any) -> Any:
    known = value is None or isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value))
    return value if known else str(value)
