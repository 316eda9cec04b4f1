"""What the page is told five times a second: health, the newest result, and where the time went."""

import json
import time
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from edge import __version__
from edge.clock import monotonic_ns
from edge.health import Health, HealthReport
from edge.pipeline import Pipeline
from edge.web.control import Control, thresholds_of
from edge.web.pictures import Pictures
from edge.web.power import Power
from edge.web.steps import Point, history, point, waterfall
from edge.wire.building import restamped
from edge.wire.jsonl import encode

__all__ = ["State", "as_json", "steady"]

T = TypeVar("T")


class State:
    """Makes the messages of the page: `first` for one that comes, then `next` for all, at an even pace."""

    def __init__(self, pipeline: Pipeline, health: Health, control: Control, pictures: Pictures, power: Power) -> None:
        self._pipeline, self._health = pipeline, health
        self._control, self._pictures, self._power = control, pictures, power
        self._t_start_ns = monotonic_ns()
        self._count = pipeline.timings.count

    def rest(self) -> None:
        """Forget what happened while nobody looked: whoever comes is told by `first`."""
        self._count = self._pipeline.timings.count

    def first(self, may_change: str) -> bytes:
        """Return what was, up to now. may_change: why this viewer may change nothing, "" where he may."""
        pipeline = self._pipeline
        timings, points = pipeline.timings, []
        newest = pipeline.t_newest_ns
        if newest is not None and timings.count:
            last_ns = newest + int(timings.newest_ns[-1])
            points = history(timings, (last_ns - self._t_start_ns) / 1e9)
        told = {
            "kind": "first",
            "software": f"harrier {__version__}",
            "may_change": may_change,
            "points": points,
            "events": self._events(),
        }
        return as_json(told)

    def next(self, viewers: int) -> bytes:
        """Return how the run is doing now, and what a step took since the last time."""
        told = self.now(viewers)
        return as_json({**told, "point": self._point(told["health"])})

    def now(self, viewers: int) -> dict[str, Any]:
        """Return how the run is doing, ready for JSON."""
        return steady(lambda: self._now(viewers))

    def _now(self, viewers: int) -> dict[str, Any]:
        pipeline, pictures, power = self._pipeline, self._pictures, self._power.newest
        message = pictures.newest
        return {
            "kind": "state",
            "t_ns": time.time_ns(),
            "health": self._health.report(),
            "waterfall": waterfall(pipeline.timings),
            "result": None if message is None else msgspec.Raw(encode(restamped(message)).rstrip()),
            "target": pipeline.model.target,
            "thresholds": thresholds_of(pipeline),
            "tracking": pipeline.config.tracking is not None,
            "conditions": dict(pipeline.conditions),
            "record": self._control.record,
            "switching": self._control.switching,
            "paused": pipeline.state == "paused",
            "power": None if power is None else [power.watts, power.scope],
            "events": self._events(5),
            "viewers": viewers,
        }

    def _point(self, report: HealthReport) -> Point:
        """The steps since the last time; where there are none and the newest result is stale, its growing age."""
        _, *rows = self._pipeline.timings.after(self._count)
        self._count += len(rows[1])
        told = point(round((monotonic_ns() - self._t_start_ns) / 1e9, 3), (rows[0], rows[1], rows[2]))
        if told.age_ms is None and report.age_ms is not None and report.age_ms > report.ttl_ms:
            told.age_ms = told.age_max_ms = report.age_ms
        return told

    def _events(self, newest: int = 0) -> list[dict[str, Any]]:
        """Region events with their numbers, the oldest first."""
        events = list(self._pictures.events)[-newest:]
        return [
            {
                "number": number,
                "t_ns": event.t_event_ns,
                "region": event.region,
                "event": event.event,
                "label": event.label,
                "track_id": event.track_id,
                "direction": event.direction,
                "dwell_ms": event.dwell_ms,
                "lost": event.lost,
                "inside": event.inside,
            }
            for number, event in events
        ]


def steady(look: Callable[[], T]) -> T:
    """Return what `look` finds at a run that goes on; it looks again where a model was swapped and closed meanwhile."""
    try:
        return look()
    except Exception:
        return look()


def as_json(told: Any) -> bytes:
    """Return it as JSON; names that are not UTF-8 lose what is not."""
    try:
        return msgspec.json.encode(told)
    except UnicodeEncodeError:
        text = json.dumps(msgspec.to_builtins(told), ensure_ascii=False, separators=(",", ":"))
        return text.encode("utf-8", "replace")
