"""This process and those it started, as one: an engine in a process of its own, a camera's GStreamer."""

import os
import time
from collections.abc import Collection
from pathlib import Path

from edge.stats import rss_bytes

__all__ = ["Family", "cpu_times_s", "descendants"]

_LOOK_S = 2.0  # looking through all processes costs some milliseconds


def descendants(proc: Path = Path("/proc"), pid: int | None = None) -> set[int]:
    """Return the processes that `pid`, this one unless given, has started, and those that they have."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir(proc):
        if entry.isdecimal() and (fields := _stat(int(entry), proc)):
            children.setdefault(int(fields[1]), []).append(int(entry))
    found: set[int] = set()
    waiting = [os.getpid() if pid is None else pid]
    while waiting:
        born = children.get(waiting.pop(), [])
        found.update(born)
        waiting += born
    return found


def cpu_times_s() -> dict[int, float]:
    """Return the CPU time each process of the family has used, in s, by its number; under 0 what has ended."""
    hz = os.sysconf("SC_CLK_TCK")
    times = os.times()
    found = {0: times.children_user + times.children_system, os.getpid(): time.process_time()}
    for pid in descendants():
        if fields := _stat(pid):
            found[pid] = sum(map(int, fields[11:15])) / hz  # utime, stime, cutime, cstime
    return found


class Family:
    """The memory of this process and those it started, but for `besides`; shared pages count in each."""

    def __init__(self, besides: Collection[int] = ()) -> None:
        self._besides = set(besides)
        self._pids: set[int] = set()
        self._t_look = -_LOOK_S

    def rss_mb(self) -> float:
        """Return the resident memory now."""
        now = time.monotonic()
        if now - self._t_look >= _LOOK_S:
            self._pids, self._t_look = descendants() - self._besides, now
        others = [_resident_bytes(pid) for pid in self._pids]
        if None in others:
            self._t_look = -_LOOK_S  # one is gone, and another may have taken over
        return (rss_bytes()[0] + sum(filter(None, others))) / 1e6


def _resident_bytes(pid: int) -> int | None:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        return None


def _stat(pid: int, proc: Path = Path("/proc")) -> list[str] | None:
    """The fields of /proc/PID/stat after the name: the state, the parent, ..."""
    try:
        return (proc / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
