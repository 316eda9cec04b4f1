"""FastestDet heads (dog-qiuqiu, 2022): one grid, tanh centres, sigmoid sizes, a weighted score product."""

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

import msgspec
import numpy as np

from edge.boxes import xyxy_from_cxcywh
from edge.decoders.base import DecoderContext, Recognition
from edge.decoders.heads import cell_count, find_columns, find_head, grid_cells, image_size_wh, refill
from edge.decoders.scores import CandidateScores, sigmoid
from edge.detections import Detections
from edge.tensor import TensorSpec

__all__ = ["FastestdetDecoder", "FastestdetParams"]

STRIDE = 16
POWERS = (0.6, 0.4)
CONTRACT = {"resize": "stretch", "interpolation": "area", "channel_order": "bgr", "scale": 1 / 255}


class FastestdetParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """stride of the only grid in px. channels_first: only where the shape is ambiguous.

    The graph already holds the sigmoid of objectness and the softmax of classes.
    """

    stride: Annotated[int, msgspec.Meta(gt=0)] = STRIDE
    channels_first: bool | None = None


class FastestdetDecoder:
    """Decodes one tensor (role `raw`: objectness, 4 box, then classes) or `objectness`, `boxes` and `scores`.

    (1, C, H, W), (1, H, W, C) and their flattened forms are read. score = objectness^0.6 * best class^0.4.
    """

    kind: ClassVar[Literal["detections"]] = "detections"
    needs_nms = True
    keypoint_count = 0

    def __init__(self, context: DecoderContext) -> None:
        """Raises: ManifestError when the outputs do not fit the stride, the input size or the labels."""
        params = context.parameters(FastestdetParams)
        cells = grid_cells(context.size_wh, [params.stride])
        rows, first = {len(cells)}, params.channels_first
        if "raw" in context.roles:
            head = find_head(context, 5, rows, first)
            find_columns(context, "raw", rows, head.width, head.channels_first)
            objectness, self._boxes, scores = head.part(0, 1), head.part(1, 5), head.part(5, head.width)
        else:
            objectness = find_columns(context, "objectness", rows, 1)
            self._boxes = find_columns(context, "boxes", rows, 4, first)
            scores = find_columns(context, "scores", rows, None, first)
        self._scores = CandidateScores(scores, objectness, powers=POWERS)
        self.class_count: int | None = scores.width
        self.score_threshold = context.score_threshold
        self._cells = np.ascontiguousarray(cells[:, :2])
        self._stride = np.float32(params.stride)
        self._size = np.array(context.size_wh, np.float32)

    @classmethod
    def recognise(cls, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> Recognition | None:
        """Return a claim on one image-shaped output of 6 channels or more at a sixteenth of the input."""
        size = image_size_wh(inputs)
        if size is None or len(outputs) != 1 or len(outputs[0].shape) != 4:
            return None
        shape = outputs[0].shape
        columns, rows = -(-size[0] // STRIDE), -(-size[1] // STRIDE)
        if shape[2:] == (rows, columns):
            channels = shape[1]
        elif shape[1:3] == (rows, columns):
            channels = shape[3]
        else:
            return None
        if channels < 6:
            return None
        why = (
            f"one output {shape}: {rows}x{columns} = {cell_count(size, [STRIDE])} cells at stride {STRIDE} "
            f"of a {size[0]}x{size[1]} input, {channels} = 1 objectness + 4 box + {channels - 5} classes"
        )
        return Recognition("fastestdet", {"raw": outputs[0].name}, {}, dict(CONTRACT), why)

    def decode(self, outputs: Sequence[np.ndarray], into: Detections) -> None:
        """Refill `into` with candidates in engine-input px."""
        rows, scores, class_ids = self._scores.select(outputs, self.score_threshold, into.capacity)
        boxes = self._boxes.take(outputs, rows)
        np.tanh(boxes[:, :2], out=boxes[:, :2])
        boxes[:, :2] += self._cells[rows]
        boxes[:, :2] *= self._stride
        boxes[:, 2:] = sigmoid(boxes[:, 2:]) * self._size
        refill(into, xyxy_from_cxcywh(boxes), scores, class_ids)
