"""From camera pixels to the input tensor by one kernel on the GPU, value for value as the CPU path does it.

The resampling is OpenCV's for 8-bit pixels (`resize` with INTER_LINEAR: half-pixel centres, weights of 11 bits, the
horizontal sums cut by 4 bits and the vertical ones by 16, then by 2 with rounding; INTER_NEAREST), and the grey value
its `cvtColor`'s. All that needs floating point is done here, once per source size, in tables of source offsets and
whole weights; so the kernel has nothing that could round otherwise on another chip. Python 3.6 syntax.
"""

import numpy as np

from .portable import RunnerError

__all__ = ["SOURCE", "Letterbox", "axis_table", "kernel_source"]

SOURCE = """
struct Plan {
    const unsigned char *pixels;  // (rows, width, 3) BGR: the rows that are needed
    const int *columns, *rows;    // 4 per resized column and row: offset before, offset after, their weights
    const Element *tables;        // (channels, 256)
    Element *tensor;
    int tensor_w, tensor_h, left, top, resized_w, resized_h, channels, reversed, planar, pad;
};

extern "C" __global__ void letterbox(const Plan *plan)
{
    const int x = blockIdx.x * blockDim.x + threadIdx.x, y = blockIdx.y * blockDim.y + threadIdx.y;
    if (x >= plan->tensor_w || y >= plan->tensor_h)
        return;
    const int column = x - plan->left, row = y - plan->top, channels = plan->channels;
    int value[3] = {plan->pad, plan->pad, plan->pad};
    if (column >= 0 && column < plan->resized_w && row >= 0 && row < plan->resized_h) {
        const int *across = plan->columns + 4 * column, *down = plan->rows + 4 * row;
        const unsigned char *upper = plan->pixels + down[0], *lower = plan->pixels + down[1];
        for (int k = 0; k < 3; k++) {
            const int above = upper[across[0] + k] * across[2] + upper[across[1] + k] * across[3];
            const int below = lower[across[0] + k] * across[2] + lower[across[1] + k] * across[3];
            value[k] = ((down[2] * (above >> 4) >> 16) + (down[3] * (below >> 4) >> 16) + 2) >> 2;
        }
        if (channels == 1)
            value[0] = (3735 * value[0] + 19235 * value[1] + 9798 * value[2] + 16384) >> 15;
    }
    const int pixel = y * plan->tensor_w + x, area = plan->tensor_w * plan->tensor_h;
    for (int c = 0; c < channels; c++) {
        const int at = plan->planar ? c * area + pixel : pixel * channels + c;
        plan->tensor[at] = plan->tables[256 * c + value[plan->reversed ? 2 - c : c]];
    }
}
"""
"""CUDA C, without the type `Element`: an unsigned integer as wide as the tensor's numbers."""

_ELEMENTS = {1: "unsigned char", 2: "unsigned short", 4: "unsigned int"}
_ADDRESSES = ("pixels", "columns", "rows", "tables", "tensor")
_NUMBERS = ("tensor_w", "tensor_h", "left", "top", "resized_w", "resized_h", "channels", "reversed", "planar", "pad")
_PLAN = np.dtype([(name, np.uint64) for name in _ADDRESSES] + [(name, np.int32) for name in _NUMBERS])
_BLOCK = (32, 8, 1)


def kernel_source(itemsize):
    """Return the CUDA C for a tensor whose numbers have `itemsize` bytes."""
    return f"typedef {_ELEMENTS[itemsize]} Element;\n{SOURCE}"


def axis_table(source, resized, interpolation):
    """Return (resized, 4) int32 for one axis: the source positions before and after, and their weights of 2048."""
    scale = 1.0 / (resized / source)  # OpenCV's own two divisions
    if interpolation == "nearest":
        before = np.minimum(np.floor(np.arange(resized) * scale), source - 1).astype(np.int32)
        return np.stack([before, before, np.full_like(before, 2048), np.zeros_like(before)], axis=1)
    centre = ((np.arange(resized) + 0.5) * scale - 0.5).astype(np.float32)
    before = np.floor(centre)
    weight = centre - before
    weights = [np.rint(w * np.float32(2048)) for w in (np.float32(1) - weight, weight)]
    places = [np.clip(before + step, 0, source - 1) for step in (0, 1)]
    places[1] = np.where(weights[1] == 0, places[0], places[1])  # so what has no weight need not travel
    return np.stack(places + weights, axis=1).astype(np.int32)


