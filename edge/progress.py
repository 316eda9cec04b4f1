"""Progress for people: a bar or a live line on a terminal, plain lines elsewhere. Always on standard error."""

import sys
import time

__all__ = ["Progress"]

_BAR_WIDTH = 30
_TERMINAL_INTERVAL_S = 0.2
_PLAIN_INTERVAL_S = 10.0


class Progress:
    """Shows how far something is; `total` None means nobody knows."""

    def __init__(self, title: str, total: int | None = None) -> None:
        self._title = title
        self._total = total
        self._is_terminal = sys.stderr.isatty()
        self._start = time.monotonic()
        self._next = self._start if self._is_terminal else self._start + _PLAIN_INTERVAL_S

    @property
    def due(self) -> bool:
        """Whether the next update would be shown; hot loops ask before they put a text together."""
        return time.monotonic() >= self._next

    def update(self, done: int, detail: str = "", total: int | None = None) -> None:
        """Show `done` of the total, at most a few times a second."""
        self._total = total or self._total
        if not self.due:
            return
        interval_s = _TERMINAL_INTERVAL_S if self._is_terminal else _PLAIN_INTERVAL_S
        self._next = time.monotonic() + interval_s
        self._show(done, detail, end="")

    def finish(self, done: int, detail: str = "") -> None:
        """Show the final state and end the line."""
        self._show(done, detail, end="\n")

    def _show(self, done: int, detail: str, end: str) -> None:
        if self._total:
            share = min(1.0, done / self._total)
            amount = f"{100 * share:3.0f} %"
            bar = "#" * round(share * _BAR_WIDTH)
            line = f"{self._title} [{bar:<{_BAR_WIDTH}}] {amount}  {detail}"
        else:
            line = f"{self._title} {done}  {detail}"
        if self._is_terminal:
            print(f"\r\x1b[2K{line}", end=end, file=sys.stderr, flush=True)
        else:
            print(line, file=sys.stderr, flush=True)
