"""What machine this is: read from files under a root, so that any board's tree can be put in its place."""

import platform
import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from edge.bench.reading import Tool, number_in, run_tool, text_in
from edge.bench.throttle import throttle_facts

__all__ = ["LIBRARIES", "board", "clocks_mhz", "fingerprint", "governors", "jetpack", "temperatures_c"]

LIBRARIES = ("harrier-edge", "numpy", "opencv-python-headless", "ai-edge-litert", "onnxruntime", "tensorrt", "msgspec")
# NVIDIA's archive of JetPack releases and the Jetson Linux (L4T) release of each; by the whole number, since
# a point release may be another JetPack.
_JETPACK_OF_L4T = {
    "32.4.2": "4.4 DP", "32.4.3": "4.4", "32.4.4": "4.4.1", "32.5.0": "4.5", "32.5.1": "4.5.1", "32.5.2": "4.5.1",
    "32.6.1": "4.6", "32.7.1": "4.6.1", "32.7.2": "4.6.2", "32.7.3": "4.6.3", "32.7.4": "4.6.4", "32.7.5": "4.6.5",
    "32.7.6": "4.6.6", "34.1.0": "5.0 DP", "34.1.1": "5.0.1 DP", "35.1.0": "5.0.2", "35.2.1": "5.1", "35.3.1": "5.1.1",
    "35.4.1": "5.1.2", "35.5.0": "5.1.3", "35.6.0": "5.1.4", "35.6.1": "5.1.5", "36.2.0": "6.0 DP", "36.3.0": "6.0",
    "36.4.0": "6.1", "36.4.3": "6.2", "36.4.4": "6.2.1", "36.5.0": "6.2.2", "38.2.0": "7.0", "38.2.1": "7.0",
    "38.4.0": "7.1",
}  # fmt: skip


def fingerprint(root: Path = Path("/"), tool: Tool = run_tool) -> dict[str, Any]:
    """Return everything about the machine that changes a measurement; None is "not available"."""
    return {
        "board": board(root),
        "cpu": _cpu_model(root),
        "cores": len(_cpus(root)) or None,
        "memory_mb": _memory_mb(root),
        "architecture": platform.machine(),
        "kernel": text_in(root / "proc/sys/kernel/osrelease"),
        "os": _os_name(root),
        "jetpack": jetpack(root),
        "nvpmodel": _nvpmodel(tool),
        "governor": governors(root) or None,
        "clock_limits_mhz": _clock_limits(root),
        "clocks_mhz": clocks_mhz(root) or None,
        "accelerator_clocks_mhz": _devfreq_mhz(root),
        "temperatures_c": temperatures_c(root, tool) or None,
        "throttle": throttle_facts(root, tool),
        "load_average": text_in(root / "proc/loadavg"),
        "python": platform.python_version(),
        "libraries": {name: _version(name) for name in LIBRARIES},
        "git_revision": _git_revision(tool),
    }


def board(root: Path) -> str | None:
    """Return the board's name from the device tree, else the product name a PC's firmware gives."""
    model = text_in(root / "proc/device-tree/model")
    if model:
        return model
    dmi = root / "sys/class/dmi/id"
    parts = [text for name in ("sys_vendor", "product_name") if (text := text_in(dmi / name))]
    return " ".join(parts) or None


def jetpack(root: Path) -> str | None:
    """Return JetPack and L4T release of a Jetson, for example "JetPack 5.1.2 (L4T R35.4.1)"; None elsewhere."""
    text = text_in(root / "etc/nv_tegra_release")
    if not text:
        return None
    words = text.replace(",", " ").split()
    release = next((word for word in words if word.startswith("R") and word[1:].isdigit()), None)
    if release is None or "REVISION:" not in words:
        return text.splitlines()[0]
    revision = words[words.index("REVISION:") + 1]
    number = f"{release[1:]}.{revision}"
    known = _JETPACK_OF_L4T.get(number if number.count(".") > 1 else f"{number}.0")
    return f"JetPack {known} (L4T R{number})" if known else f"L4T R{number}"


def governors(root: Path) -> list[str]:
    """Return the distinct CPU frequency governors in use, sorted."""
    return sorted({text for cpu in _cpus(root) if (text := text_in(cpu / "cpufreq/scaling_governor"))})


