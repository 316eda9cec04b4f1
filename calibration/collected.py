"""All histograms of one float model, in memory and in a file, and the ranges that come of them."""

import zipfile
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

import numpy as np

from calibration.histogram import Histogram
from calibration.observers import check_observer, range_of
from calibration.ranges import Ranges
from edge.errors import ConfigError
from edge.files import write_atomically

__all__ = ["Histograms", "ranges_from", "read_histograms", "write_histograms"]

_FORMAT = 1
_ARRAYS = ("counts", "exponent", "offset", "zeros", "left_out")


@dataclass(slots=True)
class Histograms:
    """What every float activation of a model was over `images` inputs: the file's own tensor name -> histogram.

    model_sha256: of the file. whole: of each tensor. channels: of each channel of each tensor, where collected.
    inputs: what identifies the pictures, for whoever goes on with an interrupted run; "" when nobody said.
    """

    model_sha256: str
    images: int = 0
    whole: dict[str, Histogram] = field(default_factory=dict)
    channels: dict[str, Histogram] = field(default_factory=dict)
    inputs: str = ""

    @property
    def with_sentinels(self) -> list[str]:
        """Names of the tensors that hold stand-ins for infinity, which no histogram counts."""
        return [name for name, histogram in self.whole.items() if histogram.left_out.any()]


def ranges_from(histograms: Histograms, observer: str, bits: int = 8, symmetric: bool = False) -> Ranges:
    """Return the ranges an observer gives every tensor, and every channel where channels were told apart.

    Raises: ConfigError for an unknown observer.
    """
    check_observer(observer)
    tensors = {name: range_of(found, observer, bits, symmetric) for name, found in histograms.whole.items()}
    channels = {
        name: [range_of(found.channel(c), observer, bits, symmetric) for c in range(found.channels)]
        for name, found in histograms.channels.items()
    }
    return Ranges(
        model_sha256=histograms.model_sha256,
        observer=observer,
        images=histograms.images,
        tensors=tensors,
        channels=channels,
    )


def write_histograms(path: Path, histograms: Histograms) -> None:
    """Write all histograms as one compressed .npz, replacing the file at once.

    Raises: ConfigError when the folder cannot be written.
    """
    arrays: dict[str, np.ndarray] = {
        "format": np.array(_FORMAT),
        "model_sha256": np.array(histograms.model_sha256),
        "images": np.array(histograms.images),
        "inputs": np.array(histograms.inputs),
    }
    for group in ("whole", "channels"):
        entries: dict[str, Histogram] = getattr(histograms, group)
        arrays[f"{group}.names"] = np.array(list(entries), dtype=np.str_)
        for i, histogram in enumerate(entries.values()):
            arrays.update({f"{group}.{i}.{name}": getattr(histogram, name) for name in _ARRAYS})
            arrays[f"{group}.{i}.lows"] = np.array(histogram.lows, np.float32)
            arrays[f"{group}.{i}.highs"] = np.array(histogram.highs, np.float32)
    content = BytesIO()
    np.savez_compressed(content, allow_pickle=False, **arrays)
    write_atomically(path, content.getvalue())


def read_histograms(path: Path) -> Histograms:
    """Return the histograms in a file that write_histograms wrote.

    Raises: ConfigError when it is missing or holds something else.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            if int(stored["format"]) != _FORMAT:
                raise ValueError(f"format {int(stored['format'])} is not known")
            found = Histograms(str(stored["model_sha256"]), int(stored["images"]), inputs=str(stored["inputs"]))
            for group in ("whole", "channels"):
                for i, name in enumerate(stored[f"{group}.names"]):
                    getattr(found, group)[str(name)] = _histogram(stored, f"{group}.{i}")
            return found
    except FileNotFoundError as exc:
        raise ConfigError(f"no file {path}", "calibrate again") from exc
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as exc:
        raise ConfigError(f"{path} holds no histograms ({exc})", "delete it and calibrate again") from exc


def _histogram(stored: np.lib.npyio.NpzFile, prefix: str) -> Histogram:
    counts = stored[f"{prefix}.counts"]
    histogram = Histogram(*counts.shape)
    for name in _ARRAYS:
        setattr(histogram, name, stored[f"{prefix}.{name}"])
    histogram.lows = list(stored[f"{prefix}.lows"])
    histogram.highs = list(stored[f"{prefix}.highs"])
    return histogram
