"""Where source pixels land in the input tensor, and how boxes come back."""

from dataclasses import dataclass, field

import numpy as np

from edge.detections import Detections
from edge.manifest import InputContract

__all__ = ["Geometry", "plan_geometry"]


@dataclass(frozen=True, slots=True)
class Geometry:
    """A source region (whole px) is resized to `resized_wh` and put at `offset_xy` of the input image.

    Axis-wise: tensor = (source - region origin) * resized / region size + offset. The factors come from the whole
    pixel sizes really used, not from the ideal ratio, so rounding a size never shifts a box.
    """

    source_wh: tuple[int, int]
    region_xywh: tuple[int, int, int, int]
    resized_wh: tuple[int, int]
    offset_xy: tuple[int, int]
    _factor: np.ndarray = field(init=False, compare=False, repr=False)  # source = tensor * factor + shift, per axis
    _shift: np.ndarray = field(init=False, compare=False, repr=False)
    _limit: np.ndarray = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        x, y, width, height = self.region_xywh
        factor = np.array([width / self.resized_wh[0], height / self.resized_wh[1]])
        shift = np.array([x, y]) - np.array(self.offset_xy) * factor
        for name, pair in (("_factor", factor), ("_shift", shift), ("_limit", self.source_wh)):
            object.__setattr__(self, name, np.tile(np.asarray(pair, np.float32), 2))

    def to_source(self, detections: Detections) -> None:
        """Map boxes and keypoints in place from input-image px to source px; boxes are clipped to the source."""
        n = detections.count
        boxes = detections.xyxy[:n]
        boxes *= self._factor
        boxes += self._shift
        np.maximum(boxes, 0, out=boxes)
        np.minimum(boxes, self._limit, out=boxes)
        if detections.keypoints is not None:
            points = detections.keypoints[:n]
            points *= self._factor[:2]
            points += self._shift[:2]

    def tensor_from_source(self, xy: np.ndarray) -> np.ndarray:
        """Return (..., 2) float64 input-image px of (..., 2) points in source px; a new array."""
        x, y, width, height = self.region_xywh
        factor = np.array([self.resized_wh[0] / width, self.resized_wh[1] / height])
        return (np.asarray(xy, np.float64) - (x, y)) * factor + self.offset_xy


def plan_geometry(contract: InputContract, source_wh: tuple[int, int], tensor_wh: tuple[int, int]) -> Geometry:
    """Return where a source of `source_wh` px goes in an input image of `tensor_wh` px.

    Sizes are rounded as training code does: top-left letterbox floors (YOLOX), centred letterbox rounds to the
    nearest and gives the odd pixel to the right and bottom (Ultralytics). Nothing shrinks below one pixel.
    """
    (source_w, source_h), (tensor_w, tensor_h) = source_wh, tensor_wh
    whole = (0, 0, source_w, source_h)
    if contract.resize == "stretch":
        return Geometry(source_wh, whole, tensor_wh, (0, 0))
    if contract.resize == "crop":
        ratio = contract.crop_fraction * min(source_w / tensor_w, source_h / tensor_h)
        width = max(1, min(source_w, round(tensor_w * ratio)))
        height = max(1, min(source_h, round(tensor_h * ratio)))
        region = ((source_w - width) // 2, (source_h - height) // 2, width, height)
        return Geometry(source_wh, region, tensor_wh, (0, 0))
    ratio = min(tensor_w / source_w, tensor_h / source_h)
    if contract.placement == "top_left":
        resized = (max(1, int(source_w * ratio)), max(1, int(source_h * ratio)))
        return Geometry(source_wh, whole, resized, (0, 0))
    resized = (max(1, round(source_w * ratio)), max(1, round(source_h * ratio)))
    return Geometry(source_wh, whole, resized, ((tensor_w - resized[0]) // 2, (tensor_h - resized[1]) // 2))
