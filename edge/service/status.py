"""`harrier service status` and `logs`."""

import os
import shutil
import time

from edge.errors import ConfigError, DeviceError
from edge.service.install import instances
from edge.service.systemd import properties, unit_of

__all__ = ["follow_log", "status_lines"]


def status_lines(name: str) -> tuple[list[str], bool]:
    """Return what there is to say about an instance, and whether it runs.

    Raises: ConfigError when it is not installed, DeviceError when systemd does not answer.
    """
    found = properties(name)
    if found.get("LoadState") != "loaded" or (name not in instances() and found.get("UnitFileState") == "disabled"):
        known = ", ".join(instances()) or "none"
        raise ConfigError(f"there is no instance '{name}'", f"installed: {known}")
    now_us = time.clock_gettime(time.CLOCK_MONOTONIC) * 1e6
    state, running = found.get("ActiveState", "unknown"), found.get("ActiveState") == "active"
    since_us = _number(found, "ActiveEnterTimestampMonotonic")
    words = [f"running for {_lasting((now_us - since_us) / 1e6)}" if running else f"{state} ({found.get('SubState')})"]
    words += [found["StatusText"]] if found.get("StatusText") else []
    lines = [f"{name}: {', '.join(words)}"]
    details = []
    if running and (sign_us := _number(found, "WatchdogTimestampMonotonic")):
        limit_s = _number(found, "WatchdogUSec") / 1e6
        limit = f" of {limit_s:g} s" if limit_s else ""
        details.append(f"last sign of fresh results {(now_us - sign_us) / 1e6:.1f} s ago{limit}")
    details.append(f"restarts {found.get('NRestarts', '0')}")
    if not running and found.get("Result") not in ("success", "", None):
        details.append(f"last end: {found['Result']}, exit code {found.get('ExecMainStatus')}")
    if found.get("MainPID", "0") != "0":
        details.append(f"process {found['MainPID']}")
    if memory := _number(found, "MemoryCurrent"):
        details.append(f"memory {memory / 1e6:.0f} MB")
    return [*lines, f"  {', '.join(details)}"], running


def follow_log(name: str, count: int, follow: bool) -> None:
    """Become journalctl for an instance.

    Raises: DeviceError when it is not there.
    """
    if shutil.which("journalctl") is None:
        raise DeviceError("journalctl is not there", "a machine without systemd has no log of this kind")
    words = ["journalctl", f"--unit={unit_of(name)}", f"--lines={count}", *(["--follow"] if follow else [])]
    try:
        os.execvp(words[0], words)
    except OSError as exc:
        raise DeviceError(f"cannot run journalctl ({exc.strerror})", "check its installation") from exc


def _number(found: dict[str, str], key: str) -> int:
    """A number systemd printed, 0 for one it does not have ("[not set]", "infinity" or 2^64 - 1)."""
    text = found.get(key, "")
    return int(text) if text.isdigit() and int(text) < 1 << 63 else _duration_us(text)


def _duration_us(text: str) -> int:
    """A duration as systemd prints it, such as "10s" or "1min 30s", in us; 0 for anything else."""
    units = {"us": 1, "ms": 1_000, "s": 1_000_000, "min": 60_000_000, "h": 3_600_000_000}
    total = 0.0
    for word in text.split():
        number = word.rstrip("abcdefghijklmnopqrstuvwxyz")
        unit = word[len(number) :]
        if unit not in units or not number.replace(".", "", 1).isdigit():
            return 0
        total += float(number) * units[unit]
    return round(total)


def _lasting(seconds: float) -> str:
    """A time as people say it."""
    minutes, hours, days = int(seconds // 60), int(seconds // 3600), int(seconds // 86400)
    if days:
        return f"{days} d {hours % 24} h"
    if hours:
        return f"{hours} h {minutes % 60} min"
    return f"{minutes} min {int(seconds % 60)} s" if minutes else f"{seconds:.0f} s"
