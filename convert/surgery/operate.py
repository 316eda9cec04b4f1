"""The surgeon's round: each step on a copy, proved equal on the probe before the next, undone where it is not."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from onnx import ModelProto

from convert.float_model import Origin
from convert.head import RAW_BOXES, Head
from convert.probe import columns_of, relative_error
from convert.surgery.decode import cut_yolox_decode
from convert.surgery.equalize import equalize
from convert.surgery.fold import fold_batch_norms
from convert.surgery.heads import split_outputs
from convert.surgery.running import outputs_of

__all__ = ["MOST_ERROR", "Operated", "operate"]

MOST_ERROR = 1e-5  # relative, of a step against the model before it


@dataclass(frozen=True, slots=True)
class Operated:
    """A model after surgery. roles: of a head that was split, {} when none was. cut: its boxes are raw now.

    raw_boxes: where they are, the values of the cut boxes (N, ...) float32, which the original never shows.
    """

    model: ModelProto
    origins: dict[str, Origin]
    roles: dict[str, str]
    notes: list[str]
    raw_boxes: np.ndarray | None = None


def operate(
    model: ModelProto,
    inputs: np.ndarray,
    head: Head | None = None,
    decoded_yolox: tuple[tuple[int, int], list[int]] | None = None,
    equalized: bool = False,
) -> Operated:
    """Return the model with batch norms folded, the head split and, where asked, its layers equalized.

    inputs (N, ...) float32: what each step is proved on. decoded_yolox: input size in px and strides of a YOLOX
    graph that decodes its boxes, which is then cut off. Nothing here raises over a step: it is undone and said so.
    """
    names = [value.name for value in model.graph.output]
    base = outputs_of(model, inputs)
    origins = {name: Origin(name) for name in names}
    notes: list[str] = []
    steps: list[tuple[str, Callable]] = [("folding batch normalizations", fold_batch_norms)]
    if equalized:
        steps.append(("equalization", equalize))
    for title, step in steps:
        model = _proved(model, title, step, base, origins, inputs, notes)
    roles: dict[str, str] = {}
    if head is not None:
        split, said = split_outputs(model, head.output, head.axis, head.roles)
        made = [value.name for value in split.graph.output]
        new = dict(zip([n for n in made if n not in names], head.roles.items(), strict=False)) if said else {}
        parts = {name: Origin(head.output, head.axis, *span) for name, (_, span) in new.items()}
        kept = {name: origin for name, origin in origins.items() if name != head.output}
        if said and _largest(split, base, {**kept, **parts}, inputs) <= MOST_ERROR:
            model, origins, roles = split, {**kept, **parts}, {role: name for name, (role, _) in new.items()}
            notes.append(said)
        else:
            why = "its parts do not arise apart in the graph" if not said else "the parts were not equal"
            notes.append(f"'{head.output}' was left in one piece: {why}")
    raw_boxes = None
    if decoded_yolox and "boxes" in roles:
        cut, said = cut_yolox_decode(model, roles["boxes"], *decoded_yolox, inputs)
        if said:
            others = {name: origin for name, origin in origins.items() if name != roles["boxes"]}
            if _largest(cut, base, others, inputs) <= MOST_ERROR:
                model, raw_boxes = cut, outputs_of(cut, inputs)[roles["boxes"]]
                origins = {**others, roles["boxes"]: Origin(RAW_BOXES)}
                notes.append(said)
    return Operated(model, origins, roles, notes, raw_boxes)


def _proved(
    model: ModelProto,
    title: str,
    step: Callable[[ModelProto], tuple[ModelProto, str]],
    base: Mapping[str, np.ndarray],
    origins: Mapping[str, Origin],
    inputs: np.ndarray,
    notes: list[str],
) -> ModelProto:
    """The model after a step that keeps its outputs, or as it was."""
    changed, said = step(model)
    if not said:
        return model
    error = _largest(changed, base, origins, inputs)
    if error > MOST_ERROR:
        notes.append(f"{title} was undone: it changed an output by {error:.1e} of its largest value")
        return model
    notes.append(said)
    return changed


def _largest(
    model: ModelProto, base: Mapping[str, np.ndarray], origins: Mapping[str, Origin], inputs: np.ndarray
) -> float:
    """The largest relative error of the outputs that have an origin; infinite when the model does not run."""
    try:
        found = outputs_of(model, inputs)
    except Exception:  # ONNX Runtime's exceptions derive from Exception alone; a step that breaks the graph is undone
        return float("inf")
    return max(relative_error(columns_of(base[o.output], o), found[name]) for name, o in origins.items())
