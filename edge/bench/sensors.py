"""Temperature, power, clock and memory while a run measures, from files under a root; a thread samples them."""

import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from edge.bench.fingerprint import Tool, clocks_mhz, run_tool, temperatures_c
from edge.stats import rss_bytes

__all__ = ["EnergyCounter", "PowerMeter", "Sample", "Sampler", "energy_j", "find_power"]

_WHOLE_BOARD = ("VDD_IN", "POM_5V_IN", "VIN_SYS_5V0", "VDD_MODULE_IN")  # the rail that feeds all the others
_MAX_SAMPLES = 4000


@dataclass(frozen=True, slots=True)
class PowerMeter:
    """A source of power readings. scope says what it sees; read_w gives watts, or None when it did not answer.

    averages: each reading is the mean since the one before, as a counter gives it, and not of that moment.
    """

    sensor: str
    scope: str
    read_w: Callable[[], float | None]
    averages: bool = False


class EnergyCounter:
    """Watts from an energy counter in microjoules that wraps, as RAPL's do; the first reading gives None."""

    def __init__(self, folders: list[Path], clock: Callable[[], float] = time.monotonic) -> None:
        self._folders = folders
        self._ranges = [_read(folder / "max_energy_range_uj") for folder in folders]
        self._clock = clock
        self._last: list[float | None] = [_read(folder / "energy_uj") for folder in folders]
        self._t = clock()

    def read_w(self) -> float | None:
        """Return the mean power in W since the last call, over all counters; None when one did not answer."""
        now, values = self._clock(), [_read(folder / "energy_uj") for folder in self._folders]
        steps_uj = [_step_uj(*row) for row in zip(values, self._last, self._ranges, strict=True)]
        elapsed_s, self._t, self._last = now - self._t, now, values
        known = [step for step in steps_uj if step is not None]
        return sum(known) / 1e6 / elapsed_s if len(known) == len(values) and elapsed_s > 0 else None


def find_power(root: Path = Path("/"), tool: Tool = run_tool) -> PowerMeter | None:
    """Return the best power meter there is: board input, Pi 5 PMIC, processor package, any hwmon; or None."""
    for find in (_ina3221, _ina3221_iio):
        if meter := find(root):
            return meter
    if _pmic_w(tool) is not None:
        return PowerMeter("vcgencmd pmic_read_adc", "sum of the PMIC's rails", lambda: _pmic_w(tool))
    return _rapl(root) or _hwmon_power(root)


def _ina3221(root: Path) -> PowerMeter | None:
    """JetPack 5 and later: millivolts and milliamperes per channel."""
    for chip in sorted((root / "sys/class/hwmon").glob("hwmon*")):
        if "ina3221" not in (_word(chip / "name") or ""):
            continue
        for label in sorted(chip.glob("in*_label")):
            name = _word(label)
            if name in _WHOLE_BOARD:
                channel = re.sub(r"\D", "", label.name)
                volts, amperes = chip / f"in{channel}_input", chip / f"curr{channel}_input"
                if _product_w(volts, amperes) is not None:
                    return PowerMeter(
                        f"INA3221 {name}",
                        "whole board",
                        lambda v=volts, a=amperes: _product_w(v, a),  # type: ignore[misc]
                    )
    return None


def _ina3221_iio(root: Path) -> PowerMeter | None:
    """JetPack 4: milliwatts per rail."""
    for label in sorted((root / "sys/bus/i2c/drivers/ina3221x").glob("*/iio:device*/rail_name_*")):
        name = _word(label)
        if name in _WHOLE_BOARD:
            path = label.with_name(f"in_power{label.name.rpartition('_')[2]}_input")
            if _read(path) is not None:
                return PowerMeter(f"INA3221 {name}", "whole board", lambda p=path: _scaled(p, 1e-3))  # type: ignore[misc]
    return None


