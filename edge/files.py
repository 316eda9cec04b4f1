"""Files that are there whole or not at all, and whether one can be written, asked before the work."""

import os
from contextlib import suppress
from pathlib import Path

from edge.errors import ConfigError

__all__ = ["check_writable", "write_atomically"]


def check_writable(files: list[Path]) -> None:
    """Find out, before the work, that a file cannot be written; write nothing.

    Raises: ConfigError naming the file.
    """
    for path in files:
        if path.is_dir():
            raise ConfigError(f"cannot write {path} (it is a folder)", "give the name of a file")
        if not os.access(path if _is_written_into(path) else path.parent, os.W_OK):
            reason = "no permission" if path.parent.is_dir() else "there is no such folder"
            raise ConfigError(f"cannot write {path} ({reason})", "check the folder")


def write_atomically(path: Path, content: bytes | str) -> None:
    """Write a file, text as UTF-8, so that it is there whole or as it was; a pipe, device or link is written into.

    Raises: ConfigError when it cannot be written.
    """
    data = content.encode() if isinstance(content, str) else content
    partial = path.with_name(f".{path.name}.partial")
    try:
        if _is_written_into(path):
            path.write_bytes(data)
        else:
            partial.write_bytes(data)
            partial.replace(path)
    except OSError as exc:
        raise ConfigError(f"cannot write {path} ({exc.strerror})", "free some space or choose another folder") from exc
    finally:  # after Ctrl-C too
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def _is_written_into(path: Path) -> bool:
    """Whether renaming another file to this place would take something away: /dev/stdout, a pipe, a link."""
    return path.is_symlink() or (path.exists() and not path.is_file())
