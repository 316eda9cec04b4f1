"""Ranges as others write them: TensorRT's calibration cache, and scale and zero point of quantized integers."""

import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from calibration.ranges import Ranges
from edge.errors import ConfigError
from edge.files import write_atomically

__all__ = [
    "TensorrtCache",
    "as_ranges",
    "read_tensorrt_cache",
    "scale_and_zero_point",
    "scales_of",
    "write_tensorrt_cache",
]

_HEADER = re.compile(r"TRT-(\d+)-(\w+)")
_LEVELS = 127  # TensorRT's scale is the greatest magnitude over this
_SMALLEST_SCALE = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True, slots=True)
class TensorrtCache:
    """A calibration cache: `version` of TensorRT (8201 is 8.2.1), its algorithm, and a scale for each tensor."""

    version: int
    algorithm: str
    scales: dict[str, float]


def scale_and_zero_point(low: float, high: float, dtype: np.dtype | str, symmetric: bool) -> tuple[float, int]:
    """Return scale and zero point with which integers of `dtype` (int8, uint8 or int16) hold low..high.

    The range is widened to 0, and the zero point is a whole number of the dtype, so that 0 is exact, as TensorFlow
    Lite demands. Asymmetric: (high - low) / (2^bits - 1). Symmetric: the greater magnitude over 127 or 32767, zero
    point 0, the most negative integer unused (for uint8: zero point 128). A range without extent has scale 1.
    The scale is a float32 value, as files store it.
    Raises: ValueError for another dtype or a range that is not finite.
    """
    limits = np.iinfo(dtype)
    if np.dtype(dtype).name not in ("int8", "uint8", "int16"):
        raise ValueError(f"{np.dtype(dtype)} is none of int8, uint8, int16")
    low, high = min(float(low), 0.0), max(float(high), 0.0)
    if not np.isfinite(high - low):
        raise ValueError(f"the range {low} to {high} is not finite")
    middle = (int(limits.min) + int(limits.max) + 1) // 2
    if high == low:
        return 1.0, middle
    if symmetric:
        return _float32(max(-low, high) / (int(limits.max) - middle)), middle
    scale = _float32((high - low) / (int(limits.max) - int(limits.min)))
    zero_point = round(int(limits.min) - low / scale)
    return scale, max(int(limits.min), min(int(limits.max), zero_point))


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


def as_ranges(cache: Mapping[str, float], model_sha256: str, images: int = 0) -> Ranges:
    """Return symmetric ranges from the scales of a cache, for a model whose tensors have those names."""
    tensors = {name: (-_LEVELS * scale, _LEVELS * scale) for name, scale in cache.items()}
    return Ranges(model_sha256=model_sha256, observer="tensorrt-cache", images=images, tensors=tensors)


def _float32(value: float) -> float:
    return float(np.float32(max(value, _SMALLEST_SCALE)))


def _hex(scale: float) -> str:
    """The float32 as its bits, most significant byte first."""
    return struct.pack(">f", scale).hex()


def _from_hex(text: str) -> float:
    return float(struct.unpack(">f", bytes.fromhex(text.zfill(8)))[0])