def _rapl(root: Path) -> PowerMeter | None:
    zones = sorted((root / "sys/class/powercap").glob("intel-rapl:*"))
    packages = [zone for zone in zones if (_word(zone / "name") or "").startswith("package")]
    packages = [zone for zone in packages if _read(zone / "energy_uj") is not None]  # readable by root only
    if not packages:
        return None
    return PowerMeter("RAPL", f"processor package x{len(packages)}", EnergyCounter(packages).read_w, averages=True)


def _hwmon_power(root: Path) -> PowerMeter | None:
    for pattern in ("power*_input", "power*_average"):
        for path in sorted((root / "sys/class/hwmon").glob(f"hwmon*/{pattern}")):
            if _read(path) is not None:
                name = _word(path.parent / "name") or path.parent.name
                return PowerMeter(f"hwmon {name}", f"what {name} sees", lambda p=path: _scaled(p, 1e-6))  # type: ignore[misc]
    return None


def _pmic_w(tool: Tool) -> float | None:
    """Raspberry Pi 5: lines such as `VDD_CORE_A current(7)=1.2A` and `VDD_CORE_V volt(15)=0.85V`."""
    said = tool(["vcgencmd", "pmic_read_adc"]) or ""
    found = {"A": {}, "V": {}}  # type: dict[str, dict[str, float]]
    for rail, kind, value in re.findall(r"(\w+)_([AV]) \w+\(\d+\)=([\d.]+)[AV]", said):
        found[kind][rail] = float(value)
    pairs = [found["A"][rail] * found["V"][rail] for rail in found["A"] if rail in found["V"]]
    return sum(pairs) if pairs else None


@dataclass(slots=True)
class Sample:
    """One moment, t_ns on CLOCK_MONOTONIC; None where the machine has no such sensor."""

    t_ns: int
    rss_mb: float
    temperature_c: float | None
    power_w: float | None
    clock_mhz: float | None


@dataclass
class Sampler:
    """Samples on a thread of its own; past 4,000 samples every other one is let go and the pace halved."""

    interval_s: float = 0.25
    root: Path = Path("/")
    tool: Tool = run_tool
    samples: list[Sample] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.meter = find_power(self.root, self.tool)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="bench sensors", daemon=True)

    def __enter__(self) -> "Sampler":
        self.sample()
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stop.set()
        self._thread.join()
        self.sample()

    def sample(self) -> None:
        """Take one sample now."""
        temperatures = temperatures_c(self.root, self.tool)
        clocks = clocks_mhz(self.root)
        self.samples.append(
            Sample(
                time.monotonic_ns(),
                rss_bytes()[0] / 1e6,
                max(temperatures.values()) if temperatures else None,
                self.meter.read_w() if self.meter else None,
                max(clocks) if clocks else None,
            )
        )

    def _loop(self) -> None:
        while not self._stop.wait(self.interval_s):
            self.sample()
            if len(self.samples) > _MAX_SAMPLES and not (self.meter and self.meter.averages):
                self.samples = self.samples[::2]
                self.interval_s *= 2


def energy_j(samples: list[Sample], averages: bool = False) -> float | None:
    """Return the energy in J between the first and the last sample that know the power.

    The trapezoidal rule; where readings are means since the one before, their exact sum.
    """
    known = [(s.t_ns / 1e9, s.power_w) for s in samples if s.power_w is not None]
    if len(known) < 2:
        return None
    return sum((t1 - t0) * (p1 if averages else (p0 + p1) / 2) for (t0, p0), (t1, p1) in pairwise(known))


def _step_uj(value: float | None, last: float | None, span: float | None) -> float | None:
    """By how much a counter rose that starts anew at 0 after `span`."""
    if value is None or last is None:
        return None
    if value >= last:
        return value - last
    return None if span is None else value - last + span


def _product_w(volts: Path, amperes: Path) -> float | None:
    milli_v, milli_a = _read(volts), _read(amperes)
    return None if milli_v is None or milli_a is None else milli_v * milli_a / 1e6


def _scaled(path: Path, factor: float) -> float | None:
    value = _read(path)
    return None if value is None else value * factor


def _read(path: Path) -> float | None:
    try:
        return float(path.read_text())
    except (OSError, ValueError):
        return None


def _word(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip() or None
    except OSError:
        return None
