"""Resize and Upsample: the TFLite resampling whose source coordinates are ONNX's own, or none."""

from collections.abc import Callable

import numpy as np

from convert.onnx_to_tflite.graph import Node, unsupported
from convert.onnx_to_tflite.translation import Translation
from convert.onnx_to_tflite.view import NHWC
from convert.onnx_to_tflite.writer import Options

__all__ = ["OPS"]

_KINDS = ((False, False), (False, True), (True, False))  # align_corners, half_pixel_centers
_ROUNDING: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "round_prefer_floor": lambda x: np.ceil(x - 0.5),
    "round_prefer_ceil": lambda x: np.floor(x + 0.5),
    "floor": np.floor,
    "ceil": np.ceil,
}


def _resize(t: Translation, node: Node) -> None:
    shape, name = t.shape(node.inputs[0]), node.outputs[0]
    out = t.shape(name)
    mode = node.attributes.get("mode", "nearest")
    if len(shape) != 4 or shape[:2] != out[:2]:
        raise unsupported(node, "it resizes more than height and width")
    if mode not in ("nearest", "linear") or node.attributes.get("antialias"):
        raise unsupported(node, "only nearest and linear, without antialiasing")
    scales = _scales(t, node)
    coordinates = [_onnx_coordinates(node, shape[axis], out[axis], scales[axis]) for axis in (2, 3)]
    for align, half in _KINDS:
        ours = [_tflite_coordinates(shape[axis], out[axis], align, half) for axis in (2, 3)]
        if all(
            _same_samples(node, mode, theirs, own, shape[axis], align, half)
            for theirs, own, axis in zip(coordinates, ours, (2, 3), strict=True)
        ):
            break
    else:
        how = node.attributes.get("coordinate_transformation_mode", "half_pixel")
        raise unsupported(node, f"{mode} with {how} from {shape[2:]} to {out[2:]}")
    source = t.fetch(node.inputs[0], NHWC)
    op, kind = ("RESIZE_NEAREST_NEIGHBOR", "ResizeNearestNeighbor") if mode == "nearest" else _BILINEAR
    options: Options = (kind, {"alignCorners": align, "halfPixelCenters": half})
    size = (out[0], out[2], out[3], out[1])
    t.image(name, t.emit(op, [source, t.ints(out[2:])], size, name, options))


_BILINEAR = ("RESIZE_BILINEAR", "ResizeBilinear")


def _scales(t: Translation, node: Node) -> list[float]:
    """The scale of each axis: as given, since ONNX does not round it to the sizes."""
    shape, out = t.shape(node.inputs[0]), t.shape(node.outputs[0])
    scales = [new / old for new, old in zip(out, shape, strict=True)]
    given = t.graph.constant(node, 1 if node.op == "Upsample" else 2)
    if node.op == "Upsample" and "scales" in node.attributes:
        given = np.asarray(node.attributes["scales"])
    if given is not None and given.size:
        for axis, scale in zip(node.attributes.get("axes", range(4)), given, strict=True):
            scales[axis] = float(scale)
    return scales


def _onnx_coordinates(node: Node, size: int, out: int, scale: float) -> np.ndarray:
    """Where in the source each new element lies, (out,) float64."""
    default = "asymmetric" if node.op == "Upsample" else "half_pixel"
    mode = node.attributes.get("coordinate_transformation_mode", default)
    x = np.arange(out, dtype=np.float64)
    if mode == "asymmetric":
        return x / scale
    if mode == "align_corners":
        return x * ((size - 1) / (out - 1)) if out > 1 else x * 0
    if mode == "pytorch_half_pixel" and out == 1:
        return x * 0
    if mode == "half_pixel_symmetric":
        return size / 2 * (1 - out / (scale * size)) + (x + 0.5) / scale - 0.5
    if mode in ("half_pixel", "pytorch_half_pixel"):
        return (x + 0.5) / scale - 0.5
    raise unsupported(node, f"coordinate mode {mode}")


def _tflite_coordinates(size: int, out: int, align: bool, half: bool) -> np.ndarray:
    """The same by TFLite's kernels, (out,) float32 as they compute; half a pixel more for half_pixel_centers."""
    x = np.arange(out, dtype=np.float32)
    scale = np.float32(size - 1) / np.float32(out - 1) if align and out > 1 else np.float32(size) / np.float32(out)
    return (x + np.float32(0.5)) * scale if half else x * scale


def _same_samples(
    node: Node, mode: str, theirs: np.ndarray, ours: np.ndarray, size: int, align: bool, half: bool
) -> bool:
    if mode == "linear":
        ours = ours - 0.5 if half else ours
        return bool(np.allclose(np.clip(theirs, 0, size - 1), np.clip(ours, 0, size - 1), atol=1e-4))
    rounding = "floor" if node.op == "Upsample" else node.attributes.get("nearest_mode", "round_prefer_floor")
    chosen = np.clip(_ROUNDING[rounding](np.round(theirs, 6)), 0, size - 1)
    own = np.floor(ours + 0.5) if align else np.floor(ours)
    return bool(np.array_equal(chosen, np.clip(own, 0, size - 1)))


OPS = {"Resize": _resize, "Upsample": _resize}
