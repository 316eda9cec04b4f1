"""One model's engine between another's preprocessing and another's decoder: how stages are exchanged one by one."""

from collections.abc import Mapping, Sequence
from typing import cast

import msgspec
import numpy as np

from edge.config import RunConfig, Thresholds
from edge.decoders.base import DecoderContext
from edge.engines.base import Engine
from edge.errors import ConfigError
from edge.evaluation.runner import OneFrameSource, seen_of
from edge.evaluation.store import Seen
from edge.model import Model
from edge.pipeline import Pipeline
from edge.registry import resolve
from edge.sources.base import FrameSource
from edge.tensor import TensorSpec

__all__ = ["Bridge", "Hybrid", "move", "real_image"]

_COLUMNS = {
    "yolox": ("boxes", "objectness", "scores"),
    "yolo": ("boxes", "objectness", "scores", "keypoints"),
    "fastestdet": ("objectness", "boxes", "scores"),
    "detr": ("boxes", "logits"),
}
"""In which order one output of role `raw` holds those that other builds of the network give apart."""
_TWO_BUILDS = "explain compares two builds of one network, best two targets of one bundle: --target A --compare B"


class Bridge:
    """An engine with the input of `before` and the outputs of `after`, that computes with the engine of `inner`.

    Real values are carried over: dequantized on one side, quantized on the other, axes put in order.
    Raises: ConfigError when the tensors of the models do not correspond.
    """

    lost = ""

    def __init__(self, before: Model, inner: Model, after: Model) -> None:
        self._inner = inner.engine
        self.input_specs: Sequence[TensorSpec] = [before.engine.input_specs[0]]
        self.output_specs: Sequence[TensorSpec] = after.engine.output_specs
        self.inputs: Sequence[np.ndarray] = [np.zeros(s.shape, s.dtype) for s in self.input_specs]
        self.embedded: Mapping[str, str] = {}
        self._same = inner is after
        self._pairs = [] if self._same else _pairs(inner, after)
        self.outputs: Sequence[np.ndarray] = [np.zeros(s.shape, s.dtype) for s in self.output_specs]
        a, b = self.input_specs[0], self._inner.input_specs[0]
        if a.size_wh != b.size_wh or np.prod(a.shape) != np.prod(b.shape):
            raise ConfigError(
                f"the inputs are {a.size_wh[0]}x{a.size_wh[1]} and {b.size_wh[0]}x{b.size_wh[1]}",
                "explain compares two builds of one network; use eval --compare for two networks",
            )

    def run(self) -> None:
        """Compute the outputs."""
        spec = self._inner.input_specs[0]
        image = real_image(self.input_specs[0], self.inputs[0])
        _store(image.transpose(0, 3, 1, 2) if spec.layout == "NCHW" else image, spec, self._inner.inputs[0])
        self._inner.run()
        if self._same:
            for own, output in zip(self.outputs, self._inner.outputs, strict=True):
                np.copyto(own, output)
        for sources, targets, rows in self._pairs:
            real = [self._inner.output_specs[i].dequantize(self._inner.outputs[i]) for i in sources]
            if rows:
                _recut(real, rows, [self.output_specs[i] for i in targets], [self.outputs[i] for i in targets])
            else:
                move(real[0], self.output_specs[targets[0]], self.outputs[targets[0]])

    def close(self) -> None:
        """Do nothing: the engine belongs to its model."""


class Hybrid:
    """A pipeline whose four stages come from one or the other of two models.

    parts: the model of the preprocessing, of the engine, of the decoder, and of the thresholds (NMS included).
    """

    def __init__(self, parts: tuple[Model, Model, Model, Model], thresholds: Thresholds) -> None:
        before, inner, after, limits = parts
        self.bridge = Bridge(before, inner, after)
        score = limits.manifest.decoder.score_threshold if thresholds.score is None else thresholds.score
        section = after.manifest.decoder
        context = DecoderContext(
            outputs=after.engine.output_specs,
            roles=after.manifest.targets[after.target].outputs,
            size_wh=after.engine.input_specs[0].size_wh,
            score_threshold=score,
            class_count=len(after.labels) or None,
            params=section.params,
        )
        stated = limits.manifest.decoder
        manifest = msgspec.structs.replace(after.manifest, input=before.manifest.input, decoder=stated)
        model = Model(
            after.path,
            after.file,
            after.target,
            manifest,
            after.labels,
            cast(Engine, self.bridge),
            resolve("decoders", section.family)(context),
            after.origins,
        )
        self._source = OneFrameSource()
        config = RunConfig(thresholds=thresholds)
        self._pipeline = Pipeline(cast(FrameSource, self._source), model, [], config)

    def see(self, image: np.ndarray) -> Seen:
        """Return the result on `image` (H, W, 3) uint8 BGR."""
        self._source.put(image)
        self._pipeline.step()
        return seen_of(self._pipeline)


def real_image(spec: TensorSpec, tensor: np.ndarray) -> np.ndarray:
    """Return the real values of an input tensor, (1, H, W, C) float32 whatever its layout and dtype."""
    real = spec.dequantize(tensor)
    return real.transpose(0, 2, 3, 1) if spec.layout == "NCHW" else real


