"""The files of a service: which there are, and what the one says that differs from instance to instance."""

import grp
import re
from pathlib import Path

from edge.errors import ConfigError
from edge.service.systemd import unit_of

__all__ = ["BOARD_GROUPS", "PROFILES", "groups_here", "instance_text", "profile_here", "shared_files", "unit_files"]

PROFILES = ("cpu", "jetson", "coral", "cuda")
BOARD_GROUPS = ("video", "render", "dialout", "plugdev", "gpio", "i2c", "apex")
"""The groups that cameras, GPUs, serial ports and accelerators belong to on Debian and its relatives."""

_FILES = Path(__file__).with_name("shipped")  # links to systemd/ in the source tree, copies in an installation
_UNITS = Path("etc/systemd/system")
_TEMPLATE = "harrier@.service"
_RULES = "70-harrier.rules"
_RESTART_STEPS_SINCE = 254
_CORAL_USB = {("1a6e", "089a"), ("18d1", "9302")}


def shared_files() -> dict[Path, str]:
    """Return the files all instances share: path below the root -> text.

    Raises: ConfigError when the installation lacks them.
    """
    return {_UNITS / _TEMPLATE: _text(_TEMPLATE), Path("etc/udev/rules.d") / _RULES: _text(f"udev/{_RULES}")}


def unit_files(name: str, profile: str, systemd: int, instance: str) -> dict[Path, str]:
    """Return the drop-ins of one instance: path below the root -> text. systemd: its version.

    Raises: ConfigError when the installation lacks them.
    """
    folder = _UNITS / f"{unit_of(name)}.d"
    files = {folder / "50-board.conf": _text(f"drop-ins/{profile}.conf"), folder / "70-instance.conf": instance}
    if systemd >= _RESTART_STEPS_SINCE:
        files[folder / "60-backoff.conf"] = _text("drop-ins/backoff.conf")
    return files


def instance_text(python: str, user: str, groups: list[str], home_is_read: bool, log: str = "text") -> str:
    """Return the drop-in that names the interpreter, the user and the groups there are on this machine.

    log: "json" for log lines as JSON objects.
    """
    options = "" if log == "text" else f" --log {log}"
    lines = [
        "# written by `harrier service install`, which replaces it; own settings: systemctl edit",
        "[Service]",
        "ExecStart=",
        f"ExecStart={_word(python)} -I -X faulthandler -m edge{options} run /etc/harrier/%i.toml",
        f"User={user}",
        f"Group={user}",
        "SupplementaryGroups=",
    ]
    if groups:
        lines.append(f"SupplementaryGroups={' '.join(groups)}")
    if home_is_read:
        lines.append("ProtectHome=read-only")
    return "\n".join(lines) + "\n"


def groups_here(root: Path) -> list[str]:
    """Return which of BOARD_GROUPS the system under `root` has."""
    if root == Path("/"):
        known = {entry.gr_name for entry in grp.getgrall()}
    else:
        try:
            known = {line.partition(":")[0] for line in (root / "etc/group").read_text().splitlines()}
        except OSError:
            known = set()
    return [group for group in BOARD_GROUPS if group in known]


def profile_here(root: Path) -> str:
    """Return the profile that fits the machine under `root`: jetson, coral, cuda or cpu."""
    if (root / "etc/nv_tegra_release").exists() or "nvidia,tegra" in _read(root / "proc/device-tree/compatible"):
        return "jetson"
    usb = {
        (_read(device / "idVendor").strip(), _read(device / "idProduct").strip())
        for device in (root / "sys/bus/usb/devices").glob("*")
    }
    if usb & _CORAL_USB or (root / "dev/apex_0").exists():
        return "coral"
    return "cuda" if (root / "dev/nvidiactl").exists() else "cpu"


def _word(path: str) -> str:
    """A path as one word of ExecStart, with what systemd would read something into escaped."""
    plain = path.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return plain if re.fullmatch(r"[\w./+@:-]+", plain) else f'"{plain}"'


def _read(path: Path) -> str:
    try:
        return path.read_bytes().decode(errors="replace")
    except OSError:
        return ""


def _text(name: str) -> str:
    try:
        return (_FILES / name).read_text(encoding="utf-8")
    except OSError as exc:
        raise ConfigError(f"this installation lacks {name}", "install harrier-edge again, from its wheel") from exc
