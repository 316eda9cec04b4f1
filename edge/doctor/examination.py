"""All checks at once, each in a thread of its own: none can hang the others, and none can raise."""

import threading
import time
from collections.abc import Callable, Iterable

from edge.doctor.board import board_findings
from edge.doctor.cameras import argus_findings, camera_findings
from edge.doctor.edge_tpus import edge_tpu_findings
from edge.doctor.finding import Finding, note
from edge.doctor.machine import Machine
from edge.doctor.nvidia import nvidia_findings
from edge.doctor.packages import python_findings, video_findings
from edge.doctor.power import heat_findings, power_findings
from edge.doctor.serial_ports import serial_findings
from edge.doctor.services import clock_findings, service_findings
from edge.doctor.storage import disk_findings, memory_findings

__all__ = ["CHECKS", "Check", "examine"]

Check = Callable[[Machine], Iterable[Finding]]

CHECKS: tuple[Check, ...] = (
    board_findings,
    python_findings,
    video_findings,
    nvidia_findings,
    edge_tpu_findings,
    camera_findings,
    argus_findings,
    serial_findings,
    power_findings,
    heat_findings,
    memory_findings,
    disk_findings,
    clock_findings,
    service_findings,
)
"""In the order of the report."""

_LIMIT_S = 40.0


def examine(machine: Machine, checks: Iterable[Check] = CHECKS, limit_s: float = _LIMIT_S) -> list[Finding]:
    """Return what the checks found, in their order.

    A check that fails or is not done after `limit_s` gives a note, and what it found until then counts.
    """
    end = time.monotonic() + limit_s
    running = []
    for check in checks:
        found: list[Finding] = []
        thread = threading.Thread(target=_look, args=(check, machine, found), name=check.__name__, daemon=True)
        thread.start()
        running.append((check, found, thread))
    findings: list[Finding] = []
    for check, found, thread in running:
        thread.join(max(0.0, end - time.monotonic()))
        findings += found[:]
        if thread.is_alive():
            why = "something of this machine does not answer: a driver, a disk or a file system in the network"
            said = f"not done after {limit_s:g} s"
            findings.append(note("doctor.check", _name(check), said, why, "dmesg | tail -n 30"))
    return findings


def _look(check: Check, machine: Machine, into: list[Finding]) -> None:
    try:
        for finding in check(machine):
            into.append(finding)  # noqa: PERF402 - one by one: what came before a failure stays
    except Exception as exc:  # whatever a machine's files may hold: one check less, not no report
        said = f"could not be completed ({type(exc).__name__}: {exc})"
        into.append(note("doctor.check", _name(check), said, "a defect in Harrier: please report it"))


def _name(check: Check) -> str:
    return check.__name__.replace("_findings", "").replace("_", " ")
