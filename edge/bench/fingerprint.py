"""What machine this is: read from files under a root, so that any board's tree can be put in its place."""

import platform
import shutil
import subprocess
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

__all__ = ["LIBRARIES", "board", "clocks_mhz", "fingerprint", "governors", "jetpack", "run_tool", "temperatures_c"]

LIBRARIES = ("harrier-edge", "numpy", "opencv-python-headless", "ai-edge-litert", "onnxruntime", "tensorrt", "msgspec")
_TOOL_TIMEOUT_S = 3.0
# NVIDIA's table of Jetson Linux (L4T) releases and the JetPack each belongs to.
_JETPACK_OF_L4T = {
    "R32.4": "4.4", "R32.5": "4.5", "R32.6": "4.6", "R32.7": "4.6",
    "R34.1": "5.0", "R35.1": "5.0.2", "R35.2": "5.1", "R35.3": "5.1.1", "R35.4": "5.1.2", "R35.5": "5.1.3",
    "R35.6": "5.1.4", "R36.2": "6.0 DP", "R36.3": "6.0", "R36.4": "6.1",
}  # fmt: skip

Tool = Callable[[list[str]], str | None]


def run_tool(command: list[str]) -> str | None:
    """Return what a program prints, or None when it is not installed, fails or takes over three seconds."""
    if shutil.which(command[0]) is None:
        return None
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TOOL_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def fingerprint(root: Path = Path("/"), tool: Tool = run_tool) -> dict[str, Any]:
    """Return everything about the machine that changes a measurement; None is "not available"."""
    return {
        "board": board(root),
        "cpu": _cpu_model(root),
        "cores": len(_cpus(root)) or None,
        "memory_mb": _memory_mb(root),
        "architecture": platform.machine(),
        "kernel": _text(root / "proc/sys/kernel/osrelease"),
        "os": _os_name(root),
        "jetpack": jetpack(root),
        "nvpmodel": _nvpmodel(tool),
        "governor": governors(root) or None,
        "clock_limits_mhz": _clock_limits(root),
        "clocks_mhz": clocks_mhz(root) or None,
        "accelerator_clocks_mhz": _devfreq_mhz(root),
        "temperatures_c": temperatures_c(root, tool) or None,
        "load_average": _text(root / "proc/loadavg"),
        "python": platform.python_version(),
        "libraries": {name: _version(name) for name in LIBRARIES},
        "git_revision": _git_revision(tool),
    }


def board(root: Path) -> str | None:
    """Return the board's name from the device tree, else the product name a PC's firmware gives."""
    model = _text(root / "proc/device-tree/model")
    if model:
        return model
    dmi = root / "sys/class/dmi/id"
    parts = [text for name in ("sys_vendor", "product_name") if (text := _text(dmi / name))]
    return " ".join(parts) or None


def jetpack(root: Path) -> str | None:
    """Return JetPack and L4T release of a Jetson, for example "JetPack 5.1.2 (L4T R35.4.1)"; None elsewhere."""
    text = _text(root / "etc/nv_tegra_release")
    if not text:
        return None
    words = text.replace(",", " ").split()
    release = next((word for word in words if word.startswith("R") and word[1:].isdigit()), None)
    if release is None or "REVISION:" not in words:
        return text.splitlines()[0]
    revision = words[words.index("REVISION:") + 1]
    known = _JETPACK_OF_L4T.get(f"{release}.{revision.split('.')[0]}")
    return f"JetPack {known} (L4T {release}.{revision})" if known else f"L4T {release}.{revision}"


def governors(root: Path) -> list[str]:
    """Return the distinct CPU frequency governors in use, sorted."""
    return sorted({text for cpu in _cpus(root) if (text := _text(cpu / "cpufreq/scaling_governor"))})


def clocks_mhz(root: Path) -> list[float]:
    """Return the present clock of each CPU in MHz, as far as the kernel says."""
    values = [_number(cpu / "cpufreq/scaling_cur_freq") for cpu in _cpus(root)]
    return [round(value / 1e3, 1) for value in values if value is not None]


def temperatures_c(root: Path, tool: Tool = run_tool) -> dict[str, float]:
    """Return each temperature in degrees Celsius by its sensor's name: thermal zones, else hwmon, else vcgencmd."""
    found: dict[str, float] = {}
    for zone in sorted((root / "sys/class/thermal").glob("thermal_zone*")):
        milli = _number(zone / "temp")
        if milli is not None and -40_000 < milli < 150_000:  # Jetson's unused zones read -256
            found.setdefault(_text(zone / "type") or zone.name, milli / 1e3)
    if not found:
        for path in sorted((root / "sys/class/hwmon").glob("hwmon*/temp*_input")):
            milli = _number(path)
            if milli is not None:
                label = _text(path.with_name(path.name.replace("_input", "_label"))) or path.name.split("_")[0]
                found[f"{_text(path.parent / 'name') or path.parent.name} {label}"] = milli / 1e3
    if not found:
        said = tool(["vcgencmd", "measure_temp"])  # temp=48.3'C
        digits = said.partition("=")[2].partition("'")[0] if said else ""
        if digits.replace(".", "", 1).isdigit():
            found["soc"] = float(digits)
    return found


def _clock_limits(root: Path) -> dict[str, float] | None:
    """The hardware's highest clock and the highest that is allowed now, in MHz, of the fastest CPU."""
    pairs = [(_number(c / "cpufreq/cpuinfo_max_freq"), _number(c / "cpufreq/scaling_max_freq")) for c in _cpus(root)]
    known = [(hardware, allowed) for hardware, allowed in pairs if hardware and allowed]
    if not known:
        return None
    hardware, allowed = max(known)
    return {"hardware": hardware / 1e3, "allowed": allowed / 1e3}


def _devfreq_mhz(root: Path) -> dict[str, float] | None:
    """GPU, DLA and memory controller clocks, where the kernel scales them."""
    folders = sorted((root / "sys/class/devfreq").glob("*"))
    clocks = {folder.name: hz / 1e6 for folder in folders if (hz := _number(folder / "cur_freq")) is not None}
    return clocks or None


def _cpus(root: Path) -> list[Path]:
    return sorted((root / "sys/devices/system/cpu").glob("cpu[0-9]*"), key=lambda path: int(path.name[3:]))


def _cpu_model(root: Path) -> str | None:
    fields = _fields(root / "proc/cpuinfo")
    return fields.get("model name") or fields.get("Model") or fields.get("Hardware")


def _memory_mb(root: Path) -> float | None:
    said = _fields(root / "proc/meminfo").get("MemTotal", "").split()
    return round(int(said[0]) * 1024 / 1e6) if said else None


def _os_name(root: Path) -> str | None:
    for line in (_text(root / "etc/os-release") or "").splitlines():
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
    for line in (_text(path) or "").splitlines():
        key, colon, value = line.partition(":")
        if colon:
            fields.setdefault(key.strip(), value.strip())
    return fields


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip("\0 \n") or None
    except OSError:
        return None


def _number(path: Path) -> float | None:
    try:
        return float(path.read_text())
    except (OSError, ValueError):
        return None
