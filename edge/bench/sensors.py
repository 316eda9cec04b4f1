"""Temperature, power, clock and memory while a run measures, from files under a root; a thread samples them."""

import re
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise
from pathlib import Path

from edge.bench.family import Family
from edge.bench.fingerprint import clocks_mhz, temperatures_c
from edge.bench.reading import Tool, number_in, run_tool, text_in
from edge.bench.throttle import Throttle, throttle_now

__all__ = ["EnergyCounter", "PowerMeter", "Sample", "Sampler", "energy_over", "find_power"]

_WHOLE_BOARD = ("VDD_IN", "POM_5V_IN")  # the rail that feeds all the others, where a board has such a one
_MAX_SAMPLES = 4000

_Reader = Callable[[], float | None]


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
        self._ranges = [number_in(folder / "max_energy_range_uj") for folder in folders]
        self._clock = clock
        self._last: list[float | None] = [number_in(folder / "energy_uj") for folder in folders]
        self._t = clock()

    def read_w(self) -> float | None:
        """Return the mean power in W since the last call, over all counters; None when one did not answer."""
        now, values = self._clock(), [number_in(folder / "energy_uj") for folder in self._folders]
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
        return PowerMeter("vcgencmd pmic_read_adc", "sum of the PMIC's rails", partial(_pmic_w, tool))
    return _rapl(root) or _hwmon_power(root)


def _ina3221(root: Path) -> PowerMeter | None:
    """JetPack 5 and later: millivolts and milliamperes per channel."""
    rails: list[tuple[str, _Reader]] = []
    for chip in sorted((root / "sys/class/hwmon").glob("hwmon*")):
        if "ina3221" not in (text_in(chip / "name") or ""):
            continue
        for label in sorted(chip.glob("in[0-9]*_label")):
            channel, name = re.sub(r"\D", "", label.name), text_in(label)
            read = partial(_product_w, chip / f"in{channel}_input", chip / f"curr{channel}_input")
            if name and not name.lower().startswith("sum of") and read() is not None:  # channel 7 sums up shunts
                rails.append((name, read))
    return _board_meter(rails)


def _ina3221_iio(root: Path) -> PowerMeter | None:
    """JetPack 4: milliwatts per rail."""
    rails: list[tuple[str, _Reader]] = []
    for label in sorted((root / "sys/bus/i2c/drivers/ina3221x").glob("*/iio:device*/rail_name_*")):
        name = text_in(label)
        read = partial(_scaled, label.with_name(f"in_power{label.name.rpartition('_')[2]}_input"), 1e-3)
        if name and read() is not None:
            rails.append((name, read))
    return _board_meter(rails)


def _board_meter(rails: list[tuple[str, _Reader]]) -> PowerMeter | None:
    """The rail that feeds all others; where there is none, as on the AGX boards, the sum of those there are."""
    for name, read in rails:
        if name in _WHOLE_BOARD:
            return PowerMeter(f"INA3221 {name}", "whole board", read)
    readers = [read for name, read in rails if name != "NC"]  # not connected
    if not readers:
        return None
    return PowerMeter("INA3221", f"sum of {len(readers)} rails", partial(_sum_w, readers))


def _rapl(root: Path) -> PowerMeter | None:
    zones = sorted((root / "sys/class/powercap").glob("intel-rapl:*"))
    packages = [zone for zone in zones if (text_in(zone / "name") or "").startswith("package")]
    packages = [zone for zone in packages if number_in(zone / "energy_uj") is not None]  # readable by root only
    if not packages:
        return None
    return PowerMeter("RAPL", f"processor package x{len(packages)}", EnergyCounter(packages).read_w, averages=True)


def _hwmon_power(root: Path) -> PowerMeter | None:
    for pattern in ("power*_input", "power*_average"):
        for path in sorted((root / "sys/class/hwmon").glob(f"hwmon*/{pattern}")):
            if number_in(path) is not None:
                name = text_in(path.parent / "name") or path.parent.name
                return PowerMeter(f"hwmon {name}", f"what {name} sees", partial(_scaled, path, 1e-6))
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
    """Samples on a thread of its own; past 4,000 samples two become one and the pace is halved.

    throttle: the worst that was seen of what slows the machine down. family: whose memory it is.
    """

    interval_s: float = 0.25
    root: Path = Path("/")
    tool: Tool = run_tool
    samples: list[Sample] = field(default_factory=list)
    throttle: Throttle = field(default_factory=Throttle)
    family: Family = field(default_factory=Family)

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
        self.throttle.worsen(throttle_now(self.root, self.tool))
        self.samples.append(
            Sample(
                time.monotonic_ns(),
                self.family.rss_mb(),
                max(temperatures.values()) if temperatures else None,
                self.meter.read_w() if self.meter else None,
                max(clocks) if clocks else None,
            )
        )

    def _loop(self) -> None:
        while not self._stop.wait(self.interval_s):
            self.sample()
            if len(self.samples) > _MAX_SAMPLES:
                self.samples = _halved(self.samples, bool(self.meter and self.meter.averages))
                self.interval_s *= 2


def energy_over(
    samples: Sequence[Sample], averages: bool = False, spans_ns: Sequence[tuple[int, int]] | None = None
) -> tuple[float, float] | None:
    """Return the energy in J and the s it was measured over; within `spans_ns` only, where given. None: too little.

    The trapezoidal rule; where readings are means since the one before, their exact sum. A pair of samples counts
    when both lie in one span.
    """
    known = [(s.t_ns, s.power_w) for s in samples if s.power_w is not None]
    energy_j = seconds = 0.0
    for (t0_ns, p0_w), (t1_ns, p1_w) in pairwise(known):
        if spans_ns is None or any(start <= t0_ns and t1_ns <= end for start, end in spans_ns):
            step_s = (t1_ns - t0_ns) / 1e9
            energy_j += step_s * (p1_w if averages else (p0_w + p1_w) / 2)
            seconds += step_s
    return (energy_j, seconds) if seconds > 0 else None


def _halved(samples: list[Sample], averages: bool) -> list[Sample]:
    """The first sample, then one for every two that loses neither a peak of the temperature nor any energy."""
    kept = samples[:1]
    for before, (a, b) in zip(samples[::2], zip(samples[1::2], samples[2::2], strict=False), strict=False):
        both_w = (a.power_w, b.power_w)
        hot = max((t for t in (a.temperature_c, b.temperature_c) if t is not None), default=None)
        power_w = b.power_w
        if averages and both_w[0] is not None and both_w[1] is not None:
            span_ns = (a.t_ns - before.t_ns, b.t_ns - a.t_ns)
            power_w = (span_ns[0] * both_w[0] + span_ns[1] * both_w[1]) / sum(span_ns)
        kept.append(replace(b, temperature_c=hot, power_w=power_w))
    return kept if len(samples) % 2 else [*kept, samples[-1]]


def _step_uj(value: float | None, last: float | None, span: float | None) -> float | None:
    """By how much a counter rose that starts anew at 0 after `span`."""
    if value is None or last is None:
        return None
    if value >= last:
        return value - last
    return None if span is None else value - last + span


def _product_w(volts: Path, amperes: Path) -> float | None:
    milli_v, milli_a = number_in(volts), number_in(amperes)
    return None if milli_v is None or milli_a is None else milli_v * milli_a / 1e6


def _scaled(path: Path, factor: float) -> float | None:
    value = number_in(path)
    return None if value is None else value * factor


def _sum_w(readers: Sequence[_Reader]) -> float | None:
    """The sum of all readings, None as long as one did not answer."""
    values = [read() for read in readers]
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None
