"""Limits per board as a table, and whether a run kept them."""

import fnmatch
from pathlib import Path
from typing import Annotated

import msgspec

from edge.bench.results import BudgetLine, Drops, Report
from edge.errors import ConfigError
from edge.structs import as_struct, read_toml

__all__ = ["EXIT_CODE", "Budgets", "Limits", "check_budget", "limits_for", "read_budgets"]

EXIT_CODE = 6

Limit = Annotated[float, msgspec.Meta(ge=0)]


class Limits(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """One board's limits; *_min is the least, every other the most that is allowed. Absent means no limit."""

    step_p50_ms: Limit | None = None
    step_p99_ms: Limit | None = None
    infer_p50_ms: Limit | None = None
    infer_p99_ms: Limit | None = None
    capture_to_publish_p50_ms: Limit | None = None
    capture_to_publish_p99_ms: Limit | None = None
    capture_to_publish_max_ms: Limit | None = None
    age_of_information_p99_ms: Limit | None = None
    throughput_fps_min: Limit | None = None
    dropped_percent_max: Limit | None = None
    startup_s_max: Limit | None = None
    rss_mb_max: Limit | None = None
    rss_slope_mb_per_hour_max: Limit | None = None
    cpu_cores_max: Limit | None = None
    temperature_c_max: Limit | None = None
    power_w_max: Limit | None = None
    energy_mj_per_frame_max: Limit | None = None


class Budgets(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The file: [boards."NAME"] tables; a name may have * and is looked for in board and CPU names."""

    boards: dict[str, Limits]


def read_budgets(path: Path) -> Budgets:
    """Return the limits in a TOML file.

    Raises: ConfigError naming the file and the key.
    """
    budgets = as_struct(read_toml(path), Budgets, str(path))
    for pattern in budgets.boards:
        if not pattern.strip():
            raise ConfigError(
                f'{path}: [boards."{pattern}"] names no board', 'give a part of its name, or [boards."*"] for any board'
            )
    return budgets


def limits_for(budgets: Budgets, board: str | None, cpu: str | None) -> tuple[str, Limits]:
    """Return the table with the longest name, * aside, that is this board's or CPU's, and its name; "*" is any board.

    Raises: ConfigError when no table is for this board, or its table is empty.
    """
    names = [name for name in (board, cpu) if name]
    for pattern in sorted(budgets.boards, key=lambda text: len(text.replace("*", "")), reverse=True):
        if pattern == "*" or any(fnmatch.fnmatch(name.lower(), f"*{pattern.lower()}*") for name in names):
            if budgets.boards[pattern] == Limits():
                raise ConfigError(f'[boards."{pattern}"] has no limit, so anything would keep it', "add one")
            return pattern, budgets.boards[pattern]
    seen = " / ".join(names) or "a board without a name"
    raise ConfigError(f"no budget is for {seen}", 'add [boards."NAME"] with a part of that name, or [boards."*"]')


def check_budget(report: Report, limits: Limits) -> list[BudgetLine]:
    """Return a line for every limit; of several set-ups or windows the worst counts, and what was not measured is
    not kept. The start-up of several set-ups is never timed, so its limit is left out.
    """
    lines = []
    for name in Limits.__struct_fields__:
        limit = getattr(limits, name)
        if limit is None or (name == "startup_s_max" and len(report.setups) > 1):
            continue
        measured = _measured(report, name)
        least = name.endswith("_min")
        kept = measured is not None and (measured >= limit if least else measured <= limit)
        lines.append(BudgetLine(limit_name=name, limit=limit, measured=measured, kept=kept))
    return lines


def _measured(report: Report, name: str) -> float | None:
    resources, startup = report.resources, report.startup
    if name == "throughput_fps_min":
        return min(report.soak.throughput_fps if report.soak else [s.throughput_fps.value for s in report.setups])
    if name == "dropped_percent_max":
        return max(_dropped_percent(setup.drops) for setup in report.setups)
    if name == "temperature_c_max":
        return max((t for t in report.series.temperature_c if t is not None), default=None)
    if name == "rss_slope_mb_per_hour_max":
        slope = report.soak.rss_slope_mb_per_hour if report.soak else resources.rss_slope_mb_per_hour
        return slope.value if slope else None
    if name in ("power_w_max", "energy_mj_per_frame_max"):
        powers = [s.power for s in report.setups if s.power]
        values = [power.mean_w if name == "power_w_max" else power.energy_mj_per_frame for power in powers]
        return max(values) if len(values) == len(report.setups) else None
    single = {
        "startup_s_max": startup.median_s if startup else None,
        "rss_mb_max": resources.rss_peak_mb,
        # one process works for both in turns, so its load is neither's
        "cpu_cores_max": resources.cpu_cores if len(report.setups) == 1 else None,
    }
    return single[name] if name in single else _latency(report, name)


def _dropped_percent(drops: Drops) -> float:
    lost = drops.replaced_by_newer + drops.corrupt + drops.engine_lost
    return 100 * lost / max(1, drops.captured + drops.corrupt)  # corrupt ones are never numbered


def _latency(report: Report, name: str) -> float | None:
    quantity, point = name.removesuffix("_ms").rsplit("_", 1)
    if report.soak and quantity == "capture_to_publish":
        return max(getattr(report.soak, f"{point}_ms"))
    if report.soak and quantity in ("step", "infer"):
        return None  # only the last window's are kept
    worst = None
    for setup in report.setups:
        values = setup.stages.get(quantity) or getattr(setup, quantity, None)
        if values is None:
            return None
        found = getattr(values, point)
        value = found if isinstance(found, float) else found.value
        worst = value if worst is None else max(worst, value)
    return worst