class Letterbox:
    """Fills one input tensor on the device from (H, W, 3) uint8 BGR images.

    cuda, stream: an open `Cuda` and the stream the model runs in. pointer: the tensor's address on the device. shape:
    of 4, batch 1; layout: "NHWC" or "NCHW". tables: (C, 256), of the tensor's dtype, the tensor's value of each pixel
    value in each of its channels. order: "bgr", "rgb" or "gray". pad: the pixel value outside the image.
    Raises: RunnerError for an interpolation other than linear and nearest, or where the kernel cannot be compiled.
    """

    def __init__(self, cuda, stream, pointer, shape, layout, tables, order, pad, interpolation):
        if interpolation not in ("linear", "nearest"):
            raise RunnerError(
                f"the GPU resizes with linear or nearest interpolation, not {interpolation}",
                'preprocess on the CPU ([engine] preprocess = "cpu")',
                "config",
            )
        self._cuda, self._stream, self._interpolation = cuda, stream, interpolation
        height, width = shape[2:4] if layout == "NCHW" else shape[1:3]
        self._kernel = cuda.compile(kernel_source(tables.itemsize), "letterbox")
        self._grid = (-(-width // _BLOCK[0]), -(-height // _BLOCK[1]), 1)
        self._tables = cuda.alloc(tables.nbytes)
        plan = self._plan = np.zeros(1, _PLAN)
        plan["tables"], plan["tensor"] = self._tables, pointer
        plan["tensor_w"], plan["tensor_h"] = width, height
        plan["channels"], plan["reversed"] = len(tables), order == "rgb"
        plan["planar"], plan["pad"] = layout == "NCHW", pad
        cuda.upload(self._tables, np.ascontiguousarray(tables), stream)
        cuda.synchronize(stream)
        self._staging = self._rows = self._arguments = None
        self._device = []

    def prepare(self, source_wh, region_xywh, resized_wh, offset_xy):
        """Plan for images of `source_wh` px, of which a region is resized and put at an offset in the tensor."""
        cuda, plan = self._cuda, self._plan
        cuda.synchronize(self._stream)
        self._free()
        x, y, width, height = region_xywh
        columns = axis_table(width, resized_wh[0], self._interpolation)
        rows = axis_table(height, resized_wh[1], self._interpolation)
        columns[:, :2] = 3 * (columns[:, :2] + x)
        self._rows, compact = np.unique(rows[:, :2] + y, return_inverse=True)
        rows[:, :2] = compact.reshape(-1, 2) * (3 * source_wh[0])
        self._staging = cuda.pinned((len(self._rows), source_wh[0], 3), np.uint8)
        pixels = self._alloc(self._staging.nbytes)
        axes = np.ascontiguousarray(np.concatenate([columns, rows]))
        plan["pixels"], plan["columns"] = pixels, self._alloc(axes.nbytes)
        plan["rows"] = plan["columns"] + np.uint64(columns.nbytes)
        plan["resized_w"], plan["resized_h"] = resized_wh
        plan["left"], plan["top"] = offset_xy
        self._arguments = (np.uint64(self._alloc(plan.nbytes)),)
        cuda.upload(int(plan["columns"][0]), axes, self._stream)
        cuda.upload(int(self._arguments[0]), plan, self._stream)
        cuda.synchronize(self._stream)

    def __call__(self, image):
        """Put the filling of the tensor from an image of the planned size into the stream."""
        self._cuda.synchronize(self._stream)  # the last upload may not have left the staging memory
        np.take(image, self._rows, axis=0, out=self._staging, mode="clip")
        self._cuda.upload(int(self._plan["pixels"][0]), self._staging, self._stream)
        self._cuda.launch(self._kernel, self._grid, _BLOCK, self._arguments, self._stream)

    def close(self):
        """Release its memory."""
        self._free()
        if self._tables:
            self._cuda.free(self._tables)
        self._tables = 0

    def _alloc(self, nbytes):
        self._device.append(self._cuda.alloc(nbytes))
        return self._device[-1]

    def _free(self):
        while self._device:
            self._cuda.free(self._device.pop())
        if self._staging is not None:
            self._cuda.free_pinned(self._staging)
        self._staging = None
