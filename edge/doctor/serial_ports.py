"""Serial ports: lasting names, rights, consoles and other programs that hold them."""

import os
import re
from collections.abc import Iterator

from edge.doctor.board import is_pi
from edge.doctor.devices import group_cure, holders, may_use
from edge.doctor.finding import Finding, note, ok, problem, warning
from edge.doctor.machine import Machine
from edge.doctor.usb import usb_device_of

__all__ = ["console_cure", "console_on", "serial_findings", "serial_ports"]

_PORTS = re.compile(r"tty(THS|USB|ACM|AMA|S|TCU|LP|mxc|O)\d+$")
_GETTYS = ("getty", "agetty", "nvgetty")
_PI_CURE = "sudo raspi-config nonint do_serial_cons 1 && sudo raspi-config nonint do_serial_hw 0  # then restart"
_FTDI_LATENCY_MS = 2


def serial_ports(machine: Machine) -> list[str]:
    """Return the ports that have hardware behind them, such as /dev/ttyUSB0."""
    found = []
    for path in machine.glob("sys/class/tty/tty*"):
        folder = f"sys/class/tty/{path.name}"
        if not _PORTS.match(path.name) or not machine.exists(f"dev/{path.name}"):
            continue
        if path.name.startswith("ttyTCU"):  # the debug console of a Jetson, which is nobody's
            continue
        if path.name.startswith("ttyS") and machine.number(f"{folder}/type") in (None, 0.0):
            continue  # a number without a chip
        found.append(f"/dev/{path.name}")
    return found


def serial_findings(machine: Machine) -> Iterator[Finding]:
    """Yield every port and what keeps it from working."""
    ports = serial_ports(machine)
    if not ports:
        yield ok("serial.port", "serial ports", "none with hardware")
    for port in ports:
        yield from _port(machine, port)
    usb = [port for port in ports if re.search("ttyUSB|ttyACM", port)]
    if usb and machine.tool(["systemctl", "is-active", "ModemManager"]) == "active":
        why = "it probes every new port for a modem and sends it characters for some seconds"
        cure = "sudo systemctl disable --now ModemManager"
        yield note("serial.modemmanager", ", ".join(usb), "ModemManager runs", why, cure)
    if is_pi(machine) and not machine.exists("dev/serial0"):
        why = "the UART of the 40-pin header (pins 8 and 10) is switched off"
        yield note("serial.uart", "/dev/serial0", "not there", why, _PI_CURE)


def console_on(machine: Machine, port: str) -> str:
    """Return what uses a port as a console: a getty's service, "the kernel", or "" for nothing."""
    name = os.path.basename(port)
    taken = _getty_ports(machine)
    if name in taken or _is_on(machine, f"serial-getty@{name}"):
        return "nvgetty" if name.startswith("ttyTHS") else f"serial-getty@{name}"
    # without rights to see its process, any of these ports may be the one
    if name.startswith("ttyTHS") and _is_on(machine, "nvgetty") and not any(t.startswith("ttyTHS") for t in taken):
        return "nvgetty"
    aliases = {name, *(os.path.basename(link) for link in machine.names_of("dev", name))}
    consoles = re.findall(r"\bconsole=(\w+)", machine.text("proc/cmdline"))
    return "the kernel" if aliases & set(consoles) else ""


def console_cure(machine: Machine, console: str) -> str:
    """Return the command that takes a console off a port."""
    if is_pi(machine):
        return _PI_CURE
    if console == "the kernel":
        return "take console=... of this port out of the boot loader's command line, then restart"
    return f"sudo systemctl disable --now {console}  # then restart the board"


def _port(machine: Machine, port: str) -> Iterator[Finding]:
    name = os.path.basename(port)
    usb = usb_device_of(machine, f"sys/class/tty/{name}")
    lasting = machine.names_of("dev/serial/by-id", name) + machine.names_of("dev/serial/by-path", name)
    aliases = [link for link in machine.names_of("dev", name) if "serial" in link]
    words = [usb.name or "USB"] if usb else ["the board's own"]
    words += [f"lasting name {link}" for link in (lasting or aliases)[:1]]
    yield ok("serial.port", port, "; ".join(words))
    if console := console_on(machine, port):
        why = "what the console prints goes to the controller, and what the controller sends is taken as keystrokes"
        found = f"a console runs on it ({console})"
        # on a PC that is what the port is for; these two are on a board's header
        level = warning if name.startswith("ttyTHS") or "/dev/serial0" in aliases else note
        yield level("serial.console", port, found, why, console_cure(machine, console))
    elif not may_use(machine, port):
        cure = group_cure(machine, port, "dialout")
        yield problem("serial.permission", port, "no permission", "the port cannot be opened", cure)
    elif users := [user for user in holders(machine, port) if user[1] not in _GETTYS]:
        pid, program = users[0]
        why = "two programs on one port take each other's bytes"
        found = f"used by {program} (process {pid})"
        yield note("serial.busy", port, found, why, f"kill {pid}  # if that is not meant")
    latency_ms = machine.number(f"sys/bus/usb-serial/devices/{name}/latency_timer")
    if latency_ms is not None and latency_ms > _FTDI_LATENCY_MS:
        why = "this adapter collects what arrives for so long: answers and credit come late"
        cure = f"echo 1 | sudo tee /sys/bus/usb-serial/devices/{name}/latency_timer"
        yield note("serial.latency", port, f"a latency timer of {latency_ms:g} ms", why, cure)


def _getty_ports(machine: Machine) -> set[str]:
    """The ports that processes wait on for somebody to log in, without /dev/."""
    found: set[str] = set()
    for folder in machine.glob("proc/[0-9]*"):
        process = f"proc/{folder.name}"
        if machine.text(f"{process}/comm") in _GETTYS:
            found |= {os.path.basename(word) for word in machine.text(f"{process}/cmdline").split("\0")}
    return found


def _is_on(machine: Machine, service: str) -> bool:
    """Whether a service runs or starts with the board."""
    states = [machine.run(["systemctl", question, service]) for question in ("is-enabled", "is-active")]
    return any(said is not None and said.text.splitlines()[:1] in (["enabled"], ["active"]) for said in states)
