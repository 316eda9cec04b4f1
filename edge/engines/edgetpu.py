"""Coral Edge TPUs: which are here, and what keeps them from working, told from the kernel's files alone.

Runs in Python 3.6 on (see `edge.engines.portable`) and loads no library. USB: a TPU that was not used since it got its
power is 1a6e:089a; libedgetpu gives it its firmware, after which it comes back as 18d1:9302. PCIe: the drivers gasket
and apex make /dev/apex_N.
"""

import glob
import os
import re
from collections import namedtuple

__all__ = ["LIBRARY", "Finding", "Tpu", "diagnose", "find_library", "find_tpus", "usb_order"]

LIBRARY = "libedgetpu.so.1"

Tpu = namedtuple("Tpu", ("kind", "place", "path", "node", "fresh", "speed_mbps", "temperature_c", "throttle_c"))
Tpu.__doc__ = """One Edge TPU.

kind: "usb" or "pci". place: its bus path, as "2-1.4", or "apex_0": it stays while the TPU stays where it is plugged in.
path: its name in libedgetpu. node: its file under /dev. fresh: a USB TPU that has no firmware yet. speed_mbps: of the
USB link. temperature_c, throttle_c: of a PCIe TPU, and where it begins to slow down. None is "not known".
"""

Finding = namedtuple("Finding", ("kind", "fatal", "place", "cause", "cure"))
Finding.__doc__ = """What is wrong. kind: absent, driver, library, node, permission, busy, dead, power, slow or hot.
fatal: with it the TPU does not work. place: of the TPU it is about, "" for the machine."""

_USB_IDS = {("1a6e", "089a"): True, ("18d1", "9302"): False}  # True: fresh
_PCI_ID = ("0x1ac1", "0x089a")
_SUPERSPEED_MBPS = 5000
_SELF_POWERED = 0x40  # of bmAttributes
_NO_ANSWER_C = -40  # the apex driver shows about -90 for a chip that fell off the bus
_PACKAGES = (
    "install the Edge TPU runtime: libedgetpu1-std (or -max: faster and hotter) from Coral's apt repository,"
    " which is old; for newer systems and interpreters there are community builds of libedgetpu (docs/coral.md)"
)
_LIBRARY_FOLDERS = ("usr/lib/*", "usr/lib", "lib/*", "lib", "usr/local/lib", "usr/local/lib/*", "usr/lib64")


def find_tpus(root: str = "/") -> list:
    """Return the Edge TPUs of this machine as `Tpu`: PCIe by number, then USB by bus path. First use changes nothing.

    root: where sys and dev are, for a recorded tree.
    """
    return _pci_tpus(root) + _usb_tpus(root)


def usb_order(tpus: list) -> list:
    """Return the USB TPUs as libedgetpu counts them as far as files tell: those not used yet come first.

    Within each half it keeps libusb's order, which no file shows; here it is the bus path. Ask libedgetpu itself
    where it can be asked (`edge.engines.edgetpu_delegate`).
    """
    return sorted((tpu for tpu in tpus if tpu.kind == "usb"), key=lambda tpu: not tpu.fresh)


def find_library(root: str = "/") -> "str | None":
    """Return where libedgetpu.so.1 is in the folders of the system's packages, None when it is in none."""
    for folder in _LIBRARY_FOLDERS:
        found = sorted(glob.glob(os.path.join(root, folder, LIBRARY)))
        if found:
            return found[0]
    return None


def diagnose(root="/", place=None, library=True, access=os.access):  # type: ignore[no-untyped-def]
    """Return all that is wrong or may slow an Edge TPU down, as `Finding`s, what is fatal first.

    root: where sys, dev, proc and usr are. place: of the one TPU to look at, None for all. library: whether to look for
    libedgetpu, too. access: stands in for os.access in tests.
    """
    tpus = [tpu for tpu in find_tpus(root) if place in (None, tpu.place)]
    found = [_absent(root)] if not tpus else []
    if library and find_library(root) is None:
        found.append(Finding("library", True, "", f"{LIBRARY} is not installed", _PACKAGES))
    for tpu in tpus:
        found += _unreachable(root, tpu, access)
        found += _weak_power(root, tpu) + _slow(tpu) + _heat(tpu)
    if any(tpu.kind == "usb" for tpu in tpus):
        found += _under_voltage(root)
    return sorted(found, key=lambda finding: not finding.fatal)


