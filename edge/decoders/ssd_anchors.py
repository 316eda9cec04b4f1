"""SSD heads: boxes relative to anchors, as in BlazeFace (Bazarevsky et al., 2019) and SSD (Liu et al., 2016).

Anchors follow MediaPipe's SsdAnchorsCalculator with a fixed anchor size; boxes and keypoints its
TensorsToDetectionsCalculator.
"""

from collections.abc import Sequence
from itertools import groupby
from typing import Annotated, ClassVar, Literal

import msgspec
import numpy as np

from edge.boxes import xyxy_from_cxcywh
from edge.decoders.base import DecoderContext, Recognition
from edge.decoders.heads import LARGEST_EXPONENT, find_columns, grid_cells, image_size_wh, refill
from edge.decoders.recognition import split_roles
from edge.decoders.scores import Activation, CandidateScores
from edge.detections import Detections
from edge.errors import ManifestError
from edge.tensor import TensorSpec

__all__ = ["SsdAnchorsDecoder", "SsdAnchorsParams", "fixed_size_anchors"]

Positive = Annotated[float, msgspec.Meta(gt=0)]
PositiveInt = Annotated[int, msgspec.Meta(gt=0)]

# input side in px -> strides and anchors a layer of MediaPipe's two face detectors
BLAZEFACE = {128: ([8, 16, 16, 16], 2), 192: ([4], 1)}


class SsdAnchorsParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Anchors, and how a row of numbers becomes a box.

    strides (px), anchors_per_cell (a layer) and anchor_offset (cells) lay anchors as large as the input;
    layers of equal stride that follow each other share a grid.
    anchors lists them instead: cx, cy, w, h in 0..1.
    x_scale .. h_scale divide the numbers; by default the input size: these are px where anchors are 1 x 1.
    exponential: w and h are exponents. box_order: also of the keypoints. keypoints: pairs after the box.
    activation: of the scores. background: a column that is no class.
    """

    strides: list[PositiveInt] = msgspec.field(default_factory=list)
    anchors_per_cell: PositiveInt = 2
    anchor_offset: float = 0.5
    anchors: list[tuple[float, float, Positive, Positive]] = msgspec.field(default_factory=list)
    x_scale: Positive | None = None
    y_scale: Positive | None = None
    w_scale: Positive | None = None
    h_scale: Positive | None = None
    exponential: bool = False
    box_order: Literal["xywh", "yxhw"] = "xywh"
    keypoints: Annotated[int, msgspec.Meta(ge=0)] = 0
    activation: Activation = "sigmoid"
    background: Literal["first", "last"] | None = None


def fixed_size_anchors(
    size_wh: tuple[int, int], strides: Sequence[int], anchors_per_cell: int, offset: float = 0.5
) -> np.ndarray:
    """Return (A, 4) float32 anchors, cxcywh in 0..1, all of size 1 x 1: per grid, per row, per column.

    strides: of each layer in px; equal ones that follow each other share a grid and add their anchors.
    """
    grids = []
    for stride, layers in groupby(strides):
        per_cell = anchors_per_cell * len(list(layers))
        cells = np.repeat(grid_cells(size_wh, [stride])[:, :2], per_cell, axis=0)
        columns, rows = -(-size_wh[0] // stride), -(-size_wh[1] // stride)
        centres = (cells + np.float32(offset)) / np.array([columns, rows], np.float32)
        grids.append(np.concatenate([centres, np.ones_like(centres)], axis=1))
    return np.concatenate(grids).astype(np.float32)


class SsdAnchorsDecoder:
    """Decodes roles `boxes` (1, A, 4 + 2 K) and `scores` (1, A, C)."""

    kind: ClassVar[Literal["detections"]] = "detections"
    needs_nms = True

    def __init__(self, context: DecoderContext) -> None:
        """Raises: ManifestError when the outputs do not fit the anchors, or these are not given once."""
        params = context.parameters(SsdAnchorsParams)
        if bool(params.strides) == bool(params.anchors):
            raise ManifestError("ssd_anchors needs its anchors once", "set either strides or anchors in decoder.params")
        size = context.size_wh
        if params.anchors:
            anchors = np.array(params.anchors, np.float32)
        else:
            anchors = fixed_size_anchors(size, params.strides, params.anchors_per_cell, params.anchor_offset)
        self.keypoint_count = params.keypoints
        self._boxes = find_columns(context, "boxes", {len(anchors)}, 4 + 2 * params.keypoints)
        scores = find_columns(context, "scores", {len(anchors)})
        self._scores = CandidateScores(scores, None, params.activation, params.background)
        self.class_count: int | None = self._scores.class_count
        self.score_threshold = context.score_threshold
        self._anchors_px = anchors * np.array([*size, *size], np.float32)
        scales = (params.x_scale, params.y_scale, params.w_scale, params.h_scale)
        self._scales = np.array([s or d for s, d in zip(scales, size * 2, strict=True)], np.float32)
        self._exponential = params.exponential
        pairs = np.arange(self._boxes.width).reshape(-1, 2)
        self._xy_order = pairs[:, ::-1].ravel() if params.box_order == "yxhw" else None

    @classmethod
    def recognise(cls, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> Recognition | None:
        """Return a claim on MediaPipe's face detectors: 896 anchors at 128 px or 2304 at 192 px."""
        size = image_size_wh(inputs)
        split = split_roles(outputs, {"boxes": 16, "scores": 1})
        if size is None or split is None or size[0] != size[1] or size[0] not in BLAZEFACE:
            return None
        roles, count = split
        strides, per_cell = BLAZEFACE[size[0]]
        if count != len(fixed_size_anchors(size, strides, per_cell)):
            return None
        params = {"strides": strides, "anchors_per_cell": per_cell, "keypoints": 6}
        contract = {
            "resize": "letterbox",
            "placement": "center",
            "pad_value": 0,
            "channel_order": "rgb",
            "scale": 1 / 127.5,
            "mean": (1.0, 1.0, 1.0),
        }
        steps = ", ".join(map(str, strides))
        why = (
            f"{count} anchors = {per_cell} a cell and layer at strides {steps} of a {size[0]}x{size[1]} "
            "input, each with 16 = 4 box + 6 x 2 keypoint numbers and 1 score: a MediaPipe face detector"
        )
        return Recognition("ssd_anchors", roles, params, contract, why, "certain")

    def decode(self, outputs: Sequence[np.ndarray], into: Detections) -> None:
        """Refill `into` with candidates and keypoints in engine-input px."""
        rows, scores, class_ids = self._scores.select(outputs, self.score_threshold, into.capacity)
        numbers = self._boxes.take(outputs, rows)
        if self._xy_order is not None:
            numbers = numbers[:, self._xy_order]
        anchors = self._anchors_px[rows]
        boxes = numbers[:, :4] / self._scales
        if self._exponential:
            np.minimum(boxes[:, 2:], LARGEST_EXPONENT, out=boxes[:, 2:])
            np.exp(boxes[:, 2:], out=boxes[:, 2:])
        boxes[:, :2] *= anchors[:, 2:]
        boxes[:, :2] += anchors[:, :2]
        boxes[:, 2:] *= anchors[:, 2:]
        keypoints = None
        if self.keypoint_count:
            keypoints = numbers[:, 4:].reshape(len(rows), self.keypoint_count, 2) / self._scales[:2]
            keypoints *= anchors[:, None, 2:]
            keypoints += anchors[:, None, :2]
        refill(into, xyxy_from_cxcywh(boxes), scores, class_ids, keypoints)
