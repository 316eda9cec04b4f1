"""The working folder beside the bundle to be: steps that are done are not done again; nothing is half written."""

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.metadata import distributions, version
from pathlib import Path
from typing import Any

from edge import __version__
from edge.bundle import MANIFEST_NAME
from edge.errors import ConfigError
from edge.files import write_atomically

_TOOLS = {
    "ai-edge-litert",
    "litert-quantizer",
    "onnx",
    "onnxruntime",
    "onnxsim",
    "tensorflow",
    "tensorrt",
    "tensorrt_rtx_cu13_libs",
    "tf2onnx",
    "torch",
}

__all__ = ["Workspace", "check_place", "replace_folder", "writing"]


class Workspace:
    """`.NAME.work` beside the output NAME. One process at a time may hold it.

    What a killed run had put aside at NAME stands there again: ask `check_place` afterwards.
    Raises: ConfigError when the folder cannot be made or another conversion is at work in it.
    """

    def __init__(self, out: Path) -> None:
        self.folder = out.parent / f".{out.name}.work"
        self.bundle = self.folder / "bundle"
        try:
            self.bundle.mkdir(parents=True, exist_ok=True)
            self._lock = (self.folder / "lock").open("w")
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _put_back(out)
        except BlockingIOError as exc:
            raise ConfigError(f"another conversion is writing {out}", "wait for it, or give another --out") from exc
        except OSError as exc:
            raise ConfigError(f"cannot write {self.folder} ({exc.strerror})", "give another --out") from exc
        self._steps: dict[str, Any] = _read_steps(self.folder / "steps.json")

    def facts(self, step: str, depends: Any) -> dict[str, Any] | None:
        """Return what a finished step noted, or None when it is not done for these inputs or a file of it is gone."""
        entry = self._steps.get(step)
        if entry is None or entry["depends"] != _digest(depends):
            return None
        if not all((self.folder / name).exists() for name in entry["files"]):
            return None
        return entry["facts"]

    def done(self, step: str, depends: Any, facts: dict[str, Any], files: list[Path]) -> dict[str, Any]:
        """Note that a step is finished and return its facts. files: what it left in the working folder.

        Raises: ConfigError when the note cannot be written.
        """
        names = [str(path.relative_to(self.folder)) for path in files]
        self._steps[step] = {"depends": _digest(depends), "files": names, "facts": facts}
        write_atomically(self.folder / "steps.json", json.dumps(self._steps, indent=1))
        return facts

    def clear(self) -> None:
        """Begin anew: forget every step and what it left.

        Raises: ConfigError when it cannot be written.
        """
        with writing(self.folder):
            self._steps.clear()
            for path in self.folder.iterdir():  # ranges, histograms and searches are of the old model, too
                if path.is_dir():
                    shutil.rmtree(path)
                elif path.name != "lock":
                    path.unlink()
            self.bundle.mkdir()

    def remove(self) -> None:
        """Take the working folder away."""
        self._lock.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def close(self) -> None:
        """Let go of the folder, leaving what is done for the next run; where nothing is, it is taken away."""
        if not self._steps and not self._lock.closed:
            shutil.rmtree(self.folder, ignore_errors=True)
        self._lock.close()


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Translate a full or read-only disk into one line.

    Raises: ConfigError for an OSError inside the block.
    """
    try:
        yield
    except OSError as exc:
        raise ConfigError(
            f"cannot write {folder} ({exc.strerror or exc})", "free space or give another --out; done work is kept"
        ) from exc


def check_place(out: Path, force: bool) -> None:
    """Find out that what stands at `out` may not be replaced: it is no bundle, or `force` is not given.

    Raises: ConfigError.
    """
    if not out.exists():
        return
    if not (out / MANIFEST_NAME).is_file():
        raise ConfigError(f"{out} is there and is no bundle", "give another --out")
    if not force:
        raise ConfigError(f"{out} is there already", "add --force to replace it, or give another --out")


def replace_folder(new: Path, out: Path) -> None:
    """Put the folder `new` at `out`, taking an old folder there away only when the new one stands.

    Raises: ConfigError when it cannot be moved.
    """
    old = out.with_name(f".{out.name}.old")
    with writing(out.parent):
        shutil.rmtree(old, ignore_errors=True)
        if out.exists():
            out.rename(old)
        try:
            new.rename(out)
        except BaseException:  # Ctrl-C, too
            if old.exists():
                old.rename(out)
            raise
        shutil.rmtree(old, ignore_errors=True)
        descriptor = os.open(out.parent, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)


def _put_back(out: Path) -> None:
    """A bundle that a killed run had moved aside and not yet replaced stands again; one it had replaced goes."""
    old = out.with_name(f".{out.name}.old")
    if out.exists():
        shutil.rmtree(old, ignore_errors=True)
    elif old.is_dir():
        old.rename(out)


def _digest(depends: Any) -> str:
    depends = [__version__, _tool_versions(), depends]  # another release may do a step otherwise
    return hashlib.sha256(json.dumps(depends, sort_keys=True, default=str).encode()).hexdigest()[:16]


@cache
def _tool_versions() -> dict[str, str]:
    return {
        name: version(name)
        for name in sorted({distribution.metadata["Name"] for distribution in distributions()} & _TOOLS)
    }


def _read_steps(path: Path) -> dict[str, Any]:
    try:
        steps = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return steps if isinstance(steps, dict) else {}
