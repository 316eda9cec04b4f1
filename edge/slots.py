"""Installed models: under each name the version that runs, the one before it, and whether the newest proved itself.

`HARRIER_HOME/installed/NAME/` holds `versions/ID/`, each a whole bundle, and the links `current` and `previous`, which
are replaced in one step: a power cut leaves the old or the new one. `trial.json` lies there from an installation until
the version has run well for a while; a version that was started twice without getting there is taken back.
"""

import hashlib
import json
import os
import shutil
import time
from pathlib import Path

import msgspec

from edge import catalogue
from edge.errors import ConfigError, ManifestError
from edge.manifest import read_manifest, sha256_of, verify_file

__all__ = ["Trial", "begin", "confirm", "current", "install", "on_trial", "roll_back", "verified", "versions"]

_MANIFEST = "manifest.toml"
_KEPT = 2
_STARTS = 2  # of a version on trial; the first may have been ended by a power cut
_NAME = "abcdefghijklmnopqrstuvwxyz0123456789._-"


class Trial(msgspec.Struct, kw_only=True):
    """A version that has not proved itself yet: its id, when it was installed (Unix s), how often it was started."""

    version: str
    since_s: float
    starts: int = 0


def current(name: str) -> Path | None:
    """Return the bundle folder of the version of `name` that runs, None where none is installed."""
    return _linked(name, "current")


def versions(name: str) -> dict[str, str]:
    """Return what is kept, by id: "current", "previous" or "" for a version that is neither."""
    marks = {path.name: mark for mark in ("previous", "current") if (path := _linked(name, mark))}
    folder = _slot(name) / "versions"
    return {path.name: marks.get(path.name, "") for path in sorted(folder.glob("*")) if (path / _MANIFEST).is_file()}


def install(name: str, bundle: Path) -> Path:
    """Copy a bundle folder into the slot and return the copy, which runs from the next look at `current` on.

    Every target's file must have its SHA-256 in the manifest and be what that says, before and after copying.
    Raises: ManifestError for a file without or with another hash, ConfigError when the slot cannot be written.
    """
    if not _is_name(name):
        raise ConfigError(f"'{name}' cannot be a name", "use lower-case letters, digits, dots, dashes and underscores")
    version = verified(bundle)
    slot = _slot(name)
    goal = slot / "versions" / version
    try:
        goal.parent.mkdir(parents=True, exist_ok=True)
        if not _is_whole(goal, version):
            partial = goal.with_name(f".{version}.partial")
            shutil.rmtree(partial, ignore_errors=True)
            shutil.copytree(bundle, partial)
            if verified(partial) != version:
                raise ManifestError(f"{bundle} changed while it was copied", "install it again")
            _flush(partial)
            shutil.rmtree(goal, ignore_errors=True)  # what is left of it; who runs it has it open
            partial.rename(goal)
        running = current(name)
        if running != goal:
            if running:  # else it is the first, and there is nothing to go back to
                if on_trial(name) is None:  # the version before stays one that has proved itself
                    _link(slot, "previous", running)
                _write(slot / "trial.json", msgspec.json.encode(Trial(version=version, since_s=time.time())))
            _link(slot, "current", goal)
        _prune(name)
    except OSError as exc:
        raise ConfigError(
            f"cannot install into {slot} ({exc.strerror})", "check space, rights and HARRIER_HOME"
        ) from exc
    return goal


def on_trial(name: str) -> Trial | None:
    """Return the trial of the current version, None where it has proved itself."""
    path, running = _slot(name) / "trial.json", current(name)
    try:
        trial = msgspec.json.decode(path.read_bytes(), type=Trial)
    except (OSError, msgspec.DecodeError, json.JSONDecodeError):
        return None
    return trial if running and trial.version == running.name else None


def begin(name: str) -> Path | None:
    """Return the version to start; one that was started twice and never proved itself is taken back before.

    Where the slot cannot be written, nothing is counted.
    """
    trial = on_trial(name)
    if trial:
        if trial.starts >= _STARTS:
            return roll_back(name) or current(name)
        trial.starts += 1
        try:
            _write(_slot(name) / "trial.json", msgspec.json.encode(trial))
        except OSError:
            pass
    return current(name)


def confirm(name: str) -> None:
    """The current version has proved itself.

    Raises: ConfigError when that cannot be noted.
    """
    try:
        (_slot(name) / "trial.json").unlink(missing_ok=True)
    except OSError as exc:
        raise ConfigError(
            f"it cannot be noted that {name} has proved itself ({exc.strerror})", "check rights and HARRIER_HOME"
        ) from exc


def roll_back(name: str) -> Path | None:
    """Let the version before run again and return it, None where there is none.

    Raises: ConfigError when the slot cannot be written.
    """
    before, running, slot = _linked(name, "previous"), current(name), _slot(name)
    if before is None or running is None:
        return None
    try:
        _link(slot, "current", before)
        _link(slot, "previous", running)
        (slot / "trial.json").unlink(missing_ok=True)
    except OSError as exc:
        raise ConfigError(f"cannot write {slot} ({exc.strerror})", "check space and rights") from exc
    return before


def _is_name(name: str) -> bool:
    return name != "" and name[0] not in "._-" and all(letter in _NAME for letter in name)


def _slot(name: str) -> Path:
    return catalogue.home() / "installed" / name


def _linked(name: str, mark: str) -> Path | None:
    """The version folder a link names, by its real path: who runs it keeps it when the link moves on."""
    if not _is_name(name):
        return None
    slot = _slot(name)
    try:
        path = slot / "versions" / Path(os.readlink(slot / mark)).name
    except OSError:
        return None
    return path if (path / _MANIFEST).is_file() else None


def _link(slot: Path, mark: str, version: Path) -> None:
    partial = slot / f".{mark}.partial"
    partial.unlink(missing_ok=True)
    partial.symlink_to(Path("versions") / version.name)
    partial.replace(slot / mark)
    _flush(slot)


def verified(bundle: Path) -> str:
    """Return the id of a bundle whose targets' files are what its manifest says: it stands for all its files.

    Raises: ManifestError for a file without a hash or with another one.
    """
    manifest = read_manifest(bundle / _MANIFEST)
    for name, target in manifest.targets.items():
        if not target.sha256:
            raise ManifestError(
                f"target '{name}' has no sha256 in {bundle / _MANIFEST}", "add it, or convert the model with Harrier"
            )
        verify_file(bundle / target.file, target.sha256)
    named = {bundle / target.file for target in manifest.targets.values()}  # just read, and hashed in the manifest
    files = sorted(path for path in bundle.rglob("*") if path.is_file() and path not in named)  # labels, for one
    listed = "\n".join(f"{sha256_of(path)} {path.relative_to(bundle)}" for path in files)
    return hashlib.sha256(os.fsencode(listed)).hexdigest()[:12]


def _is_whole(folder: Path, version: str) -> bool:
    try:
        return (folder / _MANIFEST).is_file() and verified(folder) == version
    except ManifestError:
        return False


def _prune(name: str) -> None:
    kept = [path for mark in ("current", "previous") if (path := _linked(name, mark))][:_KEPT]
    for path in (_slot(name) / "versions").iterdir():
        if path not in kept:
            shutil.rmtree(path, ignore_errors=True)


def _write(path: Path, data: bytes) -> None:
    partial = path.with_name(f".{path.name}.partial")
    partial.write_bytes(data)
    partial.replace(path)


def _flush(folder: Path) -> None:
    """Have the disk hold what is in a folder, before a link to it does."""
    for path in [*folder.rglob("*"), folder]:
        if path.is_symlink():
            continue
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
