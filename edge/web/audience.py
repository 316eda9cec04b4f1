"""Who looks: the pages that are told the state, and whoever waits for the next picture."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from edge.web.state import State
from edge.web.steps import BIN_S
from edge.web.viewer import Viewer

__all__ = ["Audience"]

_PATIENCE_S = 0.05


class Audience:
    """Up to `most` viewers. on_change: is called when the first begins to wait for a picture, and when none does."""

    def __init__(self, most: int) -> None:
        self.on_change: Callable[[], None] = lambda: None
        self._most = most
        self._count = 0
        self._pages: set[Viewer] = set()
        self._waiting: set[asyncio.Future[bytes]] = set()
        self._shown = asyncio.Event()

    @property
    def count(self) -> int:
        """How many look now."""
        return self._count

    @property
    def full(self) -> bool:
        """Whether nobody else may look."""
        return self._count >= self._most

    @property
    def waiting(self) -> bool:
        """Whether anybody waits for a picture."""
        return bool(self._waiting)

    @asynccontextmanager
    async def seat(self, page: Viewer | None = None) -> AsyncIterator[None]:
        """Count as one who looks; a page is told the state, too."""
        self._count += 1
        if page:
            self._pages.add(page)
        try:
            yield
        finally:
            self._count -= 1
            self._pages.discard(page)  # type: ignore[arg-type]

    async def next_picture(self) -> bytes:
        """Return the JPEG of the next picture that is drawn."""
        future = asyncio.get_running_loop().create_future()
        self._waiting.add(future)
        self.on_change()
        try:
            return await future
        finally:
            self._waiting.discard(future)
            self.on_change()

    def show(self, jpeg: bytes) -> None:
        """Give a picture to all who wait for one."""
        waiting, self._waiting = self._waiting, set()
        for future in waiting:
            if not future.done():
                future.set_result(jpeg)
        self._shown.set()
        self.on_change()

    async def tell_all(self, state: State) -> None:
        """Tell the pages how the run is doing, about five times a second, and nobody where there are none.

        Best right after a picture, which comes of a result: the loop then waits for its next frame, and does not need
        the GIL.
        """
        while True:
            await asyncio.sleep(BIN_S - _PATIENCE_S)
            self._shown.clear()
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._shown.wait(), 2 * _PATIENCE_S)
            if not self._pages:
                state.rest()
                continue
            told = state.next(self._count)
            for page in self._pages:
                page.tell(told)
