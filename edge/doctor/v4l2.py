"""What a V4L2 device is and which formats it offers: asked of its driver, or of what v4l2-ctl printed."""

import fcntl
import os
import re
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass

from edge.doctor.machine import Machine

__all__ = ["CameraFormat", "camera_formats", "formats_from_text"]

_ENUM_FMT = 0xC0405602  # VIDIOC_ENUM_FMT: _IOWR('V', 2, struct v4l2_fmtdesc)
_ENUM_FRAMESIZES = 0xC02C564A  # _IOWR('V', 74, struct v4l2_frmsizeenum)
_ENUM_FRAMEINTERVALS = 0xC034564B  # _IOWR('V', 75, struct v4l2_frmivalenum)
_CAPTURE, _CAPTURE_MPLANE = 1, 9  # enum v4l2_buf_type
_DISCRETE = 1
_MOST = 64  # of each list: a driver that never ends its list is not asked for ever

Ioctl = Callable[[int, int, bytearray], object]


@dataclass(frozen=True, slots=True)
class CameraFormat:
    """One pixel format (fourcc) and size in px with the highest rate in frames/s; 0: any size, or a rate not told."""

    fourcc: str
    width: int
    height: int
    fps: float


def camera_formats(machine: Machine, device: str) -> list[CameraFormat] | None:
    """Return what a camera offers, None when it cannot be asked: no permission, busy with that, or not recorded.

    Asking starts no stream and does not disturb one.
    """
    if not machine.live:
        said = machine.tool(["v4l2-ctl", "--device", device, "--list-formats-ext"])
        return None if said is None else formats_from_text(said)
    with suppress(OSError):
        fd = os.open(device, os.O_RDWR | os.O_NONBLOCK)
        try:
            return list(_asked(fd, fcntl.ioctl))
        finally:
            os.close(fd)
    return None


def formats_from_text(said: str) -> list[CameraFormat]:
    """Return what `v4l2-ctl --list-formats-ext` lists."""
    found: list[CameraFormat] = []
    fourcc = ""
    for line in said.splitlines():
        if start := re.match(r"\s*\[\d+\]: '(....)'", line):
            fourcc = start[1].strip()
        elif size := re.match(r"\s*Size: (?:Discrete )?(\d{1,6})x(\d{1,6})", line):
            found.append(CameraFormat(fourcc, int(size[1]), int(size[2]), 0.0))
        elif re.match(r"\s*Size: (?:Stepwise|Continuous)", line):
            found.append(CameraFormat(fourcc, 0, 0, 0.0))
        elif (rate := re.search(r"Interval: .*?\(([\d.]+) fps\)", line)) and found:
            last = found[-1]
            found[-1] = CameraFormat(last.fourcc, last.width, last.height, max(last.fps, float(rate[1])))
    return found


def _asked(fd: int, ioctl: Ioctl) -> Iterator[CameraFormat]:
    for kind in (_CAPTURE, _CAPTURE_MPLANE):
        for index in range(_MOST):
            description = bytearray(struct.pack("=3I32sI16x", index, kind, 0, b"", 0))
            if not _done(ioctl, fd, _ENUM_FMT, description):
                break
            code = description[44:48]
            yield from _sizes(fd, ioctl, bytes(code))


def _sizes(fd: int, ioctl: Ioctl, code: bytes) -> Iterator[CameraFormat]:
    fourcc = code.decode("latin-1").strip()
    for index in range(_MOST):
        size = bytearray(struct.pack("=I4s36x", index, code))
        if not _done(ioctl, fd, _ENUM_FRAMESIZES, size):
            if index == 0:
                yield CameraFormat(fourcc, 0, 0, 0.0)
            return
        kind, width, height = struct.unpack_from("=3I", size, 8)
        if kind != _DISCRETE:
            yield CameraFormat(fourcc, 0, 0, 0.0)
            return
        yield CameraFormat(fourcc, width, height, _rate(fd, ioctl, code, width, height))


def _rate(fd: int, ioctl: Ioctl, code: bytes, width: int, height: int) -> float:
    best = 0.0
    for index in range(_MOST):
        interval = bytearray(struct.pack("=I4s2I36x", index, code, width, height))
        if not _done(ioctl, fd, _ENUM_FRAMEINTERVALS, interval):
            break
        kind, seconds, parts = struct.unpack_from("=3I", interval, 16)  # of stepwise: the shortest one
        best = max(best, parts / seconds if seconds else 0.0)
        if kind != _DISCRETE:
            break
    return best


def _done(ioctl: Ioctl, fd: int, request: int, argument: bytearray) -> bool:
    try:
        ioctl(fd, request, argument)
    except OSError:
        return False
    return True
