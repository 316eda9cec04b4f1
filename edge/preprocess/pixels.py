"""Camera pixels into the engine's input tensor, through one 256-entry table per channel.

A pixel has 256 values, so colour scaling, mean, std, quantization and rounding collapse into a table computed once
in float64; each pixel then costs one look-up, whatever the tensor's dtype.
"""

import cv2
import numpy as np

from edge.errors import ManifestError
from edge.manifest import InputContract
from edge.preprocess.letterbox import Geometry, plan_geometry
from edge.tensor import TensorSpec

__all__ = ["Preprocessor", "pixel_tables"]

_INTERPOLATION = {
    "linear": cv2.INTER_LINEAR,
    "area": cv2.INTER_AREA,
    "nearest": cv2.INTER_NEAREST,
    "cubic": cv2.INTER_CUBIC,
}
_TABLE_DTYPES = ("float32", "float16", "uint8", "int8", "int16")


def pixel_tables(contract: InputContract, spec: TensorSpec) -> np.ndarray:
    """Return the (C, 256) tables, in the tensor's dtype, from pixel value to tensor value per tensor channel.

    Computed in float64: real = (pixel * scale - mean) / std, then round(real / scale + zero_point) to the nearest
    even, saturated, when the tensor is quantized.
    Raises: ManifestError when the tensor's dtype cannot hold pixels.
    """
    if spec.dtype.name not in _TABLE_DTYPES:
        raise ManifestError(
            f"input '{spec.name}' is {spec.dtype}, not an image dtype",
            f"use one of {', '.join(_TABLE_DTYPES)}",
        )
    channels = spec.shape[1] if spec.layout == "NCHW" else spec.shape[3]
    pixels = np.arange(256, dtype=np.float64)
    mean, std = np.array(contract.mean)[:channels, None], np.array(contract.std)[:channels, None]
    real = (pixels * contract.scale - mean) / std
    if spec.quantization:
        real = np.rint(real / spec.quantization.scale + spec.quantization.zero_point)
    elif spec.dtype.kind in "iu":
        real = np.rint(real)
    if spec.dtype.kind in "iu":
        limits = np.iinfo(spec.dtype)
        real = np.clip(real, limits.min, limits.max)
    return np.ascontiguousarray(real.astype(spec.dtype))


