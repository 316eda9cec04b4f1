"""What slows the machine down: counts that rise, and states that hold for a while and so must be watched.

A count of the kernel's keeps what happened between two readings. A cooling state, the firmware's present flags of a
Raspberry Pi and a lowered clock limit do not: they are read again and again, and the worst counts.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edge.bench.reading import Tool, number_in, run_tool, text_in

__all__ = ["CPU_QUOTA", "Throttle", "throttle_counts", "throttle_facts", "throttle_now"]

CPU_QUOTA = "CPU quota throttle count"
"""Of a container's or a service's limit; it says nothing of heat."""

_COOLING = ("cpufreq", "throttle", "processor", "devfreq")  # and not fans


@dataclass(slots=True)
class Throttle:
    """What held at one moment, or the worst of many.

    states: cooling devices by name, 0 is off. pi_flags: of `vcgencmd get_throttled`, None where there is none.
    limits_mhz: the highest clock that is allowed, by CPU.
    """

    states: dict[str, float] = field(default_factory=dict)
    pi_flags: int | None = None
    limits_mhz: dict[str, float] = field(default_factory=dict)

    def worsen(self, other: "Throttle") -> None:
        """Take over whatever is worse in `other`: higher states, more flags, lower limits."""
        for name, state in other.states.items():
            self.states[name] = max(state, self.states.get(name, state))
        for name, limit in other.limits_mhz.items():
            self.limits_mhz[name] = min(limit, self.limits_mhz.get(name, limit))
        if other.pi_flags is not None:
            self.pi_flags = (self.pi_flags or 0) | other.pi_flags


def throttle_now(root: Path = Path("/"), tool: Tool = run_tool) -> Throttle:
    """Return what holds at this moment."""
    found = Throttle()
    for device in sorted((root / "sys/class/thermal").glob("cooling_device*")):
        kind, state = text_in(device / "type") or "", number_in(device / "cur_state")
        if state is not None and any(word in kind.lower() for word in _COOLING):
            found.states[f"cooling state of {kind} ({device.name})"] = state
    for path in sorted((root / "sys/devices/system/cpu").glob("cpu[0-9]*/cpufreq/scaling_max_freq")):
        if (limit := number_in(path)) is not None:
            found.limits_mhz[path.parts[-3]] = limit / 1e3
    said = tool(["vcgencmd", "get_throttled"]) or ""  # throttled=0x50000
    flags = re.search(r"=0x([0-9a-fA-F]+)", said)
    found.pi_flags = int(flags[1], 16) if flags else None
    return found


def throttle_counts(root: Path = Path("/")) -> dict[str, float]:
    """Return every count of throttling there is: x86 cores and packages, Jetson over-current events, CPU quota."""
    found: dict[str, float] = {}
    cpus = root / "sys/devices/system/cpu"
    for kind in ("core", "package"):
        counts = [number_in(p) for p in cpus.glob(f"cpu[0-9]*/thermal_throttle/{kind}_throttle_count")]
        known = [count for count in counts if count is not None]
        if known:
            found[f"{kind} thermal throttle count"] = sum(known)
    for path in sorted((root / "sys/class/hwmon").glob("hwmon*/oc*_event_cnt")):  # JetPack 5 and later
        if (value := number_in(path)) is not None:
            found[f"over-current event count {path.name.split('_')[0]}"] = value
    if (value := _quota_count(root)) is not None:
        found[CPU_QUOTA] = value
    return found


def _quota_count(root: Path) -> float | None:
    """How often this process's control groups were stopped because their CPU time was used up; None without one."""
    counts = []
    for line in (text_in(root / "proc/self/cgroup") or "").splitlines():
        controllers, _, path = line.partition(":")[2].partition(":")  # cgroup 2 names no controller
        if controllers and "cpu" not in controllers.split(","):
            continue
        mount = root / "sys/fs/cgroup" / ("cpu" if controllers else "")
        group = mount / path.strip("/")  # a container may see its own as the mount itself
        for folder in (group, *(parent for parent in group.parents if parent.is_relative_to(mount))):
            said = re.search(r"^nr_throttled (\d+)$", text_in(folder / "cpu.stat") or "", re.MULTILINE)
            if said:
                counts.append(float(said[1]))
    return sum(counts) if counts else None


def throttle_facts(root: Path = Path("/"), tool: Tool = run_tool) -> dict[str, Any] | None:
    """Return counts, cooling states and the Pi's flags ("0x50000") by name; None where there is nothing to read."""
    now = throttle_now(root, tool)
    facts: dict[str, Any] = {**throttle_counts(root), **now.states}
    if now.pi_flags is not None:
        facts["firmware flags"] = hex(now.pi_flags)
    return facts or None
