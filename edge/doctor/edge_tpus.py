"""Edge TPUs, as `edge.engines.edgetpu` finds and diagnoses them, in the words of the doctor."""

import os
from collections.abc import Iterator

from edge.doctor.devices import may_use
from edge.doctor.finding import Finding, ok, problem, warning
from edge.doctor.machine import Machine
from edge.engines.edgetpu import Finding as Trouble
from edge.engines.edgetpu import diagnose, find_tpus

__all__ = ["edge_tpu_findings", "edge_tpu_trouble"]

_WHY = {
    "driver": "without it nothing can talk to the Edge TPU",
    "library": "models compiled for the Edge TPU run through this library",
    "node": "without its device file nothing can talk to it",
    "permission": "without permission models compiled for it cannot run",
    "busy": "one process at a time can use an Edge TPU",
    "dead": "it has to be started again",
    "power": "an Edge TPU with too little power vanishes under load",
    "slow": "inputs, outputs and whatever of a model does not fit into it go over a link of a tenth of the rate",
    "hot": "it slows down when it is hot, and switches itself off when it gets hotter",
}


def edge_tpu_findings(machine: Machine) -> Iterator[Finding]:
    """Yield each Edge TPU, and what keeps one from working or slows it down."""
    tpus = find_tpus(str(machine.root))
    for tpu in tpus:
        words = [f"{'USB' if tpu.kind == 'usb' else 'PCIe'} Edge TPU"]
        words += [f"{tpu.speed_mbps:g} Mbit/s"] if tpu.speed_mbps else []
        words += ["not used since it was plugged in"] if tpu.fresh else []
        words += [f"{tpu.temperature_c:.0f} °C"] if tpu.temperature_c is not None and tpu.temperature_c > 0 else []
        yield ok("edgetpu.device", tpu.place, ", ".join(words))
    found = edge_tpu_trouble(machine)
    relevant = [finding for finding in found if finding.kind == "driver" or (tpus and finding.kind != "absent")]
    for finding in relevant:
        level = problem if finding.fatal else warning
        name = f"edgetpu.{finding.kind}"
        yield level(name, finding.place or "Edge TPU", finding.cause, _WHY.get(finding.kind, ""), finding.cure)
    if not tpus and not relevant:
        yield ok("edgetpu.device", "Edge TPU", "none")


def edge_tpu_trouble(machine: Machine) -> list[Trouble]:
    """Return all that `edge.engines.edgetpu.diagnose` says of this machine, what is fatal first."""
    return diagnose(str(machine.root), access=lambda node, mode: _allowed(machine, node, mode))


def _allowed(machine: Machine, node: str, mode: int) -> bool:
    if machine.live:
        return os.access(node, mode)
    return may_use(machine, "/" + os.path.relpath(node, machine.root))
