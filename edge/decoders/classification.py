"""Image classifiers: the best classes of one score vector, with softmax where the graph leaves it out."""

import math
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import msgspec
import numpy as np

from edge.decoders.base import DecoderContext, Recognition
from edge.decoders.heads import image_size_wh
from edge.decoders.scores import stored_threshold
from edge.detections import Classification
from edge.errors import ManifestError
from edge.tensor import TensorSpec

__all__ = ["ClassificationDecoder", "ClassificationParams"]


class ClassificationParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """softmax: the output holds logits, to be turned into probabilities here."""

    softmax: bool = False


class ClassificationDecoder:
    """Decodes role `scores`, (1, C) or (1, 1, 1, C) of any dtype, to the best classes above the threshold."""

    kind: ClassVar[Literal["classification"]] = "classification"
    needs_nms = False
    keypoint_count = 0

    def __init__(self, context: DecoderContext) -> None:
        """Raises: ManifestError when the output is no single vector."""
        self._position, self._spec = context.output("scores")
        count = math.prod(self._spec.shape)
        if count != max(self._spec.shape):
            raise ManifestError(
                f"the output '{self._spec.name}' has shape {self._spec.shape}, not one score a class",
                "give role 'scores' to the classifier's output, or correct decoder.family",
            )
        self.class_count: int | None = count
        self.score_threshold = context.score_threshold
        softmax = context.parameters(ClassificationParams).softmax
        self._real = np.empty(count, np.float32) if softmax else None
        # what `decode` ranks: probabilities made here, or the tensor as it is stored
        self._ranked = TensorSpec("", (count,), np.dtype(np.float32)) if softmax else self._spec
        self._order = np.empty(count, self._ranked.dtype)
        self._mask = np.empty(count, bool)
        self._threshold = math.nan

    @classmethod
    def recognise(cls, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> Recognition | None:
        """Return a claim on a single output vector of 2 scores or more."""
        size = image_size_wh(inputs)
        if size is None or len(outputs) != 1:
            return None
        shape = outputs[0].shape
        count = math.prod(shape)
        if count < 2 or count != max(shape) or shape[0] != 1:
            return None
        nchw = inputs[0].layout == "NCHW"
        softmax, because = _needs_softmax(outputs[0], nchw)
        contract: dict[str, Any] = {"resize": "crop", "channel_order": "rgb", "crop_fraction": 0.875}
        if nchw:
            contract |= {"scale": 1 / 255, "mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
        else:
            contract |= {"scale": 1 / 127.5, "mean": (1.0, 1.0, 1.0)}
        why = f"one output {shape}: {count} class scores; {because}"
        return Recognition("classification", {"scores": outputs[0].name}, {"softmax": softmax}, contract, why)

    def decode(self, outputs: Sequence[np.ndarray], into: Classification) -> None:
        """Refill `into` with the best classes, best first, ties going to the lower class."""
        values = outputs[self._position].reshape(-1)
        if self._real is not None:
            values = self._probabilities(values)
        if self.score_threshold != self._threshold:
            self._threshold = self.score_threshold
            self._stored = stored_threshold(self._ranked, self._threshold, logits=False)
        np.greater_equal(values, self._stored, out=self._mask)
        limit = min(into.capacity, len(values))
        if limit < len(values):
            # in place, so that nothing as long as the tensor is allocated; a NaN would sort above all scores
            np.copyto(self._order, values)
            if self._order.dtype.kind == "f":
                np.copyto(self._order, -np.inf, where=np.isnan(self._order))
            self._order.partition(len(values) - limit)
            self._mask &= values >= self._order[len(values) - limit]
        classes = self._mask.nonzero()[0]
        scores = self._ranked.dequantize(values[classes])
        good = np.isfinite(scores) & (scores >= np.float32(self._threshold))
        classes, scores = classes[good], scores[good]
        best = np.argsort(-scores, kind="stable")[:limit]
        into.count = n = len(best)
        into.class_ids[:n] = classes[best]
        np.minimum(scores[best], np.float32(1), out=into.scores[:n])

    def _probabilities(self, stored: np.ndarray) -> np.ndarray:
        real = self._real
        assert real is not None
        np.copyto(real, stored)
        if self._spec.quantization is not None:
            real *= np.float32(self._spec.quantization.scale)  # softmax does not feel the zero point
        with np.errstate(invalid="ignore"):  # inf - inf: all becomes NaN and nothing passes
            real -= real.max()
        np.exp(real, out=real)
        real /= real.sum()
        return real


def _needs_softmax(output: TensorSpec, nchw: bool) -> tuple[bool, str]:
    name, quantization = output.name.lower(), output.quantization
    if any(word in name for word in ("softmax", "prob")):
        return False, "its name says that they are probabilities"
    if "logit" in name:
        return True, "its name says that they are logits"
    if quantization is not None and math.isclose(quantization.scale, 1 / 256, rel_tol=1e-3):
        return False, "quantized in steps of 1/256, as a softmax is"
    if nchw:
        return True, "taken for logits, as exports from PyTorch have them (a guess)"
    return False, "taken for probabilities, as exports from Keras have them (a guess)"
