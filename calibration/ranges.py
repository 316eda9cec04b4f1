"""Activation ranges: what calibration measured, by tensor name, in a file people can read and edit."""

import math
from pathlib import Path

import msgspec

from edge.errors import ConfigError
from edge.files import write_atomically
from edge.structs import as_struct

__all__ = ["Ranges", "read_ranges", "write_ranges"]


class Ranges(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The real-valued range of every activation of one float model.

    tensors: name -> (low, high), low <= high. A channel range has one pair a channel in `channels`.
    observer: how the ranges were chosen, for example `percentile:99.99`. images: how many were looked at.
    model_sha256: of the float file whose tensors are named.
    """

    format: int = 1
    model_sha256: str
    observer: str
    images: int
    tensors: dict[str, tuple[float, float]]
    channels: dict[str, list[tuple[float, float]]] = {}

    def __post_init__(self) -> None:
        if self.format != 1:
            raise ValueError(f"format {self.format} is not known; this version reads format 1")
        for name, (low, high) in self.tensors.items():
            if not (math.isfinite(low) and math.isfinite(high) and low <= high):
                raise ValueError(f"the range of '{name}' is {low} to {high}")


def read_ranges(path: Path) -> Ranges:
    """Return the ranges in a JSON file that write_ranges wrote.

    Raises: ConfigError when it is missing or holds something else.
    """
    try:
        values = msgspec.json.decode(path.read_bytes())
    except OSError as exc:
        raise ConfigError(f"cannot read {path} ({exc.strerror})", "calibrate again") from exc
    except msgspec.DecodeError as exc:
        raise ConfigError(f"{path} is no calibration file ({exc})", "calibrate again") from exc
    return as_struct(values, Ranges, str(path))


def write_ranges(path: Path, ranges: Ranges) -> None:
    """Write the ranges as JSON, one tensor a line, replacing the file at once.

    Raises: ConfigError when the folder cannot be written.
    """
    write_atomically(path, msgspec.json.format(msgspec.json.encode(ranges), indent=1) + b"\n")
