"""`harrier service` on the command line. What it needs is imported when a command runs."""

import argparse
from pathlib import Path

from edge.arguments import positive, seconds

__all__ = ["add_service", "execute_install", "execute_logs", "execute_status", "execute_uninstall"]


def add_service(commands: argparse._SubParsersAction) -> None:
    """Add the subcommand `service` with its actions."""
    service = commands.add_parser("service", help="keep a configuration running under systemd")
    actions = service.add_subparsers(title="actions", required=True, metavar="ACTION")
    install = actions.add_parser("install", help="check a configuration, install it as a service and start it")
    install.add_argument("config", metavar="CONFIG.toml", type=Path)
    install.add_argument("--name", metavar="NAME", default="", help="of the instance (the file's name)")
    install.add_argument("--user", metavar="USER", default="harrier", help="made where there is none (harrier)")
    install.add_argument(
        "--profile", choices=("auto", "cpu", "jetson", "coral", "cuda"), default="auto", help="board (auto)"
    )
    install.add_argument("--root", metavar="DIR", type=Path, help="into an image; nothing is started")
    install.add_argument("--dry-run", action="store_true", help="only say what would be done")
    install.add_argument("--wait", metavar="S", type=seconds, default=60.0, help="for the first result (60)")
    install.add_argument("--log", choices=("text", "json"), default="text", dest="lines", help="its log lines (text)")
    install.set_defaults(command=execute_install)
    status = actions.add_parser("status", help="do the instances run, and how fresh are their results?")
    status.add_argument("name", nargs="*", metavar="NAME", help="default: all")
    status.set_defaults(command=execute_status)
    logs = actions.add_parser("logs", help="what an instance has said")
    logs.add_argument("name", metavar="NAME")
    logs.add_argument("-n", "--lines", metavar="N", type=positive, default=50, help="the last N lines (50)")
    logs.add_argument("-f", "--follow", action="store_true", help="go on")
    logs.set_defaults(command=execute_logs)
    uninstall = actions.add_parser("uninstall", help="stop an instance and remove it; its configuration stays")
    uninstall.add_argument("name", metavar="NAME")
    uninstall.add_argument("--root", metavar="DIR", type=Path, help="from an image")
    uninstall.set_defaults(command=execute_uninstall)


def execute_install(arguments: argparse.Namespace) -> None:
    """Run `harrier service install`.

    Raises: EdgeError for what stands in the way.
    """
    from edge.service.install import InstallJob, install

    job = InstallJob(
        config=arguments.config,
        name=arguments.name,
        user=arguments.user,
        profile=arguments.profile,
        root=(arguments.root or Path("/")).absolute(),
        live=arguments.root is None,
        dry_run=arguments.dry_run,
        wait_s=arguments.wait,
        log=arguments.lines,
    )
    install(job, _tell)


def execute_status(arguments: argparse.Namespace) -> int:
    """Run `harrier service status`: 0 when all instances run, else 4.

    Raises: ConfigError when there are none, DeviceError when systemd does not answer.
    """
    from edge.errors import ConfigError
    from edge.service.install import instances
    from edge.service.status import status_lines

    names = arguments.name or instances()
    if not names:
        raise ConfigError("no instance is installed", "harrier service install CONFIG.toml")
    found = [status_lines(name) for name in names]
    for lines, _ in found:
        print("\n".join(lines))
    return 0 if all(running for _, running in found) else 4


def execute_logs(arguments: argparse.Namespace) -> None:
    """Run `harrier service logs`, which becomes journalctl.

    Raises: DeviceError when there is none.
    """
    from edge.service.status import follow_log

    follow_log(arguments.name, arguments.lines, arguments.follow)


def execute_uninstall(arguments: argparse.Namespace) -> None:
    """Run `harrier service uninstall`.

    Raises: ConfigError when there is no such instance, DeviceError when systemd does not obey.
    """
    from edge.service.install import uninstall

    uninstall(arguments.name, (arguments.root or Path("/")).absolute(), arguments.root is None, _tell)


def _tell(line: str) -> None:
    print(line, flush=True)
