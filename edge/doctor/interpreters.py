"""The Python interpreters of a machine: the one Harrier runs in, the system's, and any that a configuration names."""

import json
import signal
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edge.doctor.machine import Machine

__all__ = ["SYSTEM_PYTHON", "Interpreter", "interpreter", "own_interpreter"]

SYSTEM_PYTHON = "/usr/bin/python3"
_PROBE = Path(__file__).with_name("interpreter_probe.py")
_TIMEOUT_S = 20.0  # importing OpenCV from a slow SD card


@dataclass(frozen=True)
class Interpreter:
    """What an interpreter said of itself. opencv: its OpenCV's facts, {"error": text} where importing it fails."""

    executable: str
    version: tuple[int, ...]
    bits: int
    machine: str
    libc: str
    venv: bool
    system_packages: bool
    externally_managed: bool
    packages: dict[str, str] = field(default_factory=dict)
    modules: frozenset[str] = frozenset()
    opencv: dict[str, Any] = field(default_factory=dict)

    @property
    def version_text(self) -> str:
        """The version as in "3.10.12"."""
        return ".".join(map(str, self.version))

    def distributions_of(self, *names: str) -> dict[str, str]:
        """Return the versions of those of the named distributions that are installed."""
        return {name: self.packages[name] for name in names if name in self.packages}


def own_interpreter(machine: Machine) -> Interpreter | None:
    """Return the interpreter that Harrier runs in; of a recorded machine, the one recorded as `python`."""
    return interpreter(machine, sys.executable if machine.live else "python")


def interpreter(machine: Machine, executable: str) -> Interpreter | None:
    """Return what an interpreter says of itself, None when it is not there or says nothing sensible."""
    words = [executable, str(_PROBE)] if machine.live else [executable, _PROBE.name]
    said = machine.run(words, _TIMEOUT_S)
    if said is None:
        return None
    lines = [line for line in said.text.splitlines() if line.startswith("{")]
    with suppress(ValueError, TypeError, KeyError, IndexError, AttributeError):
        own = json.loads(lines[0])
        return Interpreter(
            executable=str(own["executable"]),
            version=tuple(int(part) for part in own["version"]),
            bits=int(own["bits"]),
            machine=str(own["machine"]),
            libc=str(own["libc"]),
            venv=bool(own["venv"]),
            system_packages=bool(own["system_packages"]),
            externally_managed=bool(own["externally_managed"]),
            packages={str(name): str(version) for name, version in own["packages"].items()},
            modules=frozenset(own["modules"]),
            opencv=json.loads(lines[1]) if len(lines) > 1 else {"error": _ended(said.code)},
        )
    return None


def _ended(code: int | None) -> str:
    if code is None:
        return f"it took over {_TIMEOUT_S:g} s"
    with suppress(ValueError):
        return f"the process was ended by {signal.Signals(-code).name}"
    return f"the process ended with code {code}"
