"""Transformer heads: RT-DETR (Zhao et al., 2023), D-FINE, RF-DETR, DETR. A box a query, no suppression."""

import math
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

import msgspec
import numpy as np

from edge.boxes import xyxy_from_cxcywh
from edge.decoders.base import DecoderContext, Recognition, strongest
from edge.decoders.heads import find_columns, image_size_wh, refill
from edge.decoders.recognition import MOST_QUERIES, fused_head, is_cell_count, split_roles
from edge.decoders.scores import Activation, Softmax, sigmoid, stored_threshold
from edge.detections import Detections
from edge.errors import ManifestError
from edge.tensor import TensorSpec

__all__ = ["DetrDecoder", "DetrParams"]


class DetrParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """activation of the logits: "softmax" over all columns in DETR itself, "none" where the graph holds it.

    background: a column that is no class. class_offset: columns before the first label, never reported;
    class_id = column - class_offset. channels_first: only where the shape is ambiguous.
    """

    activation: Activation = "sigmoid"
    background: Literal["first", "last"] | None = None
    class_offset: Annotated[int, msgspec.Meta(ge=0)] = 0
    channels_first: bool | None = None


class DetrDecoder:
    """Decodes roles `logits` (1, Q, C) and `boxes` (1, Q, 4), or both in one (role `raw`, boxes first).

    Boxes are cxcywh in 0..1. As in RT-DETR's postprocessor, all Q x C scores are ranked together: a query may
    answer with several classes.
    """

    kind: ClassVar[Literal["detections"]] = "detections"
    needs_nms = False
    keypoint_count = 0

    def __init__(self, context: DecoderContext) -> None:
        """Raises: ManifestError when the outputs do not belong together or no class is left."""
        params = context.parameters(DetrParams)
        first = params.channels_first
        if "raw" in context.roles:
            count = context.class_count
            head = find_columns(context, "raw", (), count + 4 if count else None, first)
            self._boxes, columns = head.part(0, 4), head.part(4, head.width)
        else:
            self._boxes = find_columns(context, "boxes", (), 4, first)
            columns = find_columns(context, "logits", {self._boxes.rows}, None, first)
        start = max(params.class_offset, 1 if params.background == "first" else 0)
        end = columns.width - (1 if params.background == "last" else 0)
        if end <= start:
            raise ManifestError(f"the output '{columns.spec.name}' has no class column", "check its role")
        self.class_count: int | None = end - params.class_offset
        self.score_threshold = context.score_threshold
        self._size_whwh = np.array([*context.size_wh] * 2, np.float32)
        self._softmax = Softmax(columns) if params.activation == "softmax" else None
        self._classes = (start, end)
        self._offset = params.class_offset
        self._columns = columns
        self._spec = columns.spec
        if self._softmax:
            self._spec = TensorSpec(columns.spec.name, columns.spec.shape, np.dtype(np.float32))
        self._logits = params.activation == "sigmoid"
        self._mask = np.empty((columns.rows, columns.width), bool)
        self._threshold = math.nan

    @classmethod
    def recognise(cls, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> Recognition | None:
        """Return a claim on up to 1000 queries of box and class logits, apart or (Ultralytics) in one."""
        size = image_size_wh(inputs)
        if size is None:
            return None
        contract: dict[str, Any] = {"resize": "stretch", "channel_order": "rgb", "scale": 1 / 255}
        fused = fused_head(inputs, outputs)
        if fused and fused.family == "detr":
            why = f"{fused.described}, {fused.channels} = 4 box + {fused.channels - 4} class scores"
            params = {"activation": "none", "channels_first": False}
            return Recognition("detr", {"raw": outputs[0].name}, params, contract, why)
        split = split_roles(outputs, {"boxes": 4, "logits": None})
        if split is None or split[1] > MOST_QUERIES or is_cell_count(split[1], size):
            return None
        roles, queries = split
        shapes = {o.name: o.shape for o in outputs}
        why = f"{queries} queries: boxes {shapes[roles['boxes']]} and logits {shapes[roles['logits']]}"
        if roles["boxes"] == "dets":
            contract |= {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
            why += ", named as RF-DETR names them"
        return Recognition("detr", roles, {}, contract, why)

    def decode(self, outputs: Sequence[np.ndarray], into: Detections) -> None:
        """Refill `into` with results in engine-input px."""
        if self.score_threshold != self._threshold:
            self._threshold = self.score_threshold
            self._stored = stored_threshold(self._spec, self._threshold, self._logits)
        view = self._softmax.view(outputs) if self._softmax else self._columns.view(outputs)
        np.greater_equal(view, self._stored, out=self._mask)
        rows, ids = self._mask.nonzero()
        if self._classes != (0, self._columns.width):
            named = (ids >= self._classes[0]) & (ids < self._classes[1])
            rows, ids = rows[named], ids[named]
        real = self._spec.dequantize(view[rows, ids])
        scores = sigmoid(real) if self._logits else real
        good = np.isfinite(real) & (scores >= np.float32(self._threshold))
        rows, ids, scores = rows[good], ids[good], scores[good]
        if len(rows) > into.capacity:
            chosen = strongest(scores, into.capacity)
            rows, ids, scores = rows[chosen], ids[chosen], scores[chosen]
        xyxy = xyxy_from_cxcywh(self._boxes.take(outputs, rows) * self._size_whwh)
        refill(into, xyxy, np.minimum(scores, np.float32(1)), ids - self._offset)