def clocks_mhz(root: Path) -> list[float]:
    """Return the present clock of each CPU in MHz, as far as the kernel says."""
    values = [number_in(cpu / "cpufreq/scaling_cur_freq") for cpu in _cpus(root)]
    return [round(value / 1e3, 1) for value in values if value is not None]


def temperatures_c(root: Path, tool: Tool = run_tool) -> dict[str, float]:
    """Return each temperature in degrees Celsius by its sensor's name: thermal zones and hwmon, else vcgencmd."""
    found: dict[str, float] = {}
    for zone in sorted((root / "sys/class/thermal").glob("thermal_zone*"), key=_number_at_end):
        kind = text_in(zone / "type") or zone.name
        _add_temperature(found, kind, f"{kind} {_number_at_end(zone)}", zone / "temp")
    for path in sorted((root / "sys/class/hwmon").glob("hwmon*/temp*_input")):
        label = text_in(path.with_name(path.name.replace("_input", "_label"))) or path.name.split("_")[0]
        name = f"{text_in(path.parent / 'name') or path.parent.name} {label}"
        _add_temperature(found, name, f"{name} {path.parent.name}", path)
    if not found:
        said = tool(["vcgencmd", "measure_temp"])  # temp=48.3'C
        digits = said.partition("=")[2].partition("'")[0] if said else ""
        if digits.replace(".", "", 1).isdigit():
            found["soc"] = float(digits)
    return found


def _add_temperature(found: dict[str, float], name: str, other_name: str, path: Path) -> None:
    """Note a temperature; under its other name where another sensor has the first, so that none hides another."""
    milli = number_in(path)
    if milli is not None and -40_000 < milli < 150_000:  # Jetson's unused zones read -256
        found[other_name if name in found else name] = milli / 1e3


def _number_at_end(path: Path) -> int:
    digits = re.search(r"\d+$", path.name)
    return int(digits[0]) if digits else 0


def _clock_limits(root: Path) -> dict[str, float] | None:
    """The hardware's highest clock and the highest that is allowed now, in MHz, of the fastest CPU."""
    folders = [cpu / "cpufreq" for cpu in _cpus(root)]
    pairs = [(number_in(f / "cpuinfo_max_freq"), number_in(f / "scaling_max_freq")) for f in folders]
    known = [(hardware, allowed) for hardware, allowed in pairs if hardware and allowed]
    if not known:
        return None
    hardware, allowed = max(known)
    return {"hardware": hardware / 1e3, "allowed": allowed / 1e3}


def _devfreq_mhz(root: Path) -> dict[str, float] | None:
    """GPU, DLA and memory controller clocks, where the kernel scales them."""
    folders = sorted((root / "sys/class/devfreq").glob("*"))
    clocks = {folder.name: hz / 1e6 for folder in folders if (hz := number_in(folder / "cur_freq")) is not None}
    return clocks or None


def _cpus(root: Path) -> list[Path]:
    """The folders of the CPUs that are switched on."""
    folders = sorted((root / "sys/devices/system/cpu").glob("cpu[0-9]*"), key=_number_at_end)
    return [folder for folder in folders if text_in(folder / "online") != "0"]


def _cpu_model(root: Path) -> str | None:
    fields = _fields(root / "proc/cpuinfo")
    return fields.get("model name") or fields.get("Model") or fields.get("Hardware")


def _memory_mb(root: Path) -> float | None:
    said = _fields(root / "proc/meminfo").get("MemTotal", "").split()
    return round(int(said[0]) * 1024 / 1e6) if said else None


def _os_name(root: Path) -> str | None:
    for line in (text_in(root / "etc/os-release") or "").splitlines():
        if line.startswith("PRETTY_NAME="):
            return line.partition("=")[2].strip('"')
    return None


def _nvpmodel(tool: Tool) -> str | None:
    lines = (tool(["nvpmodel", "-q"]) or "").splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("NV Power Mode")), None)


def _git_revision(tool: Tool) -> str | None:
    here = Path(__file__).resolve().parents[2]
    if not (here / ".git").exists():
        return None
    return tool(["git", "--no-optional-locks", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=12"])


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _fields(path: Path) -> dict[str, str]:
    fields: dict[str, str] = {}
    for line in (text_in(path) or "").splitlines():
        key, colon, value = line.partition(":")
        if colon:
            fields.setdefault(key.strip(), value.strip())
    return fields
