"""Memory, swap and disk."""

import re
from collections.abc import Iterator

from edge.doctor.board import jetson_of, memory_mib
from edge.doctor.finding import Finding, note, ok, problem, warning
from edge.doctor.machine import Machine

__all__ = ["disk_findings", "memory_findings"]

_BUILD_MIB = 7000  # RAM and swap together that an engine build of a small detector wants on a Jetson
_FREE_MIB = 500
_SMALL_MIB = 8500  # boards on which a desktop costs a noticeable share
_DISK_WARNING_MIB, _DISK_PROBLEM_MIB = 2000, 200
_SWAP_CURE = (
    "sudo fallocate -l 4G /swapfile && sudo chmod 600 /swapfile && sudo mkswap /swapfile && sudo swapon /swapfile"
    "  # and the line `/swapfile none swap sw 0 0` into /etc/fstab"
)


def memory_findings(machine: Machine) -> Iterator[Finding]:
    """Yield memory, and on a Jetson whether it is enough to build an engine."""
    total, free = memory_mib(machine, "MemTotal"), memory_mib(machine, "MemAvailable")
    if total is None or free is None:
        yield note("memory.free", "memory", "/proc/meminfo does not tell")
        return
    said = f"{free:.0f} of {total:.0f} MiB available"
    if free < _FREE_MIB:
        why = "a camera, a model and its run-time library want some 500 MiB; with less the kernel ends a process"
        cure = "ps -eo rss,comm --sort=-rss | head  # and stop what is not needed"
        yield warning("memory.free", "memory", said, why, cure)
    else:
        yield ok("memory.free", "memory", said)
    real, zram = _swap_mib(machine)
    words = f"{real:.0f} MiB on disk" + (f", {zram:.0f} MiB compressed in memory (zram)" if zram else "")
    if jetson_of(machine) and total + real < _BUILD_MIB:
        why = "building a TensorRT engine needs more than this board's memory: without swap on disk the kernel ends it"
        yield warning("memory.swap", "swap", words, why, _SWAP_CURE)
    else:
        yield ok("memory.swap", "swap", words)
    graphical = machine.tool(["systemctl", "get-default"]) == "graphical.target"
    if jetson_of(machine) and graphical and total < _SMALL_MIB:
        why = "the desktop keeps 0.5 to 1 GiB of the memory that CPU and GPU share"
        cure = "sudo systemctl set-default multi-user.target  # then restart; back: graphical.target"
        yield note("memory.desktop", "memory", "a desktop starts with the board", why, cure)


def disk_findings(machine: Machine) -> Iterator[Finding]:
    """Yield free space of the root file system, and whether it can be written."""
    said = machine.tool(["df", "-Pk", "/"]) or ""
    row = re.search(r"^(\S+)\s+(\d{1,18})\s+\d+\s+(\d{1,18})\s+\S+\s+/$", said, re.MULTILINE)
    if row is None:
        yield note("disk.free", "/", "df does not tell", "no file system of its own is mounted there, as in a chroot")
    else:
        total, free = int(row[2]) / 1024, int(row[3]) / 1024
        text = f"{free / 1024:.1f} of {total / 1024:.1f} GiB free"
        why = "models, engines, logs and recordings need room; a full disk keeps systems from starting"
        cure = "sudo apt clean && sudo journalctl --vacuum-size=100M  # then: du -xh / | sort -h | tail"
        if free < _DISK_PROBLEM_MIB:
            yield problem("disk.free", "/", text, why, cure)
        elif free < _DISK_WARNING_MIB:
            yield warning("disk.free", "/", text, why, cure)
        else:
            yield ok("disk.free", "/", text)
    mounts = [line.split() for line in machine.text("proc/mounts").splitlines()]
    roots = [words for words in mounts if len(words) > 3 and words[1] == "/" and words[2] != "rootfs"]
    if roots and "ro" in roots[-1][3].split(",") and roots[-1][2] not in ("squashfs", "overlay"):
        why = "the kernel makes a file system read-only when its disk fails: nothing can be kept then"
        cure = "dmesg | grep -i -e mmc -e ext4  # if that is not meant: replace the card"
        yield warning("disk.readonly", "/", "mounted read-only", why, cure)


def _swap_mib(machine: Machine) -> tuple[float, float]:
    """Swap on disk and in compressed memory, in MiB."""
    real = zram = 0.0
    for line in machine.text("proc/swaps").splitlines()[1:]:
        words = line.split()
        if len(words) >= 3 and re.fullmatch(r"\d{1,18}", words[2]):
            if "zram" in words[0]:
                zram += int(words[2]) / 1024
            else:
                real += int(words[2]) / 1024
    return real, zram
