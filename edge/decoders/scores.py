"""From score tensors to survivors: the threshold in the stored dtype, the rest on survivors only."""

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np

from edge.decoders.base import strongest
from edge.decoders.heads import Columns
from edge.errors import ManifestError
from edge.tensor import TensorSpec

__all__ = ["Activation", "CandidateScores", "Softmax", "sigmoid", "stored_threshold"]

Activation = Literal["none", "sigmoid", "softmax"]


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Return 1 / (1 + exp(-x)) of float32 logits (any shape), without overflow; a new array."""
    return np.float32(0.5) * np.tanh(np.float32(0.5) * logits) + np.float32(0.5)


def stored_threshold(spec: TensorSpec, threshold: float, logits: bool) -> np.generic:
    """Return the number on the tensor's stored scale below which no score can reach `threshold` in [0, 1].

    Where rounding could decide it is a hair too low: the decision falls on the survivors' float32 scores.
    """
    real = float(np.float32(threshold))
    if logits:
        p = real * (1 - 2.0**-20) - 2.0**-24  # the error of `sigmoid`
        real = math.log(p / (1 - p)) if p > 0 else -math.inf
    dtype = spec.dtype
    if dtype.kind == "f":
        rounded = dtype.type(real)
        return np.nextafter(rounded, dtype.type(-np.inf)) if float(rounded) > real else rounded
    lowest, highest = np.iinfo(dtype).min, np.iinfo(dtype).max
    if real == -math.inf:
        return dtype.type(lowest)
    stored = math.ceil(spec.quantize(real) - 1e-3)
    # a number too high for the dtype keeps its value in a wider one: then nothing passes
    return np.int64(stored) if stored > highest else dtype.type(max(stored, lowest))


class Softmax:
    """Softmax over the columns of each row, in a plane of its own.

    No single logit tells whether a softmax reaches a threshold, so this activation runs on the whole tensor.
    """

    def __init__(self, columns: Columns) -> None:
        self._columns = columns
        self._plane = np.empty((columns.rows, columns.width), np.float32)
        self._row = np.empty((columns.rows, 1), np.float32)

    def view(self, outputs: Sequence[np.ndarray]) -> np.ndarray:
        """Return (N, C) float32 probabilities, overwritten by the next call; NaN where a logit is bad."""
        plane = self._plane
        np.copyto(plane, self._columns.view(outputs))
        if self._columns.spec.quantization is not None:
            plane *= np.float32(self._columns.spec.quantization.scale)  # softmax does not feel the zero point
        np.max(plane, axis=1, keepdims=True, out=self._row)
        with np.errstate(invalid="ignore"):  # inf - inf: the row becomes NaN and never passes
            plane -= self._row
        np.exp(plane, out=plane)
        np.sum(plane, axis=1, keepdims=True, out=self._row)
        plane /= self._row
        return plane


class CandidateScores:
    """Chooses the candidates whose best class reaches the threshold.

    score = best class, or objectness ** powers[0] * best class ** powers[1] where there is objectness. All is
    in probabilities; with activation "sigmoid" both tensors hold logits. A candidate passes when its float32
    score is >= the threshold and what made it is finite. Scratch as long as the tensor is allocated here.
    """

    def __init__(
        self,
        scores: Columns,
        objectness: Columns | None = None,
        activation: Activation = "none",
        background: Literal["first", "last"] | None = None,
        powers: tuple[float, float] = (1.0, 1.0),
    ) -> None:
        """background: a column that is no class and is never reported.

        Raises: ManifestError when no class is left, or objectness meets softmax.
        """
        if activation == "softmax" and objectness is not None:
            raise ManifestError(
                "softmax scores with an objectness tensor are not a known family", "correct decoder.params"
            )
        first, last = (1 if background == "first" else 0), scores.width - (1 if background == "last" else 0)
        if last <= first:
            raise ManifestError(f"the output '{scores.spec.name}' has no class column", "check its role")
        self.class_count = last - first
        self._softmax = Softmax(scores) if activation == "softmax" else None
        self._foreground = slice(first, last)
        self._scores = scores if self._softmax else scores.part(first, last)
        self._objectness, self._powers = objectness, powers
        self._logits = activation == "sigmoid"
        self._best_spec = scores.spec
        if self._softmax:
            self._best_spec = TensorSpec(scores.spec.name, scores.spec.shape, np.dtype(np.float32))
        self._gate_spec = objectness.spec if objectness else self._best_spec
        self._mask = np.empty(scores.rows, bool)
        self._best = np.empty(scores.rows, self._best_spec.dtype)
        self._numbers = np.arange(scores.rows)
        self._threshold = math.nan

    def select(
        self, outputs: Sequence[np.ndarray], threshold: float, limit: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return rows (M,) int64, ascending, scores (M,) float32 and class_ids (M,) int64 of the survivors.

        M is at most `limit`. When more survive, the highest scores stay, ties going to the lower row.
        """
        if threshold != self._threshold:
            gate = threshold ** (1 / self._powers[0]) * (1 - 1e-6) if self._powers[0] != 1 else threshold
            self._stored, self._threshold = stored_threshold(self._gate_spec, gate, self._logits), threshold
        view = self._softmax.view(outputs)[:, self._foreground] if self._softmax else self._scores.view(outputs)
        ids = None
        if self._objectness is None:
            best = self._best_of(view)
            rows = self._above(best)
            scores, finite = self._real(best[rows])
        else:
            gates = self._objectness.view(outputs)[:, 0]
            rows = self._above(gates)
            if len(rows) * 8 > len(view):  # one pass over the planes costs less than copying so many rows
                best = self._best_of(view)[rows]
            else:
                near = view[rows]
                ids = near.argmax(axis=1)
                best = near[self._numbers[: len(rows)], ids]
            scores, finite = self._with_objectness(gates[rows], best)
        good = scores >= np.float32(threshold)
        if finite is not None:
            good &= finite
        if np.count_nonzero(good) < len(good):
            rows, scores, ids = rows[good], scores[good], None if ids is None else ids[good]
        if len(rows) and not scores.item(scores.argmax()) <= 1:  # seldom: these are no probabilities
            good = np.isfinite(scores)
            rows, scores, ids = rows[good], np.minimum(scores[good], np.float32(1)), None if ids is None else ids[good]
        if len(rows) > limit:
            chosen = strongest(scores, limit)
            rows, scores, ids = rows[chosen], scores[chosen], None if ids is None else ids[chosen]
        if ids is None:
            ids = view[rows].argmax(axis=1) if view.shape[1] > 1 else np.zeros(len(rows), np.int64)
        return rows, scores, ids

    def _best_of(self, view: np.ndarray) -> np.ndarray:
        return np.max(view, axis=1, out=self._best) if view.shape[1] > 1 else view[:, 0]

    def _above(self, values: np.ndarray) -> np.ndarray:
        np.greater_equal(values, self._stored, out=self._mask)
        return self._mask.nonzero()[0]

    def _real(self, stored: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Scores, and whether what made them is finite; None where the score itself tells."""
        real = self._best_spec.dequantize(stored)
        return (sigmoid(real), np.isfinite(real)) if self._logits else (real, None)

    def _with_objectness(self, gates: np.ndarray, best: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        finite = None
        objectness = self._gate_spec.dequantize(gates)
        classes = self._best_spec.dequantize(best)
        if self._logits or self._powers != (1.0, 1.0):
            finite = np.isfinite(objectness + classes)
        if self._logits:
            objectness, classes = sigmoid(objectness), sigmoid(classes)
        if self._powers != (1.0, 1.0):
            # a negative probability has no such power; it is as good as none
            objectness = np.maximum(objectness, 0) ** np.float32(self._powers[0])
            classes = np.maximum(classes, 0) ** np.float32(self._powers[1])
        return objectness * classes, finite
