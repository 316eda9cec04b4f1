"""What `harrier bench --json` writes, as structs. docs/bench.md describes every field.

None (null in the file) always means "not available" or "not asked for"; a zero was measured.
"""

from typing import Any

import msgspec

__all__ = [
    "SCHEMA",
    "BudgetLine",
    "Comparison",
    "Distribution",
    "Drops",
    "Estimate",
    "Finding",
    "LatencySeries",
    "Photon",
    "Power",
    "Report",
    "Resources",
    "Series",
    "Setup",
    "Soak",
    "Startup",
]

SCHEMA = "harrier-bench/1"


class _Struct(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    pass


class Estimate(_Struct):
    """A value with its 95 % confidence interval. count_needed: how many values a percentile without one needs."""

    value: float
    low: float | None = None
    high: float | None = None
    count_needed: int | None = None


class Distribution(_Struct):
    """Times in ms. histogram_counts[i] lie between histogram_edges_ms[i] and [i + 1]; cdf_ms are 101 quantiles."""

    count: int
    p50: Estimate
    p90: Estimate
    p99: Estimate
    max: float
    mean: float
    std: float
    jitter: float
    histogram_edges_ms: list[float]
    histogram_counts: list[int]
    cdf_ms: list[float]


class Drops(_Struct):
    """Frames that never became a message, and why, and messages that never reached a reader."""

    captured: int
    replaced_by_newer: int
    corrupt: int
    read_timeouts: int
    reconnects: int
    engine_lost: int
    publisher: int
    events: list[str]


class Power(_Struct):
    """scope says what the sensor sees: the whole board's input, or the processor package only."""

    sensor: str
    scope: str
    mean_w: float
    energy_mj_per_frame: float


class Setup(_Struct):
    """What one set-up did; stages_over_wall is the sum of the stages over the wall clock between two steps' starts.

    In a soak, stages, step and capture_to_publish are those of the last window, all else is of the whole run.
    """

    name: str
    model: str
    target: str
    threads: int | None
    source: str
    publish: list[str]
    repeats: int
    frames: int
    elapsed_s: float
    throughput_fps: Estimate
    stages: dict[str, Distribution]
    step: Distribution
    capture_to_publish: Distribution
    age_of_information: Distribution | None
    stages_over_wall: float
    stages_add_up: bool
    timestamp_quality: str
    detections_per_frame_median: float | None
    detections_per_frame_max: int | None
    drops: Drops
    power: Power | None


class Resources(_Struct):
    """Of this process and those it started, the subscriber apart, while they measured. cpu_cores: 1.0 is one core."""

    rss_mb: float
    rss_peak_mb: float
    rss_slope_mb_per_hour: Estimate | None
    cpu_cores: float


class LatencySeries(_Struct):
    """Capture to publish of the set-up `name`, in pieces of a block around t_s, in s since the start.

    None at the end of each turn, where several set-ups take turns.
    """

    name: str
    t_s: list[float]
    p50_ms: list[float | None]
    max_ms: list[float | None]


class Series(_Struct):
    """The same moments in every list, in s since the start; None where there is no sensor. latency: per set-up."""

    t_s: list[float]
    rss_mb: list[float]
    temperature_c: list[float | None]
    power_w: list[float | None]
    clock_mhz: list[float | None]
    latency: list[LatencySeries]


class Finding(_Struct):
    """Something about the machine. A run with an invalidating one is marked, and refused with --strict."""

    kind: str
    text: str
    invalidates: bool


class Comparison(_Struct):
    """The second set-up over the first, of interleaved blocks; verdict in words per quantity.

    A quantity with a verdict and no ratio was left out, and the verdict says why.
    """

    pairs: int
    ratios: dict[str, Estimate]
    verdicts: dict[str, str]


class Startup(_Struct):
    """From starting the process to reading its first message; the file cache is warm after the first."""

    seconds: list[float]
    median_s: float


class Photon(_Struct):
    """Light to message: from switching the light to the message of the first frame that shows it."""

    flashes: int
    missed: int
    light_to_message: Distribution
    light_to_capture_stamp_p50_ms: float
    light: str


class Soak(_Struct):
    """A long run in windows. Slopes per hour, None from a single window, and what they mean in words.

    remarks: what surely grew, but by less than counts as a problem.
    """

    window_s: float
    t_s: list[float]
    p50_ms: list[float]
    p99_ms: list[float]
    max_ms: list[float]
    throughput_fps: list[float]
    rss_mb: list[float]
    rss_slope_mb_per_hour: Estimate | None
    p50_slope_ms_per_hour: Estimate | None
    p99_slope_ms_per_hour: Estimate | None
    problems: list[str]
    remarks: list[str]


class BudgetLine(_Struct):
    """One limit. measured is None when it could not be measured, which does not keep a limit."""

    limit_name: str
    limit: float
    measured: float | None
    kept: bool


class Report(_Struct):
    """The whole file. valid is False when a finding invalidates the run."""

    schema: str
    created: str
    command: list[str]
    valid: bool
    findings: list[Finding]
    machine: dict[str, Any]
    setups: list[Setup]
    resources: Resources
    series: Series
    comparison: Comparison | None = None
    startup: Startup | None = None
    photon: Photon | None = None
    soak: Soak | None = None
    budget_board: str | None = None
    budget: list[BudgetLine] | None = None
