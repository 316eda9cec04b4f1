"""Whether the board slows down, looked at every few seconds beside the loop, so that readers can be told."""

import threading
from pathlib import Path

from edge.bench.fingerprint import temperatures_c
from edge.bench.reading import Tool, run_tool
from edge.bench.throttle import Throttle, throttle_now

__all__ = ["ThrottleWatch", "throttle_reason"]

_PERIOD_S = 2.0
_PI_WORDS = ("under-voltage", "frequency capped", "throttled", "soft temperature limit")  # bits 0 to 3


def throttle_reason(first: Throttle, now: Throttle) -> str:
    """Return what slows the machine down now, "" for nothing.

    first: what held at the start; a clock limit or cooling state of then is a setting.
    """
    words = [word for bit, word in enumerate(_PI_WORDS) if (now.pi_flags or 0) >> bit & 1]
    words += [f"{name} is {state:g}" for name, state in now.states.items() if state > first.states.get(name, 0)]
    lowered = [cpu for cpu, limit in now.limits_mhz.items() if limit < first.limits_mhz.get(cpu, limit)]
    if lowered:
        words.append(f"clock of {lowered[0]} limited to {now.limits_mhz[lowered[0]]:g} MHz")
    return ", ".join(words)


class ThrottleWatch:
    """A thread that keeps `reason` and `temperatures_c`, by sensor, up to date; a context manager that ends it."""

    def __init__(self, root: Path = Path("/"), tool: Tool = run_tool, period_s: float = _PERIOD_S) -> None:
        self.reason = ""
        self.temperatures_c: dict[str, float] = {}
        self._root, self._tool, self._period_s = root, tool, period_s
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, name="throttle watch", daemon=True)

    def __enter__(self) -> "ThrottleWatch":
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._ended.set()

    def _look(self) -> None:
        first = throttle_now(self._root, self._tool)
        # where the firmware has nothing to say, no process is started to ask it again and again
        tool: Tool = self._tool if first.pi_flags is not None else lambda words: None
        self.temperatures_c = temperatures_c(self._root)
        while not self._ended.wait(self._period_s):
            self.temperatures_c = temperatures_c(self._root)
            self.reason = throttle_reason(first, throttle_now(self._root, tool))
