"""What an engine says about one of its tensors."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

__all__ = ["Layout", "Quantization", "TensorSpec"]

Layout = Literal["NHWC", "NCHW"]


@dataclass(frozen=True, slots=True)
class Quantization:
    """Affine per-tensor quantization: real = (stored - zero_point) * scale."""

    scale: float
    zero_point: int


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """Name, shape (all dimensions positive), dtype, layout (images only) and quantization (or None) of a tensor."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype
    layout: Layout | None = None
    quantization: Quantization | None = None

    @property
    def size_wh(self) -> tuple[int, int]:
        """Width and height in px of an image tensor, according to its layout."""
        height, width = self.shape[2:4] if self.layout == "NCHW" else self.shape[1:3]
        return width, height

    def quantize(self, real: float) -> float:
        """Return where a real value lies on this tensor's stored scale, unrounded; the identity for float tensors.

        Comparing stored values with the result is the same as comparing real values with `real`,
        because scale is positive; so thresholds can be applied before anything is dequantized.
        """
        if self.quantization is None:
            return real
        return real / self.quantization.scale + self.quantization.zero_point

    def dequantize(self, stored: np.ndarray) -> np.ndarray:
        """Return `stored` (any shape, this tensor's dtype) as new float32 real values; float32 passes through."""
        if self.quantization is None:
            return stored if stored.dtype == np.float32 else stored.astype(np.float32)
        real = stored.astype(np.float32)
        real -= np.float32(self.quantization.zero_point)
        real *= np.float32(self.quantization.scale)
        return real
