"""YOLO heads whose boxes the graph decodes: v5 and v7, v8 to v12, and end-to-end v10 and 26."""

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

import msgspec
import numpy as np

from edge.boxes import xyxy_from_cxcywh
from edge.decoders.base import DecoderContext, Recognition
from edge.decoders.heads import Columns, cell_count, find_columns, find_head, image_size_wh, refill
from edge.decoders.recognition import STRIDE_SETS, FusedHead, fused_head, split_roles
from edge.decoders.scores import CandidateScores
from edge.detections import Detections
from edge.errors import ManifestError
from edge.tensor import TensorSpec

__all__ = ["YoloDecoder", "YoloParams"]

CONTRACT = {
    "resize": "letterbox",
    "placement": "center",
    "pad_value": 114,
    "channel_order": "rgb",
    "scale": 1 / 255,
}
COCO_KEYPOINTS = 17


class YoloParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the tensor is.

    objectness: a fifth column multiplies the class scores (v5, v7); without it v8, v9, 11, 12.
    end_to_end: rows are x1, y1, x2, y2, score, class, already suppressed (v10, 26).
    normalized: coordinates are 0..1 of the input, as in Ultralytics' TFLite files, else px.
    activated: scores are probabilities already, else logits. keypoints and keypoint_dims (x, y and, with 3, a
    visibility that is not used): of pose models. channels_first: only where the shape is ambiguous.
    """

    objectness: bool = False
    end_to_end: bool = False
    normalized: bool = False
    activated: bool = True
    keypoints: Annotated[int, msgspec.Meta(ge=0)] = 0
    keypoint_dims: Literal[2, 3] = 3
    channels_first: bool | None = None


class YoloDecoder:
    """Decodes one tensor (role `raw`) or several (`boxes`, `scores` and those that the params call for).

    These are `objectness`, `classes` (end-to-end) and `keypoints`. Both (1, N, C) and (1, C, N) are read.
    """

    kind: ClassVar[Literal["detections"]] = "detections"

    def __init__(self, context: DecoderContext) -> None:
        """Raises: ManifestError when outputs and params contradict each other."""
        params = context.parameters(YoloParams)
        if params.end_to_end and params.objectness:
            raise ManifestError("an end-to-end head has no objectness", "remove one of them from decoder.params")
        objectness, scores = self._find(context, params)
        self._scores = CandidateScores(scores, objectness, "none" if params.activated else "sigmoid")
        self.class_count: int | None = None if params.end_to_end else scores.width
        self.needs_nms = not params.end_to_end
        self.keypoint_count = params.keypoints
        self.score_threshold = context.score_threshold
        self._dims = params.keypoint_dims
        self._size = np.array(context.size_wh, np.float32) if params.normalized else None

    def _find(self, context: DecoderContext, params: YoloParams) -> tuple[Columns | None, Columns]:
        """Set where boxes, classes and keypoints are; return where objectness and scores are."""
        size, first = context.size_wh, params.channels_first
        cells = {n * cell_count(size, strides) for strides in STRIDE_SETS for n in (1, 3)}
        points = params.keypoints * params.keypoint_dims
        self._classes: Columns | None = None
        self._keypoints: Columns | None = None
        objectness: Columns | None = None
        if "raw" in context.roles:
            if params.end_to_end:
                head = find_columns(context, "raw", (), 6 + points, first)
                scores, self._classes, end = head.part(4, 5), head.part(5, 6), 6
            else:
                start = 5 if params.objectness else 4
                head = find_head(context, start + points, cells, first)
                end = head.width - points
                scores = head.part(start, end)
                objectness = head.part(4, 5) if params.objectness else None
            self._boxes = head.part(0, 4)
            self._keypoints = head.part(end, end + points) if points else None
            return objectness, scores
        self._boxes = find_columns(context, "boxes", (), 4, first)
        rows = {self._boxes.rows}
        if params.end_to_end:
            scores = find_columns(context, "scores", rows, 1)
            self._classes = find_columns(context, "classes", rows, 1)
        else:
            scores = find_columns(context, "scores", rows, None, first)
        if params.objectness:
            objectness = find_columns(context, "objectness", rows, 1)
        self._keypoints = find_columns(context, "keypoints", rows, points, first) if points else None
        return objectness, scores

    @classmethod
    def recognise(cls, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> Recognition | None:
        """Return a claim on a fused head, on boxes and scores with one row a cell, or on 300 x 6 results."""
        size = image_size_wh(inputs)
        if size is None:
            return None
        # Ultralytics normalizes the boxes of its TensorFlow formats, whose images are NHWC
        params: dict[str, Any] = {"normalized": True} if inputs[0].layout == "NHWC" else {}
        guess = "; boxes taken as 0..1, as in Ultralytics' TFLite files (a guess)" if params else ""
        fused = fused_head(inputs, outputs)
        if fused and fused.family in ("yolo", "end_to_end"):
            more, why = _fused_params(fused)
            return Recognition(
                "yolo",
                {"raw": outputs[0].name},
                params | more,
                dict(CONTRACT),
                f"{fused.described}, {why}{guess}",
            )
        for roles, per_cell in ((("boxes", "scores"), 1), (("boxes", "objectness", "scores"), 3)):
            split = split_roles(outputs, {r: {"boxes": 4, "objectness": 1}.get(r) for r in roles})
            if split and split[1] in {per_cell * cell_count(size, strides) for strides in STRIDE_SETS}:
                why = f"{', '.join(roles)} apart, {split[1]} rows = {per_cell} a cell of {size[0]} px{guess}"
                params |= {"objectness": True} if per_cell == 3 else {}
                return Recognition("yolo", split[0], params, dict(CONTRACT), why)
        return None

    def decode(self, outputs: Sequence[np.ndarray], into: Detections) -> None:
        """Refill `into` with candidates (end-to-end: results) in engine-input px."""
        rows, scores, class_ids = self._scores.select(outputs, self.score_threshold, into.capacity)
        boxes = self._boxes.take(outputs, rows)
        if self._classes is not None:
            real = self._classes.take(outputs, rows)[:, 0]
            named = np.isfinite(real) & (real > -0.5)
            if not named.all():
                rows, scores, boxes, real = rows[named], scores[named], boxes[named], real[named]
            class_ids = np.rint(real).astype(np.int32)
        xyxy = xyxy_from_cxcywh(boxes) if self.needs_nms else boxes
        if self._size is not None:
            xyxy.reshape(-1, 2, 2)[:] *= self._size
        keypoints = None
        if self._keypoints is not None:
            numbers = self._keypoints.take(outputs, rows)
            keypoints = numbers.reshape(len(rows), self.keypoint_count, self._dims)[:, :, :2]
            if self._size is not None:
                keypoints = keypoints * self._size
        refill(into, xyxy, scores, class_ids, keypoints)


def _fused_params(fused: FusedHead) -> tuple[dict[str, Any], str]:
    channels = fused.channels
    if fused.family == "end_to_end":
        pose = channels == 6 + 3 * COCO_KEYPOINTS
        params: dict[str, Any] = {"end_to_end": True} | ({"keypoints": COCO_KEYPOINTS} if pose else {})
        return params, f"{channels} = x1, y1, x2, y2, score, class" + (" + 17 x 3 keypoints" if pose else "")
    if fused.per_cell == 3:
        return {"objectness": True}, f"{channels} = 4 box + 1 objectness + {channels - 5} classes (v5, v7)"
    if channels == 5 + 3 * COCO_KEYPOINTS:
        return {"keypoints": COCO_KEYPOINTS}, f"{channels} = 4 box + 1 class + 17 x 3 keypoints (v8 pose)"
    return {}, f"{channels} = 4 box + {channels - 4} classes (v8 and later)"