def _pci_tpus(root):  # type: ignore[no-untyped-def]
    found = []
    for folder in glob.glob(os.path.join(root, "sys/class/apex/apex_*")):
        name = os.path.basename(folder)
        node = "/dev/" + name
        temperature, throttle = (_number(folder, file) for file in ("temp", "trip_point0_temp"))
        degrees = [None if value is None else value / 1000.0 for value in (temperature, throttle)]
        found.append(Tpu("pci", name, node, node, False, None, degrees[0], degrees[1]))
    return sorted(found, key=lambda tpu: _natural(tpu.place))


def _usb_tpus(root):  # type: ignore[no-untyped-def]
    found = []
    for folder in glob.glob(os.path.join(root, "sys/bus/usb/devices/*-*")):
        fresh = _USB_IDS.get((_text(folder, "idVendor"), _text(folder, "idProduct")))
        if fresh is None:
            continue
        place = os.path.basename(folder)
        bus, device = (int(_number(folder, name) or 0) for name in ("busnum", "devnum"))
        node = f"/dev/bus/usb/{bus:03d}/{device:03d}"
        speed = _number(folder, "speed")
        found.append(Tpu("usb", place, "/sys/bus/usb/devices/" + place, node, fresh, speed, None, None))
    return sorted(found, key=lambda tpu: _natural(tpu.place))


def _absent(root):  # type: ignore[no-untyped-def]
    for folder in sorted(glob.glob(os.path.join(root, "sys/bus/pci/devices/*"))):
        if (_text(folder, "vendor"), _text(folder, "device")) == _PCI_ID:
            cause = f"an Edge TPU is on the PCIe bus ({os.path.basename(folder)}), but no driver made /dev/apex_0 of it"
            cure = "install gasket-dkms (Coral's is too old for newer kernels: docs/coral.md), then modprobe apex"
            return Finding("driver", True, "", cause, cure)
    cure = (
        "plug it in with its own cable and see whether lsusb lists 1a6e:089a (not used yet) or 18d1:9302;"
        " a container must be given /dev/bus/usb or /dev/apex_0"
    )
    return Finding("absent", True, "", "no Edge TPU is here", cure)


def _unreachable(root, tpu, access):  # type: ignore[no-untyped-def]
    node = os.path.join(root, tpu.node.lstrip("/"))
    where = _where(tpu)
    if not os.path.exists(node):
        cure = "give the container all of /dev/bus/usb: the number changes at first use"
        if tpu.kind == "pci":
            cure = f"give the container {tpu.node}, or reload the driver: modprobe -r apex; modprobe apex"
        return [Finding("node", True, tpu.place, f"{where} is there, but {tpu.node} is not", cure)]
    if not access(node, os.R_OK | os.W_OK):
        return [Finding("permission", True, tpu.place, f"no permission to use {where} ({tpu.node})", _rule(tpu))]
    state = _text(os.path.join(root, "sys/class/apex", tpu.place), "status") if tpu.kind == "pci" else ""
    silent = tpu.temperature_c is not None and tpu.temperature_c < _NO_ANSWER_C
    if silent or state not in ("", "ALIVE"):
        cause = f"{where} does not answer any more ({'no temperature' if silent else state})"
        cure = "switch the machine off and on; if it comes back, cool it better: it shuts down when it is too hot"
        return [Finding("dead", True, tpu.place, cause, cure)]
    owner = _owner(root, tpu)
    if owner:
        cure = "end that process, or name another TPU in [engine] device: one process at a time can use a TPU"
        return [Finding("busy", True, tpu.place, f"{where} is in use by {owner}", cure)]
    return []


def _rule(tpu):  # type: ignore[no-untyped-def]
    if tpu.kind == "usb":
        return (
            f"sudo usermod -aG plugdev $USER and log in again; if {tpu.node} belongs to root alone, the udev rule for"
            " 1a6e:089a and 18d1:9302 is missing (libedgetpu1-std brings it): then plug the TPU in again"
        )
    return (
        "sudo groupadd -f apex; sudo usermod -aG apex $USER; add the udev rule"
        ' SUBSYSTEM=="apex", MODE="0660", GROUP="apex" to /etc/udev/rules.d/65-apex.rules and start again'
    )


