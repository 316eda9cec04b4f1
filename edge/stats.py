"""What a run measured: percentiles per stage, ages, drops, memory; as a dictionary and as a table."""

import resource
from pathlib import Path
from typing import Any

import numpy as np

from edge.pipeline import Pipeline
from edge.timings import Stage, StageTimings

__all__ = ["collect", "latency_table", "rss_bytes", "summary_ms"]

_PERCENTILES = (50, 90, 99)


def summary_ms(values_ns: np.ndarray) -> dict[str, float] | None:
    """Return p50, p90, p99 and max in ms of (N,) int64 ns; None when N is 0, as no time was measured."""
    if len(values_ns) == 0:
        return None
    points = np.percentile(values_ns, _PERCENTILES) / 1e6
    named = {f"p{p}": round(float(v), 4) for p, v in zip(_PERCENTILES, points, strict=True)}
    return {**named, "max": round(float(values_ns.max()) / 1e6, 4)}


def rss_bytes() -> tuple[int, int]:
    """Return this process's resident memory now and at its peak, in bytes."""
    now = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    return now, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def collect(pipeline: Pipeline, elapsed_s: float) -> dict[str, Any]:
    """Return everything a run measured; times are over the last steps the ring still holds."""
    timings = pipeline.timings
    stages, wall = timings.stages_ns, timings.wall_ns
    now, peak = rss_bytes()
    source = pipeline.source
    return {
        "model": pipeline.model.name,
        "target": pipeline.model.target,
        "source": source.source_id,
        "frames": timings.count,
        "elapsed_s": round(elapsed_s, 3),
        "fps": round(timings.count / elapsed_s, 2) if elapsed_s > 0 else 0.0,
        "stages_ms": {s.name.lower(): summary_ms(stages[:, s]) for s in Stage if stages[:, s].any()},
        "wall_ms": summary_ms(wall),
        "capture_to_publish_ms": summary_ms(timings.age_ns),
        "stages_over_wall": round(float(stages.sum() / wall.sum()), 5) if wall.any() else None,
        "source_stats": {name: getattr(source.stats, name) for name in ("captured", "dropped", "reconnects")},
        "publishers": [
            {"address": p.address, "sent": p.sent, "dropped": p.dropped, "failure": p.failure}
            for p in pipeline.publishers
        ],
        "rss_mb": round(now / 1e6, 1),
        "rss_peak_mb": round(peak / 1e6, 1),
    }


def latency_table(timings: StageTimings) -> str:
    """Return a table of stage latencies in ms, one line per stage that took time, for a terminal."""
    stages, wall, age = timings.stages_ns, timings.wall_ns, timings.age_ns
    rows = [(s.name.lower(), stages[:, s]) for s in Stage if stages[:, s].any()]
    rows += [("step (wall clock)", wall), ("capture to publish", age)]
    lines = [f"{'stage':<20}{'p50 ms':>10}{'p90 ms':>10}{'p99 ms':>10}{'max ms':>10}"]
    for name, values in rows:
        summary = summary_ms(values)
        cells = [f"{v:.3f}" for v in summary.values()] if summary else ["-"] * 4
        lines.append(f"{name:<20}" + "".join(f"{cell:>10}" for cell in cells))
    if wall.any():
        lines.append(f"stages add up to {100 * stages.sum() / wall.sum():.2f} % of the wall clock")
    return "\n".join(lines)
