"""What a run tells systemd: that it is ready, how it does, and that fresh results flow. Elsewhere it does nothing.

The protocol is sd_notify(3): one datagram of KEY=value lines to the socket that NOTIFY_SOCKET names. A sign of life is
sent by the loop when it has published a fresh result, never by a timer: a loop that hangs, a source that is silent and
a backlog that grows all end the signs, and systemd restarts the run.
"""

import os
import socket
import time

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
    """

    def __init__(self, config: RunConfig) -> None:
        self._limit_s = _watchdog_s()
        patience_s = 2 * config.frame_timeout_s
        self._longer_s = patience_s if 0 < self._limit_s < patience_s else 0.0
        self._limit_s = self._longer_s or self._limit_s
        self._ttl_ms = config.wire.ttl_ms
        self._fresh_ms = max(self._ttl_ms, _STALE_SHARE * self._limit_s * 1e3)
        builds = config.engine.rebuild == "auto"
        self._open_s = _BUILD_S if builds else config.engine.start_s + _FIRST_FRAME_S
        self._is_heard = bool(os.environ.get("NOTIFY_SOCKET"))
        self._ready = False
        self._sign_at_s = self._status_at_s = self._result_at_s = float("-inf")
        self._counted, self._counted_at_s = 0, 0.0

    def __enter__(self) -> "ServiceState":
        notify("STATUS=opening the model", f"EXTEND_TIMEOUT_USEC={self._open_s * 1e6:.0f}")
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        notify("STOPPING=1", *([f"STATUS={error}"] if isinstance(error, EdgeError) else []))

    def result(self, age_ms: float, count: int) -> None:
        """A result was published, age_ms after its frame was captured; it is number `count` of this run."""
        if not self._is_heard:
            return
        now_s = self._result_at_s = time.monotonic()
        if not self._ready:
            self._become_ready(f"STATUS=first result, age {age_ms:.0f} ms", now_s)
            self._counted, self._counted_at_s = count, now_s
        elif age_ms <= self._fresh_ms:
            self._sign(now_s)
        if now_s - self._status_at_s >= _STATUS_S:
            rate_hz = (count - self._counted) / (now_s - self._counted_at_s)
            self._counted, self._counted_at_s = count, now_s
            stale = f", older than ttl_ms = {self._ttl_ms:g}" if age_ms > self._ttl_ms else ""
            self._say(f"{rate_hz:.1f} results/s, age {age_ms:.0f} ms{stale}", now_s)

    def waiting(self, why: str) -> None:
        """No result came in this turn; that is no sign of life."""
        now_s = time.monotonic()
        if now_s - self._status_at_s >= _STATUS_S:
            silent_s = now_s - self._result_at_s
            self._say(f"no result for {silent_s:.0f} s, {why}" if silent_s < float("inf") else why, now_s)

    def resting(self) -> None:
        """A reader has asked the run to stop: to rest is then what it shall do, so this is a sign of life."""
        now_s = time.monotonic()
        if not self._ready:
            self._become_ready("STATUS=paused, as a reader asked", now_s)
        self._sign(now_s)
        if now_s - self._status_at_s >= _STATUS_S:
            self._say("paused, as a reader asked", now_s)

    def reloading(self) -> None:
        """The configuration is being read again; the next result tells that this is done."""
        self._ready = False
        notify("RELOADING=1", f"MONOTONIC_USEC={monotonic_ns() // 1000}", "STATUS=reading the configuration again")

    def stopping(self) -> None:
        """The loop has ended; what it used is being closed."""
        notify("STOPPING=1", "STATUS=stopping")

    def _become_ready(self, status: str, now_s: float) -> None:
        self._sign_at_s = self._status_at_s = now_s  # READY=1 starts systemd's clock
        longer = [f"WATCHDOG_USEC={self._longer_s * 1e6:.0f}"] if self._longer_s else []
        self._ready = notify("READY=1", status, *longer)  # else again with the next result

    def _sign(self, now_s: float) -> None:
        if self._limit_s and now_s - self._sign_at_s >= self._limit_s / _SIGNS_PER_LIMIT:
            self._sign_at_s = now_s
            notify("WATCHDOG=1")

    def _say(self, text: str, now_s: float) -> None:
        self._status_at_s = now_s
        notify(f"STATUS={text}")
