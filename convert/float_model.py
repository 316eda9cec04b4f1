"""The float model every route ends in: a working folder that is itself a bundle, and how to grow it."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from edge.bundle import MANIFEST_NAME
from edge.files import write_atomically
from edge.manifest import Manifest, Target, read_labels, read_manifest, sha256_of
from edge.toml_text import toml_text

__all__ = ["FLOAT_ONNX", "FLOAT_TFLITE", "FloatModel", "Origin", "add_target", "facts_of", "restored", "write_manifest"]

FLOAT_ONNX = "onnx-fp32"
FLOAT_TFLITE = "tflite-fp32"


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an output of the float files comes from: columns `first` to `last` (exclusive) of the original's output.

    Counted along the original's channel axis `axis`. A whole output has first 0 and last None.
    The converted output may be a transposition of it: its manifest role's decoder reads both orders.
    """

    output: str
    axis: int = 1
    first: int = 0
    last: int | None = None


@dataclass(frozen=True, slots=True)
class FloatModel:
    """A float model ready to be quantized, in a folder that `edge.model.open_model` opens as a bundle.

    folder: holds manifest.toml, the labels and the float files; every new file goes there too.
    manifest: has the targets `onnx-fp32` (batch 1, fixed shapes, opset 13 or later, cleaned) and `tflite-fp32`
    (batch 1, NHWC image input) as far as the route makes them; both have the same output names.
    original: the user's file, never written to. probe: an .npz with `input_0` (N, ...) float32 in the original's
    layout and, by the original framework, `output_<i>` (N, ...) of each original output `output_names[i]`.
    """

    folder: Path
    manifest: Manifest
    labels: list[str]
    original: Path
    probe: Path
    output_names: tuple[str, ...]
    origins: dict[str, Origin]
    notes: tuple[str, ...] = ()

    def file(self, target: str) -> Path | None:
        """Return the file of a target, None when there is no such target."""
        entry = self.manifest.targets.get(target)
        return self.folder / entry.file if entry else None


def add_target(model: FloatModel, name: str, target: Target) -> FloatModel:
    """Return the model with one more target (or the target replaced), its hash filled in, the manifest rewritten.

    Raises: ConfigError when the folder cannot be written.
    """
    target = msgspec.structs.replace(target, sha256=sha256_of(model.folder / target.file))
    manifest = msgspec.structs.replace(model.manifest, targets={**model.manifest.targets, name: target})
    write_manifest(model.folder, manifest)
    return replace(model, manifest=manifest)


def facts_of(model: FloatModel) -> dict[str, Any]:
    """Return what `restored` needs beside the folder, ready for JSON."""
    return {
        "original": str(model.original),
        "probe": model.probe.name,
        "output_names": list(model.output_names),
        "origins": {name: asdict(origin) for name, origin in model.origins.items()},
        "notes": list(model.notes),
    }


def restored(folder: Path, facts: dict[str, Any]) -> FloatModel:
    """Return the float model of an earlier run from its folder and its facts.

    Raises: ManifestError when the folder's manifest cannot be read.
    """
    manifest = read_manifest(folder / MANIFEST_NAME)
    return FloatModel(
        folder,
        manifest,
        read_labels(manifest, folder),
        Path(facts["original"]),
        folder / facts["probe"],
        tuple(facts["output_names"]),
        {name: Origin(**origin) for name, origin in facts["origins"].items()},
        tuple(facts["notes"]),
    )


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write manifest.toml into the folder, replacing the old one at once.

    Raises: ConfigError when the folder cannot be written.
    """
    values = {key: value for key, value in msgspec.to_builtins(manifest).items() if value not in ("", {}, [])}
    write_atomically(folder / MANIFEST_NAME, toml_text(_without_none(values)))


def _without_none(values: dict) -> dict:
    return {k: _without_none(v) if isinstance(v, dict) else v for k, v in values.items() if v is not None}
