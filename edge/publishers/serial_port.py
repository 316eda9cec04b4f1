"""Opening a serial port and reading it, with errors that name what to do; for publishers and links."""

import errno
import getpass
import grp
import os
import select
import stat
from contextlib import suppress
from glob import glob
from pathlib import Path

import serial
from serial.tools import list_ports

from edge.errors import ConfigError, EdgeError, EndOfStreamError, PublishError
from edge.uri import Uri

__all__ = ["check_port", "open_port", "port_path", "read_some"]

_READ_BYTES = 4096
_BUSY = {errno.EBUSY, errno.EAGAIN, errno.EWOULDBLOCK}
_GONE = {errno.ENOENT, errno.ENXIO, errno.ENODEV}
_CONSOLES = ("getty", "agetty", "nvgetty")


def port_path(uri: Uri) -> str:
    """Return the device a `serial://` URI names.

    Raises: ConfigError when it names none.
    """
    if not uri.rest.startswith("/"):
        raise ConfigError(f"{uri.safe_text} names no device", f"write {uri.scheme}:///dev/ttyUSB0?baud=115200")
    return uri.rest


def check_port(path: str) -> None:
    """Check that a port is there and may be used, without opening it: that restarts some boards.

    Raises: ConfigError for what is no serial port, PublishError for one that is missing or forbidden.
    """
    try:
        mode = os.stat(path).st_mode
    except OSError as exc:
        raise _explained(path, exc.errno or 0, str(exc)) from exc
    if not stat.S_ISCHR(mode):
        raise ConfigError(f"{path} is not a serial port", f"use one of {_known_ports()}")
    if not os.access(path, os.R_OK | os.W_OK):
        raise _explained(path, errno.EACCES, "")


def open_port(path: str, baud: int, rtscts: bool = False) -> serial.Serial:
    """Return the port, 8N1, raw, locked against others, reading and writing without blocking.

    pyserial passes over lines RTS and DTR that a port does not have (a pseudo terminal).
    Raises: ConfigError for what no retry mends (not a serial port, a baud rate it does not have), PublishError when it
    is missing, busy or forbidden.
    """
    try:
        check_port(path)
        port = serial.Serial(path, baud, timeout=0, write_timeout=0, exclusive=True, rtscts=rtscts)
    except ValueError as exc:
        raise ConfigError(f"{path} does not do {baud} baud ({exc})", "use 115200 or 921600 on both ends") from exc
    except OSError as exc:  # SerialException is one
        raise _explained(path, exc.errno or 0, str(exc)) from exc
    if console := next((user for user in _users(path) if user[1] in _CONSOLES), None):
        port.close()
        raise _busy(path, console)
    return port


def read_some(port: serial.Serial, timeout_s: float) -> bytes:
    """Return what has arrived, b"" when nothing did within `timeout_s`.

    Raises: EndOfStreamError when the port is gone.
    """
    # not pyserial's read: that waits with select(), which fails for descriptors from 1024 on
    poller = select.poll()
    poller.register(port.fileno(), select.POLLIN)
    try:
        if not poller.poll(max(0.0, timeout_s) * 1000):
            return b""
        block = os.read(port.fileno(), _READ_BYTES)
    except (BlockingIOError, InterruptedError):
        return b""
    except OSError as exc:
        raise EndOfStreamError(f"{port.port} was unplugged ({exc.strerror})", "plug it in again") from exc
    if not block:
        raise EndOfStreamError(f"{port.port} was unplugged", "plug it in again")
    return block


def _explained(path: str, number: int, text: str) -> EdgeError:
    """The error for what the system said about a port."""
    if number in _GONE:
        return PublishError(f"there is no port {path}", f"plug it in, or use one of {_known_ports()}")
    if number in (errno.EACCES, errno.EPERM):
        return _forbidden(path)
    if number in _BUSY:
        return _busy(path, next(iter(_users(path)), None))
    if "could not configure" in text.lower():
        return PublishError(f"{path} has no working port behind it ({text})", f"use one of {_known_ports()}")
    return PublishError(f"cannot open {path} ({text})", "unplug it, plug it in again, and look at dmesg")


def _forbidden(path: str) -> PublishError:
    group, members = "dialout", []
    with suppress(OSError, KeyError):
        status = os.stat(path)
        if not status.st_gid or status.st_mode & 0o060 != 0o060:  # joining that group would not help, or help too much
            return PublishError(f"no permission for {path}", f"sudo chgrp dialout {path} && sudo chmod g+rw {path}")
        entry = grp.getgrgid(status.st_gid)
        group, members = entry.gr_name, entry.gr_mem
    if "ttyTHS" in path and group == "tty":  # nvgetty takes the port over with its group
        return PublishError(f"no permission for {path}, a console runs on it", _without_console(path))
    with suppress(OSError, KeyError):
        if getpass.getuser() in members:
            return PublishError(
                f"no permission for {path} yet: you are in the group {group} since after you logged in", "log in again"
            )
    return PublishError(f"no permission for {path}", f"sudo usermod -aG {group} $USER, then log in again")


def _busy(path: str, user: tuple[int, str] | None) -> PublishError:
    if user is None:
        who, cure = "another program", f"find it with: sudo fuser -v {path}"
        if "ttyTHS" in path:
            cure = _without_console(path)
    else:
        who, cure = f"{user[1]} (process {user[0]})", f"stop it: kill {user[0]}"
        if user[1] in _CONSOLES:
            cure = _without_console(path)
        elif user[1] == "ModemManager":
            cure = "it probes new ports for modems: wait, or sudo systemctl disable --now ModemManager"
    return PublishError(f"{path} is used by {who}", cure)


def _without_console(path: str) -> str:
    name = os.path.basename(path)
    service = "nvgetty" if "ttyTHS" in name else f"serial-getty@{name}"
    return f"sudo systemctl disable --now {service}, then restart the board"


def _users(path: str) -> list[tuple[int, str]]:
    """Other processes that have the port open, as far as /proc shows them: process id and name."""
    device, found = os.path.realpath(path), []
    for folder in Path("/proc").glob("[0-9]*"):
        if int(folder.name) == os.getpid():
            continue
        with suppress(OSError):
            name = (folder / "comm").read_text().strip()
            if name in _CONSOLES:  # root's descriptors are hidden, its arguments are not
                arguments = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
                if device in arguments or os.path.basename(device) in arguments:
                    found.append((int(folder.name), name))
                    continue
            if any(os.readlink(link) == device for link in (folder / "fd").iterdir()):
                found.append((int(folder.name), name))
    return found


def _known_ports() -> str:
    """The ports there are, as a list in words; names that survive replugging where udev makes them."""
    lasting = sorted(glob("/dev/serial/by-id/*"))
    targets = {os.path.realpath(path) for path in lasting}
    plain = {port.device for port in list_ports.comports()} | set(glob("/dev/ttyTHS*"))
    return ", ".join(lasting + sorted(plain - targets)) or "the ports of ls /dev/tty* (none with hardware is there now)"
