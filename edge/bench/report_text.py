"""The report as a table on a terminal."""

import math

from edge.bench.results import Comparison, Distribution, Estimate, Finding, Report, Setup, Soak
from edge.bench.soak import WINDOWS

__all__ = [
    "AGE_NEEDS",
    "NOT_AVAILABLE",
    "SOAK_NOTE",
    "detections_text",
    "machine_lines",
    "soak_all_clear",
    "soak_lines",
    "soak_title",
    "text_of",
    "too_few_frames",
]

NOT_AVAILABLE = "not available"
AGE_NEEDS = "it needs a tcp:// publisher without token and TLS"
SOAK_NOTE = "stages, step and capture to publish are those of the last window, all else is of the whole run"


def text_of(report: Report) -> str:
    """Return the whole report in lines of at most 110 characters or so."""
    parts = [_machine(report), *([_soak(report.soak)] if report.soak else [])]
    parts += [*[_setup(setup, report.soak is not None) for setup in report.setups], _resources(report)]
    if report.comparison:
        parts.append(_comparison(report.comparison))
    if report.photon:
        latency = report.photon.light_to_message
        parts.append(
            f"light to message: p50 {_ms(latency.p50)} ms, p90 {_ms(latency.p90)} ms, max {latency.max:.2f} ms "
            f"({report.photon.flashes} flashes, {report.photon.missed} missed); light to capture stamp "
            f"{report.photon.light_to_capture_stamp_p50_ms:.2f} ms"
        )
    if report.budget is not None:
        parts.append(_budget(report))
    parts += [_findings(report), *filter(None, [too_few_frames(report)])]
    return "\n\n".join(parts)


def soak_title(soak: Soak) -> str:
    """Return what was run; one that Ctrl-C ended has fewer windows than were planned."""
    planned = f" of {WINDOWS}" if len(soak.t_s) < WINDOWS else ""
    return f"soak: {len(soak.t_s)}{planned} windows of {soak.window_s:.3g} s"


def soak_lines(soak: Soak) -> list[str]:
    """Return the worst of the whole run, then the slopes, and what rose by less than counts."""
    worst, most = soak.p99_ms.index(max(soak.p99_ms)), soak.max_ms.index(max(soak.max_ms))
    slopes = (
        ("RSS", soak.rss_slope_mb_per_hour, "MB/h"),
        ("p50", soak.p50_slope_ms_per_hour, "ms/h"),
        ("p99", soak.p99_slope_ms_per_hour, "ms/h"),
    )
    return [
        f"worst of the whole run, capture to publish: p99 {soak.p99_ms[worst]:.3f} ms (window at "
        f"{soak.t_s[worst]:.0f} s), max {soak.max_ms[most]:.3f} ms (window at {soak.t_s[most]:.0f} s)",
        *(f"{name} slope {f'{_signed(slope)} {unit}' if slope else NOT_AVAILABLE}" for name, slope, unit in slopes),
        *soak.remarks,
    ]


def soak_all_clear(soak: Soak) -> str:
    """Return what a soak without a problem may claim; without bounds nothing was tested."""
    if soak.rss_slope_mb_per_hour is None or soak.rss_slope_mb_per_hour.low is None:
        return "too few windows to tell of a leak, drift or tail growth: let it run longer"
    if soak.remarks:
        return "no leak, drift or tail growth that counts"
    return "no leak, drift or tail growth shown"


def too_few_frames(report: Report) -> str:
    """Return the option that gives the p99 of capture to publish an interval, about; "" if it has one."""
    wanted = [(s.capture_to_publish.p99.count_needed or 0) / s.capture_to_publish.count for s in report.setups]
    if not any(wanted):
        return ""
    if report.soak:
        minutes = math.ceil(max(wanted) * report.soak.window_s * WINDOWS / 60)
        return f"for a p99 interval: --soak {minutes}m"
    repeats = max(math.ceil(share * s.repeats) for share, s in zip(wanted, report.setups, strict=True))
    return f"for a p99 interval: --repeats {repeats}"


def machine_lines(report: Report) -> list[tuple[str, str]]:
    """Return the machine's facts as pairs of name and text, "not available" where it does not say."""
    found = []
    for name, value in report.machine.items():
        if isinstance(value, dict):
            value = ", ".join(f"{key} {_fact(item)}" for key, item in value.items())
        elif isinstance(value, list):
            value = ", ".join(map(_fact, value))
        found.append((name.replace("_", " "), _fact(value)))
    return found


def _fact(value: object) -> str:
    if value is None:
        return NOT_AVAILABLE
    return f"{value:g}" if isinstance(value, float) else str(value)


def _machine(report: Report) -> str:
    return "\n".join(f"{name:<24}{text}" for name, text in machine_lines(report))


def _soak(soak: Soak) -> str:
    verdicts = [f"PROBLEM: {problem}" for problem in soak.problems] or [soak_all_clear(soak)]
    return "\n  ".join([soak_title(soak), *soak_lines(soak), *verdicts])


def detections_text(setup: Setup) -> str:
    """Return what the frames held; "" for a classifier."""
    median, most = setup.detections_per_frame_median, setup.detections_per_frame_max
    return "" if median is None else f"detections per frame: median {median:g}, max {most}"