class Preprocessor:
    """Fills one engine input from (H, W, 3) uint8 BGR images of any size.

    tensor: (1, H, W, C) or (1, C, H, W), the engine's own buffer, written in place. The padding is written when the
    source size changes and left alone afterwards. `path` names the pixel path in use, for inspection:
    "copy" (pixel values untouched), "xor" (minus 128 on int8) or "table".
    """

    def __init__(self, contract: InputContract, spec: TensorSpec, tensor: np.ndarray) -> None:
        _check(contract, spec)
        self._contract = contract
        self._tensor_wh = spec.size_wh
        self._interpolation = _INTERPOLATION[contract.interpolation]
        self._tables = pixel_tables(contract, spec)
        self.path = _path_of(self._tables)
        self._nchw = spec.layout == "NCHW"
        self._bits = tensor.view(f"u{tensor.itemsize}") if tensor.dtype != np.float32 else tensor
        self._lut = self._tables.view(self._bits.dtype)
        self._nhwc_lut = np.ascontiguousarray(self._lut.T)[None]
        self._source_wh = (0, 0)
        self.geometry: Geometry | None = None

    def __call__(self, image: np.ndarray) -> Geometry:
        """Fill the tensor from `image` (H, W, 3) uint8 BGR and return where its pixels went."""
        height, width = image.shape[:2]
        if self.geometry is None or (width, height) != self._source_wh:
            self.geometry = self._prepare(width, height)
        x, y, region_w, region_h = self.geometry.region_xywh
        if (region_w, region_h) != (width, height):
            image = image[y : y + region_h, x : x + region_w]
        if self.geometry.resized_wh != (region_w, region_h):
            cv2.resize(image, self.geometry.resized_wh, dst=self._resized, interpolation=self._interpolation)
            image = self._resized
        if self._nchw:
            self._fill_planes(image)
        else:
            self._fill_pixels(image)
        return self.geometry

    def _prepare(self, width: int, height: int) -> Geometry:
        geometry = plan_geometry(self._contract, (width, height), self._tensor_wh)
        (left, top), (resized_w, resized_h) = geometry.offset_xy, geometry.resized_wh
        rows, columns = slice(top, top + resized_h), slice(left, left + resized_w)
        self._source_wh = (width, height)
        pad = self._lut[:, self._contract.pad_value]
        channels = len(pad)
        if self._nchw:
            self._bits[0] = pad[:, None, None]
            self._regions = [self._bits[0, c, rows, columns] for c in range(channels)]
            self._all_planes = self._bits[0, :, rows, columns]
        else:
            self._bits[0] = pad
            self._regions = [self._bits[0, rows, columns]]
        straight = self.path == "copy" and not self._nchw and self._contract.channel_order == "bgr"
        straight = straight and self._bits.dtype == np.uint8
        shape = (resized_h, resized_w)
        self._resized = self._regions[0] if straight else np.empty((*shape, 3), np.uint8)
        self._swapped = np.empty((*shape, 3) if channels == 3 else shape, np.uint8)
        self._stack = np.empty((channels, *shape), np.uint8)
        self._planes = list(self._stack)
        return geometry

    def _fill_pixels(self, image: np.ndarray) -> None:
        region, order = self._regions[0], self._contract.channel_order
        if order == "gray":
            cv2.cvtColor(image, cv2.COLOR_BGR2GRAY, dst=self._swapped)
            self._look_up(self._swapped, self._lut[0], region[..., 0])
            return
        if order == "rgb":
            if self.path == "copy" and region.dtype == np.uint8:
                cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=region)
                return
            image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=self._swapped)
        if image is not region:  # else it was resized straight into the tensor
            self._look_up(image, self._nhwc_lut, region)

    def _fill_planes(self, image: np.ndarray) -> None:
        if self._contract.channel_order == "gray":
            cv2.cvtColor(image, cv2.COLOR_BGR2GRAY, dst=self._planes[0])
            planes = self._planes
        else:
            cv2.split(image, self._planes)
            order = slice(None) if self._contract.channel_order == "bgr" else slice(None, None, -1)
            if self.path == "copy":
                np.copyto(self._all_planes, self._stack[order])
                return
            planes = self._planes[order]
        for plane, lut, region in zip(planes, self._lut, self._regions, strict=True):
            self._look_up(plane, lut, region)

    def _look_up(self, pixels: np.ndarray, lut: np.ndarray, region: np.ndarray) -> None:
        if self.path == "copy":
            np.copyto(region, pixels)
        elif self.path == "xor":
            np.bitwise_xor(pixels, np.uint8(0x80), out=region)
        else:
            cv2.LUT(pixels, lut, dst=region)


def _path_of(tables: np.ndarray) -> str:
    pixels = np.arange(256)
    if tables.dtype in (np.uint8, np.float32) and (tables == pixels).all():
        return "copy"  # numpy converts uint8 to float32 faster than a table does, to float16 slower
    if tables.dtype == np.int8 and (tables == pixels - 128).all():
        return "xor"
    return "table"


def _check(contract: InputContract, spec: TensorSpec) -> None:
    shape = "x".join(str(n) for n in spec.shape)
    if spec.layout is None or spec.shape[0] != 1:
        raise ManifestError(f"input '{spec.name}' is {shape}, not one image", "export the model with batch size 1")
    channels = spec.shape[1] if spec.layout == "NCHW" else spec.shape[3]
    wanted = 1 if contract.channel_order == "gray" else 3
    if channels != wanted:
        raise ManifestError(
            f"input '{spec.name}' is {shape}, but channel_order '{contract.channel_order}' has {wanted} channels",
            'set channel_order = "gray" for one channel, "rgb" or "bgr" for three',
        )
    if contract.size_wh and tuple(contract.size_wh) != spec.size_wh:
        raise ManifestError(
            f"the manifest says {contract.size_wh[0]}x{contract.size_wh[1]}, the model's input is "
            f"{spec.size_wh[0]}x{spec.size_wh[1]}",
            "correct input.size_wh, or leave it out",
        )
