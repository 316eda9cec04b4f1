"""Weights that lie behind a .tflite file's flatbuffer, taken inside it, so that old runtimes load the file."""

import zipfile
from pathlib import Path

from convert.tflite_edit import read_model, write_model
from edge.errors import ConfigError, ModelError
from edge.flatbuffer import Table
from edge.tflite_file import mapped_model, zip_tail

__all__ = ["has_outside_buffers", "inline_buffers"]

_SUBGRAPHS, _BUFFERS, _OPERATORS = 2, 4, 3
_BUFFER_OFFSET = 1
_LARGE_CUSTOM_OPTIONS_OFFSET = 9


def has_outside_buffers(path: Path) -> bool:
    """Return whether some of a .tflite file's data lies behind its flatbuffer.

    Raises: ModelError when the file cannot be read or is no .tflite file.
    """
    try:
        with mapped_model(path) as model:
            return _outside(model)
    except OSError as exc:
        raise ModelError(f"cannot read {path} ({exc.strerror})", "check the path") from exc
    except ValueError as exc:
        raise ModelError(f"{path.name} is damaged or no .tflite file", "convert it again") from exc


def inline_buffers(source: Path, target: Path) -> bool:
    """Write `source` to `target` with all its data inside the flatbuffer and return whether anything was outside.

    Weights come to lie on 16-byte boundaries; operator versions, metadata, signatures and the label files in the zip
    behind the model stay. A file that has nothing outside is copied byte for byte.
    Raises: ModelError when the source cannot be read, ConfigError when the target cannot be written.
    """
    outside = has_outside_buffers(source)
    if not outside and source.resolve() == target.resolve():
        return False
    partial = target.with_name(f".{target.name}.inlined")
    try:
        if outside:
            tail, _ = zip_tail(source)
            write_model(partial, read_model(source))
            if tail:
                with zipfile.ZipFile(partial, "a") as archive:
                    for name, data in tail.items():
                        archive.writestr(name, data)
        else:
            partial.write_bytes(source.read_bytes())
        partial.replace(target)
    except OSError as exc:
        raise ConfigError(
            f"cannot write {target} ({exc.strerror})", "free some space or choose another folder"
        ) from exc
    finally:
        partial.unlink(missing_ok=True)
    return outside


def _outside(model: Table) -> bool:
    # an offset of 1 is the writers' place holder for "nothing there"
    if any(buffer.scalar(_BUFFER_OFFSET, "Q") > 1 for buffer in model.items(_BUFFERS)):
        return True
    return any(
        operator.scalar(_LARGE_CUSTOM_OPTIONS_OFFSET, "Q") > 1
        for graph in model.items(_SUBGRAPHS)
        for operator in graph.items(_OPERATORS)
    )
