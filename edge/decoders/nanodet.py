"""NanoDet heads: each side's distance is a distribution (Generalized Focal Loss, Li et al., 2020)."""

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

import msgspec
import numpy as np

from edge.decoders.base import DecoderContext, Recognition
from edge.decoders.heads import cell_count, find_columns, find_head, grid_cells, image_size_wh, refill
from edge.decoders.recognition import described_cells, fused_head, split_roles
from edge.decoders.scores import CandidateScores
from edge.detections import Detections
from edge.tensor import TensorSpec

__all__ = ["NanodetDecoder", "NanodetParams"]

PLUS_STRIDES = (8, 16, 32, 64)
FIRST_STRIDES = (8, 16, 32)
REG_MAX = 7
CONTRACT = {
    "resize": "stretch",
    "channel_order": "bgr",
    "scale": 1.0,
    "mean": (103.53, 116.28, 123.675),
    "std": (57.375, 57.12, 58.395),
}


class NanodetParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """strides in px. reg_max: the last bin; a side has reg_max + 1 of them.

    activated: scores are probabilities, else logits.
    cell_offset: where in its cell a centre lies, in cells: 0 in NanoDet-Plus, 0.5 in the first NanoDet.
    channels_first: only where the shape is ambiguous.
    """

    strides: list[Annotated[int, msgspec.Meta(gt=0)]] = msgspec.field(default_factory=lambda: list(PLUS_STRIDES))
    reg_max: Annotated[int, msgspec.Meta(ge=1)] = REG_MAX
    activated: bool = True
    cell_offset: float = 0.0
    channels_first: bool | None = None


class NanodetDecoder:
    """Decodes one tensor (role `raw`: classes, then 4 (reg_max + 1) bins) or roles `boxes` and `scores`.

    The bins of left, top, right and bottom are logits. Both (1, N, C) and (1, C, N) are read.
    """

    kind: ClassVar[Literal["detections"]] = "detections"
    needs_nms = True
    keypoint_count = 0

    def __init__(self, context: DecoderContext) -> None:
        """Raises: ManifestError when the outputs do not fit the params, the input size or the labels."""
        params = context.parameters(NanodetParams)
        cells = grid_cells(context.size_wh, params.strides)
        cells[:, :2] += np.float32(params.cell_offset)
        rows, first, bins = {len(cells)}, params.channels_first, 4 * (params.reg_max + 1)
        if "raw" in context.roles:
            head = find_head(context, bins, rows, first)
            find_columns(context, "raw", rows, head.width, head.channels_first)
            self._boxes, scores = head.part(head.width - bins, head.width), head.part(0, head.width - bins)
        else:
            self._boxes = find_columns(context, "boxes", rows, bins, first)
            scores = find_columns(context, "scores", rows, None, first)
        self._scores = CandidateScores(scores, None, "none" if params.activated else "sigmoid")
        self.class_count: int | None = scores.width
        self.score_threshold = context.score_threshold
        self._stride = cells[:, 2]
        self._centres_px = cells[:, :2] * cells[:, 2:]
        self._bins = np.arange(params.reg_max + 1, dtype=np.float32)

    @classmethod
    def recognise(cls, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> Recognition | None:
        """Return a claim on one row a cell of classes and 4 x 8 bins, fused or as two outputs."""
        size, fused = image_size_wh(inputs), fused_head(inputs, outputs)
        if size is None:
            return None
        split = split_roles(outputs, {"boxes": 4 * (REG_MAX + 1), "scores": None})
        if fused and fused.family == "nanodet":
            roles, strides = {"raw": outputs[0].name}, fused.strides
            why = f"{fused.described}, {fused.channels} = {fused.channels - 32} classes + 4 x 8 distance bins"
        elif split and split[1] in (cell_count(size, PLUS_STRIDES), cell_count(size, FIRST_STRIDES)):
            roles = split[0]
            strides = PLUS_STRIDES if split[1] == cell_count(size, PLUS_STRIDES) else FIRST_STRIDES
            why = f"scores and 4 x 8 distance bins apart: {described_cells(size, strides)}"
        else:
            return None
        params: dict[str, Any] = {"strides": list(strides)}
        if strides == FIRST_STRIDES:
            params["cell_offset"] = 0.5
        return Recognition("nanodet", roles, params, dict(CONTRACT), why)

    def decode(self, outputs: Sequence[np.ndarray], into: Detections) -> None:
        """Refill `into` with candidates in engine-input px."""
        rows, scores, class_ids = self._scores.select(outputs, self.score_threshold, into.capacity)
        bins = self._boxes.take(outputs, rows).reshape(len(rows), 4, len(self._bins))
        with np.errstate(invalid="ignore"):  # inf - inf: a box that is not finite is left out below
            bins -= bins.max(axis=2, keepdims=True)
        np.exp(bins, out=bins)
        sides = (bins @ self._bins) / bins.sum(axis=2) * self._stride[rows, None]
        centres = self._centres_px[rows]
        xyxy = np.concatenate([centres - sides[:, :2], centres + sides[:, 2:]], axis=1)
        refill(into, xyxy, scores, class_ids)
