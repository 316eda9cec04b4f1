"""The files that a run leaves. Whether they can be written is asked before an hour is measured, too."""

import os
from importlib import import_module
from pathlib import Path
from typing import Any

from edge.errors import ConfigError, MissingBackendError

__all__ = ["check_writable", "load_figure_class", "write_text"]


def check_writable(files: list[Path], folder: Path | None = None) -> None:
    """Find out that `files`, or plots in `folder`, cannot be written, and write nothing.

    Raises: ConfigError naming the file, MissingBackendError for plots without matplotlib.
    """
    for path in files:
        if path.is_dir():
            raise ConfigError(f"cannot write {path} (it is a folder)", "give the name of a file")
        if not os.access(path if path.exists() else path.parent, os.W_OK):
            reason = "no permission" if path.parent.is_dir() else "there is no such folder"
            raise ConfigError(f"cannot write {path} ({reason})", "check the folder")
    if folder is not None:
        load_figure_class()
        if folder.exists() and not folder.is_dir():
            raise ConfigError(f"cannot write into {folder} (it is a file)", "give a folder")


def load_figure_class() -> Any:
    """Return matplotlib's Figure.

    Raises: MissingBackendError without matplotlib.
    """
    try:
        return import_module("matplotlib.figure").Figure
    except ModuleNotFoundError as exc:
        if (exc.name or "").partition(".")[0] != "matplotlib":
            raise
        raise MissingBackendError(
            "--plot needs matplotlib, which is not installed", "pip install 'harrier-edge[report]'"
        ) from exc


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 file.

    Raises: ConfigError when it cannot be written.
    """
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as exc:
        raise ConfigError(f"cannot write {path} ({exc.strerror})", "check the folder") from exc