def move(real: np.ndarray, spec: TensorSpec, into: np.ndarray) -> None:
    """Write real values, any shape, float32, into a tensor of `spec`; axes of other order are put in order."""
    if real.shape != into.shape:
        order = _axes(real.shape, into.shape)
        real = real.reshape(into.shape) if order is None else real.transpose(order)
    _store(real, spec, into)


def _store(real: np.ndarray, spec: TensorSpec, into: np.ndarray) -> None:
    if spec.dtype.kind not in "iu":
        np.copyto(into, real, casting="unsafe")
        return
    stored = real.astype(np.float64)
    if spec.quantization:
        stored = stored / spec.quantization.scale + spec.quantization.zero_point
    limits = np.iinfo(spec.dtype)
    np.copyto(into, np.clip(np.rint(stored), limits.min, limits.max), casting="unsafe")


def _axes(have: tuple[int, ...], want: tuple[int, ...]) -> list[int] | None:
    """The permutation from one shape to another, None when only axes of length 1 differ.

    Raises: ConfigError when there is none, or more than one.
    """
    if [n for n in have if n > 1] == [n for n in want if n > 1]:
        return None
    if sorted(have) != sorted(want) or len({n for n in have if n > 1}) < len([n for n in have if n > 1]):
        raise ConfigError(
            f"outputs of shape {have} and {want} do not correspond", "explain compares two builds of one network"
        )
    ones = iter([i for i, n in enumerate(have) if n == 1])
    return [next(ones) if n == 1 else have.index(n) for n in want]


_Pairs = list[tuple[tuple[int, ...], tuple[int, ...], int]]


def _pairs(inner: Model, after: Model) -> _Pairs:
    """Positions of the outputs that hold the same values, inner's first, and 0.

    Where one side has in `raw` what the other has apart: all of them, and the number of candidates.
    """
    sides = []
    for model in (inner, after):
        names = [spec.name for spec in model.engine.output_specs]
        roles = model.manifest.targets[model.target].outputs
        sides.append({role: names.index(name) for role, name in roles.items() if name in names})
    if sides[0].keys() != sides[1].keys():
        return _fused_pair(inner, after, sides)
    for role in sides[0]:
        shapes = inner.engine.output_specs[sides[0][role]].shape, after.engine.output_specs[sides[1][role]].shape
        if shapes[0] != shapes[1]:
            _axes(shapes[0], shapes[1])
    return [((sides[0][role],), (sides[1][role],), 0) for role in sorted(sides[0])]


def _fused_pair(inner: Model, after: Model, sides: list[dict[str, int]]) -> _Pairs:
    """The outputs where one side has all in `raw` and the other each apart, as `harrier convert` cuts them."""
    x, y = inner.manifest.decoder, after.manifest.decoder
    fused = 0 if "raw" in sides[0] else 1
    order = [role for role in _COLUMNS.get(x.family, ()) if role in sides[1 - fused]]
    shapes = [[spec.shape for spec in model.engine.output_specs] for model in (inner, after)]
    apart = {role: int(np.prod(shapes[1 - fused][position])) for role, position in sides[1 - fused].items()}
    whole = sum(apart.values()) == int(np.prod(shapes[fused][sides[fused].get("raw", 0)]))
    if {*sides[fused]} != {"raw"} or x.family != y.family or {*order} != {*apart} or not whole:
        both = " and ".join(", ".join(sorted(side)) or "none" for side in sides)
        raise ConfigError(f"the outputs play other roles in A and B ({both})", _TWO_BUILDS)
    if x.params.get("decoded", False) != y.params.get("decoded", False):
        raise ConfigError("one of A and B decodes its boxes in the graph, the other does not", _TWO_BUILDS)
    found = [tuple(side[role] for role in (["raw"] if i == fused else order)) for i, side in enumerate(sides)]
    return [(found[0], found[1], apart["boxes"] // 4)]


def _recut(real: Sequence[np.ndarray], rows: int, specs: Sequence[TensorSpec], into: Sequence[np.ndarray]) -> None:
    """Write float32 tensors that have one row, or column, for each candidate into others of the same columns."""
    table = np.concatenate([_table(array, rows) for array in real], axis=1)
    widths = [array.size // rows for array in into]
    parts = np.split(table, np.cumsum(widths)[:-1], axis=1)
    for spec, array, part in zip(specs, into, parts, strict=True):
        ordered = part.T if _is_channels_first(array.shape, rows) else part
        _store(ordered.reshape(array.shape), spec, array)


def _table(array: np.ndarray, rows: int) -> np.ndarray:
    """(1, N, C), (1, C, N), (1, H, W, C) or (1, C, H, W) as (N, C)."""
    if _is_channels_first(array.shape, rows):
        return array.reshape(-1, rows).T
    return array.reshape(rows, -1)


def _is_channels_first(shape: tuple[int, ...], rows: int) -> bool:
    return int(np.prod(shape[2:])) == rows
