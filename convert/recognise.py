"""What a loaded network is: contract, decoder, roles and labels, as its file says, its values show, or the user states.

The inspection is that of `edge.model.open_model`; the user's settings stand above it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from convert.head import Head, head_columns
from edge.config import EngineSection
from edge.decoders.base import DecoderContext, Recognition
from edge.errors import ConfigError, EdgeError, ManifestError
from edge.manifest import DecoderSection, InputContract, Manifest, Target, read_labels
from edge.model import open_model
from edge.registry import names, resolve
from edge.structs import as_struct, did_you_mean
from edge.targets import load_engine
from edge.tensor import TensorSpec

__all__ = ["Described", "check_settings", "describe", "fused_head", "settled_by_values"]

_NORMALIZATION = {"scale": 1.0, "mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
_ANYTHING = {"name": "model", "targets": {}, "input": {}, "decoder": {"family": "yolo"}}


@dataclass(frozen=True, slots=True)
class Described:
    """A network as Harrier will run it. The manifest has no targets yet; roles are those of its outputs."""

    manifest: Manifest
    labels: list[str]
    roles: dict[str, str]
    input: TensorSpec
    outputs: tuple[TensorSpec, ...]
    notes: tuple[str, ...] = ()


def check_settings(settings: Mapping[str, Any]) -> None:
    """Check the user's dotted keys against the manifest, before anything heavy is done.

    Raises: ConfigError for an unknown key, with the nearest known one, or a wrong value.
    """
    values = _merged(_ANYTHING, _nested(settings)[0])
    family = as_struct(values, Manifest, "settings").decoder.family
    if "decoder.family" in settings and family not in names("decoders"):
        resolve("decoders", family)  # raises, unless another distribution brings it


def describe(
    file: Path, name: str, contract: Mapping[str, Any], settings: Mapping[str, Any], labels_file: str | None
) -> Described:
    """Return what the float file at `file` is. `name` becomes the model's, unless it bears one.

    contract: keys of InputContract that the original tells; settings stand above them.
    Raises: ConfigError for settings that do not fit, ManifestError when no decoder takes the outputs or the labels
    are not one a class.
    """
    stated, stated_roles = _nested(settings)
    manifest, labels, specs, notes = _inspected(file, stated.get("decoder", {}).get("family"))
    spec, outputs = specs[0], specs[1:]
    roles = next(iter(manifest.targets.values())).outputs
    values = msgspec.to_builtins(manifest)
    if manifest.name == file.stem:
        values["name"] = name
    if spec.shape[3 if spec.layout == "NHWC" else 1] == 1:
        values["input"]["channel_order"] = "gray"
    for over in (contract, stated.get("input", {})):
        if _NORMALIZATION.keys() & over.keys():  # stated as a whole or guessed as a whole: half of each is neither
            values["input"] |= _NORMALIZATION
        values["input"] |= over
    values = _merged({**values, "targets": {}}, stated)
    manifest = as_struct(values, Manifest, "settings")
    if manifest.input.size_wh not in (None, spec.size_wh):
        raise ConfigError(f"input.size_wh is {manifest.input.size_wh}, the model's {spec.size_wh}", "leave it out")
    if stated_roles:
        _check_roles(stated_roles, outputs)
        roles = stated_roles
    if labels_file:
        path = Path(labels_file)
        labels = read_labels(msgspec.structs.replace(manifest, labels=path.name), path.parent)
    elif isinstance(stated.get("labels"), list):
        labels = list(manifest.labels)
    said = {*stated.get("input", {}), *(contract.keys() & _NORMALIZATION.keys())}
    notes = _not_overruled(notes, labels_file is not None or "labels" in stated, said)
    described = Described(manifest, labels, roles, spec, outputs, tuple(notes))
    _decoder(described)
    return described


def _not_overruled(notes: list[str], labels: bool, stated: set[str]) -> list[str]:
    """The inspection's notes without what was said about labels and pixels where they are stated."""
    left = [note for note in notes if not (labels and note.startswith("labels: "))]
    if not stated:
        return left
    guess = f"contract: {', '.join(sorted(stated))} as stated; else "
    return [note.replace("contract: ", guess, 1) if note.startswith("contract: ") else note for note in left]


def fused_head(described: Described) -> Head | None:
    """Return where the decoder's fused output can be split by roles, None when it has none."""
    section, name = described.manifest.decoder, described.roles.get("raw")
    spec = next((spec for spec in described.outputs if spec.name == name), None)
    count = _decoder(described).class_count
    if spec is None or count is None:
        return None
    roles = head_columns(section.family, section.params, count)
    width = max((last for _, last in roles.values()), default=0)
    axes = [i for i, n in enumerate(spec.shape) if i and n == width]
    if len(axes) > 1 and "channels_first" in section.params:
        axes = axes[:1] if section.params["channels_first"] else axes[-1:]
    return Head(spec.name, axes[0], roles) if len(axes) == 1 else None