def _setup(setup: Setup, soak: bool) -> str:
    rows = [(name, values) for name, values in setup.stages.items()]
    rows += [("step (wall clock)", setup.step), ("capture to publish", setup.capture_to_publish)]
    if setup.age_of_information:
        rows.append(("age at subscriber", setup.age_of_information))
    lines = [f"{setup.name}: {setup.model} ({setup.target}) on {setup.source}, {setup.frames} frames"]
    heads = ("p50 ms", "95 % interval", "p90 ms", "p99 ms", "max ms", "jitter")
    if soak:
        lines.append(f"last window, {setup.step.count} frames; {SOAK_NOTE}")
    lines.append(f"{'stage':<20}" + "".join(f"{head:>{17 if '%' in head else 10}}" for head in heads))
    lines += [f"{name:<20}{_row(values)}" for name, values in rows]
    if not setup.age_of_information:
        lines.append(f"{'age at subscriber':<20}{NOT_AVAILABLE}: {AGE_NEEDS}")
    share = 100 * setup.stages_over_wall
    lines.append(f"stages add up to {share:.2f} % of the wall clock: {'kept' if setup.stages_add_up else 'NOT KEPT'}")
    fps, drops = setup.throughput_fps, setup.drops
    lines.append(f"throughput {fps.value:.2f} frames/s{'' if fps.low is None else f' {_bounds(fps, 2)}'}")
    lines += filter(None, [detections_text(setup)])
    lines.append(
        f"of {drops.captured} captured frames {drops.replaced_by_newer} dropped (replaced by a newer one before the "
        f"pipeline was free), {drops.corrupt} corrupt, {drops.engine_lost} that no engine could run; "
        f"{drops.read_timeouts} read timeouts, {drops.reconnects} reconnects; publishers dropped {drops.publisher} "
        "messages (a reader was too slow)"
    )
    lines.append(f"capture time stamps: {setup.timestamp_quality}")
    lines += [f"  source at {event}" for event in drops.events[:10]]
    return "\n".join(lines)


def _row(values: Distribution) -> str:
    points = "".join(f"{v:>10.3f}" for v in (values.p90.value, values.p99.value, values.max, values.jitter))
    return f"{values.p50.value:>10.3f}{_bounds(values.p50, 3):>17}{points}"


def _bounds(estimate: Estimate, digits: int) -> str:
    if estimate.low is None or estimate.high is None:
        return "[too few]"
    return f"[{estimate.low:.{digits}f}, {estimate.high:.{digits}f}]"


def _ms(estimate: Estimate) -> str:
    return f"{estimate.value:.2f}"


def _signed(estimate: Estimate) -> str:
    return f"{estimate.value:+.3f} {_bounds(estimate, 3)}"


def _resources(report: Report) -> str:
    own = report.resources
    slope = own.rss_slope_mb_per_hour
    hottest = max((t for t in report.series.temperature_c if t is not None), default=None)
    said = f", slope {f'{_signed(slope)} MB/h' if slope else f'{NOT_AVAILABLE} (needs 60 s)'}"
    lines = [
        f"memory       RSS {own.rss_mb:.1f} MB, peak {own.rss_peak_mb:.1f} MB{'' if report.soak else said}",
        f"CPU          {own.cpu_cores:.2f} cores",
        f"temperature  {NOT_AVAILABLE if hottest is None else f'{hottest:.1f} C at most'}",
    ]
    for setup in report.setups:
        who = f"{setup.name}: " if len(report.setups) > 1 else ""
        lines.append(f"power        {who}{_power(setup)}")
    if report.startup:
        runs = len(report.startup.seconds)
        lines.append(f"start-up     {report.startup.median_s:.3f} s to the first message (median of {runs} runs)")
    return "\n".join(lines)


def _power(setup: Setup) -> str:
    power = setup.power
    if not power:
        return NOT_AVAILABLE
    return f"{power.mean_w:.2f} W, {power.energy_mj_per_frame:.2f} mJ per frame ({power.sensor}: {power.scope})"


def _comparison(comparison: Comparison) -> str:
    lines = [f"second over first, {comparison.pairs} interleaved pairs, 95 % intervals"]
    for name, verdict in comparison.verdicts.items():
        ratio = comparison.ratios.get(name)
        numbers = f"{ratio.value:>8.4f}  {_bounds(ratio, 4):<18}" if ratio else " " * 28
        lines.append(f"  {name:<26}{numbers}  {verdict}")
    return "\n".join(lines)


def _budget(report: Report) -> str:
    lines = [f'budget [boards."{report.budget_board}"]']
    for line in report.budget or []:
        measured = NOT_AVAILABLE if line.measured is None else f"{line.measured:.3f}"
        sign = ">=" if line.limit_name.endswith("_min") else "<="
        verdict = "kept" if line.kept else "NOT KEPT"
        lines.append(f"  {line.limit_name:<30}{measured:>14}  {sign} {line.limit:<10g} {verdict}")
    return "\n".join(lines)


def _findings(report: Report) -> str:
    lines = [_finding(finding) for finding in report.findings]
    verdict = "this run counts" if report.valid else "THIS RUN DOES NOT COUNT: see the marks above"
    return "\n".join([*lines, verdict])


def _finding(finding: Finding) -> str:
    return f"{'MARKED' if finding.invalidates else 'note'}: {finding.text}"
