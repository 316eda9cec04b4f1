"""Calibration pictures as input tensors, through the runtime's own preprocessing."""

from collections.abc import Iterable, Iterator

import numpy as np

from edge.manifest import InputContract
from edge.preprocess.pixels import Preprocessor
from edge.tensor import TensorSpec

__all__ = ["tensors"]


def tensors(pictures: Iterable[np.ndarray], contract: InputContract, spec: TensorSpec) -> Iterator[np.ndarray]:
    """Yield the input tensor of each picture, in the shape and dtype of `spec`, a new array each time.

    pictures: (H, W, 3) uint8 BGR of any size, for example a CalibrationSet.
    Raises: ManifestError when the contract does not fit the input.
    """
    tensor = np.zeros(spec.shape, spec.dtype)
    fill = Preprocessor(contract, spec, tensor)
    for picture in pictures:
        fill(picture)
        yield tensor.copy()
