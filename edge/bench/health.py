"""Was the machine fit to be measured on: other programs, stolen time, throttling, frequency caps."""

import os
from dataclasses import dataclass, field
from pathlib import Path

from edge.bench.fingerprint import Tool, governors, run_tool
from edge.bench.results import Finding

__all__ = ["BUSY_CORES", "STEAL_SHARE", "Snapshot", "findings", "snapshot"]

BUSY_CORES = 0.25
"""Other programs that keep more than this many cores busy spoil a run."""

STEAL_SHARE = 0.02
"""A hypervisor that takes more than this share of the machine's time spoils a run."""

_PI_NOW = {0: "under-voltage", 1: "frequency capped", 2: "throttled", 3: "soft temperature limit"}
_PI_SINCE_BOOT = 16  # the same bits, shifted: it happened since boot


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Counters of one moment, CPU times in s. counters: events that mean throttling, by name; None: not available."""

    total_s: float | None
    busy_s: float | None
    steal_s: float | None
    own_s: float
    counters: dict[str, float] = field(default_factory=dict)
    pi_flags: int | None = None


def snapshot(root: Path = Path("/"), tool: Tool = run_tool, own_pids: tuple[int, ...] = ()) -> Snapshot:
    """Return the machine's counters now; `own_pids` are processes that belong to the measurement beside this one."""
    ticks = _cpu_ticks(root)
    hz = os.sysconf("SC_CLK_TCK")
    own = os.times()
    own_s = own.user + own.system + own.children_user + own.children_system + sum(_process_s(pid) for pid in own_pids)
    total = busy = steal = None
    if ticks:
        user, nice, system, _idle, _iowait, irq, softirq, stolen = ticks[:8]
        total, steal = sum(ticks[:8]) / hz, stolen / hz
        busy = (user + nice + system + irq + softirq) / hz
    said = tool(["vcgencmd", "get_throttled"]) or ""  # throttled=0x50000
    flags = said.partition("=")[2].strip()
    return Snapshot(total, busy, steal, own_s, _counters(root), int(flags, 16) if flags.startswith("0x") else None)


def findings(before: Snapshot, after: Snapshot, elapsed_s: float, root: Path = Path("/")) -> list[Finding]:
    """Return what happened to the machine between two snapshots `elapsed_s` apart, the grave ones first."""
    found = [*_load(before, after, elapsed_s), *_throttling(before, after), *_notes(root)]
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


def _throttling(before: Snapshot, after: Snapshot) -> list[Finding]:
    found = []
    for name, value in after.counters.items():
        grown = value - before.counters.get(name, value)
        if grown > 0:
            found.append(Finding(kind="throttled", text=f"{name} rose by {grown:.0f}", invalidates=True))
    flags = after.pi_flags or 0
    fresh = flags & ~(before.pi_flags or 0)
    for bit, words in _PI_NOW.items():
        if flags >> bit & 1 or fresh >> (bit + _PI_SINCE_BOOT) & 1:
            found.append(Finding(kind="throttled", text=f"the firmware reports: {words}", invalidates=True))
        elif flags >> (bit + _PI_SINCE_BOOT) & 1:
            text = f"the firmware reports since boot, before the run: {words}"
            found.append(Finding(kind="throttled", text=text, invalidates=False))
    return found


def _notes(root: Path) -> list[Finding]:
    found = []
    slow = [name for name in governors(root) if name != "performance"]
    if slow:
        text = f"the CPU governor is {', '.join(slow)}, not performance"
        found.append(Finding(kind="governor", text=text, invalidates=False))
    for cpu in sorted((root / "sys/devices/system/cpu").glob("cpu[0-9]*/cpufreq")):
        hardware, allowed = _number(cpu / "cpuinfo_max_freq"), _number(cpu / "scaling_max_freq")
        if hardware and allowed and allowed < hardware:
            text = f"the CPU clock is capped at {allowed / 1e3:.0f} of {hardware / 1e3:.0f} MHz"
            found.append(Finding(kind="clock_cap", text=text, invalidates=False))
            break
    return found


def _counters(root: Path) -> dict[str, float]:
    """Every counter of throttling there is: x86 cores and packages, Jetson over-current, engaged cooling."""
    found: dict[str, float] = {}
    cpus = root / "sys/devices/system/cpu"
    for kind in ("core", "package"):
        counts = [_number(p) for p in cpus.glob(f"cpu[0-9]*/thermal_throttle/{kind}_throttle_count")]
        known = [count for count in counts if count is not None]
        if known:
            found[f"{kind} thermal throttle count"] = sum(known)
    for path in (root / "sys/class/hwmon").glob("hwmon*/oc*_event_cnt"):  # JetPack 5 and later
        if (value := _number(path)) is not None:
            found[f"over-current event count {path.name.split('_')[0]}"] = value
    for device in (root / "sys/class/thermal").glob("cooling_device*"):
        kind = _word(device / "type")
        state = _number(device / "cur_state")
        if state is not None and any(word in kind.lower() for word in ("cpufreq", "throttle", "processor", "devfreq")):
            found[f"cooling state of {kind} ({device.name})"] = state
    return found


def _cpu_ticks(root: Path) -> list[int] | None:
    try:
        line = (root / "proc/stat").read_text().splitlines()[0].split()
    except (OSError, IndexError):
        return None
    return [int(n) for n in line[1:]] if len(line) >= 9 else None


def _process_s(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _number(path: Path) -> float | None:
    try:
        return float(path.read_text())
    except (OSError, ValueError):
        return None


def _word(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
