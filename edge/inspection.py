"""`harrier inspect`: what a model is, which decoder would run it and why, and where each fact is from."""

from typing import Any

from edge.bundle import locate
from edge.config import EngineSection
from edge.errors import ManifestError
from edge.manifest import InputContract
from edge.model import Model, open_model
from edge.preprocess.pixels import Preprocessor
from edge.targets import load_engine
from edge.tensor import TensorSpec

__all__ = ["describe", "describe_tensors", "text_of"]


def describe(reference: str, labels_file: str | None = None) -> dict[str, Any]:
    """Return everything known about a model, ready for JSON.

    Raises: EdgeError when it cannot be loaded; a model no decoder takes is described with decoder None.
    """
    try:
        model = open_model(reference, EngineSection(), labels_file)
    except ManifestError as exc:
        path = locate(reference)
        if path.is_dir():
            raise
        return {**describe_tensors(reference), "decoder": None, "problem": str(exc)}
    try:
        return _described(model)
    finally:
        model.close()


def describe_tensors(reference: str) -> dict[str, Any]:
    """Return the tensors of a bare model file, whatever its decoder."""
    path = locate(reference)
    engine = load_engine(path, EngineSection())
    try:
        return {
            "name": path.stem,
            "file": str(path),
            "inputs": [_tensor(spec) for spec in engine.input_specs],
            "outputs": [_tensor(spec) for spec in engine.output_specs],
        }
    finally:
        engine.close()


def text_of(facts: dict[str, Any]) -> str:
    """Return the facts of `describe` as lines for a terminal."""
    lines = [f"{facts['name']}  {facts['file']}"]
    for side in ("inputs", "outputs"):
        lines.append(side)
        for tensor in facts[side]:
            shape = "x".join(map(str, tensor["shape"]))
            scale = tensor["quantization"]
            real = f"  real = (stored - {scale['zero_point']}) * {scale['scale']:.6g}" if scale else ""
            role = f"  role {tensor['role']}" if tensor.get("role") else ""
            lines.append(
                f"  {tensor['name']}  {shape}  {tensor['dtype']}  {tensor['layout'] or ''}{real}{role}".rstrip()
            )
    if facts["decoder"] is None:
        return "\n".join([*lines, f"decoder   none: {facts['problem']}"])
    decoder, contract, labels = facts["decoder"], facts["contract"], facts["labels"]
    lines += [
        f"decoder   {decoder['family']} (score >= {decoder['score_threshold']:g}{_iou_text(decoder)})",
        f"          why: {decoder['origin']}",
        f"contract  {contract['text']}",
        f"          from: {contract['origin']}",
        f"labels    {_some(labels['names'])}",
        f"          from: {labels['origin']}",
    ]
    if facts["licence"]:
        lines.append(f"licence   {facts['licence']}")
    return "\n".join(lines + [f"note      {note}" for note in facts["notes"]])


def _iou_text(decoder: dict[str, Any]) -> str:
    return "" if decoder["family"] == "classification" else f", IoU {decoder['iou_threshold']:g}"


def _described(model: Model) -> dict[str, Any]:
    manifest, engine = model.manifest, model.engine
    role_of = {name: role for role, name in manifest.targets[model.target].outputs.items()}
    preprocessor = Preprocessor(manifest.input, engine.input_specs[0], engine.inputs[0])
    decoder = manifest.decoder
    return {
        "name": model.name,
        "file": str(model.file),
        "target": model.target,
        "licence": manifest.licence,
        "inputs": [_tensor(spec) for spec in engine.input_specs],
        "outputs": [{**_tensor(spec), "role": role_of.get(spec.name, "")} for spec in engine.output_specs],
        "decoder": {
            "family": decoder.family,
            "params": decoder.params,
            "score_threshold": decoder.score_threshold,
            "iou_threshold": decoder.iou_threshold,
            "class_count": model.decoder.class_count,
            "origin": model.origins["decoder"],
        },
        "contract": {
            "text": _contract_text(manifest.input, preprocessor.path),
            "origin": model.origins["contract"],
            **{name: getattr(manifest.input, name) for name in manifest.input.__struct_fields__},
        },
        "labels": {"names": model.labels, "origin": model.origins["labels"]},
        "notes": model.notes,
    }


def _tensor(spec: TensorSpec) -> dict[str, Any]:
    quantization = spec.quantization
    return {
        "name": spec.name,
        "shape": list(spec.shape),
        "dtype": spec.dtype.name,
        "layout": spec.layout,
        "quantization": None
        if quantization is None
        else {"scale": quantization.scale, "zero_point": quantization.zero_point},
    }


def _contract_text(contract: InputContract, path: str) -> str:
    resize: str = contract.resize
    if resize == "letterbox":
        resize += f" {contract.placement.replace('_', '-')}, pad {contract.pad_value}"
    elif resize == "crop":
        resize += f" centre {contract.crop_fraction:g}"
    return (
        f"{resize}, {contract.interpolation}, {contract.channel_order}, "
        f"(pixel * {contract.scale:.6g} - {_short(contract.mean)}) / {_short(contract.std)}; pixels: {path}"
    )


def _short(values: tuple[float, float, float]) -> str:
    return f"{values[0]:.6g}" if len(set(values)) == 1 else "[" + ", ".join(f"{v:.6g}" for v in values) + "]"


def _some(labels: list[str]) -> str:
    if not labels:
        return "none"
    shown = ", ".join(labels[:4]) + (", ..." if len(labels) > 4 else "")
    return f"{len(labels)}: {shown}"
