"""From recorded blocks to the numbers of the report."""

import time
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from edge.bench.intervals import (
    Interval,
    block_length,
    bootstrap,
    evenly,
    paired_ratio,
    percentile_intervals,
    sen_slope,
)
from edge.bench.measure import Block, Recording
from edge.bench.results import (
    Comparison,
    Distribution,
    Drops,
    Estimate,
    LatencySeries,
    Power,
    Resources,
    Series,
    Setup,
    Soak,
)
from edge.bench.sensors import Sampler, energy_over
from edge.bench.subscriber import ages_at_ticks_ms
from edge.timings import Stage

__all__ = [
    "STAGES_TOLERANCE",
    "comparison_of",
    "distribution_of",
    "estimate_of",
    "power_of",
    "resources_of",
    "series_of",
    "setup_of",
]

STAGES_TOLERANCE = 0.03
"""By how much the sum of the stages may differ from the wall clock."""

_BINS = 40
_LATENCY_POINTS, _STEPS_PER_POINT = 240, 8
_MIN_SLOPE_S = 60.0
_MIN_P99_STEPS = 100  # a block of fewer has its maximum for a p99
_TICK_NS, _MAX_TICKS = 5_000_000, 200_000

_LatencyRow = tuple[float, float | None, float | None]  # s, p50 and max in ms


def distribution_of(values_ms: np.ndarray) -> Distribution:
    """Return percentiles with intervals, jitter, histogram and CDF of (N,) float64 ms, N >= 1, in order of time.

    jitter is the mean absolute difference between neighbours. The histogram ends at the 99.5 % point; its last
    bin holds everything above.
    """
    p50, p90, p99 = percentile_intervals(values_ms, (50, 90, 99))
    low, high = float(values_ms.min()), float(np.percentile(values_ms, 99.5))
    edges = np.linspace(low, max(high, low + 1e-3), _BINS + 1)
    counts = np.histogram(np.minimum(values_ms, edges[-1]), edges)[0]
    return Distribution(
        count=len(values_ms),
        p50=estimate_of(p50),
        p90=estimate_of(p90),
        p99=estimate_of(p99),
        max=_round(values_ms.max()),
        mean=_round(values_ms.mean()),
        std=_round(values_ms.std()),
        jitter=_round(np.abs(np.diff(values_ms)).mean()) if len(values_ms) > 1 else 0.0,
        histogram_edges_ms=[_round(edge) for edge in edges],
        histogram_counts=counts.tolist(),
        cdf_ms=[_round(v) for v in np.percentile(values_ms, np.arange(101))],
    )


def estimate_of(interval: Interval, digits: int = 4) -> Estimate:
    """Return an interval as it stands in the report."""
    bounds = [None if bound is None else round(bound, digits) for bound in (interval.low, interval.high)]
    return Estimate(
        value=round(interval.value, digits), low=bounds[0], high=bounds[1], count_needed=interval.count_needed
    )


