"""A model ready to run: engine, decoder, contract and labels, each with a word on where it came from."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from edge import embedded
from edge.bundle import MANIFEST_NAME, locate
from edge.config import EngineSection
from edge.decoders.base import Decoder, DecoderContext, Recognition
from edge.engines.base import Engine
from edge.errors import ConfigError, ManifestError
from edge.manifest import (
    DecoderSection,
    InputContract,
    Manifest,
    Target,
    read_labels,
    read_manifest,
)
from edge.registry import names, resolve
from edge.structs import as_struct
from edge.targets import load_engine, open_target

__all__ = ["Model", "claims", "open_model"]

_IMAGE_CURE = "export the model with an input of 1 x height x width x channels, or channels first"
_NORMALIZATION = {"scale", "mean", "std"}


@dataclass(slots=True)
class Model:
    """An opened model. `origins` says for contract, decoder and labels where each came from, for people.

    The engine belongs to the model: close it through `close`.
    """

    path: Path
    file: Path
    target: str
    manifest: Manifest
    labels: list[str]
    engine: Engine
    decoder: Decoder
    origins: dict[str, str]
    notes: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The manifest's name."""
        return self.manifest.name

    def close(self) -> None:
        """Release the engine."""
        self.engine.close()


def open_model(
    reference: str,
    engine: EngineSection | None = None,
    labels_file: str | None = None,
    score_threshold: float | None = None,
) -> Model:
    """Return the model that `reference` (bundle, model file or catalogue name) means, loaded.

    Raises: ManifestError, EngineError, AcceleratorError or MissingBackendError, each saying what to do.
    """
    path, engine = locate(reference), engine or EngineSection()
    opened = _open_bundle(path, engine) if path.is_dir() else _open_file(path, engine)
    target, file, loaded, manifest, labels, origins, notes, roles = opened
    try:
        if len(loaded.input_specs) != 1:
            raise ManifestError(
                f"{file.name} has {len(loaded.input_specs)} inputs ({_shapes(loaded.input_specs)})",
                "export the model with one image input",
            )
        if loaded.input_specs[0].layout is None:
            raise ManifestError(f"the input of {file.name} is no image ({_shapes(loaded.input_specs)})", _IMAGE_CURE)
        if labels_file:
            stated = msgspec.structs.replace(manifest, labels=Path(labels_file).name)
            labels = read_labels(stated, Path(labels_file).parent)
            origins["labels"] = f"the file {labels_file}"
        decoder = _build_decoder(manifest.decoder, loaded, roles, labels, score_threshold)
        _check_labels(decoder, labels)
    except Exception:
        loaded.close()
        raise
    return Model(path, file, target, manifest, labels, loaded, decoder, origins, notes)


def claims(engine: Engine) -> list[Recognition]:
    """Return what each decoder recognises in the engine's tensors, certain claims first."""
    found = [
        claim
        for name in names("decoders")
        if (claim := resolve("decoders", name).recognise(engine.input_specs, engine.output_specs))
    ]
    return sorted(found, key=lambda claim: claim.confidence != "certain")


_Opened = tuple[str, Path, Engine, Manifest, list[str], dict[str, str], list[str], dict[str, str]]


def _open_bundle(folder: Path, options: EngineSection) -> _Opened:
    manifest = read_manifest(folder / MANIFEST_NAME)
    labels = read_labels(manifest, folder)
    opened = open_target(folder, manifest, options)
    stated = str(folder / MANIFEST_NAME)
    origins = {
        "contract": manifest.contract_origin or f"manifest {stated}",
        "decoder": f"manifest {stated}",
        "labels": f"manifest {stated}",
    }
    return opened.name, opened.file, opened.engine, manifest, labels, origins, opened.notes, opened.target.outputs


def _open_file(file: Path, options: EngineSection) -> _Opened:
    engine = load_engine(file, options)
    said = embedded.from_onnx_properties(engine.embedded) if engine.embedded else None
    if file.suffix.lower() == ".tflite":
        said = embedded.from_tflite(file)
    found = claims(engine)
    if said and said.family:
        found = [claim for claim in found if claim.family == said.family] or found
    if not found:
        engine.close()
        raise ManifestError(
            f"no decoder recognises the outputs of {file.name} ({_shapes(engine.output_specs)})",
            f"write a {MANIFEST_NAME} beside it that names the decoder family (docs/models.md)",
        )
    return _described_by_file(file, engine, found, said)


def _described_by_file(
    file: Path, engine: Engine, found: Sequence[Recognition], said: embedded.Embedded | None
) -> _Opened:
    claim = found[0]
    stated = dict(said.contract) if said else {}
    guessed = dict(claim.contract)
    if stated.keys() & _NORMALIZATION:  # stated as a whole or guessed as a whole: half of each would be neither
        guessed = {key: value for key, value in guessed.items() if key not in _NORMALIZATION}
    params = {**claim.params, **(said.params if said and said.family == claim.family else {})}
    target = file.suffix.lower().lstrip(".")
    manifest = Manifest(
        name=(said.name if said else "") or file.stem,
        licence=said.licence if said else "",
        targets={target: Target(file=file.name, outputs=claim.roles)},
        input=as_struct({**guessed, **stated}, InputContract, str(file), ManifestError),
        decoder=DecoderSection(family=claim.family, params=params),
    )
    origins = {
        "contract": said.origin if stated and said else f"a guess: as {claim.family} models are usually trained",
        "decoder": f"{claim.confidence}: {claim.why}",
        "labels": said.origin if said and said.labels else "none: classes are shown as numbers",
    }
    notes = [f"could also be {other.family}: {other.why}" for other in found[1:]]
    if said:
        notes += said.notes
    if said and stated and (left := sorted(set(guessed) - set(stated))):
        notes.append(f"the file does not state {', '.join(left)}: guessed as for {claim.family}")
    return target, file, engine, manifest, list(said.labels) if said else [], origins, notes, claim.roles


def _build_decoder(
    section: DecoderSection, engine: Engine, roles: dict[str, str], labels: list[str], threshold: float | None
) -> Decoder:
    context = DecoderContext(
        outputs=engine.output_specs,
        roles=roles,
        size_wh=engine.input_specs[0].size_wh,
        score_threshold=section.score_threshold if threshold is None else threshold,
        class_count=len(labels) or None,
        params=section.params,
    )
    try:
        decoder = resolve("decoders", section.family)
    except ConfigError as exc:
        raise ManifestError(f"decoder.family: {exc.cause}", exc.cure) from exc
    return decoder(context)


def _check_labels(decoder: Decoder, labels: list[str]) -> None:
    if not labels or decoder.class_count is None:
        return
    if len(labels) != decoder.class_count:
        raise ManifestError(
            f"{len(labels)} labels for {decoder.class_count} classes",
            "give one label per class, in class order",
        )


def _shapes(specs: Sequence) -> str:
    return "; ".join(f"{spec.name} {'x'.join(map(str, spec.shape))} {spec.dtype}" for spec in specs)
