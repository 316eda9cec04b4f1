"""Power mode, clocks, supply, temperature and throttling."""

import re
from collections.abc import Iterator

from edge.bench.fingerprint import governors, temperatures_c
from edge.bench.throttle import Throttle, throttle_counts, throttle_now
from edge.doctor.board import container_of, is_pi, jetson_of
from edge.doctor.finding import Finding, note, ok, problem, warning
from edge.doctor.machine import Machine
from edge.throttle_watch import throttle_reason

__all__ = ["heat_findings", "power_findings"]

_GOVERNOR_CURE = "echo performance | sudo tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor"
_NEAR_K = 5.0
_UNDER_VOLTAGE, _WAS_UNDER_VOLTAGE, _WAS_THROTTLED = 0, 16, 18  # bits of `vcgencmd get_throttled`
_PI_5_USB_MA = 5000  # a supply that says less has the ports of a Pi 5 limited to 600 mA together


def power_findings(machine: Machine) -> Iterator[Finding]:
    """Yield power mode, whether clocks are fixed, and what a Raspberry Pi says of its supply."""
    jetson = jetson_of(machine) is not None
    if jetson and not container_of(machine):
        yield from _power_mode(machine)
    yield from _clocks(machine, jetson)
    if is_pi(machine):
        yield from _supply(machine)


def _power_mode(machine: Machine) -> Iterator[Finding]:
    said = machine.tool(["nvpmodel", "-q"]) or ""
    name, number = re.search(r"NV Power Mode:\s*(\S+)", said), re.search(r"^(\d{1,3})\s*$", said, re.MULTILINE)
    if not name:
        why = "the power mode caps clocks and cores"
        yield note("power.mode", "power mode", "nvpmodel does not say", why, "sudo nvpmodel -q")
        return
    table = re.findall(r"<\s*POWER_MODEL\s+ID=(\d{1,3})\s+NAME=(\S+)\s*>", machine.text("etc/nvpmodel.conf"))
    modes = {int(found): mode for found, mode in table}
    best = max(modes, key=lambda mode: _rank(modes[mode]), default=None)
    now = int(number[1]) if number else None
    if best is None or now == best or _rank(name[1]) >= _rank(modes[best]):
        yield ok("power.mode", "power mode", f"{name[1]}, the highest" if modes else name[1])
        return
    why = f"clocks and cores are capped; {modes[best]} is faster where supply and cooling allow it"
    yield note("power.mode", "power mode", f"{name[1]} of {', '.join(modes.values())}", why, f"sudo nvpmodel -m {best}")


def _rank(mode: str) -> float:
    """How powerful a mode is by its name: MAXN_SUPER, MAXN, then watts."""
    if mode.upper().startswith("MAXN"):
        return 1e6 + len(mode)
    watts = re.search(r"(\d{1,4})W", mode.upper())
    return float(watts[1]) if watts else 0.0


def _clocks(machine: Machine, jetson: bool) -> Iterator[Finding]:
    found = governors(machine.root)
    folders = [
        f"/{path.relative_to(machine.root)}" for path in machine.glob("sys/devices/system/cpu/cpu[0-9]*/cpufreq")
    ]
    if not found or not folders:
        yield ok("power.clocks", "clocks", "not scaled by this kernel, or not told")
        return
    limits = [(machine.number(f"{f}/scaling_min_freq"), machine.number(f"{f}/scaling_max_freq")) for f in folders]
    hardware = [machine.number(f"{folder}/cpuinfo_max_freq") for folder in folders]
    known = [(top, most) for (_, top), most in zip(limits, hardware, strict=True) if top and most]
    capped = (
        f"; capped at {known[0][0] / 1e3:.0f} of {known[0][1] / 1e3:.0f} MHz"
        if known and known[0][0] < known[0][1]
        else ""
    )
    names = ", ".join(found)
    if found == ["performance"] or all(least is not None and least == most for least, most in limits):
        yield ok("power.clocks", "clocks", f"fixed (governor {names}){capped}")
        return
    drivers = {machine.text(f"{folder}/scaling_driver") for folder in folders}
    stuck = "powersave" in found and not any("pstate" in driver or driver == "amd-pstate-epp" for driver in drivers)
    if stuck:
        why = "with this governor the clock stays at its lowest"
        yield warning("power.clocks", "clocks", f"governor {names}{capped}", why, _GOVERNOR_CURE)
        return
    why = "clocks that rise only after work has come make single results late (p99); the price is power and heat"
    cure = "sudo jetson_clocks" if jetson else _GOVERNOR_CURE
    yield note("power.clocks", "clocks", f"scaled with the load (governor {names}){capped}", why, cure)


