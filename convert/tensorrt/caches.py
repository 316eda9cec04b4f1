"""TensorRT's two caches: timings, which make the next build quick, and calibration, for a float ONNX."""

import warnings
from pathlib import Path
from typing import Any

from calibration.tables import read_tensorrt_cache
from convert.tensorrt.features import Features
from edge.errors import ConfigError

__all__ = ["set_calibration", "timings_of", "use_timings"]

_CALIBRATORS = {  # by the algorithm the cache's first line names, as in TRT-8502-EntropyCalibration2
    "EntropyCalibration2": "IInt8EntropyCalibrator2",
    "MinMaxCalibration": "IInt8MinMaxCalibrator",
}


def use_timings(config: Any, logger: Any, path: Path) -> tuple[bool, list[str]]:
    """Attach the timing cache in `path`, or an empty one; return whether there is any use of it, and notes.

    Raises: ConfigError when the file is there and cannot be read.
    """
    try:
        stored = path.read_bytes() if path.exists() else b""
    except OSError as exc:
        raise ConfigError(f"cannot read the timing cache {path} ({exc.strerror})", "give another file") from exc
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        heard = len(logger.errors) + len(logger.warnings)
        cache = config.create_timing_cache(stored)
        taken = cache is not None and config.set_timing_cache(cache, False)
        complained = len(logger.errors) + len(logger.warnings) > heard
    if any("no-op" in str(warning.message) for warning in said):
        return False, [f"this TensorRT uses no timing cache: {path} is left as it is"] if stored else []
    if stored and (not taken or complained):
        config.set_timing_cache(config.create_timing_cache(b""), False)
        return True, [f"the timing cache {path} is damaged or of another GPU or TensorRT: ignored and written anew"]
    return True, []


def timings_of(config: Any) -> bytes:
    """Return the timing cache of a finished build, serialized; empty where there is none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cache = config.get_timing_cache()
        return bytes(cache.serialize()) if cache is not None else b""


def set_calibration(trt: Any, features: Features, config: Any, path: Path) -> None:
    """Attach an implicit calibrator that knows nothing but the cache in `path`.

    Raises: ConfigError where this TensorRT takes none, or the file is no calibration cache.
    """
    if not features.implicit_calibration:
        raise ConfigError(
            f"{features.name} {features.version} takes no calibration cache: it reads scales from the ONNX only",
            "give the Q/DQ ONNX instead",
        )
    name = _CALIBRATORS.get(algorithm := read_tensorrt_cache(path).algorithm)
    if name is None:
        raise ConfigError(
            f"{path} is a cache of the calibrator {algorithm}", f"give one of {' or '.join(_CALIBRATORS)}"
        )
    stored = path.read_bytes()
    base: Any = getattr(trt, name)

    class FromCache(base):
        def __init__(self) -> None:
            base.__init__(self)

        def get_batch_size(self) -> int:
            return 1

        def get_batch(self, names: list[str]) -> None:
            return None  # no pictures: all there is to know is in the cache

        def read_calibration_cache(self) -> bytes:
            return stored

        def write_calibration_cache(self, cache: bytes) -> None:
            pass  # the user's file is not written

    config.int8_calibrator = FromCache()
