"""`harrier doctor` on the command line."""

import argparse
import json
import os
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path

from edge import __version__

__all__ = ["add_doctor", "execute_doctor"]

_FOUND_A_PROBLEM = 4  # as for any device that is missing, busy or silent


def add_doctor(commands: argparse._SubParsersAction) -> None:
    """Add the subcommand `doctor`."""
    doctor = commands.add_parser("doctor", help="look at this machine and say what stands in the way, with the cure")
    doctor.add_argument(
        "config", nargs="?", metavar="CONFIG.toml", type=Path, help="check what this configuration needs, too"
    )
    doctor.add_argument("--json", action="store_true", help="as JSON")
    doctor.add_argument("--strict", action="store_true", help="exit with 4 for warnings, too")
    doctor.add_argument(
        "--root",
        metavar="DIR",
        type=Path,
        default=Path("/"),
        help="look at a copied or recorded machine (docs/doctor.md)",
    )
    doctor.set_defaults(command=execute_doctor)


def execute_doctor(arguments: argparse.Namespace) -> int:
    """Run `harrier doctor`; return 4 when there is a problem, with --strict also for a warning, else 0.

    Raises: ConfigError when --root is no folder.
    """
    from edge.doctor.examination import CHECKS, Check, examine
    from edge.doctor.finding import Finding
    from edge.doctor.machine import Machine
    from edge.doctor.report import as_json, report_text, summary
    from edge.errors import ConfigError

    if not arguments.root.is_dir():
        raise ConfigError(f"--root {arguments.root} is no folder", "give the folder that holds proc, sys and etc")
    machine = Machine(arguments.root.resolve())
    checks: list[Check] = list(CHECKS)
    if arguments.config is not None:

        def configuration_findings(machine: Machine) -> Iterable[Finding]:
            # not before: this needs packages that the other checks can miss
            from edge.doctor.configuration import config_findings

            return config_findings(machine, arguments.config)

        checks.append(configuration_findings)
    findings = examine(machine, checks)
    if arguments.json:
        print(json.dumps(as_json(findings, __version__, str(arguments.root)), indent=2))
    else:
        colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        print(report_text(findings, shutil.get_terminal_size().columns, colour))
    counts = summary(findings)
    return _FOUND_A_PROBLEM if counts["problem"] or (arguments.strict and counts["warning"]) else 0