def settled_by_values(
    described: Described, outputs: Mapping[str, np.ndarray], settings: Mapping[str, Any]
) -> Described:
    """Return the description with what the real values decide: probabilities or logits, pixels or fractions.

    outputs: name -> (N, ...) float32 on the probe. What the user states stays.
    """
    section, notes = described.manifest.decoder, []
    found: dict[str, tuple[Any, str]] = {}
    if section.family == "classification":
        scores = outputs[described.roles["scores"]]
        sums = scores.reshape(len(scores), -1).sum(axis=1)
        inside = bool((scores >= 0).all() and (scores <= 1 + 1e-3).all())
        if inside:
            total = "and they add up to 1" if np.allclose(sums, 1, atol=1e-2) else "each on its own"
            found["softmax"] = False, f"the scores lie in 0..1, {total}: probabilities"
        else:
            found["softmax"] = True, "the scores leave 0..1: logits"
    elif (parts := _parts(described, outputs)) is not None:
        boxes = parts["boxes"]
        if section.family in ("yolo", "yolox", "nanodet"):
            logits = bool((parts["scores"] < -1e-3).any() or (parts["scores"] > 1 + 1e-3).any())
            why = "the scores leave 0..1: logits" if logits else "the scores lie in 0..1: probabilities"
            found["activated"] = not logits, why
        if section.family == "yolo" and not section.params.get("end_to_end"):
            fractions = bool(np.abs(boxes).max() < 4)
            found["normalized"] = fractions, f"boxes reach {np.abs(boxes).max():.3g}"
        if section.family == "yolox":
            decoded = bool((boxes[..., 2:] > 0).all() and boxes[..., 2:].max() > 20)
            found["decoded"] = decoded, f"sizes reach {boxes[..., 2:].max():.3g}"
    params = dict(section.params)
    defaults = {"softmax": False, "activated": True, "normalized": False, "decoded": False}
    for key, (value, why) in found.items():
        stated = {f"decoder.params.{key}", "decoder.params"} & settings.keys()
        if not stated and params.get(key, defaults[key]) != value:
            notes.append(f"decoder.params.{key} = {str(value).lower()}: {why}")
            params[key] = value
    decoder = msgspec.structs.replace(section, params=params)
    manifest = msgspec.structs.replace(described.manifest, decoder=decoder)
    return replace(described, manifest=manifest, notes=(*described.notes, *notes))


def _parts(described: Described, outputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray] | None:
    """The roles' values, candidates before channels; None where they cannot be told apart."""
    head = fused_head(described)
    if head is not None:
        whole = np.moveaxis(outputs[head.output], head.axis, -1)
        return {role: whole[..., first:last] for role, (first, last) in head.roles.items()}
    if not {"boxes", "scores"} <= described.roles.keys():
        return None
    values = {role: outputs[name] for role, name in described.roles.items()}
    boxes = values["boxes"]
    if boxes.shape[-1] != 4 and boxes.ndim == 3 and boxes.shape[1] == 4:
        values["boxes"] = boxes.transpose(0, 2, 1)
    return values if values["boxes"].shape[-1] == 4 else None


def _inspected(file: Path, family: str | None) -> tuple[Manifest, list[str], tuple[TensorSpec, ...], list[str]]:
    """The inspection's manifest, labels, input and output specs and notes; the user's family decides."""
    try:
        model = open_model(str(file), EngineSection(threads=2))
    except ManifestError:
        if family is None:
            raise
    else:
        specs = (model.engine.input_specs[0], *model.engine.output_specs)
        model.close()
        if family in (None, model.manifest.decoder.family):
            said = [f"{what}: {origin}" for what, origin in model.origins.items()]
            return model.manifest, model.labels, specs, [*said, *model.notes]
    engine = load_engine(file, EngineSection(threads=2))
    specs = (engine.input_specs[0], *engine.output_specs)
    claim = resolve("decoders", family or "").recognise(engine.input_specs, engine.output_specs)
    engine.close()
    if claim is None:
        role = "scores" if family == "classification" else "raw"
        roles = {role: specs[1].name} if len(specs) == 2 else {}
        claim = Recognition(family or "", roles, {}, {}, "you named it")
    manifest = Manifest(
        name=file.stem,
        targets={"file": Target(file=file.name, outputs=claim.roles)},
        input=as_struct(claim.contract, InputContract, file.name, ManifestError),
        decoder=DecoderSection(family=claim.family, params=claim.params),
    )
    return manifest, [], specs, [f"decoder: {family}, as you named it"]


def _decoder(described: Described) -> Any:
    """The decoder built as it will be on the robot: what does not fit is said here.

    Raises: ManifestError.
    """
    section = described.manifest.decoder
    context = DecoderContext(
        described.outputs,
        described.roles,
        described.input.size_wh,
        section.score_threshold,
        len(described.labels) or None,
        section.params,
    )
    try:
        decoder = resolve("decoders", section.family)(context)
    except EdgeError:
        raise
    except KeyError as exc:
        raise ManifestError(f"the decoder {section.family} lacks {exc}", "give it with decoder.params") from exc
    if described.labels and decoder.class_count not in (None, len(described.labels)):
        raise ManifestError(
            f"{len(described.labels)} labels for {decoder.class_count} classes",
            "give one label per class, in class order",
        )
    return decoder


def _check_roles(roles: Mapping[str, str], outputs: Sequence[TensorSpec]) -> None:
    have = [spec.name for spec in outputs]
    for role, name in roles.items():
        if name not in have:
            raise ConfigError(f"outputs.{role}: the model has no output '{name}'", did_you_mean(name, have))


def _nested(settings: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Dotted keys as nested tables, and the roles of `outputs.ROLE` apart."""
    tables: dict[str, Any] = {}
    roles: dict[str, str] = {}
    for key, value in settings.items():
        *path, last = key.split(".")
        if path == ["outputs"]:
            roles[last] = str(value)
            continue
        table = tables
        for part in path:
            table = table.setdefault(part, {})
            if not isinstance(table, dict):
                raise ConfigError(f"settings: '{key}' stands below a value", "give the value or its parts, not both")
        table[last] = value
    return tables, roles


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Nested tables, `above` winning."""
    merged = dict(below)
    for key, value in above.items():
        inner = merged.get(key)
        merged[key] = _merged(inner, value) if isinstance(inner, dict) and isinstance(value, dict) else value
    return merged
