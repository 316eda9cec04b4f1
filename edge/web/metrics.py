"""What /metrics says, made when it is asked for: of the health report, the parts' own counters and the timing ring."""

import platform
import time
from typing import get_args

from edge import __version__
from edge.health import HealthReport
from edge.pipeline import Pipeline
from edge.timings import Stage
from edge.web.power import PowerReading
from edge.web.prometheus import Exposition, Histogram
from edge.wire.messages import FlagName, SourceState

__all__ = ["STATES", "Metrics"]

STATES = ("starting", "ok", "degraded", "stale", "stuck")

_STAGE_S = (1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 0.01, 0.02, 0.033, 0.05, 0.1, 0.2, 0.5, 1, 2.5)
_AGE_S = (2e-3, 5e-3, 0.01, 0.02, 0.033, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1, 2, 5)


class Metrics:
    """Histograms over the whole run, kept up to date by `collect`, and everything else as it is now."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._timings, self._count, self._missed = pipeline.timings, 0, 0
        self._stages = {stage: Histogram(_STAGE_S) for stage in Stage}
        self._work, self._age = Histogram(_STAGE_S), Histogram(_AGE_S)

    def collect(self) -> None:
        """Take in the steps since the last time; those that have left the ring by now are only counted."""
        timings = self._pipeline.timings
        if timings is not self._timings:
            self._timings, self._count = timings, 0
        missed, stages, wall, age = timings.after(self._count)
        self._count += missed + len(wall)
        self._missed += missed
        for stage, histogram in self._stages.items():
            histogram.add(stages[:, stage])
        self._work.add(wall - stages[:, Stage.WAIT])
        self._age.add(age)

    def text(self, report: HealthReport, power: PowerReading | None, viewers: int, pictures: int) -> str:
        """Return it all in Prometheus' text format."""
        self.collect()
        out = Exposition()
        self._add_run(out, report)
        self._add_times(out, report)
        self._add_source(out, report)
        self._add_engines(out, report)
        self._add_publishers(out, report)
        out.add(
            "harrier_temperature_celsius",
            "gauge",
            "Temperature by sensor.",
            [({"sensor": sensor}, value) for sensor, value in report.temperatures_c.items()],
        )
        if power:
            labels = {"sensor": power.sensor, "scope": power.scope}
            out.add(
                "harrier_power_watts", "gauge", "Electrical power, of what the scope says.", [(labels, power.watts)]
            )
        out.add("harrier_web_viewers", "gauge", "Who looks at the live page or its pictures now.", [({}, viewers)])
        out.add("harrier_web_pictures_total", "counter", "Pictures drawn for viewers.", [({}, pictures)])
        return out.text

    def _add_run(self, out: Exposition, report: HealthReport) -> None:
        told = {
            "version": __version__,
            "python": platform.python_version(),
            "machine": platform.machine(),
            "model": report.model,
            "target": self._pipeline.model.target,
        }
        out.add("harrier_build_info", "gauge", "1, with what runs as labels.", [(told, 1)])
        states = [({"state": state}, float(state == report.state)) for state in STATES]
        out.add("harrier_state", "gauge", "1 for the state of the run, 0 for the others.", states)
        raised = self._pipeline.conditions
        flags = [({"condition": name}, float(name in raised)) for name in get_args(FlagName) if name != "stale"]
        out.add("harrier_condition", "gauge", "1 while the condition holds.", flags)
        out.add("harrier_uptime_seconds", "gauge", "Time since the run began.", [({}, report.uptime_s)])
        out.add("harrier_frames_total", "counter", "Results published.", [({}, report.frames)])
        out.add("harrier_stuck_total", "counter", "How often a stage hung.", [({}, report.stuck)])
        out.add("process_resident_memory_bytes", "gauge", "Resident memory.", [({}, round(report.memory_mb * 1e6))])
        out.add("process_cpu_seconds_total", "counter", "Processor time of all threads.", [({}, time.process_time())])

    def _add_times(self, out: Exposition, report: HealthReport) -> None:
        out.add_histograms(
            "harrier_stage_seconds",
            "Time of a step by stage; wait is for a frame to come.",
            [({"stage": stage.name.lower()}, histogram) for stage, histogram in self._stages.items()],
        )
        out.add_histograms("harrier_step_seconds", "Work of a step: all but wait.", [({}, self._work)])
        out.add_histograms("harrier_age_seconds", "Age of a result when published, from capture.", [({}, self._age)])
        out.add("harrier_steps_missed_total", "counter", "Steps that are in no histogram.", [({}, self._missed)])
        newest_s = None if report.age_ms is None else report.age_ms / 1e3
        out.add("harrier_newest_age_seconds", "gauge", "Age of the newest result now.", [({}, newest_s)])
        out.add("harrier_ttl_seconds", "gauge", "Age from which a result is stale.", [({}, report.ttl_ms / 1e3)])

    def _add_source(self, out: Exposition, report: HealthReport) -> None:
        stats, source = self._pipeline.source.stats, report.source
        states = [({"state": state}, float(state == source.state)) for state in get_args(SourceState)]
        out.add("harrier_source_state", "gauge", "1 for the state of the source, 0 for the others.", states)
        captured = [({"source": source.id}, float(stats.captured))]
        out.add("harrier_source_frames_total", "counter", "Frames captured.", captured)
        dropped = [({"cause": "replaced"}, stats.dropped), ({"cause": "corrupt"}, stats.corrupt)]
        told = "Frames no model saw: replaced by a newer one, or corrupt."
        out.add("harrier_source_dropped_total", "counter", told, dropped)
        out.add("harrier_source_reconnects_total", "counter", "Streams that came back.", [({}, stats.reconnects)])
        told = "Capture threads that hung and were left behind."
        out.add("harrier_source_abandoned_total", "counter", told, [({}, stats.abandoned)])

    def _add_engines(self, out: Exposition, report: HealthReport) -> None:
        named = [({"target": e.target, "place": str(i)}, e) for i, e in enumerate(report.engines)]
        frames = [(labels, float(engine.frames)) for labels, engine in named]
        told = "Inferences by target; place 0 is the first choice, all others are fallbacks."
        out.add("harrier_engine_frames_total", "counter", told, frames)
        failures = [(labels, float(engine.failures)) for labels, engine in named]
        out.add("harrier_engine_failures_total", "counter", "Inferences that failed.", failures)
        restarts = [(labels, float(engine.restarts)) for labels, engine in named]
        told = "Times the engine's own process was started again."
        out.add("harrier_engine_restarts_total", "counter", told, restarts)
        running = [(labels, float(engine.state == "running")) for labels, engine in named]
        out.add("harrier_engine_running", "gauge", "1 for the target that runs the model.", running)

    def _add_publishers(self, out: Exposition, report: HealthReport) -> None:
        named = [({"publisher": publisher.address}, publisher) for publisher in report.publishers]
        sent = [(labels, float(publisher.sent)) for labels, publisher in named]
        out.add("harrier_publisher_sent_total", "counter", "Messages sent.", sent)
        dropped = [(labels, float(publisher.dropped)) for labels, publisher in named]
        out.add("harrier_publisher_dropped_total", "counter", "Messages nobody got.", dropped)
        failing = [(labels, float(bool(publisher.failure))) for labels, publisher in named]
        out.add("harrier_publisher_failing", "gauge", "1 while something is wrong with it.", failing)
