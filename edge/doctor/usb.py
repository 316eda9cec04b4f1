"""USB: which device is where, and how many uncompressed camera streams a bus carries."""

import math
import os
from dataclasses import dataclass

from edge.doctor.machine import Machine

__all__ = ["UsbDevice", "streams_that_fit", "usb_device_of"]

_MICROFRAMES_PER_S = 8000
_PACKET_BYTES = 1024  # of high speed, isochronous
_PACKETS = 3  # most in a microframe for one camera
_OVERHEAD_BYTES = 38  # of each packet: token, sync, checksum, turn-around
_STUFFING = 7 / 6  # a bit after six ones: the worst case, which the host must reserve
_BUDGET_BYTES = 6000  # of the 7500 in a microframe of 125 us: 80 % may be isochronous
_SUPER_SPEED_SHARE = 0.8 * 0.8  # 8b/10b coding (5 Gbit/s), then 80 % for what must come in time


@dataclass(frozen=True, slots=True)
class UsbDevice:
    """A USB device. place: as in "1-2.4"; bus: its number; speed_mbps: of its link; version: of USB, as it says."""

    place: str
    bus: int
    speed_mbps: float
    version: str
    vendor: str
    product: str
    serial: str
    name: str


def usb_device_of(machine: Machine, folder: str) -> UsbDevice | None:
    """Return the USB device that a folder such as sys/class/video4linux/video0 belongs to, None for another bus."""
    path = os.path.realpath(machine.path(f"{folder}/device"))
    while len(path) > len(str(machine.root)) + 1:
        if os.path.exists(os.path.join(path, "idVendor")):
            own = os.path.relpath(path, machine.root)
            return UsbDevice(
                os.path.basename(path),
                int(machine.number(f"{own}/busnum") or 0),
                machine.number(f"{own}/speed") or 0.0,
                machine.text(f"{own}/version").strip(),
                machine.text(f"{own}/idVendor"),
                machine.text(f"{own}/idProduct"),
                machine.text(f"{own}/serial"),
                machine.text(f"{own}/product"),
            )
        path = os.path.dirname(path)
    return None


def streams_that_fit(speed_mbps: float, bytes_per_s: float) -> int:
    """Return how many streams of so many bytes a second one bus carries at once.

    High speed (480 Mbit/s): packets are reserved for each microframe in the worst case, up to three for a camera.
    From 5000 Mbit/s on: 64 % of the line.
    """
    if speed_mbps > 480:
        return int(speed_mbps * 1e6 / 8 * _SUPER_SPEED_SHARE // bytes_per_s)
    if speed_mbps < 480:
        return int(speed_mbps * 1e6 / 8 * 0.9 // bytes_per_s)
    payload = bytes_per_s / _MICROFRAMES_PER_S
    packets = math.ceil(payload / _PACKET_BYTES)
    if packets > _PACKETS:
        return 0
    if packets > 1:  # cameras offer such rates in steps of whole packets
        payload = packets * _PACKET_BYTES
    return int(_BUDGET_BYTES // (payload * _STUFFING + packets * _OVERHEAD_BYTES))
