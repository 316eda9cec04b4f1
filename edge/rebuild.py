"""A TensorRT engine that does not fit the board is built again, on it, from the ONNX in its bundle.

The builder is a process of its own: a crash of it is none of the loop's, and its memory is given back. It builds in the
bundle, or where that is read-only in a folder of this machine's state, where the engine is found the next time.
"""

import fcntl
import hashlib
import json
import logging
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edge.board import available_mib, l4t_release, memory_mib, swap_free_mib
from edge.build_process import run_build
from edge.bundle import MANIFEST_NAME
from edge.catalogue import home
from edge.config import EngineSection
from edge.engine_needs import Board, board_for, check_needs, misfit
from edge.engines.tensorrt_words import REBUILD
from edge.errors import AcceleratorError, ConfigError, EdgeError, InterruptedWorkError
from edge.files import write_atomically
from edge.manifest import Manifest, Target, read_manifest, sha256_of

__all__ = ["fit_target"]

_LOG = logging.getLogger("harrier")
_MIB = 1 << 20
_NAME = re.compile(r"tensorrt-(fp32|fp16|int8|best)")
_BASE_MIB = {"tensorrt": 1500, "tensorrt-rtx": 400}  # what the builder takes for itself, rough
_ONNX_COPIES = 8
_SMALL_BOARD_MIB = 6000
_WORKSPACE_MIB = 256, 1024  # of a small Jetson, and of others; trtexec 8.2 itself allows 16
_MOST_BEGUN = 2  # builds that were begun and had no end: one may be a power cut


def fit_target(
    name: str, manifest: Manifest, folder: Path, options: EngineSection, root: Path = Path("/")
) -> tuple[Target, Path]:
    """Return a target whose engine fits the board, and the folder it is in: as given, found, or built now.

    folder: the bundle's, with `manifest`. It is built where `options.rebuild` is "auto" and the target is named
    tensorrt-PRECISION. root: where the machine's own files are looked for.
    Raises: AcceleratorError when it does not fit and was not built, MissingBackendError without TensorRT.
    """
    board = board_for(options, root)
    target = manifest.targets[name]
    cause = misfit(target, manifest, folder, board)
    if not cause:
        return target, folder
    state = _state_folder(manifest, folder)
    if state and (found := _fitting(name, state, board)):
        return found
    if options.rebuild != "auto" or not _NAME.fullmatch(name):
        raise AcceleratorError(cause, REBUILD)
    place = _place(manifest, folder, state)
    if place is None:
        raise AcceleratorError(
            f"{cause}, and an engine can be built neither in {folder} nor in {state or 'a state folder'}",
            "set StateDirectory= in the unit, or HARRIER_HOME, to a folder this user may write",
        )
    try:
        with _alone(place) as lock:
            found = _fitting(name, place, board)  # another process may have been quicker
            return found or _built(name, place, board, cause, root, lock)
    except ConfigError as exc:  # the disk is full
        raise AcceleratorError(f"{cause}, and it cannot be built: {exc.cause}", exc.cure) from exc


def _built(name: str, place: Path, board: Board, cause: str, root: Path, lock: int) -> tuple[Target, Path]:
    """Build, unless that is known to fail, and remember how it ended."""
    precision = name.partition("-")[2]
    record = place / f".{name}.build.json"
    key = f"{_bundle_hash(read_manifest(place / MANIFEST_NAME), place)} {sorted(board.tensorrt.items())} {board.sm}"
    begun = _check_record(record, key, place, precision, cause)
    workspace_mib = _check_memory(place, board, root)
    _LOG.warning("%s: building it here, which can take many minutes", cause)
    _remember(record, key, begun + 1, "")
    command = [sys.executable, "-m", "edge", "build", str(place), "--on-device", "--precision", precision]
    command += ["--timing-cache", str(place / "tensorrt.timings")]
    command += ["--workspace", str(workspace_mib)] if workspace_mib else []
    try:
        failure = run_build(command, lock)
    except BaseException as exc:  # also Ctrl-C: the next start begins anew
        record.unlink(missing_ok=True)
        if isinstance(exc, InterruptedWorkError):
            raise AcceleratorError(f"{cause}, and {exc.cause}", exc.cure) from exc
        raise
    if not failure:
        try:
            manifest = read_manifest(place / MANIFEST_NAME)
            check_needs(manifest.targets[name], manifest, place, board)
            record.unlink(missing_ok=True)
            return manifest.targets[name], place
        except (EdgeError, KeyError) as exc:
            failure = f"what was built does not fit: {exc}"
    _remember(record, key, begun + 1, failure)
    raise _failed(cause, failure, record, place, precision)


