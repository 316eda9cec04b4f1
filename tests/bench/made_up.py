"""Recordings, samples and reports of which every number is known."""

from collections.abc import Sequence
from types import SimpleNamespace

import numpy as np

from edge.bench.health import Snapshot
from edge.bench.measure import Block, Recording
from edge.bench.measured import Measured
from edge.bench.sensors import PowerMeter, Sample, Sampler
from edge.bench.soak import SoakLog
from edge.timings import Stage

S = 10**9


def block_of(start_s: float, elapsed_s: float, steps: int, age_ms: float = 5.0, **counts: object) -> Block:
    """A block of equal steps that take all of its time; ages are those named."""
    wall = np.full(steps, int(elapsed_s * S / steps))
    stages = np.zeros((steps, len(Stage)), np.int64)
    stages[:, 2] = wall
    start_ns = int(start_s * S)
    ends = start_ns + np.cumsum(wall)
    age = np.full(steps, int(age_ms * 1e6))
    return Block(stages, wall, age, ends, start_ns, start_ns + int(elapsed_s * S), **counts)


def recording_of(name: str, blocks: Sequence[Block], keep_earlier: bool = True) -> Recording:
    """A recording of these blocks by a pipeline that does nothing."""
    pipeline = SimpleNamespace(
        model=SimpleNamespace(name="m", target="null"), source=SimpleNamespace(source_id="s"), publishers=[], frame=None
    )
    recording = Recording(name, pipeline)
    for block in blocks:
        recording.add(block, keep_earlier)
    return recording


def sampler_of(rows: Sequence[tuple[float, float | None]], rss_mb: Sequence[float] | None = None) -> Sampler:
    """A sampler that saw (s, W) with a meter of moments."""
    sampler = Sampler()
    sampler.meter = PowerMeter("meter", "whole board", lambda: None)
    memory = rss_mb or [100.0] * len(rows)
    sampler.samples = [Sample(int(t * S), m, 40.0, w, None) for (t, w), m in zip(rows, memory, strict=True)]
    return sampler


def measured_of(recordings: Sequence[Recording], sampler: Sampler, log: SoakLog | None = None) -> Measured:
    """What a session would have recorded."""
    quiet = Snapshot(100.0, 10.0, 0.0, 5.0), Snapshot(200.0, 20.0, 0.0, 15.0)
    found = Measured(list(recordings), [None] * len(recordings), sampler, *quiet, elapsed_s=50.0, cpu_s=5.0)
    found.soak = log.conclude(sampler.samples) if log else None
    return found
