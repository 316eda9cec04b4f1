"""Where a quantized file loses precision: the error of every activation it shares with the float file."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from calibration.collect import open_activations
from edge.evaluation.explain import sqnr_db

__all__ = ["layer_errors"]


def layer_errors(float_file: Path, quantized_file: Path, inputs: Iterable[np.ndarray]) -> list[dict[str, Any]]:
    """Return name and sqnr_db (mean over inputs) of each tensor both files have, in the graph's order.

    inputs: (1, H, W, C) or (1, C, H, W) float32 each, as the float file takes them.
    Raises: EngineError when a file cannot run.
    """
    wanted, got = open_activations(float_file), open_activations(quantized_file)
    sums: dict[str, list[float]] = {}
    for tensor in inputs:
        references = {name: value.copy() for name, value in wanted.run(tensor)}
        for name, value in got.run(tensor):
            if name in references and references[name].shape == value.shape:
                sums.setdefault(name, []).append(sqnr_db(references[name], value))
    return [{"name": name, "sqnr_db": round(float(np.mean(values)), 2)} for name, values in sums.items()]