def _check_record(record: Path, key: str, place: Path, precision: str, cause: str) -> int:
    """How often a build was begun that had no end. Raises: AcceleratorError where another try is of no use."""
    try:
        known = json.loads(record.read_text())
        same, begun, reason = known["key"] == key, int(known["begun"]), str(known["reason"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0
    if not same:
        return 0
    if begun >= _MOST_BEGUN and not reason:
        reason = f"{begun} builds were begun and had no end: the process was killed, or the power went off"
    if reason:
        raise _failed(cause, reason, record, place, precision)
    return begun


def _remember(record: Path, key: str, begun: int, reason: str) -> None:
    write_atomically(record, json.dumps({"key": key, "begun": begun, "reason": reason}))


def _failed(cause: str, reason: str, record: Path, place: Path, precision: str) -> AcceleratorError:
    return AcceleratorError(
        f"{cause}, and building it here failed ({reason})",
        f"harrier build {place} --on-device --precision {precision}, or delete {record} to try at the next start",
    )


def _check_memory(place: Path, board: Board, root: Path) -> int | None:
    """The workspace in MiB to build with, None for the builder's own. Raises: AcceleratorError for too little."""
    total, available, swap = memory_mib(root), available_mib(root), swap_free_mib(root) or 0
    workspace = None
    if l4t_release(root):
        workspace = _WORKSPACE_MIB[0] if (total or 0) < _SMALL_BOARD_MIB else _WORKSPACE_MIB[1]
    largest = max((path.stat().st_size for path in place.rglob("*.onnx") if path.is_file()), default=0)
    flavour = "tensorrt" if "tensorrt" in board.tensorrt else "tensorrt-rtx"
    need = _BASE_MIB[flavour] + _ONNX_COPIES * largest // _MIB + (workspace or 0)
    if available is not None and available + swap < need:
        raise AcceleratorError(
            f"building an engine takes roughly {need} MiB of memory; {available} MiB are free, and {swap} MiB of swap",
            "close other programs or add swap (docs/tensorrt.md), then start again",
        )
    return workspace


def _fitting(name: str, place: Path, board: Board) -> tuple[Target, Path] | None:
    """The target as the manifest in `place` has it now, if it fits."""
    try:
        manifest = read_manifest(place / MANIFEST_NAME)
    except EdgeError:
        return None
    target = manifest.targets.get(name)
    return (target, place) if target and not misfit(target, manifest, place, board) else None


def _state_folder(manifest: Manifest, folder: Path) -> Path | None:
    """Where engines of a read-only bundle are kept: systemd's StateDirectory, else Harrier's own folder."""
    given = os.environ.get("STATE_DIRECTORY", "").partition(":")[0]
    try:
        base = Path(given) if given else home()
        return base / "engines" / _bundle_hash(manifest, folder)[:16]
    except (ConfigError, OSError):
        return None


def _place(manifest: Manifest, folder: Path, state: Path | None) -> Path | None:
    """The folder to build in, made ready: the bundle, else one for this machine's state; None where there is none."""
    if os.access(folder, os.W_OK):
        return folder
    if state is None:
        return None
    try:
        with _alone(state):
            _link(manifest, folder, state)
    except (OSError, ConfigError):
        return None
    return state


def _bundle_hash(manifest: Manifest, folder: Path) -> str:
    """Of what engines are built from."""
    digest = hashlib.sha256()
    for name, target in sorted(_sources(manifest).items()):
        file = folder / target.file
        known = target.sha256 or (sha256_of(file) if file.is_file() else "missing")
        digest.update(f"{name} {target.file} {known}\n".encode())
    return digest.hexdigest()


def _sources(manifest: Manifest) -> dict[str, Target]:
    return {name: target for name, target in manifest.targets.items() if target.file.lower().endswith(".onnx")}


def _link(manifest: Manifest, folder: Path, place: Path) -> None:
    """Make a bundle of links to the ONNX files and a manifest of its own."""
    for target in _sources(manifest).values():
        link = place / target.file
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.exists():
            link.unlink(missing_ok=True)  # one that leads nowhere
            link.symlink_to((folder / target.file).absolute())
    if not (place / MANIFEST_NAME).is_file():
        write_atomically(place / MANIFEST_NAME, (folder / MANIFEST_NAME).read_bytes())


@contextmanager
def _alone(place: Path) -> Iterator[int]:
    """Hold the lock on building in a folder; the builder holds it too, should this process die before it."""
    place.mkdir(parents=True, exist_ok=True)
    lock = os.open(place / ".building", os.O_CREAT | os.O_RDWR, 0o644)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _LOG.warning("another process builds in %s: waiting for it", place)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield lock
    finally:
        os.close(lock)
