"""The contract every engine keeps: fill `inputs`, call `run()`, read `outputs`."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from edge.tensor import TensorSpec

__all__ = ["Engine"]


class Engine(Protocol):
    """A loaded model. One thread at a time. The engine owns its buffers.

    inputs: one writable C-contiguous array per input spec, the same objects for the engine's life; refill in place.
    outputs: one array per output spec, refilled by `run()` and valid until the next `run()` or `close()`.
    The list object stays the same; an entry may be replaced by `run()` when a tensor's shape is dynamic.
    Where an axis is dynamic (only the number of results may be), the spec gives its largest size or 1.
    embedded: the free-form properties the model file itself carries, {} for none.
    lost: why it cannot run just now ("restarting after a crash"), "" while it can. While it is set, `run()` raises
    EngineLostError at once; an engine that is in this process never sets it.
    """

    input_specs: Sequence[TensorSpec]
    output_specs: Sequence[TensorSpec]
    inputs: Sequence[np.ndarray]
    outputs: Sequence[np.ndarray]
    embedded: Mapping[str, str]
    lost: str

    def run(self) -> None:
        """Compute the outputs from the inputs.

        Raises: EngineError; EngineLostError where it may work again later. The outputs are then worth nothing.
        """

    def close(self) -> None:
        """Release the model; afterwards inputs and outputs are empty. Calling it twice is allowed."""
