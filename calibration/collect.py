"""Runs a float model over calibration inputs and counts the values of every float activation."""

import os
import time
from collections.abc import Callable, Iterable
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Protocol

import numpy as np

from calibration.collected import Histograms, write_histograms
from calibration.histogram import Histogram
from edge.errors import ConfigError, EngineError, MissingBackendError
from edge.manifest import sha256_of

__all__ = ["Activations", "collect", "open_activations"]

_READERS = {  # by file suffix: module:class, and what to install
    ".onnx": ("calibration.onnx_activations:OnnxActivations", "pip install 'harrier-edge[convert]'"),
    ".tflite": ("calibration.tflite_activations:TfliteActivations", "pip install ai-edge-litert"),
}
_CHECKPOINT_S = 20.0
_CHANNEL_BINS = 1024  # YOLOX-Nano has 33,000 channels in its activations: 270 MB


class Activations(Protocol):
    """A model that shows what flows through it.

    names: the activations, in the order of execution: the input, all that depends on it, the outputs.
    channel_axis: where channels lie in tensors of 4 dimensions. quantized: whether some are integers already.
    """

    names: list[str]
    channel_axis: int
    quantized: bool

    def run(self, values: np.ndarray) -> Iterable[tuple[str, np.ndarray]]:
        """Run one input, (1, ...) float32 or the model's own dtype, and lend each activation's real values."""


def open_activations(model_file: Path, threads: int | None = None) -> Activations:
    """Return the activations of an .onnx or .tflite file; those of a quantized file come dequantized.

    Raises: ConfigError for another suffix, EngineError for a damaged file, MissingBackendError.
    """
    reader = _READERS.get(model_file.suffix.lower())
    if reader is None:
        raise ConfigError(f"{model_file.name} is neither .onnx nor .tflite", "calibrate the float ONNX or TFLite file")
    if not model_file.is_file():
        raise EngineError(f"no model file {model_file}", "check the path")
    module, _, name = reader[0].partition(":")
    try:
        opener = getattr(import_module(module), name)
    except ModuleNotFoundError as exc:
        raise MissingBackendError(
            f"calibrating {model_file.suffix} needs {exc.name}, which is not installed", reader[1]
        ) from exc
    return opener(model_file, threads or min(4, os.cpu_count() or 1))


def collect(
    model_file: Path,
    inputs: Iterable[np.ndarray],
    progress: Callable[[int], None] | None = None,
    known: Histograms | None = None,
    per_channel: bool = False,
    threads: int | None = None,
    checkpoint: Path | None = None,
) -> Histograms:
    """Return the histograms of every float activation over the inputs, each (1, ...) in the model's own dtype.

    One pass counts for all observers; `ranges_from` and `range_of` take the ranges from the histograms.

    progress: called with the number of inputs done. known: histograms of an earlier, interrupted run over the same
    inputs: as many inputs as it has seen are passed over. checkpoint: where to keep them every 20 s for that.
    Raises: EngineError for a model that fails, gives NaN or is quantized already, ConfigError when there are no
    inputs or `known` is of another model.
    """
    sha256 = sha256_of(model_file) if model_file.is_file() else ""
    opened = open_activations(model_file, threads)
    if opened.quantized:
        raise EngineError(f"{model_file.name} is quantized already", "calibrate the float model it was made from")
    found = known or Histograms(sha256)
    if found.model_sha256 != sha256:
        raise ConfigError(f"the histograms are not of {model_file.name}", "delete them and calibrate again")
    saved = time.monotonic()
    for values in islice(inputs, found.images, None):
        for name, activation in opened.run(values):
            _count(found, name, activation, opened.channel_axis if per_channel else None)
        found.images += 1
        if progress:
            progress(found.images)
        if checkpoint and time.monotonic() - saved > _CHECKPOINT_S:
            write_histograms(checkpoint, found)
            saved = time.monotonic()
    if not found.images:
        raise ConfigError("there is nothing to calibrate with", "give at least one picture")
    return found


def _count(found: Histograms, name: str, activation: np.ndarray, channel_axis: int | None) -> None:
    try:
        found.whole.setdefault(name, Histogram()).add(activation)
        if channel_axis is None or activation.ndim < 2:
            return
        axis = channel_axis if activation.ndim == 4 else -1
        channels = activation.shape[axis]
        found.channels.setdefault(name, Histogram(channels, _CHANNEL_BINS)).add(activation, axis)
    except ValueError as exc:
        raise EngineError(
            f"the activation '{name}' of picture {found.images + 1} cannot be counted: {exc}",
            "check that the float model gives sensible results on this picture",
        ) from exc
