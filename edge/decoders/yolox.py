"""YOLOX heads (Ge et al., 2021): (p + grid) * stride centres, exp(p) * stride sizes, objectness * class."""

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

import msgspec
import numpy as np

from edge.boxes import xyxy_from_cxcywh
from edge.decoders.base import DecoderContext, Recognition
from edge.decoders.heads import LARGEST_EXPONENT, cell_count, find_columns, find_head, grid_cells, image_size_wh, refill
from edge.decoders.recognition import described_cells, fused_head, split_roles
from edge.decoders.scores import CandidateScores
from edge.detections import Detections
from edge.tensor import TensorSpec

__all__ = ["YoloxDecoder", "YoloxParams"]

STRIDES = (8, 16, 32)


class YoloxParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """strides in px. activated: scores and objectness are probabilities already, else logits.

    decoded: the graph decodes the boxes to cxcywh px. channels_first: only where the shape is ambiguous.
    """

    strides: list[Annotated[int, msgspec.Meta(gt=0)]] = msgspec.field(default_factory=lambda: list(STRIDES))
    activated: bool = True
    decoded: bool = False
    channels_first: bool | None = None


class YoloxDecoder:
    """Decodes one tensor (role `raw`: 4 box, 1 objectness, then classes) or `boxes`, `objectness`, `scores`.

    Both (1, N, C) and (1, C, N) are read. score = objectness * best class.
    """

    kind: ClassVar[Literal["detections"]] = "detections"
    needs_nms = True
    keypoint_count = 0

    def __init__(self, context: DecoderContext) -> None:
        """Raises: ManifestError when the outputs do not fit the strides, the input size or the labels."""
        params = context.parameters(YoloxParams)
        cells = grid_cells(context.size_wh, params.strides)
        rows, first = {len(cells)}, params.channels_first
        if "raw" in context.roles:
            head = find_head(context, 5, rows, first)
            find_columns(context, "raw", rows, head.width, head.channels_first)
            self._boxes, objectness, scores = head.part(0, 4), head.part(4, 5), head.part(5, head.width)
        else:
            self._boxes = find_columns(context, "boxes", rows, 4, first)
            objectness = find_columns(context, "objectness", rows, 1)
            scores = find_columns(context, "scores", rows, None, first)
        self._scores = CandidateScores(scores, objectness, "none" if params.activated else "sigmoid")
        self.class_count: int | None = scores.width
        self.score_threshold = context.score_threshold
        self._cells = None if params.decoded else cells

    @classmethod
    def recognise(cls, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> Recognition | None:
        """Return a claim on one row a cell of 4 box, 1 objectness and class channels, fused or apart."""
        size = image_size_wh(inputs)
        if size is None:
            return None
        strides, fused = list(STRIDES), fused_head(inputs, outputs)
        split = split_roles(outputs, {"boxes": 4, "objectness": 1, "scores": None})
        if split and split[1] == cell_count(size, strides):
            roles = split[0]
            why = f"boxes, objectness and scores apart: {described_cells(size, strides)}"
        elif fused and fused.family == "yolox":
            roles, strides = {"raw": outputs[0].name}, list(fused.strides)
            why = f"{fused.described}, {fused.channels} = 4 box + 1 objectness + {fused.channels - 5} classes"
        else:
            return None
        contract = {
            "resize": "letterbox",
            "placement": "top_left",
            "pad_value": 114,
            "channel_order": "bgr",
            "scale": 1.0,
        }
        params = {} if strides == list(STRIDES) else {"strides": strides}
        return Recognition("yolox", roles, params, contract, why)

    def decode(self, outputs: Sequence[np.ndarray], into: Detections) -> None:
        """Refill `into` with candidates in engine-input px."""
        rows, scores, class_ids = self._scores.select(outputs, self.score_threshold, into.capacity)
        boxes = self._boxes.take(outputs, rows)
        if self._cells is not None:
            cells, centers, sizes = self._cells[rows], boxes[:, :2], boxes[:, 2:]
            centers += cells[:, :2]
            np.minimum(sizes, LARGEST_EXPONENT, out=sizes)
            np.exp(sizes, out=sizes)
            boxes *= cells[:, 2:]
        refill(into, xyxy_from_cxcywh(boxes), scores, class_ids)
