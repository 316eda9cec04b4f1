"""`harrier model`: install a version of a model into a run that goes on, take one back, see what is installed."""

import argparse
import os
import sys
from pathlib import Path

__all__ = ["add_model"]


def add_model(commands: argparse._SubParsersAction) -> None:
    """Add `harrier model install`, `rollback` and `list`."""
    model = commands.add_parser("model", help="installed models: put a new version into a robot that runs")
    actions = model.add_subparsers(title="actions", required=True, metavar="ACTION")
    install = actions.add_parser("install", help="check a bundle and let the robot run it; it goes back if it fails")
    install.add_argument("bundle", metavar="BUNDLE", help="bundle folder, or the zip of one")
    install.add_argument("--name", metavar="NAME", help="what configurations call it (the manifest's name)")
    install.add_argument(
        "--public-key", metavar="FILE", type=Path, help="minisign key that signed the zip (HARRIER_HOME/trusted.pub)"
    )
    install.add_argument("--target", metavar="TARGET", help="which target sees the golden picture (the first here)")
    install.set_defaults(command=_install)
    rollback = actions.add_parser("rollback", help="run the version before")
    rollback.add_argument("name", metavar="NAME")
    rollback.set_defaults(command=_roll_back)
    actions.add_parser("list", help="installed models and their versions").set_defaults(command=_list)


def _install(arguments: argparse.Namespace) -> None:
    from edge import catalogue, slots
    from edge.bundle import locate
    from edge.errors import ManifestError
    from edge.manifest import read_manifest

    given = Path(arguments.bundle).expanduser()
    trusted = catalogue.home() / "trusted.pub"
    key = arguments.public_key or (trusted if os.path.lexists(trusted) else None)  # a broken link is no leave
    folder = _signed(given, key) if key else locate(arguments.bundle)
    if not folder.is_dir():
        raise ManifestError(f"{folder} is a bare model file", "give a bundle: `harrier convert` makes one")
    name = arguments.name or read_manifest(folder / "manifest.toml").name.lower()
    slots.verified(folder)  # before anything opens what may be damaged
    print(_golden(folder, arguments.target), file=sys.stderr)
    before = slots.current(name)
    path = slots.install(name, folder)
    if before == path:
        print(f"{name}: version {path.name} is installed already")
    else:
        print(f"{name}: version {path.name} is installed" + (f", after {before.name}" if before else ""))
    print(f'run it with model = "{name}"; a run that has it takes the new version by itself', file=sys.stderr)


def _signed(given: Path, key: Path) -> Path:
    """The folder with what a signed zip holds, of which one and the same reading is checked and unpacked.

    Raises: ManifestError where it is no zip or not signed with this key, ConfigError for a key that is none.
    """
    from edge.bundle import unpacked
    from edge.errors import ManifestError
    from edge.registry import resolve

    if not given.is_file() or given.suffix.lower() != ".zip":
        raise ManifestError(f"{given} is no file that could be signed", "give the zip, with its .minisig beside it")
    try:
        content = given.read_bytes()
    except OSError as exc:
        raise ManifestError(f"cannot read {given} ({exc.strerror})", "check the path and its permissions") from exc
    print(f"signature: {resolve('signatures', 'minisign')(given, content, key)}", file=sys.stderr)
    return unpacked(given, content)


def _golden(folder: Path, target: str | None) -> str:
    """What the golden picture says.

    Raises: AccuracyError when the target sees something else than the converter did.
    """
    from edge.golden import GOLDEN_PICTURE, check_golden, verdict_of

    if not (folder / GOLDEN_PICTURE).is_file():
        return "no golden picture in this bundle: what it sees is not checked"
    return verdict_of(check_golden(str(folder), target))


def _roll_back(arguments: argparse.Namespace) -> None:
    from edge import slots
    from edge.errors import ManifestError

    before = slots.roll_back(arguments.name)
    if before is None:
        raise ManifestError(f"{arguments.name} has no version before", "see `harrier model list`")
    print(f"{arguments.name}: version {before.name} runs again")


def _list(arguments: argparse.Namespace) -> None:
    from edge import catalogue, slots

    found = sorted(path.name for path in (catalogue.home() / "installed").glob("*") if slots.current(path.name))
    for name in found:
        trial = slots.on_trial(name)
        for version, mark in slots.versions(name).items():
            note = " (on trial)" if trial and trial.version == version else ""
            print(f"{name:<24} {version}  {mark}{note}")
    if not found:
        print("no model is installed; `harrier model install BUNDLE` installs one", file=sys.stderr)
