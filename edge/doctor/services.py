"""The clock's synchronisation, and systemd: Harrier's services, the watchdog and the journal."""

import re
from collections.abc import Iterator

from edge.doctor.board import container_of
from edge.doctor.finding import Finding, note, ok, problem, warning
from edge.doctor.machine import Machine

__all__ = ["clock_findings", "service_findings"]

_UNSYNCHRONISED = 0x40  # STA_UNSYNC of adjtimex
_LEAST_TIME_S = 1_735_689_600  # 2025-01-01
_WHY_SYNC = (
    "time stamps of two machines, in messages, logs and recordings, can only be compared when both follow one clock"
)


def clock_findings(machine: Machine) -> Iterator[Finding]:
    """Yield whether the wall clock is right and follows another clock."""
    now = machine.tool(["date", "+%s"]) or ""
    if re.fullmatch(r"\d{1,18}", now) and int(now) < _LEAST_TIME_S:
        why = "certificates are not valid yet for this clock, so TLS and apt fail, and recordings get wrong names"
        cure = "sudo date -s 'YYYY-MM-DD HH:MM' && sudo timedatectl set-ntp true  # a battery for the clock keeps it"
        yield problem("clock.time", "clock", "before 2025", why, cure)
    kernel, said = machine.kernel_clock(), machine.tool(["timedatectl", "show"]) or ""
    facts = dict(line.partition("=")[::2] for line in said.splitlines())
    synchronised = facts.get("NTPSynchronized") == "yes" or bool(kernel and not kernel[0] & _UNSYNCHRONISED)
    if kernel is None and "NTPSynchronized" not in facts:
        yield note("clock.sync", "clock", "neither the kernel nor systemd tells", _WHY_SYNC, "timedatectl")
        return
    if synchronised:
        error = f", off by {1e3 * kernel[1]:.0f} ms at most" if kernel and kernel[1] < 10 else ""
        yield ok("clock.sync", "clock", f"synchronised{error}")
        return
    cure = "sudo timedatectl set-ntp true  # where there is no systemd-timesyncd: sudo apt install chrony"
    if container_of(machine):
        cure = "sudo timedatectl set-ntp true  # on the host: a container has its clock"
    if facts.get("NTP") == "yes":
        cure = "timedatectl timesync-status  # does a server answer? without internet the robot needs one of its own"
    yield warning("clock.sync", "clock", "not synchronised", _WHY_SYNC, cure)


def service_findings(machine: Machine) -> Iterator[Finding]:
    """Yield the state of harrier@.service instances, the watchdog and the journal."""
    if not machine.exists("run/systemd/system"):
        yield ok("service.systemd", "systemd", "not running here")
        return
    yield from _instances(machine)
    if machine.exists("sys/class/watchdog/watchdog0"):
        said = machine.tool(["systemctl", "show", "--property=RuntimeWatchdogUSec"]) or ""
        if said.partition("=")[2] in ("0", "infinity"):
            why = "a board whose kernel or systemd hangs stays so until somebody pulls the plug"
            cure = "RuntimeWatchdogSec=15  # under [Manager] of /etc/systemd/system.conf, then restart"
            yield note("service.watchdog", "watchdog", "the board has one, and nothing uses it", why, cure)
        else:
            yield ok("service.watchdog", "watchdog", f"used by systemd ({said.partition('=')[2] or 'as it is set'})")
    if machine.exists("var/log/journal"):
        yield ok("service.journal", "journal", "kept over restarts")
    else:
        why = "what was logged before a crash or power cut is gone afterwards"
        cure = "sudo mkdir -p /var/log/journal && sudo systemctl restart systemd-journald"
        yield note("service.journal", "journal", "in memory only", why, cure)


def _instances(machine: Machine) -> Iterator[Finding]:
    words = ["systemctl", "list-units", "--all", "--plain", "--no-legend", "harrier@*.service"]
    rows = [line.split() for line in (machine.tool(words) or "").splitlines()]
    units = [row for row in rows if len(row) >= 4 and row[0].startswith("harrier@")]
    if not units:
        yield ok("service.harrier", "harrier@", "no instance is installed")
    for unit, _load, active, sub, *_ in units:
        log = f"journalctl -u {unit} -b -e"
        said = machine.tool(["systemctl", "show", unit, "--property=NRestarts,Result,WatchdogUSec"]) or ""
        facts = dict(line.partition("=")[::2] for line in said.splitlines())
        said_restarts = re.fullmatch(r"\d{1,18}", facts.get("NRestarts", ""))
        restarts = int(said_restarts[0]) if said_restarts else 0
        if active == "failed" or sub == "failed":
            why = "it has failed too often and is not started again"
            found = f"failed ({facts.get('Result') or 'no result'})"
            yield problem("service.harrier", unit, found, why, f"{log}  # then: sudo systemctl restart {unit}")
        elif sub == "auto-restart":
            why = "it ends again and again"
            yield warning("service.harrier", unit, f"waits to be started again ({restarts} restarts)", why, log)
        elif active == "active":
            yield _running(unit, restarts, facts.get("WatchdogUSec", ""), log)
        else:
            yield note("service.harrier", unit, f"{active} ({sub})", "", f"sudo systemctl start {unit}")


def _running(unit: str, restarts: int, watchdog: str, log: str) -> Finding:
    if restarts:
        why = "something ended it; systemd started it again"
        return note("service.harrier", unit, f"running, after {restarts} restarts", why, log)
    if watchdog in ("0", "infinity"):
        why = "without WatchdogSec= a process that hangs is not started again"
        return note("service.harrier", unit, "running, without a watchdog", why, f"sudo systemctl edit {unit}")
    return ok("service.harrier", unit, "running")