def setup_of(recording: Recording, stamps: array | None, power: Power | None = None) -> Setup:
    """Return what one set-up did. stamps: what its subscriber noted, None where there was none."""
    pipeline, totals = recording.pipeline, recording.totals
    stages_ms, wall_ms = recording.joined("stages_ns") / 1e6, recording.joined("wall_ns") / 1e6
    share = totals.stages_ns / 1e9 / totals.stepping_s
    tick_ns = max(_TICK_NS, int(1e9 * totals.elapsed_s) // _MAX_TICKS)
    ages = ages_at_ticks_ms(stamps, totals.spans_ns, tick_ns) if stamps else []
    frame = pipeline.frame
    return Setup(
        name=recording.name,
        model=pipeline.model.name,
        target=pipeline.model.target,
        threads=recording.threads,
        source=pipeline.source.source_id,
        publish=[publisher.address for publisher in pipeline.publishers],
        repeats=len(totals.spans_ns),
        frames=totals.steps,
        elapsed_s=round(totals.elapsed_s, 3),
        throughput_fps=_throughput(recording),
        stages={s.name.lower(): distribution_of(stages_ms[:, s]) for s in Stage if stages_ms[:, s].any()},
        step=distribution_of(wall_ms),
        capture_to_publish=distribution_of(recording.joined("age_ns") / 1e6),
        age_of_information=distribution_of(np.array(ages)) if ages else None,
        stages_over_wall=round(share, 5),
        stages_add_up=abs(share - 1) <= STAGES_TOLERANCE,
        timestamp_quality=frame.info.timestamp_quality if frame else "generated",
        detections_per_frame_median=_median(totals.held),
        detections_per_frame_max=max(totals.held, default=None),
        drops=_drops(recording),
        power=power,
    )


def _median(held: Counter[int]) -> float | None:
    return float(np.median(np.repeat(list(held), list(held.values())))) if held else None


def _drops(recording: Recording) -> Drops:
    totals = recording.totals
    t0_ns = totals.spans_ns[0][0]
    return Drops(
        captured=totals.captured,
        replaced_by_newer=totals.replaced,
        corrupt=totals.corrupt,
        read_timeouts=totals.timeouts,
        reconnects=totals.reconnects,
        engine_lost=totals.engine_lost,
        publisher=totals.publisher_dropped,
        events=[f"{(t_ns - t0_ns) / 1e9:.1f} s: {text}" for t_ns, text in totals.events],
    )


def _throughput(recording: Recording) -> Estimate:
    fps = recording.totals.steps / recording.totals.elapsed_s
    gaps_s = evenly(np.concatenate([np.diff(b.t_ns) for b in recording.blocks]) / 1e9)
    if len(gaps_s) < 20 or not recording.whole:  # bounds from a part would be those of that part
        return Estimate(value=round(fps, 3))
    low, high = bootstrap(gaps_s, lambda sample: 1.0 / sample.mean())
    scale = fps * float(gaps_s.mean())  # bounds around what was counted
    return Estimate(value=round(fps, 3), low=round(float(low[0]) * scale, 3), high=round(float(high[0]) * scale, 3))


def comparison_of(sampler: Sampler, first: Recording, second: Recording) -> Comparison:
    """Return the ratios second / first over blocks that were measured in turns, and the verdicts."""
    ratios: dict[str, Estimate] = {}
    quantities = {
        "infer_p50": ("stages_ns", slice(Stage.INFER, Stage.INFER + 1), 50),
        "capture_to_publish_p50": ("age_ns", None, 50),
        "work_p50": ("stages_ns", slice(Stage.PREPROCESS, None), 50),
        "step_p50": ("wall_ns", None, 50),  # after the work: it holds the wait for a frame
        "step_p99": ("wall_ns", None, 99),
    }
    steps = min(block.steps for recording in (first, second) for block in recording.blocks)
    if steps < _MIN_P99_STEPS:
        del quantities["step_p99"]
    for name, (what, columns, percent) in quantities.items():
        points = [
            [float(np.percentile(_column(getattr(b, what), columns), percent)) for b in recording.blocks]
            for recording in (first, second)
        ]
        if all(points[0]) and all(points[1]):
            ratios[name] = estimate_of(paired_ratio(*points))
    fps = [[b.steps / b.elapsed_s for b in recording.blocks] for recording in (first, second)]
    ratios["throughput"] = estimate_of(paired_ratio(*fps))
    energies = [[_block_energy(sampler, block) for block in recording.blocks] for recording in (first, second)]
    known = [[energy for energy in side if energy] for side in energies]
    if [len(side) for side in known] == [len(side) for side in energies]:
        ratios["energy_per_frame"] = estimate_of(paired_ratio(*known))
    verdicts = {name: _verdict(name, ratio, first.name, second.name) for name, ratio in ratios.items()}
    if steps < _MIN_P99_STEPS:
        verdicts["step_p99"] = f"left out: {steps} frames a block, {_MIN_P99_STEPS} are needed (--frames)"
    return Comparison(pairs=len(first.blocks), ratios=ratios, verdicts=verdicts)


def _column(values: np.ndarray, columns: slice | None) -> np.ndarray:
    """(N,) as it is, or the sum of these columns of (N, S)."""
    return values if columns is None else values[:, columns].sum(axis=1)


def _block_energy(sampler: Sampler, block: Block) -> float | None:
    """J per frame of one block; None where its samples say too little."""
    averages = bool(sampler.meter and sampler.meter.averages)
    found = energy_over(sampler.samples, averages, [(block.t_start_ns, block.t_end_ns)])
    if found is None or found[1] < block.elapsed_s / 2:
        return None
    return found[0] / found[1] * block.elapsed_s / block.steps


def _verdict(name: str, ratio: Estimate, first: str, second: str) -> str:
    if ratio.low is None or ratio.high is None:
        return "too few pairs to tell: at least 6 repeats are needed"
    if ratio.low <= 1.0 <= ratio.high:
        return "no difference shown"
    higher = ratio.low > 1.0
    better = second if higher == (name == "throughput") else first
    return f"{second} is {'higher' if higher else 'lower'} by {100 * abs(ratio.value - 1):.1f} %: {better} is better"


def resources_of(sampler: Sampler, cpu_s: float, elapsed_s: float) -> Resources:
    """Return memory and CPU of this process and its own while sampled; the slope needs at least 60 s of samples."""
    t_s = np.array([s.t_ns / 1e9 for s in sampler.samples])
    rss = np.array([s.rss_mb for s in sampler.samples])
    slope = None
    if len(t_s) and t_s[-1] - t_s[0] >= _MIN_SLOPE_S:
        groups = np.array_split(np.arange(len(t_s)), min(60, max(8, len(t_s) // max(1, block_length(rss)))))
        groups = [group for group in groups if len(group)]
        points = sen_slope(
            np.array([t_s[g].mean() for g in groups]) / 3600, np.array([np.median(rss[g]) for g in groups])
        )
        slope = estimate_of(points, 3)
    cores = round(cpu_s / elapsed_s, 3) if elapsed_s > 0 else 0.0
    return Resources(
        rss_mb=round(float(rss[-1]), 2),
        rss_peak_mb=round(float(rss.max()), 2),
        rss_slope_mb_per_hour=slope,
        cpu_cores=cores,
    )


def power_of(sampler: Sampler, recording: Recording, alone: bool) -> Power | None:
    """Return mean power and energy per frame, or None where the machine has no meter that answers.

    alone: no other set-up was measured in between; else only samples inside the set-up's own blocks count, and
    they must cover half of its time. What is not measured (pauses, settling) costs no frame anything.
    """
    meter, totals = sampler.meter, recording.totals
    if meter is None or not totals.steps:
        return None
    found = energy_over(sampler.samples, meter.averages, None if alone else totals.spans_ns)
    if found is None or (not alone and found[1] < totals.elapsed_s / 2):
        return None
    watts = found[0] / found[1]
    return Power(
        sensor=meter.sensor,
        scope=meter.scope,
        mean_w=round(watts, 3),
        energy_mj_per_frame=round(1e3 * watts * totals.elapsed_s / totals.steps, 3),
    )


def series_of(sampler: Sampler, recordings: Sequence[Recording], soak: Soak | None = None) -> Series:
    """Return what the sensors saw, and each set-up's capture-to-publish latency beside it: at most 240 points of each
    or one a block, or of each window of a soak, whose earlier blocks are not kept.
    """
    samples = sampler.samples
    t0_ns = samples[0].t_ns if samples else time.monotonic_ns()
    if soak:
        rows = zip(soak.t_s, soak.p50_ms, soak.max_ms, strict=True)
        latency = [_latency_series(recordings[0].name, rows)]
    else:
        several = len(recordings) > 1
        latency = [_latency_series(r.name, _latency_rows(r, t0_ns, several)) for r in recordings]
    return Series(
        t_s=[round((s.t_ns - t0_ns) / 1e9, 3) for s in samples],
        rss_mb=[round(s.rss_mb, 3) for s in samples],
        temperature_c=[s.temperature_c for s in samples],
        power_w=[None if s.power_w is None else round(s.power_w, 3) for s in samples],
        clock_mhz=[s.clock_mhz for s in samples],
        latency=latency,
    )


def _latency_series(name: str, rows: Iterable[_LatencyRow]) -> LatencySeries:
    t_s, p50_ms, max_ms = zip(*rows, strict=True)
    return LatencySeries(name=name, t_s=list(t_s), p50_ms=list(p50_ms), max_ms=list(max_ms))


def _latency_rows(recording: Recording, t0_ns: int, several: bool) -> Iterator[_LatencyRow]:
    """No piece reaches over two blocks, as between them may be another set-up's turn, and a gap shows it."""
    points = min(_LATENCY_POINTS, max(20, sum(block.steps for block in recording.blocks) // _STEPS_PER_POINT))
    for block in recording.blocks:
        pieces = np.array_split(np.arange(block.steps), min(block.steps, max(1, points // len(recording.blocks))))
        for piece in pieces:
            age_ms = block.age_ns[piece] / 1e6
            t_s = round(float(block.t_ns[piece].mean() - t0_ns) / 1e9, 3)
            yield t_s, _round(float(np.median(age_ms))), _round(age_ms.max())
        if several:
            yield round((block.t_end_ns - t0_ns) / 1e9, 3), None, None


def _round(value: float) -> float:
    return round(float(value), 4)
