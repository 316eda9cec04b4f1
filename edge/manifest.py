"""What a model is: its files, its pixel contract, the role of each output, its decoder and its labels.

A bundle is a folder (or a zip of one) that holds `manifest.toml` and the files it names.
"""

import hashlib
import math
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from edge.errors import ManifestError
from edge.structs import as_struct, read_toml

__all__ = [
    "DecoderSection",
    "InputContract",
    "Manifest",
    "NmsMethod",
    "Target",
    "read_labels",
    "read_manifest",
    "sha256_of",
    "verify_file",
]

NmsMethod = Literal["hard", "linear", "gaussian", "weighted"]
Positive = Annotated[int, msgspec.Meta(gt=0)]
Unit = Annotated[float, msgspec.Meta(ge=0.0, le=1.0)]


class InputContract(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How source pixels become the input tensor: real = (pixel * scale - mean) / std, per channel.

    Channels of mean and std are in `channel_order` (gray uses the first). pad_value is a pixel value, before scale.
    size_wh may be left to the model file where its input shape is fixed.
    crop_fraction (resize = "crop"): the centre square's share of the shorter side, 0.875 for many ImageNet recipes.
    """

    size_wh: tuple[Positive, Positive] | None = None
    resize: Literal["letterbox", "stretch", "crop"] = "letterbox"
    placement: Literal["center", "top_left"] = "center"
    pad_value: Annotated[int, msgspec.Meta(ge=0, le=255)] = 114
    interpolation: Literal["linear", "area", "nearest", "cubic"] = "linear"
    crop_fraction: Annotated[float, msgspec.Meta(gt=0.0, le=1.0)] = 1.0
    channel_order: Literal["rgb", "bgr", "gray"] = "rgb"
    scale: float = 1.0
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)

    def __post_init__(self) -> None:
        if not all(map(math.isfinite, (self.scale, *self.mean, *self.std))):
            raise ValueError("scale, mean and std must be finite numbers")
        if self.scale == 0 or 0 in self.std:
            raise ValueError("scale and std must not be 0")


class Target(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One file of the model for one engine, and which of its output tensors plays which role."""

    file: str
    sha256: str | None = None
    outputs: dict[str, str] = {}
    needs: dict[str, str] = {}

    def __post_init__(self) -> None:
        _inside_bundle(self.file)


class DecoderSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Decoder family, its thresholds and its own parameters (checked by the decoder)."""

    family: str
    score_threshold: Unit = 0.25
    iou_threshold: Unit = 0.5
    nms: NmsMethod = "hard"
    params: dict[str, Any] = {}


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The whole `manifest.toml`. `labels` is a list of names, or the name of a text file with one name a line.

    contract_origin: where `input` is from when nobody stated it; what starts with "a guess" is called one.
    """

    format: Literal[1] = 1
    name: str
    description: str = ""
    licence: str = ""
    provenance: str = ""
    contract_origin: str = ""
    targets: dict[str, Target]
    input: InputContract
    decoder: DecoderSection
    labels: list[str] | str = []
    accuracy: dict[str, Any] = {}

    def __post_init__(self) -> None:
        if isinstance(self.labels, str):
            _inside_bundle(self.labels)


def read_manifest(path: Path) -> Manifest:
    """Return the manifest in `path` (a TOML file).

    Raises: ManifestError naming the key that is wrong.
    """
    return as_struct(read_toml(path, ManifestError), Manifest, str(path), ManifestError)


def read_labels(manifest: Manifest, folder: Path) -> list[str]:
    """Return the class names in class order; empty when the manifest has none.

    Raises: ManifestError when the labels file is missing or not text.
    """
    if not isinstance(manifest.labels, str):
        return list(manifest.labels)
    path = folder / manifest.labels
    try:
        lines = path.read_text(encoding="utf-8-sig").rstrip().split("\n")
        return [line.strip() for line in lines] if any(lines) else []
    except (OSError, UnicodeDecodeError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "it is no text"
        raise ManifestError(f"cannot read labels {path} ({reason})", "put one label a line there") from exc


def _inside_bundle(name: str) -> None:
    if Path(name).is_absolute() or ".." in Path(name).parts or not name:
        raise ValueError(f"'{name}' does not lie inside the bundle")


def sha256_of(path: Path) -> str:
    """Return the lower-case hexadecimal SHA-256 of a file, read in blocks."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def verify_file(path: Path, sha256: str | None) -> None:
    """Check that a model file is there and is the one the manifest means.

    Raises: ManifestError when it is missing or its hash differs.
    """
    if not path.is_file():
        raise ManifestError(f"no model file {path}", "check the path, or pull or convert the bundle again")
    if sha256 and sha256_of(path) != sha256.lower():
        raise ManifestError(
            f"{path.name} is not the file its manifest describes (SHA-256 differs)",
            "pull or convert the bundle again; for a changed model, update sha256 in manifest.toml",
        )
