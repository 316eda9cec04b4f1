"""Who may use a device file, and who uses it now."""

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import PurePosixPath

from edge.doctor.machine import Machine

__all__ = ["DeviceFile", "device_file", "group_cure", "holders", "may_use"]

_LINE = re.compile(r"[cb]([r-][w-].)([r-][w-].)([r-][w-].)([+.@]?)\s+\d+\s+(\S+)\s+(\S+)\s.*?\s(\S+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class DeviceFile:
    """A device as `ls -l` shows it. more: there is an access list beside the three classes."""

    owner: str
    group: str
    by_owner: bool
    by_group: bool
    by_others: bool
    more: bool


def device_file(machine: Machine, path: str) -> DeviceFile | None:
    """Return owner, group and rights of a device such as /dev/video0, None when they are not told."""
    place = PurePosixPath(path)
    said = machine.run(["ls", "-l", str(place.parent)])
    for found in _LINE.finditer(said.text if said else ""):
        if found[7] == place.name:
            by_owner, by_group, by_others = (found[n].startswith("rw") for n in (1, 2, 3))
            return DeviceFile(found[5], found[6], by_owner, by_group, by_others, bool(found[4]))
    return None


def may_use(machine: Machine, path: str) -> bool:
    """Return whether this user may read and write a device; True where a recorded machine does not tell."""
    if machine.live:
        return os.access(path, os.R_OK | os.W_OK)
    user, groups = _who(machine)
    found = device_file(machine, path)
    if found is None or user == "root" or not user:
        return True
    return (
        found.by_others
        or found.more
        or (found.by_owner and found.owner == user)
        or (found.by_group and found.group in groups)
    )


def group_cure(machine: Machine, path: str, usual: str) -> str:
    """Return the command that lets this user use a device; `usual`: the group that ought to have it."""
    found = device_file(machine, path)
    if found is None:
        return f"sudo usermod -aG {usual} $USER  # then log in again"
    if found.group == "root" or not found.by_group:  # joining that group would not help, or help too much
        return f"sudo chgrp {usual} {path} && sudo chmod g+rw {path}  # a udev rule makes it last"
    user, groups = _who(machine)
    database = (machine.tool(["id", "-nG", user]) or "").split() if user else []
    if found.group in database and found.group not in groups:
        return f"log in again: you are in the group {found.group} since after you logged in"
    return f"sudo usermod -aG {found.group} $USER  # then log in again"


def holders(machine: Machine, path: str) -> list[tuple[int, str]]:
    """Return the processes that have a device open, as far as this user may see: process id and name."""
    return [user for device, user in _open_devices(machine) if device == path]


def _open_devices(machine: Machine) -> Iterator[tuple[str, tuple[int, str]]]:
    for folder in machine.glob("proc/[0-9]*"):
        if machine.live and int(folder.name) == os.getpid():
            continue
        with suppress(OSError):
            seen = {os.readlink(link) for link in (folder / "fd").iterdir()}
            name = machine.text(f"proc/{folder.name}/comm")
            yield from ((device, (int(folder.name), name)) for device in seen if device.startswith("/dev/"))


def _who(machine: Machine) -> tuple[str, set[str]]:
    """The user's name and the groups of this session."""
    said = machine.tool(["id"]) or ""
    user = re.match(r"uid=\d+\(([^)]*)\)", said)
    groups = said.partition("groups=")[2]
    return (user[1] if user else ""), set(re.findall(r"\(([^)]*)\)", groups))
