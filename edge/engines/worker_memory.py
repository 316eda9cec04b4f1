"""The memory a worker's two processes share: every tensor at its place in one anonymous file."""

import fcntl
import mmap
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from edge.engines.worker_child import shared_arrays

__all__ = ["TensorMemory"]

_ROOM_TO_MOVE = 16 << 20
"""Bytes kept for an output whose number of results is open. A page that is never written takes no memory."""

_HALF_EXPONENT = np.uint16(0x7C00)


class TensorMemory:
    """Anonymous memory behind a file descriptor, cut into tensors as soon as the engine has told them.

    inputs, outputs: the tensors' arrays, [] before `lay_out`. areas: {"inputs" | "outputs": [(first byte, bytes)]}.
    """

    def __init__(self) -> None:
        self.fd = os.memfd_create("harrier-engine", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        self.inputs: list[np.ndarray] = []
        self.outputs: list[np.ndarray] = []
        self.areas: dict[str, list[tuple[int, int]]] = {}
        self._told: tuple = ()
        self._scratch: dict[int, np.ndarray] = {}

    def lay_out(self, inputs: Sequence[list], outputs: Sequence[list], moving: Sequence[int]) -> None:
        """Give every tensor (as `edge.engines.portable.Tensor` has it) its place, on pages of its own.

        moving: the outputs whose number of results is open. A device can map single tensors, as none shares a page.
        """
        self._told = _lasting(inputs, outputs, moving)
        end = 0
        for side, tensors, open_ones in (("inputs", inputs, ()), ("outputs", outputs, moving)):
            self.areas[side] = []
            for i, tensor in enumerate(tensors):
                size = _bytes_of(tensor[1], tensor[2])
                if i in open_ones:
                    size = max(size, _ROOM_TO_MOVE)
                self.areas[side].append((end, size))
                end += -(-max(size, 1) // mmap.ALLOCATIONGRANULARITY) * mmap.ALLOCATIONGRANULARITY
        os.ftruncate(self.fd, end)
        # a process gone mad that shrank the file would take this one with it, by SIGBUS
        fcntl.fcntl(self.fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
        self._memory: mmap.mmap | None = mmap.mmap(self.fd, end)
        self.inputs[:] = shared_arrays(self._memory, inputs, self.areas["inputs"])
        self.outputs[:] = shared_arrays(self._memory, outputs, self.areas["outputs"])
        for i, array in enumerate(self.outputs):
            if array.dtype.kind == "f":
                self._scratch[i] = np.empty(array.shape, np.uint16 if array.dtype == np.float16 else np.bool_)

    def fits(self, inputs: Sequence[list], outputs: Sequence[list], moving: Sequence[int]) -> bool:
        """Return whether these are the tensors the memory was cut for; `moving` ones may have more or fewer results."""
        return self._told == _lasting(inputs, outputs, moving)

    def move(self, i: int, shape: Sequence[int]) -> None:
        """Show output i in another shape, which the other side has seen to fit."""
        place = self.areas["outputs"][i]
        [self.outputs[i]] = shared_arrays(self._memory, [("", shape, self.outputs[i].dtype)], [place])
        if i in self._scratch:
            self._scratch[i] = np.empty(shape, self._scratch[i].dtype)

    def not_finite(self) -> int | None:
        """Return the number of the first output that holds a NaN or an infinity, None where all are finite."""
        for i, scratch in self._scratch.items():
            if scratch.dtype == np.uint16:  # a half's exponent, as numpy takes ten times as long to look at halves
                np.bitwise_and(self.outputs[i].view(np.uint16), _HALF_EXPONENT, out=scratch)
                finite = not scratch.size or scratch.max() != _HALF_EXPONENT
            else:
                finite = np.isfinite(self.outputs[i], out=scratch).all()
            if not finite:
                return i
        return None

    def close(self) -> None:
        """Forget the tensors; the memory goes when nobody holds an array of it any more."""
        self.inputs.clear()
        self.outputs.clear()
        os.close(self.fd)
        self._memory = None


def _lasting(inputs: Sequence[list], outputs: Sequence[list], moving: Sequence[int]) -> tuple:
    return inputs, [[t[0], len(t[1]) if i in moving else t[1], *t[2:]] for i, t in enumerate(outputs)], moving


def _bytes_of(shape: Sequence[int], dtype: Any) -> int:
    return int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
