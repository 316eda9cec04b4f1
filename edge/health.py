"""How a run is doing, in one report: what systemd's status line, /healthz, /metrics and the live page are made of.

Readers on the wire are told the same conditions and states as they change (`edge.pipeline.Pipeline.set_condition`).
"""

from typing import Literal

import msgspec
import numpy as np

from edge.clock import monotonic_ns
from edge.pipeline import Pipeline
from edge.stage_watch import StageWatch
from edge.stats import rss_bytes
from edge.throttle_watch import ThrottleWatch

__all__ = ["EngineHealth", "Health", "HealthReport", "PublisherHealth", "SourceHealth"]

_RATE_STEPS = 60


class SourceHealth(msgspec.Struct, kw_only=True):
    """What the source is doing (`edge.wire.messages.SourceState`), and its counts since the start."""

    id: str
    state: str
    captured: int
    dropped: int
    reconnects: int


class EngineHealth(msgspec.Struct, kw_only=True):
    """A target of the line-up. state: running, ready, or why it is passed over; restarts: of its own process."""

    target: str
    state: str
    frames: int
    failures: int
    restarts: int


class PublisherHealth(msgspec.Struct, kw_only=True):
    """A publisher: messages since the start, and what is wrong with it now, "" for nothing."""

    address: str
    sent: int
    dropped: int
    failure: str


class HealthReport(msgspec.Struct, kw_only=True):
    """One moment of a run. age_ms: of the newest result's frame, from its capture to now; None before the first.

    latency_ms: median age of the last 60 results when they were published, None before the first.
    state: starting (no result yet), ok, degraded (works, but not as asked for), stale (no fresh result), stuck.
    reasons: for every state but ok, in words. fps: over the last 60 results. temperatures_c: by sensor.
    """

    state: Literal["starting", "ok", "degraded", "stale", "stuck"]
    reasons: list[str]
    uptime_s: float
    model: str
    frames: int
    fps: float
    age_ms: float | None
    ttl_ms: int
    latency_ms: float | None
    stuck: int
    source: SourceHealth
    engines: list[EngineHealth]
    publishers: list[PublisherHealth]
    temperatures_c: dict[str, float]
    memory_mb: float

    @property
    def line(self) -> str:
        """The report in one line, as `systemctl status` shows it."""
        if self.age_ms is None:
            return f"{self.state}: {'; '.join(self.reasons)}"
        text = f"{self.state}, {self.fps:.1f} results/s, age {self.age_ms:.0f} ms, {self.source.id}"
        return text + (f": {'; '.join(self.reasons)}" if self.reasons else "")


class Health:
    """Makes reports of a pipeline; from any thread, without holding the loop up."""

    def __init__(self, pipeline: Pipeline, throttle: ThrottleWatch, stages: StageWatch) -> None:
        self._pipeline = pipeline
        self._throttle = throttle
        self._stages = stages
        self._t_start_ns = monotonic_ns()

    def report(self) -> HealthReport:
        """Return how the run is doing now."""
        pipeline, now = self._pipeline, monotonic_ns()
        newest = pipeline.t_newest_ns
        age_ms = None if newest is None else (now - newest) / 1e6
        state, reasons = self._state(age_ms)
        wall, ages = pipeline.timings.wall_ns[-_RATE_STEPS:], pipeline.timings.age_ns[-_RATE_STEPS:]
        resting = newest is None or pipeline.state == "paused"
        stats = pipeline.source.stats
        return HealthReport(
            state=state,
            reasons=reasons,
            uptime_s=round((now - self._t_start_ns) / 1e9, 1),
            model=pipeline.model.name,
            frames=pipeline.timings.count,
            fps=0.0 if resting or not wall.sum() else round(len(wall) * 1e9 / int(wall.sum()), 2),
            age_ms=None if age_ms is None else round(age_ms, 1),
            ttl_ms=pipeline.stream.ttl_ms,
            latency_ms=round(float(np.median(ages)) / 1e6, 2) if len(ages) else None,
            stuck=self._stages.count,
            source=SourceHealth(
                id=pipeline.source.source_id,
                state=pipeline.state,
                captured=stats.captured,
                dropped=stats.dropped,
                reconnects=stats.reconnects,
            ),
            engines=[
                EngineHealth(
                    target=member.target,
                    state=member.reason or ("running" if member is pipeline.lineup.active else "ready"),
                    frames=member.frames,
                    failures=member.failures,
                    restarts=getattr(member.model and member.model.engine, "restarts", 0),
                )
                for member in pipeline.lineup.members
            ],
            publishers=[
                PublisherHealth(address=p.address, sent=p.sent, dropped=p.dropped, failure=p.failure)
                for p in pipeline.publishers
            ],
            temperatures_c=self._throttle.temperatures_c,
            memory_mb=round(rss_bytes()[0] / 1e6, 1),
        )

    def line(self) -> str:
        """Return how the run is doing now, in one line."""
        return self.report().line

    def _state(self, age_ms: float | None) -> tuple[Literal["starting", "ok", "degraded", "stale", "stuck"], list[str]]:
        pipeline = self._pipeline
        reasons = [f"{flag}: {reason}" for flag, reason in dict(pipeline.conditions).items()]
        reasons += [f"{p.address}: {p.failure}" for p in pipeline.publishers if p.failure]
        if self._stages.stuck:
            return "stuck", [f"stuck in {self._stages.stuck}", *reasons]
        source = f"source {pipeline.source.source_id} is {pipeline.state}"
        if age_ms is None:
            return "starting", [source, *reasons]
        if age_ms > pipeline.stream.ttl_ms:
            return "stale", [f"the newest result is {age_ms / 1e3:.1f} s old, {source}", *reasons]
        return ("degraded" if reasons else "ok"), reasons