def _owner(root, tpu):  # type: ignore[no-untyped-def]
    """Who uses a TPU, in words; "" for nobody, or for this process, in which models share it."""
    pid = None
    if tpu.kind == "pci":
        pid = int(_number(os.path.join(root, "sys/class/apex", tpu.place), "device_owner") or 0) or None
    pid = pid or _holder(root, tpu.node)
    if pid is not None:
        name = _text(os.path.join(root, "proc", str(pid)), "comm")
        return "" if pid == os.getpid() else f"process {pid} ({name})" if name else f"process {pid}"
    claims = glob.glob(os.path.join(root, "sys/bus/usb/devices", tpu.place + ":*", "driver"))
    if any(os.path.basename(os.path.realpath(claim)) == "usbfs" for claim in claims):
        return "a process of another user"
    return ""


def _holder(root, node):  # type: ignore[no-untyped-def]
    """The process that has a device file open, as far as this user may see; a foreign one before this one."""
    own = None
    for link in glob.glob(os.path.join(root, "proc/[0-9]*/fd/*")):
        try:
            if os.readlink(link) != node:
                continue
        except OSError:
            continue
        pid = int(link.split(os.sep)[-3])
        if pid != os.getpid():
            return pid
        own = pid
    return own


def _weak_power(root, tpu):  # type: ignore[no-untyped-def]
    if tpu.kind != "usb":
        return []
    devices = os.path.join(root, "sys/bus/usb/devices")
    hub, _, port = tpu.place.rpartition("." if "." in tpu.place else "-")
    is_root = "-" not in hub
    found = []
    attributes = _text(os.path.join(devices, hub), "bmAttributes")
    if not is_root and re.match("^[0-9a-f]{2}$", attributes) and not int(attributes, 16) & _SELF_POWERED:
        draws = _text(os.path.join(devices, tpu.place), "bMaxPower")
        cause = f"{_where(tpu)}, which takes up to {draws or '900mA'}, is behind a hub without a power supply"
        cure = "plug it into the machine itself or a hub with a power supply: it fails under load otherwise"
        found.append(Finding("power", False, tpu.place, cause, cure))
    name = f"usb{hub}-port{port}" if is_root else f"{hub}-port{port}"
    count = _number(os.path.join(devices, hub + ("-0:1.0" if is_root else ":1.0"), name), "over_current_count")
    if count:
        cause = f"the port of {_where(tpu)} was switched off {count:.0f} times for too much current"
        cure = "use a stronger power supply, or a hub with its own"
        found.append(Finding("power", False, tpu.place, cause, cure))
    return found


def _under_voltage(root):  # type: ignore[no-untyped-def]
    for folder in glob.glob(os.path.join(root, "sys/class/hwmon/hwmon*")):
        if _text(folder, "name") == "rpi_volt" and _number(folder, "in0_lcrit_alarm"):
            cure = "use the power supply made for this board and a short, thick cable; see: vcgencmd get_throttled"
            return [Finding("power", False, "", "the board's supply voltage is or was too low", cure)]
    return []


def _slow(tpu):  # type: ignore[no-untyped-def]
    if tpu.speed_mbps is None or tpu.speed_mbps >= _SUPERSPEED_MBPS:
        return []
    cause = f"{_where(tpu)} runs at USB 2 speed ({tpu.speed_mbps:.0f} of {_SUPERSPEED_MBPS} Mbit/s)"
    cure = "use a USB 3 port (blue), the cable that came with it and no USB 2 hub: it works, but more slowly"
    return [Finding("slow", False, tpu.place, cause, cure)]


def _heat(tpu):  # type: ignore[no-untyped-def]
    if tpu.temperature_c is None or tpu.throttle_c is None or tpu.temperature_c < tpu.throttle_c:
        return []
    cause = f"{_where(tpu)} has {tpu.temperature_c:.1f} C and slows down from {tpu.throttle_c:.1f} C on"
    return [Finding("hot", False, tpu.place, cause, "give it a heat sink or a fan, or run fewer frames a second")]


def _where(tpu):  # type: ignore[no-untyped-def]
    bus = "USB" if tpu.kind == "usb" else "PCIe"
    return f"the Edge TPU at {bus} {tpu.place}"


def _natural(place):  # type: ignore[no-untyped-def]
    return [int(part) for part in re.findall("[0-9]+", place)]


def _text(folder, name):  # type: ignore[no-untyped-def]
    try:
        with open(os.path.join(folder, name), "rb") as file:
            return file.read(4096).decode("utf-8", "replace").strip("\0 \n")
    except OSError:
        return ""


def _number(folder, name):  # type: ignore[no-untyped-def]
    try:
        return float(_text(folder, name))
    except ValueError:
        return None
