"""What a run tells systemd: that it is ready, how it does, and that fresh results flow. Elsewhere it does nothing.

The protocol is sd_notify(3): one datagram of KEY=value lines to the socket that NOTIFY_SOCKET names. A sign of life is
sent by the loop when it has published a fresh result, never by a timer: a loop that hangs, a source that is silent and
a backlog that grows all end the signs, and systemd restarts the run.
"""

import os
import socket
import time
from collections.abc import Callable

from edge.clock import monotonic_ns
from edge.config import RunConfig
from edge.errors import EdgeError

__all__ = ["ServiceState", "notify"]

_STATUS_S = 1.0
_SIGNS_PER_LIMIT = 20  # so many that the last one is never much older than the last fresh result
_STALE_SHARE = 0.5
_BUILD_S = 1800.0  # a small board builds a TensorRT engine for tens of minutes
_FIRST_FRAME_S = 30.0


def notify(*fields: str) -> bool:
    """Send fields such as "READY=1" to systemd; return whether there is one that took them. It never waits."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address[:1] not in ("/", "@"):
        return False
    lines = "\n".join(" ".join(field.split()) for field in fields)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as out:
            out.connect("\0" + address[1:] if address[0] == "@" else address)  # @: the abstract namespace
            out.send(lines.encode())
    except OSError:  # systemd is busy or gone: the run goes on, the next sign may pass
        return False
    return True


def _watchdog_s() -> float:
    """The time within which systemd wants a sign of life from this process, 0 where it wants none."""
    try:
        own = int(os.environ.get("WATCHDOG_PID") or os.getpid()) == os.getpid()  # else it is meant for a parent
        limit_us = int(os.environ.get("WATCHDOG_USEC") or 0)
    except ValueError:
        return 0.0
    return limit_us / 1e6 if own and limit_us > 0 else 0.0


class ServiceState:
    """How the run is doing, told to systemd: a context manager around it, and one call in each turn of the loop.

    A result is fresh while its age is at most ttl_ms, or half of WatchdogSec where that is longer: a restart cures a
    backlog that grows, not a board that is slow. WatchdogSec is made twice frame_timeout_s where it is shorter.
    describe: gives the status line, which is asked for once a second (`edge.health.HealthReport.line`).
    """

    def __init__(self, config: RunConfig) -> None:
        self.describe: Callable[[], str] = str
        self._systemd_s = self._told_s = _watchdog_s()
        self._is_heard = bool(os.environ.get("NOTIFY_SOCKET"))
        self._ready = self._reloading = False
        self._refused = ""
        self._sign_at_s = self._status_at_s = float("-inf")
        self._take(config)

    def _take(self, config: RunConfig) -> None:
        self._limit_s = max(self._systemd_s, 2 * config.frame_timeout_s) if self._systemd_s else 0.0
        self._fresh_ms = max(config.wire.ttl_ms, _STALE_SHARE * self._limit_s * 1e3)
        builds = config.engine.rebuild == "auto"
        self._open_s = _BUILD_S if builds else config.engine.start_s + _FIRST_FRAME_S

    def __enter__(self) -> "ServiceState":
        notify("STATUS=opening the model", f"EXTEND_TIMEOUT_USEC={self._open_s * 1e6:.0f}")
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        notify("STOPPING=1", *([f"STATUS={error}"] if isinstance(error, EdgeError) else []))

    def reopening(self, config: RunConfig) -> None:
        """The parts are opened anew, for this configuration: until the next result systemd waits as for a start."""
        self._take(config)
        self._ready = False
        status = ["STATUS=opening the parts anew"]
        if self._limit_s and self._open_s > self._limit_s:
            self._told_s = self._open_s
            status.append(f"WATCHDOG_USEC={self._open_s * 1e6:.0f}")
        notify(*status)

    def result(self, age_ms: float) -> None:
        """A result was published, age_ms after its frame was captured."""
        if not self._is_heard:
            return
        now_s = time.monotonic()
        if not self._ready and not self._reloading:
            refused, self._refused = self._refused, ""
            self._become_ready(f"STATUS={refused or f'first result, age {age_ms:.0f} ms'}", now_s)
        elif age_ms <= self._fresh_ms:
            self._sign(now_s)
        self._describe(now_s)

    def waiting(self) -> None:
        """No result came in this turn; that is no sign of life."""
        if self._is_heard:
            self._describe(time.monotonic())

    def resting(self) -> None:
        """A reader has asked the run to stop: to rest is then what it shall do, so this is a sign of life."""
        now_s = time.monotonic()
        if not self._ready and not self._reloading:
            self._become_ready("STATUS=paused, as a reader asked", now_s)
        self._sign(now_s)
        if now_s - self._status_at_s >= _STATUS_S:
            self._say("paused, as a reader asked", now_s)

    def reloading(self) -> None:
        """The configuration is being read again, until `reloaded`."""
        self._ready, self._reloading = False, True
        notify("RELOADING=1", f"MONOTONIC_USEC={monotonic_ns() // 1000}", "STATUS=reading the configuration again")

    def reloaded(self, trouble: str) -> None:
        """It holds with the next result, or was refused for this reason; from any thread."""
        self._refused = f"the configuration was not taken: {trouble}" if trouble else ""
        self._reloading = False

    def stopping(self) -> None:
        """The loop has ended; what it used is being closed."""
        notify("STOPPING=1", "STATUS=stopping")

    def _become_ready(self, status: str, now_s: float) -> None:
        self._sign_at_s = self._status_at_s = now_s  # READY=1 starts systemd's clock
        limit = [f"WATCHDOG_USEC={self._limit_s * 1e6:.0f}"] if self._limit_s != self._told_s else []
        self._ready = notify("READY=1", status, *limit)  # else again with the next result
        if self._ready:
            self._told_s = self._limit_s

    def _sign(self, now_s: float) -> None:
        if self._limit_s and now_s - self._sign_at_s >= self._limit_s / _SIGNS_PER_LIMIT:
            self._sign_at_s = now_s
            notify("WATCHDOG=1")

    def _describe(self, now_s: float) -> None:
        if now_s - self._status_at_s >= _STATUS_S:
            self._say(self.describe(), now_s)

    def _say(self, text: str, now_s: float) -> None:
        self._status_at_s = now_s
        notify(f"STATUS={text}")