def _supply(machine: Machine) -> Iterator[Finding]:
    flags = throttle_now(machine.root, machine.tool).pi_flags
    cure = "use the official power supply (Pi 5: 5 V 5 A; Pi 4: 5 V 3 A) and a short cable, and take load off USB"
    if flags is None:
        yield note("power.supply", "supply", "the firmware could not be asked", "", "sudo apt install raspi-utils")
    elif flags >> _UNDER_VOLTAGE & 1:
        why = "under-voltage slows the processor, resets USB devices and damages SD cards"
        yield problem("power.supply", "supply", f"under-voltage now ({flags:#x})", why, cure)
    elif flags >> _WAS_UNDER_VOLTAGE & 1:
        why = "under-voltage slows the processor and resets USB devices"
        yield warning("power.supply", "supply", f"under-voltage since the last start ({flags:#x})", why, cure)
    else:
        yield ok("power.supply", "supply", f"no under-voltage since the last start ({flags:#x})")
    words = machine.path("proc/device-tree/chosen/power/max_current")
    try:
        current_ma = int.from_bytes(words.read_bytes()[:4], "big")
    except OSError:
        return
    if 0 < current_ma < _PI_5_USB_MA:
        why = "the USB ports share 600 mA then: too little for a Coral USB (up to 900 mA) or several cameras"
        cure = "use a 5 V 5 A supply, or a powered USB hub"
        yield note("power.usb", "supply", f"a supply of {current_ma} mA", why, cure)


def heat_findings(machine: Machine) -> Iterator[Finding]:
    """Yield the hottest sensor against the limits the kernel knows, and whether something slows the machine now."""
    temperatures = temperatures_c(machine.root, machine.tool)
    near = _near_trip(machine)
    if near:
        why = "past that limit clocks are lowered, and results come late"
        yield warning(
            "heat.temperature", "temperature", near, why, "clean the heat sink, add a fan, or lower the power mode"
        )
    elif temperatures:
        hottest = max(temperatures, key=lambda name: temperatures[name])
        yield ok("heat.temperature", "temperature", f"{temperatures[hottest]:.0f} °C at the hottest sensor ({hottest})")
    else:
        yield ok("heat.temperature", "temperature", "no sensor")
    now = throttle_now(machine.root, machine.tool)
    if reason := throttle_reason(Throttle(), now):
        why = "something slows this machine at this moment"
        yield warning("heat.throttling", "throttling", reason, why, "improve cooling and power supply, then look again")
        return
    counts = {name: count for name, count in throttle_counts(machine.root).items() if count > 0}
    if is_pi(machine) and now.pi_flags and now.pi_flags >> _WAS_THROTTLED & 1:
        counts["throttled since the last start"] = 1
    if counts:
        said = ", ".join(name if count == 1 else f"{name} {count:g}" for name, count in counts.items())
        why = "it was slowed since the last start, and may be again under the same load"
        yield note(
            "heat.throttling",
            "throttling",
            said,
            why,
            "harrier bench --model MODEL --seconds 600  # says when it happens",
        )
    else:
        yield ok("heat.throttling", "throttling", "none")


def _near_trip(machine: Machine) -> str:
    """The zone that is nearest to a limit from which the kernel slows down, in words; "" when none is near."""
    found = []
    for zone in machine.glob("sys/class/thermal/thermal_zone*"):
        folder = f"sys/class/thermal/{zone.name}"
        now = machine.number(f"{folder}/temp")
        for path in machine.glob(f"{folder}/trip_point_*_type"):
            limit = machine.number(f"{folder}/{path.name.replace('_type', '_temp')}")
            if machine.text(f"{folder}/{path.name}") in ("passive", "hot") and now is not None and limit and limit > 0:
                found.append((limit / 1e3 - now / 1e3, machine.text(f"{folder}/type"), now / 1e3, limit / 1e3))
    if not found or min(found)[0] > _NEAR_K:
        return ""
    _, zone_type, now_c, limit_c = min(found)
    return f"{zone_type} has {now_c:.0f} °C, the limit is {limit_c:.0f} °C"
