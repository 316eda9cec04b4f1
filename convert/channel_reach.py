"""How far each channel of some activations goes, and by what to scale channels that are much wider than others."""

from collections.abc import Collection, Iterable
from pathlib import Path

import numpy as np

from calibration.collect import open_activations

__all__ = ["LEAST_SPREAD", "SATURATED", "channel_factors"]

LEAST_SPREAD = 4.0
"""Channels are equalized where the widest is so many times as wide as the median one."""
SATURATED = 8.0
"""Beyond it a sigmoid is 0 or 1 within an eighth of an 8-bit step, and x * sigmoid(x) is 0 on the low side."""

_NARROWEST = 1e-3


def channel_factors(
    source: Path, inputs: Iterable[np.ndarray], names: Collection[str], least_spread: float = LEAST_SPREAD
) -> dict[str, np.ndarray]:
    """Return, for each named activation that needs it, what makes its channels as wide as the median one, (C,) float32.

    names: inputs of SiLUs, by tensor name; a channel counts as far as the product behind the sigmoid tells one value
    from another. inputs: calibration inputs, (1, ...) each; a dozen are enough.
    Raises: EngineError when the file cannot run.
    """
    reach: dict[str, np.ndarray] = {}
    activations = open_activations(source)
    for values in inputs if names else ():
        for name, value in activations.run(values):
            if name in names:
                rows = np.moveaxis(value, activations.channel_axis, -1).reshape(
                    -1, value.shape[activations.channel_axis]
                )
                wide = np.maximum(rows.max(axis=0), np.minimum(-rows.min(axis=0), SATURATED))
                reach[name] = np.maximum(reach.get(name, _NARROWEST), wide)
    ordered = {name: reach[name] for name in activations.names if name in reach}
    return {n: np.median(wide) / wide for n, wide in ordered.items() if wide.max() > least_spread * np.median(wide)}
