"""Ranges as TensorRT writes them: its calibration cache."""

import re
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from calibration.ranges import Ranges
from edge.errors import ConfigError
from edge.files import write_atomically

__all__ = ["TensorrtCache", "read_tensorrt_cache", "scales_of", "write_tensorrt_cache"]

_HEADER = re.compile(r"TRT-(\d+)-(\w+)")
_LEVELS = 127  # TensorRT's scale is the greatest magnitude over this
_SMALLEST_SCALE = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True, slots=True)
class TensorrtCache:
    """A calibration cache: `version` of TensorRT (8201 is 8.2.1), its algorithm, and a scale for each tensor."""

    version: int
    algorithm: str
    scales: dict[str, float]


def scales_of(ranges: Ranges) -> dict[str, float]:
    """Return TensorRT's scale of each tensor: the greater magnitude of its range over 127."""
    return {name: _float32(max(-low, high, 0.0) / _LEVELS) for name, (low, high) in ranges.tensors.items()}


def write_tensorrt_cache(
    path: Path, ranges: Ranges, version: int = 8201, algorithm: str = "EntropyCalibration2"
) -> None:
    """Write the ranges as a cache that TensorRT up to 10 takes, replacing the file at once.

    NVIDIA ties a cache to its first line: `version` is that of the TensorRT that reads it (8201 for 8.2.1, as in
    JetPack 4.6; 8502 for 8.5.2, JetPack 5), `algorithm` that of the calibrator which hands it over; where they
    differ it calibrates again. The names must be those of the ONNX file it parses.
    Raises: ConfigError when a name cannot stand in a line, or the folder cannot be written.
    """
    scales = scales_of(ranges)
    if wrong := [name for name in scales if "\n" in name or "\r" in name or not name]:
        raise ConfigError(f"the tensor name {wrong[0]!r} does not fit in a line of a cache", "rename it in the model")
    lines = [f"TRT-{version}-{algorithm}", *(f"{name}: {_hex(scale)}" for name, scale in scales.items()), ""]
    write_atomically(path, "\n".join(lines))


def read_tensorrt_cache(path: Path) -> TensorrtCache:
    """Return a calibration cache that TensorRT or write_tensorrt_cache wrote.

    Raises: ConfigError naming the line that is wrong.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(f"cannot read {path} ({exc})", "give a calibration cache of TensorRT") from exc
    header = _HEADER.fullmatch(lines[0].strip())
    if not header:
        raise ConfigError(f"{path} does not begin with TRT-VERSION-ALGORITHM", "give a calibration cache of TensorRT")
    scales: dict[str, float] = {}
    for number, line in enumerate(lines[1:], 2):
        if not line.strip():
            continue
        name, colon, text = line.rstrip().rpartition(": ")  # names may hold colons, as in "conv:0"
        if not colon or not re.fullmatch(r"[0-9a-fA-F]{1,8}", text):
            raise ConfigError(
                f"{path}:{number} is not `name: hexadecimal float`", "delete that line or calibrate again"
            )
        scales[name] = _from_hex(text)
    return TensorrtCache(int(header[1]), header[2], scales)


def _float32(value: float) -> float:
    return float(np.float32(max(value, _SMALLEST_SCALE)))


def _hex(scale: float) -> str:
    """The float32 as its bits, most significant byte first."""
    return struct.pack(">f", scale).hex()


def _from_hex(text: str) -> float:
    return float(struct.unpack(">f", bytes.fromhex(text.zfill(8)))[0])
