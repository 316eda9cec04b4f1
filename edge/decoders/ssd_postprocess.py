"""The TFLite_Detection_PostProcess operator of TensorFlow's SSD and EfficientDet files, after its NMS."""

import re
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

import msgspec
import numpy as np

from edge.decoders.base import DecoderContext, Recognition, strongest
from edge.decoders.heads import find_columns, image_size_wh, refill
from edge.decoders.scores import CandidateScores
from edge.detections import Detections
from edge.tensor import TensorSpec

__all__ = ["SsdPostprocessDecoder", "SsdPostprocessParams"]

CONTRACT = {"resize": "stretch", "channel_order": "rgb", "scale": 1 / 127.5, "mean": (1.0, 1.0, 1.0)}

# the operator numbers its outputs, and so does a SavedModel: the numbers mean different things
TF1_ROLES = ("boxes", "classes", "scores", "count")
TF2_ROLES = ("count", "scores", "classes", "boxes")


class SsdPostprocessParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """class_offset: class_id = the operator's class - class_offset; 1 where background is its class 0."""

    class_offset: Annotated[int, msgspec.Meta(ge=0)] = 0


class SsdPostprocessDecoder:
    """Decodes roles `boxes` (1, N, 4), `classes` (1, N), `scores` (1, N) and, if there is one, `count` (1,).

    Boxes are ymin, xmin, ymax, xmax in 0..1 of the input. The order of the outputs means nothing.
    """

    kind: ClassVar[Literal["detections"]] = "detections"
    needs_nms = False
    keypoint_count = 0
    class_count: int | None = None

    def __init__(self, context: DecoderContext) -> None:
        """Raises: ManifestError when the outputs do not belong together."""
        self._offset = context.parameters(SsdPostprocessParams).class_offset
        self._boxes = find_columns(context, "boxes", (), 4, channels_first=False)
        rows = {self._boxes.rows}
        self._classes = find_columns(context, "classes", rows, 1)
        self._scores = CandidateScores(find_columns(context, "scores", rows, 1))
        self._count = context.output("count") if "count" in context.roles else None
        self.score_threshold = context.score_threshold
        width, height = context.size_wh
        self._size_hwhw = np.array([height, width, height, width], np.float32)

    @classmethod
    def recognise(cls, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> Recognition | None:
        """Return a claim on outputs (1, N, 4), (1, N), (1, N) and one number, whatever their order."""
        if image_size_wh(inputs) is None or len(outputs) != 4:
            return None
        boxes = [o for o in outputs if len(o.shape) == 3 and o.shape[2] == 4]
        if len(boxes) != 1:
            return None
        n = boxes[0].shape[1]
        count = [o for o in outputs if o.shape in ((1,), (1, 1), ())]
        rows = [o for o in outputs if o.shape == (1, n) and o not in count]
        if len(count) != 1 or len(rows) != 2:
            return None
        roles, because, certain = _roles(outputs)
        if roles.get("boxes") != boxes[0].name or roles.get("count") != count[0].name:
            return None
        why = f"outputs (1, {n}, 4), twice (1, {n}) and one number: TFLite_Detection_PostProcess; {because}"
        confidence: Literal["certain", "likely"] = "certain" if certain else "likely"
        return Recognition("ssd_postprocess", roles, {}, dict(CONTRACT), why, confidence)

    def decode(self, outputs: Sequence[np.ndarray], into: Detections) -> None:
        """Refill `into` with results in engine-input px."""
        rows, scores, _ = self._scores.select(outputs, self.score_threshold, self._boxes.rows)
        real = self._classes.take(outputs, rows)[:, 0] - np.float32(self._offset)
        good = np.isfinite(real) & (real > -0.5)
        if self._count is not None:
            # the operator leaves what is beyond its count as it was
            position, spec = self._count
            good &= rows < spec.dequantize(outputs[position].reshape(1))[0]
        rows, scores, real = rows[good], scores[good], real[good]
        if len(rows) > into.capacity:
            chosen = strongest(scores, into.capacity)
            rows, scores, real = rows[chosen], scores[chosen], real[chosen]
        yxyx = self._boxes.take(outputs, rows) * self._size_hwhw
        refill(into, yxyx[:, [1, 0, 3, 2]], scores, np.rint(real).astype(np.int32))


def _roles(outputs: Sequence[TensorSpec]) -> tuple[dict[str, str], str, bool]:
    """Role -> name by the outputs' names, or else by their usual orders; why; and whether it is certain."""
    names = [o.name for o in outputs]
    words = {"boxes": "box", "scores": "score", "classes": "class", "count": "num"}
    by_word = {role: [n for n in names if word in n.lower()] for role, word in words.items()}
    if all(len(found) == 1 for found in by_word.values()) and len({v[0] for v in by_word.values()}) == 4:
        return {role: found[0] for role, found in by_word.items()}, "roles by the outputs' names", True
    numbers = [re.search(r":(\d)$", n) for n in names]
    if all("TFLite_Detection_PostProcess" in n for n in names):
        order = {int(m[1]) if m else 0: n for m, n in zip(numbers, names, strict=True)}
        by_number = _numbered(order, TF1_ROLES)
    else:
        order = {int(m[1]): n for m, n in zip(numbers, names, strict=True) if m}
        by_number = _numbered(order, TF2_ROLES)
    if by_number:
        return by_number, "roles by the numbers in the outputs' names", True
    boxes_first = len(outputs[0].shape) == 3
    usual = TF1_ROLES if boxes_first else ("scores", "boxes", "count", "classes")
    by_order: dict[str, Any] = dict(zip(usual, names, strict=True))
    return by_order, "roles by the usual order of such files (a guess)", False


def _numbered(names: dict[int, str], roles: Sequence[str]) -> dict[str, str]:
    if sorted(names) != [0, 1, 2, 3]:
        return {}
    return {role: names[i] for i, role in enumerate(roles)}
