"""Sliding windows: what ONNX pads and how TFLite comes to exactly the same."""

from dataclasses import dataclass

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from convert.onnx_to_tflite.graph import Node, unsupported
from convert.onnx_to_tflite.translation import Translation
from convert.onnx_to_tflite.writer import Options

__all__ = ["SAME", "VALID", "Window", "padded", "padded_image", "same_pads"]

SAME = schema.Padding.SAME
VALID = schema.Padding.VALID


@dataclass(frozen=True, slots=True)
class Window:
    """A kernel (height, width) over an image: strides, dilations, the padding it reads and the output's size."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]
    size: tuple[int, ...]
    out: tuple[int, ...]

    @staticmethod
    def of(node: Node, kernel: tuple[int, ...], size: tuple[int, ...]) -> "Window":
        """Return the window of a convolution or pooling node over an image of this size.

        Padding that no window reaches is dropped; what ceil_mode adds is counted.

        Raises: EngineError for negative padding.
        """
        lead = 2 - len(node.attributes.get("strides", node.attributes.get("kernel_shape", kernel[-2:])))
        strides = (1,) * lead + tuple(node.attributes.get("strides", (1,) * (2 - lead)))
        dilations = (1,) * lead + tuple(node.attributes.get("dilations", (1,) * (2 - lead)))
        pads = node.attributes.get("pads", [0] * (4 - 2 * lead))
        if min(pads) < 0:
            raise unsupported(node, "it crops (negative pads)")
        half = len(pads) // 2
        before, after = [(0,) * lead + tuple(part) for part in (pads[:half], pads[half:])]
        mode = node.attributes.get("auto_pad", "NOTSET")
        sides = []
        for axis in range(2):
            reach = (kernel[axis] - 1) * dilations[axis] + 1
            first, last = before[axis], after[axis]
            if mode == "VALID":
                first = last = 0
            elif mode != "NOTSET":
                total = sum(same_pads(size[axis], kernel[axis], strides[axis], dilations[axis]))
                first = total // 2 if mode == "SAME_UPPER" else total - total // 2
                last = total - first
            room = size[axis] + first + last - reach
            count = room // strides[axis] + 1
            # a window may hang over the end, but must not start behind the last pixel
            if node.attributes.get("ceil_mode") and room % strides[axis] and count * strides[axis] < size[axis] + first:
                count += 1
            sides.append((first, (count - 1) * strides[axis] + reach - size[axis] - first, count))
        firsts, lasts, counts = zip(*sides, strict=True)
        return Window(tuple(kernel), strides, dilations, firsts, lasts, tuple(size), counts)

    @property
    def pads(self) -> bool:
        """Whether any window reaches beyond the image."""
        return any(pad > 0 for pad in self.before + self.after)

    @property
    def is_same(self) -> bool:
        """Whether TFLite's SAME padding is exactly this one."""
        for axis in range(2):
            same = same_pads(self.size[axis], self.kernel[axis], self.strides[axis], self.dilations[axis])
            read = (self.before[axis], max(self.after[axis], 0))
            if read != same or self.out[axis] != -(-self.size[axis] // self.strides[axis]):
                return False
        return True


def same_pads(size: int, kernel: int, stride: int, dilation: int) -> tuple[int, int]:
    """Return what TFLite's SAME padding adds before and after."""
    reach = (kernel - 1) * dilation + 1
    total = max((-(-size // stride) - 1) * stride + reach - size, 0)
    return total // 2, total - total // 2


def padded(t: Translation, source: int, window: Window, op: str, name: str) -> tuple[int, int]:
    """Return the NHWC tensor the window reads and the padding scheme, padded by `op` only where it must be."""
    if not window.pads:
        return source, VALID
    if window.is_same:
        return source, SAME
    return padded_image(t, source, window, op, name), VALID


def padded_image(t: Translation, source: int, window: Window, op: str, name: str) -> int:
    """Return the NHWC tensor padded as far as the window reads, by PAD (zeros) or MIRROR_PAD."""
    batch, height, width, channels = t.writer.tensors[source].shape
    (top, left), (bottom, right) = window.before, (max(pad, 0) for pad in window.after)
    pads = t.writer.constant(np.array([[0, 0], [top, bottom], [left, right], [0, 0]], np.int32), "pads")
    shape = (batch, height + top + bottom, width + left + right, channels)
    mode = schema.MirrorPadMode.SYMMETRIC
    options: Options = ("MirrorPad", {"mode": mode}) if op == "MIRROR_PAD" else ("Pad", {})
    return t.emit(op, [source, pads], shape, f"{name}/padded", options)
