"""The report as a table on a terminal."""

import math

from edge.bench.results import Comparison, Distribution, Estimate, Finding, Report, Setup, Soak
from edge.bench.soak import WINDOWS

__all__ = ["NOT_AVAILABLE", "SOAK_NOTE", "machine_lines", "soak_all_clear", "soak_title", "text_of", "too_few_frames"]

NOT_AVAILABLE = "not available"
_AGE = "capture to publish"
SOAK_NOTE = "stages, step and capture to publish above are those of the last window, all else is of the whole run"


def text_of(report: Report) -> str:
    """Return the whole report in lines of at most 110 characters or so."""
    parts = [_machine(report), *[_setup(setup) for setup in report.setups], _resources(report)]
    if report.comparison:
        parts.append(_comparison(report.comparison))
    if report.photon:
        latency = report.photon.light_to_message
        parts.append(
            f"light to message: p50 {_ms(latency.p50)} ms, p90 {_ms(latency.p90)} ms, max {latency.max:.2f} ms "
            f"({report.photon.flashes} flashes, {report.photon.missed} missed); light to capture stamp "
            f"{report.photon.light_to_capture_stamp_p50_ms:.2f} ms"
        )
    if report.soak:
        soak = report.soak
        slopes = (("RSS", soak.rss_slope_mb_per_hour, "MB/h"), ("p50", soak.p50_slope_ms_per_hour, "ms/h"))
        said = [f"{soak_title(soak)}; {SOAK_NOTE}"]
        said += [f"  {name} slope {_signed(slope)} {unit}" for name, slope, unit in slopes]
        said += [f"  p99 slope {_signed(soak.p99_slope_ms_per_hour)} ms/h"]
        said += [f"  PROBLEM: {problem}" for problem in soak.problems] or [f"  {soak_all_clear(soak)}"]
        parts.append("\n".join(said))
    if report.budget is not None:
        parts.append(_budget(report))
    parts += [_findings(report), *filter(None, [too_few_frames(report)])]
    return "\n\n".join(parts)


def soak_title(soak: Soak) -> str:
    """Return what was run; one that Ctrl-C ended has fewer windows than were planned."""
    planned = f" of {WINDOWS}" if len(soak.t_s) < WINDOWS else ""
    return f"soak: {len(soak.t_s)}{planned} windows of {soak.window_s:.3g} s"


def soak_all_clear(soak: Soak) -> str:
    """Return what a soak without a problem may claim; without bounds nothing was tested."""
    if soak.rss_slope_mb_per_hour.low is None:
        return "too few windows to tell of a leak, drift or tail growth: let it run longer"
    return "no leak, drift or tail growth shown"


def too_few_frames(report: Report) -> str:
    """Return which percentiles have no interval and about how many frames would give them one; "" if all have.

    Of each percentile, for the age of a result and for whatever needs most.
    """
    said = []
    for point in ("p50", "p90", "p99"):
        needed = _frames_needed(report, point)
        if needed:
            told = {max(needed), max((row for row in needed if row[1].endswith(_AGE)), default=max(needed))}
            said.append(f"{point} needs about " + " or ".join(f"{n:,} ({name})" for n, name in sorted(told)))
    if not said:
        return ""
    counts = " and ".join(f"{count:,}" for count in dict.fromkeys(setup.step.count for setup in report.setups))
    there = f"there were {counts} (--frames and --repeats give more)"
    if report.soak:
        there = f"the last window had {counts} (a longer --soak has more)"
    return f"too few frames for an interval: {', '.join(said)}; {there}"


def _frames_needed(report: Report, point: str) -> list[tuple[int, str]]:
    found = []
    for setup in report.setups:
        who = f"{setup.name}: " if len(report.setups) > 1 else ""
        named = {**setup.stages, "step": setup.step, _AGE: setup.capture_to_publish}
        if setup.age_of_information and not report.soak:  # there it is of the whole run, all else of a window
            named["age at subscriber"] = setup.age_of_information
        for name, values in named.items():
            needed = getattr(values, point).count_needed
            if needed:
                found.append((math.ceil(needed * setup.step.count / values.count), who + name))
    return found


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


def _setup(setup: Setup) -> str:
    rows = [(name, values) for name, values in setup.stages.items()]
    rows += [("step (wall clock)", setup.step), ("capture to publish", setup.capture_to_publish)]
    if setup.age_of_information:
        rows.append(("age at subscriber", setup.age_of_information))
    lines = [f"{setup.name}: {setup.model} ({setup.target}) on {setup.source}, {setup.frames} frames"]
    heads = ("p50 ms", "95 % interval", "p90 ms", "p99 ms", "max ms", "jitter")
    lines.append(f"{'stage':<20}" + "".join(f"{head:>{17 if '%' in head else 10}}" for head in heads))
    lines += [f"{name:<20}{_row(values)}" for name, values in rows]
    if not setup.age_of_information:
        lines.append(f"{'age at subscriber':<20}{NOT_AVAILABLE}: publish over tcp:// to measure it")
    share = 100 * setup.stages_over_wall
    lines.append(f"stages add up to {share:.2f} % of the wall clock: {'kept' if setup.stages_add_up else 'NOT KEPT'}")
    fps, drops = setup.throughput_fps, setup.drops
    lines.append(f"throughput {fps.value:.2f} frames/s {_bounds(fps, 2)}")
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
    lines = [
        f"memory       RSS {own.rss_mb:.1f} MB, peak {own.rss_peak_mb:.1f} MB, slope "
        + (f"{_signed(slope)} MB/h" if slope else f"{NOT_AVAILABLE} (needs 60 s)"),
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
