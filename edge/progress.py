"""Progress for people: a bar or a live line on a terminal, plain lines elsewhere. Always on standard error."""

import logging
import shutil
import sys
import time

from edge.log_lines import are_for_people

__all__ = ["LogHandler", "Progress"]

_BAR_WIDTH = 30
_TERMINAL_INTERVAL_S = 0.2
_PLAIN_INTERVAL_S = 10.0
_CLEAR_LINE = "\r\x1b[2K"
_OWN_LOGGERS = ("harrier", "edge", "calibration", "convert")


class LogHandler(logging.StreamHandler):
    """Writes log lines to standard error, clearing a live line that stands there.

    Of other libraries only warnings and errors are written: what they tell of their steps is not for users.
    """

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        if record.levelno < logging.WARNING and record.name.partition(".")[0] not in _OWN_LOGGERS:
            return
        if sys.stderr.isatty():
            sys.stderr.write(_CLEAR_LINE)
        super().emit(record)


class Progress:
    """Shows how far something is; `total` None means nobody knows. live=False leaves out all but the end."""

    def __init__(self, title: str, total: int | None = None, live: bool = True) -> None:
        self._title = title
        self._total = total
        self._is_told = logging.getLogger().level <= logging.INFO and are_for_people()  # not with --quiet
        self._live = live and self._is_told
        self._is_terminal = sys.stderr.isatty()
        self._next = time.monotonic() + (0.0 if self._is_terminal else _PLAIN_INTERVAL_S)

    @property
    def due(self) -> bool:
        """Whether the next update would be shown; hot loops ask before they put a text together."""
        return self._live and time.monotonic() >= self._next

    def update(self, done: int, detail: str = "", total: int | None = None) -> None:
        """Show `done` of the total, at most a few times a second."""
        self._total = total or self._total
        if not self.due:
            return
        interval_s = _TERMINAL_INTERVAL_S if self._is_terminal else _PLAIN_INTERVAL_S
        self._next = time.monotonic() + interval_s
        self._show(done, detail, end="")

    def clear(self) -> None:
        """Take the live line away, where the result says that all went well."""
        if self._is_terminal:
            print(_CLEAR_LINE, end="", file=sys.stderr, flush=True)

    def finish(self, done: int, detail: str = "") -> None:
        """Show the final state and end the line."""
        if self._is_told:
            self._show(done, detail, end="\n")

    def _show(self, done: int, detail: str, end: str) -> None:
        if self._total:
            share = min(1.0, done / self._total)
            bar = "#" * round(share * _BAR_WIDTH)
            line = f"{self._title} [{bar:<{_BAR_WIDTH}}] {100 * share:3.0f} %  {detail}"
        else:
            line = f"{self._title} {done}  {detail}"
        if self._is_terminal:
            width = shutil.get_terminal_size().columns
            print(f"{_CLEAR_LINE}{line[: width - 1]}", end=end, file=sys.stderr, flush=True)
        else:
            print(line, file=sys.stderr, flush=True)
