"""A tensor seen through strides: transposing and reshaping change the view, not the memory.

The idea of lazy, strided views is that of numpy's arrays and of tinygrad's ShapeTracker.
"""

from dataclasses import dataclass
from math import prod

__all__ = ["NHWC", "Piece", "View", "merged", "plain_order"]

NHWC = (0, 2, 3, 1)

Piece = tuple[int, int]  # (size, stride in elements); sizes of 1 are left out


@dataclass(frozen=True, slots=True)
class View:
    """The axes of an ONNX tensor laid over the memory of TFLite tensor `tensor`.

    Every axis is a tuple of pieces, outermost first; an axis of size 1 has none.
    Each element of the memory is seen exactly once.
    """

    tensor: int
    axes: tuple[tuple[Piece, ...], ...]

    @staticmethod
    def over(tensor: int, shape: tuple[int, ...], order: tuple[int, ...]) -> "View":
        """Return the view of a tensor whose memory holds the axes of `shape` in the order `order`."""
        axes: list[tuple[Piece, ...]] = [()] * len(shape)
        stride = 1
        for axis in reversed(order):
            axes[axis] = ((shape[axis], stride),) if shape[axis] != 1 else ()
            stride *= shape[axis]
        return View(tensor, tuple(axes))

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape as ONNX sees it."""
        return tuple(prod(size for size, _ in axis) for axis in self.axes)

    def transposed(self, order: tuple[int, ...]) -> "View":
        """Return the view with its axes in another order."""
        return View(self.tensor, tuple(self.axes[axis] for axis in order))

    def reshaped(self, shape: tuple[int, ...]) -> "View | None":
        """Return the view in another shape, None where no strides can express it."""
        left = merged(piece for axis in self.axes for piece in axis)
        axes = []
        for wanted in shape:
            axis = []
            while wanted > 1:
                size, stride = left[0]
                if wanted % size == 0:
                    axis.append(left.pop(0))
                    wanted //= size
                elif size % wanted == 0:
                    axis.append((wanted, stride * (size // wanted)))
                    left[0] = (size // wanted, stride)
                    wanted = 1
                else:
                    return None
            axes.append(tuple(axis))
        return View(self.tensor, tuple(axes))

    def lies_in(self, order: tuple[int, ...]) -> bool:
        """Return whether the memory already holds the axes in this order."""
        strides = [stride for axis in order for _, stride in self.axes[axis]]
        return strides == sorted(strides, reverse=True)

    def own_order(self) -> tuple[int, ...] | None:
        """Return the order the memory holds the axes in, None when they are interleaved.

        Axes of size 1 lie anywhere: an image tensor counts as NHWC where it can, any other as plain where it can.
        """
        rank = len(self.axes)
        by_stride = tuple(
            sorted(range(rank), key=lambda axis: -self.axes[axis][0][1] if self.axes[axis] else -(1 << 62))
        )
        for order in (NHWC if rank == 4 else plain_order(rank), plain_order(rank), by_stride):
            if self.lies_in(order):
                return order
        return None


def merged(pieces) -> list[Piece]:
    """Return pieces with neighbours joined where they lie one after the other in memory."""
    joined: list[Piece] = []
    for size, stride in pieces:
        if joined and joined[-1][1] == size * stride:
            joined[-1] = (joined[-1][0] * size, stride)
        else:
            joined.append((size, stride))
    return joined


def plain_order(rank: int) -> tuple[int, ...]:
    """Return the order of axes as ONNX counts them."""
    return tuple(range(rank))
