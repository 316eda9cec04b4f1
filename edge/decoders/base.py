"""The contract every decoder keeps, and the few steps they share."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol, TypeVar

import msgspec
import numpy as np

from edge.detections import Classification, Detections
from edge.errors import ManifestError
from edge.structs import as_struct
from edge.tensor import TensorSpec

__all__ = ["Decoder", "DecoderContext", "Recognition", "strongest"]

P = TypeVar("P", bound=msgspec.Struct)


@dataclass(frozen=True, slots=True)
class DecoderContext:
    """What a decoder is built from.

    outputs: the engine's output specs in its order. roles: role -> output name, from the manifest.
    size_wh: the engine's input image in px; boxes are decoded into that frame.
    class_count: how many labels there are, None when there are no labels.
    params: the manifest's decoder parameters, unchecked.
    """

    outputs: Sequence[TensorSpec]
    roles: Mapping[str, str]
    size_wh: tuple[int, int]
    score_threshold: float
    class_count: int | None = None
    params: Mapping[str, Any] = field(default_factory=dict)

    def output(self, role: str) -> tuple[int, TensorSpec]:
        """Return the position and spec of the output tensor that plays `role`.

        Raises: ManifestError when the role is not assigned or names no output.
        """
        have = [spec.name for spec in self.outputs]
        if role not in self.roles:
            raise ManifestError(
                f"the decoder needs an output for the role '{role}'",
                f'add {role} = "NAME" to the target\'s outputs; the model has {", ".join(have)}',
            )
        name = self.roles[role]
        if name not in have:
            raise ManifestError(f"the model has no output '{name}' for the role '{role}'", f"it has {', '.join(have)}")
        index = have.index(name)
        return index, self.outputs[index]

    def parameters(self, struct: type[P]) -> P:
        """Return `params` as the decoder's own Struct.

        Raises: ManifestError for an unknown or wrong parameter.
        """
        return as_struct(dict(self.params), struct, "decoder.params", ManifestError)


@dataclass(frozen=True, slots=True)
class Recognition:
    """A decoder's claim on a model it was shown: roles, parameters and usual pixel contract, and why.

    contract holds keys of InputContract as this family is usually trained: a guess, and reported as one.
    confidence: "certain" when nothing else produces these outputs, "likely" otherwise.
    """

    family: str
    roles: dict[str, str]
    params: dict[str, Any]
    contract: dict[str, Any]
    why: str
    confidence: Literal["certain", "likely"] = "likely"


class Decoder(Protocol):
    """Turns raw output tensors into candidates; built from a DecoderContext.

    needs_nms: whether candidates overlap and must be suppressed.
    class_count: None when the tensors do not tell.
    score_threshold, in [0, 1], may be changed between frames by its owner's thread.
    `decode` applies the threshold first, in the tensor's own dtype, and decodes only what survives.
    """

    kind: ClassVar[Literal["detections", "classification"]]
    needs_nms: bool
    keypoint_count: int
    class_count: int | None
    score_threshold: float

    def __init__(self, context: DecoderContext) -> None: ...

    @classmethod
    def recognise(cls, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> Recognition | None:
        """Return a claim when these specs look like this family, else None."""

    def decode(self, outputs: Sequence[np.ndarray], into: Detections | Classification) -> None:
        """Refill `into` from the engine's outputs, each (1, ...) in its spec's dtype.

        Boxes are xyxy in engine-input px, unclipped. When more survive than `into` holds, the highest scores
        stay, ties going to the lower tensor index.
        """


def strongest(scores: np.ndarray, limit: int) -> np.ndarray:
    """Return indices (M,) int64, ascending, of the `limit` highest of `scores` (N,); ties go to the lower."""
    if len(scores) <= limit:
        return np.arange(len(scores))
    cut = np.partition(scores, len(scores) - limit)[len(scores) - limit]
    above = np.flatnonzero(scores > cut)
    level = np.flatnonzero(scores == cut)[: limit - len(above)]
    return np.sort(np.concatenate([above, level]))
