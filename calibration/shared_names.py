"""The same ranges for TFLite, ONNX and TensorRT: whose tensor is whose, by name or by the values in it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from calibration.collect import open_activations
from calibration.ranges import Ranges
from edge.manifest import sha256_of

__all__ = ["Translation", "translate_ranges"]

_RELATIVE = 1e-3  # two runtimes' float32 results of one tensor differ by less
_STATISTICS = 7


@dataclass(frozen=True, slots=True)
class Translation:
    """Ranges under another file's names.

    same_name: how many kept their name. by_value: new name -> old name of those found by their values.
    unmatched: activations of the new file without a range. unused: ranges that nothing in the new file has.
    """

    ranges: Ranges
    same_name: int
    by_value: dict[str, str]
    unmatched: tuple[str, ...]
    unused: tuple[str, ...]


def translate_ranges(
    ranges: Ranges, from_file: Path, to_file: Path, inputs: Iterable[tuple[np.ndarray, np.ndarray]]
) -> Translation:
    """Return the ranges of `from_file` under the tensor names of `to_file`, the same network in another file.

    inputs: one or a few pictures, each as the input of both files (real values; NCHW and NHWC may differ). Tensors
    are the same when number, extremes and moments of their values agree on all of them, in whatever layout; an equal
    name counts only if the values agree too. Where several tensors have the same values (a reshape and its source),
    any of them gives the range, since it is the same.
    Channel ranges go along where the name does. Raises: EngineError when a file cannot run.
    """
    prints: tuple[dict[str, list], dict[str, list]] = ({}, {})
    opened = (open_activations(from_file), open_activations(to_file))
    for pair in inputs:
        for activations, values, found in zip(opened, pair, prints, strict=True):
            for name, value in activations.run(values):
                found.setdefault(name, []).append(_fingerprint(value))
    old = {name: np.array(rows) for name, rows in prints[0].items() if name in ranges.tensors}
    new = {name: np.array(rows) for name, rows in prints[1].items()}
    source = _sources(old, new)
    by_value = {name: origin for name, origin in source.items() if name != origin}
    moved = Ranges(
        model_sha256=sha256_of(to_file),
        observer=ranges.observer,
        images=ranges.images,
        tensors={name: ranges.tensors[origin] for name, origin in source.items()},
        channels={name: ranges.channels[name] for name in source if source[name] == name and name in ranges.channels},
    )
    return Translation(
        moved,
        len(source) - len(by_value),
        by_value,
        tuple(name for name in new if name not in source),
        tuple(name for name in ranges.tensors if name not in set(source.values())),
    )


def _sources(old: Mapping[str, np.ndarray], new: Mapping[str, np.ndarray]) -> dict[str, str]:
    names = list(old)
    table = np.array([old[name] for name in names]) if names else np.zeros((0, 1, _STATISTICS))
    found = {}
    for name, rows in new.items():
        if name in old and _agree(old[name][None], rows)[0]:
            found[name] = name
            continue
        near = np.flatnonzero(_agree(table, rows))
        if not near.size:
            near = np.flatnonzero(_agree(_padded(table, rows), rows))
        if near.size:
            distance = np.abs(_padded(table[near], rows) - rows).sum(axis=(1, 2))
            found[name] = names[int(near[np.argmin(distance)])]
    return found


def _padded(table: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The fingerprints (N, pictures, 7) would have if their tensors were filled up with zeros to as many values."""
    more = rows[:, 0] > table[:, :, 0]
    share = np.where(more, table[:, :, 0] / np.maximum(rows[:, 0], 1), 1.0)
    padded = table.copy()
    padded[:, :, 0] = np.where(more, rows[:, 0], table[:, :, 0])
    padded[:, :, 1] = np.where(more, np.minimum(table[:, :, 1], 0), table[:, :, 1])
    padded[:, :, 2] = np.where(more, np.maximum(table[:, :, 2], 0), table[:, :, 2])
    padded[:, :, 3:] *= np.stack([share, share, np.sqrt(share), np.cbrt(share)], axis=2)
    return padded


def _fingerprint(value: np.ndarray) -> np.ndarray:
    """What does not depend on the order of the values: their number, extremes, and power means up to the third."""
    flat: np.ndarray = value.astype(np.float64).ravel()
    flat = flat[np.abs(flat) < 1e30]
    if not flat.size:
        return np.zeros(_STATISTICS)
    magnitude = float(np.abs(flat).mean())
    third = float(np.cbrt((flat * flat * flat).mean()))
    return np.array([flat.size, flat.min(), flat.max(), flat.mean(), magnitude, np.sqrt((flat * flat).mean()), third])


def _agree(table: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Which of (N, pictures, 7) agree with (pictures, 7): counts exactly, the rest relative to the extremes."""
    if not len(table):
        return np.zeros(0, bool)
    scale = np.maximum(np.abs(rows[:, 1:3]).max(axis=1), 1e-12)[:, None]
    same_count = (table[:, :, 0] == rows[:, 0]).all(axis=1)
    return same_count & (np.abs(table[:, :, 1:] - rows[:, 1:]) <= _RELATIVE * scale).all(axis=(1, 2))
