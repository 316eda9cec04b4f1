"""Was the machine fit to be measured on: other programs, stolen time, throttling, frequency caps."""

import os
from dataclasses import dataclass, field
from pathlib import Path

from edge.bench.family import cpu_times_s
from edge.bench.fingerprint import governors
from edge.bench.reading import Tool, number_in, run_tool
from edge.bench.results import Finding
from edge.bench.throttle import CPU_QUOTA, Throttle, throttle_counts, throttle_now

__all__ = ["BUSY_CORES", "STEAL_SHARE", "Snapshot", "findings", "snapshot"]

BUSY_CORES = 0.25
"""Other programs that keep more than this many cores busy spoil a run."""

STEAL_SHARE = 0.02
"""A hypervisor that takes more than this share of the machine's time spoils a run."""

_PI_NOW = {0: "under-voltage", 1: "frequency capped", 2: "throttled", 3: "soft temperature limit"}
_PI_SINCE_BOOT = 16  # the same bits, shifted: it happened since boot


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Counters of one moment, CPU times in s; None: not available. counters: events that mean throttling, by name.

    own_s: of this process and those it started, which belong to the measurement.
    """

    total_s: float | None
    busy_s: float | None
    steal_s: float | None
    own_s: float
    counters: dict[str, float] = field(default_factory=dict)
    throttle: Throttle = field(default_factory=Throttle)


def snapshot(root: Path = Path("/"), tool: Tool = run_tool) -> Snapshot:
    """Return the machine's counters now."""
    ticks = _cpu_ticks(root)
    hz = os.sysconf("SC_CLK_TCK")
    own_s = sum(cpu_times_s().values())
    total = busy = steal = None
    if ticks:
        user, nice, system, _idle, _iowait, irq, softirq, stolen = ticks[:8]
        total, steal = sum(ticks[:8]) / hz, stolen / hz
        busy = (user + nice + system + irq + softirq) / hz
    return Snapshot(total, busy, steal, own_s, throttle_counts(root), throttle_now(root, tool))


def findings(
    before: Snapshot, after: Snapshot, elapsed_s: float, root: Path = Path("/"), worst: Throttle | None = None
) -> list[Finding]:
    """Return what happened to the machine between two snapshots `elapsed_s` apart, the grave ones first.

    worst: the worst that was seen between the two.
    """
    seen = Throttle()
    for throttle in (before.throttle, after.throttle, worst or Throttle()):
        seen.worsen(throttle)
    found = [*_load(before, after, elapsed_s), *_throttling(before, after, seen), *_notes(root)]
    return sorted(found, key=lambda finding: not finding.invalidates)


def _load(before: Snapshot, after: Snapshot, elapsed_s: float) -> list[Finding]:
    if before.busy_s is None or after.busy_s is None or elapsed_s <= 0:
        return [Finding(kind="load", text="load by other programs: not available", invalidates=False)]
    found = []
    others = (after.busy_s - before.busy_s - (after.own_s - before.own_s)) / elapsed_s
    if others > BUSY_CORES:
        text = f"other programs kept {others:.2f} cores busy (limit {BUSY_CORES:g})"
        found.append(Finding(kind="busy", text=text, invalidates=True))
    total, steal = (after.total_s or 0) - (before.total_s or 0), (after.steal_s or 0) - (before.steal_s or 0)
    if total > 0 and steal / total > STEAL_SHARE:
        text = f"the hypervisor took {100 * steal / total:.1f} % of the time (limit {100 * STEAL_SHARE:g} %)"
        found.append(Finding(kind="steal", text=text, invalidates=True))
    return found


def _throttling(before: Snapshot, after: Snapshot, seen: Throttle) -> list[Finding]:
    said: list[str] = []
    found: list[Finding] = []
    if not after.counters.keys() - {CPU_QUOTA} and not seen.states and seen.pi_flags is None:
        text = "throttling by heat or power: not available; the CPU quota is watched"
        if CPU_QUOTA not in after.counters:
            text = "throttling: not available"
        found.append(Finding(kind="throttling", text=text, invalidates=False))
    for name, value in after.counters.items():
        grown = value - before.counters.get(name, value)
        if grown > 0:
            said.append(f"{name} rose by {grown:.0f}")
    said += [f"{name} was up to {state:.0f}" for name, state in seen.states.items() if state > 0]
    found += [Finding(kind="throttled", text=text, invalidates=True) for text in said]
    flags = seen.pi_flags or 0
    fresh = flags & ~(before.throttle.pi_flags or 0)
    for bit, words in _PI_NOW.items():
        if flags >> bit & 1 or fresh >> (bit + _PI_SINCE_BOOT) & 1:
            found.append(Finding(kind="throttled", text=f"the firmware reports: {words}", invalidates=True))
        elif flags >> (bit + _PI_SINCE_BOOT) & 1:
            text = f"the firmware reports since boot, before the run: {words}"
            found.append(Finding(kind="throttled", text=text, invalidates=False))
    return found + _limits(before, seen)


def _limits(before: Snapshot, seen: Throttle) -> list[Finding]:
    """A clock limit that was lowered after the run began is no setting, but something that throttles."""
    for cpu, least in seen.limits_mhz.items():
        at_first = before.throttle.limits_mhz.get(cpu, least)
        if least < at_first:
            text = f"the clock limit of {cpu} fell from {at_first:.0f} to {least:.0f} MHz during the run"
            return [Finding(kind="throttled", text=text, invalidates=True)]
    return []


def _notes(root: Path) -> list[Finding]:
    found = []
    slow = [name for name in governors(root) if name != "performance"]
    if slow:
        text = f"the CPU governor is {', '.join(slow)}, not performance"
        found.append(Finding(kind="governor", text=text, invalidates=False))
    for cpu in sorted((root / "sys/devices/system/cpu").glob("cpu[0-9]*/cpufreq")):
        hardware, allowed = number_in(cpu / "cpuinfo_max_freq"), number_in(cpu / "scaling_max_freq")
        if hardware and allowed and allowed < hardware:
            text = f"the CPU clock is capped at {allowed / 1e3:.0f} of {hardware / 1e3:.0f} MHz"
            found.append(Finding(kind="clock_cap", text=text, invalidates=False))
            break
    return found


def _cpu_ticks(root: Path) -> list[int] | None:
    try:
        line = (root / "proc/stat").read_text().splitlines()[0].split()
    except (OSError, IndexError):
        return None
    return [int(n) for n in line[1:]] if len(line) >= 9 else None
