"""Any trained network into a float model: what kind it is, the route it takes, and the bundle that comes out."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from convert.float_model import FLOAT_ONNX, FLOAT_TFLITE, FloatModel, Origin, add_target
from convert.head import RAW_BOXES
from convert.leaf import leaf
from convert.probe import float_error, make_probe, probe_inputs
from convert.recognise import Described, check_settings, describe, fused_head, settled_by_values
from edge.bundle import MANIFEST_NAME
from edge.errors import ConfigError, ModelError
from edge.files import write_atomically
from edge.manifest import Manifest, Target
from edge.registry import Plug

__all__ = ["MOST_FLOAT_ERROR", "LoadOptions", "Loaded", "kind_of", "load"]

MOST_FLOAT_ERROR = 2e-3  # relative, of any float file against the original framework

ROUTES = {
    "onnx": Plug("convert.load_onnx:load_onnx", "convert", ("onnx", "onnxruntime")),
    "tflite": Plug("convert.load_tflite:load_tflite", "convert", ("ai_edge_litert", "flatbuffers")),
    "keras": Plug("convert.load_keras:load_keras", "keras", ("tensorflow", "keras")),
    "savedmodel": Plug("convert.load_keras:load_saved_model", "keras", ("tensorflow", "keras")),
    "pt2": Plug("convert.load_torch:load_exported", "torch", ("torch", "onnxscript", "onnx", "onnxruntime")),
    "factory": Plug("convert.load_torch:load_factory", "torch", ("torch", "onnxscript", "onnx", "onnxruntime")),
}
SURGERY = Plug("convert.load_onnx:operate_file", "convert", ("onnx", "onnxruntime"))
SUFFIXES = {".onnx": "onnx", ".tflite": "tflite", ".keras": "keras", ".h5": "keras", ".hdf5": "keras", ".pt2": "pt2"}


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """What the user says about a model.

    settings: dotted manifest keys and their values, such as {"decoder.family": "yolox", "input.scale": 0.00392};
    `outputs.ROLE` gives a role to an output by name. labels: a text file, one class a line.
    size_wh: px, where the model leaves its size open. pictures: a few real ones for the probe.
    equalized: also equalize weight ranges across layers, which helps some models: to be measured.
    """

    settings: Mapping[str, Any] = field(default_factory=dict)
    labels: str | None = None
    size_wh: tuple[int, int] | None = None
    state_dict: Path | None = None
    pictures: Sequence[Path] = ()
    want_onnx: bool = True
    want_tflite: bool = False
    split_outputs: bool = True
    equalized: bool = False


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a route hands over: float files in the folder, and the original framework to compare them with.

    onnx, tflite: the files, None where not made. With `operable` the ONNX file may be operated on and the TFLite
    file is translated from it. run: one input (1, ...) float32 in the original's layout -> outputs, (1, ...) each.
    output_names: of the original; the files' outputs bear the same names. contract: keys of InputContract that the
    original itself tells.
    """

    run: Callable[[np.ndarray], list[np.ndarray]]
    output_names: tuple[str, ...]
    onnx: Path | None = None
    tflite: Path | None = None
    operable: bool = False
    contract: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def load(reference: str, folder: Path, options: LoadOptions) -> FloatModel:
    """Return the float model of a trained network, in `folder`, which is then a bundle. The original is only read.

    Raises: ConfigError for wrong settings or a missing package, ModelError for what is no model that can be
    converted, each in one line with its cure.
    """
    check_settings(options.settings)
    kind = kind_of(reference)
    route = leaf(ROUTES[kind], f"converting {Path(reference).name}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise ConfigError(f"cannot write {folder} ({exc.strerror})", "choose another folder") from exc
    loaded: Loaded = route(reference, folder, options)
    name = reference.partition(":")[0].rpartition(".")[2] if kind == "factory" else Path(reference).stem
    base = loaded.onnx if loaded.operable else loaded.tflite or loaded.onnx
    assert base is not None
    described = describe(base, name, loaded.contract, options.settings, options.labels)
    inputs = probe_inputs(described.manifest.input, described.input, options.pictures)
    probe = folder / "probe.npz"
    values = make_probe(probe, inputs, loaded.run)
    outputs = {output: values[f"output_{i}"] for i, output in enumerate(loaded.output_names)}
    described = settled_by_values(described, outputs, options.settings)
    notes = [*loaded.notes, *described.notes]
    if not options.pictures:
        notes.append("no pictures were given: the probe is smooth noise, which shows less than real ones")
    model = _assembled(loaded, described, outputs, folder, Path(reference), probe, notes, options)
    _check_errors(model)
    return model


def kind_of(reference: str) -> str:
    """Return which route a reference takes: onnx, tflite, keras, savedmodel, pt2 or factory.

    Raises: ModelError when it is none of them.
    """
    path = Path(reference).expanduser()
    if path.is_dir():
        if (path / "saved_model.pb").is_file():
            return "savedmodel"
        if (path / MANIFEST_NAME).is_file():
            raise ModelError(f"{path} is a bundle, converted already", "give the trained network itself")
        raise ModelError(f"{path} is a folder without saved_model.pb", "give a SavedModel folder or a model file")
    suffix = path.suffix.lower()
    if path.is_file():
        if not path.stat().st_size:
            raise ModelError(f"{path.name} is empty", "export the model again")
        if suffix in (".pt", ".pth", ".ckpt", ".bin", ".safetensors"):
            raise ModelError(
                f"{path.name} holds weights without their network",
                f"name what builds it: harrier convert MODULE:FACTORY --state-dict {path.name} --size 640x640, "
                "or save it with torch.export as .pt2",
            )
        if suffix in SUFFIXES:
            return SUFFIXES[suffix]
        raise ModelError(f"{path.name} is no kind of model that is known here", f"give {', '.join(SUFFIXES)}")
    module, colon, factory = reference.partition(":")
    if colon and all(part.isidentifier() for part in module.split(".")) and factory.isidentifier():
        return "factory"
    raise ModelError(
        f"there is no model '{reference}'", "give a file, a SavedModel folder, or MODULE:FACTORY for PyTorch"
    )


def _assembled(
    loaded: Loaded,
    described: Described,
    outputs: dict[str, np.ndarray],
    folder: Path,
    original: Path,
    probe: Path,
    notes: list[str],
    options: LoadOptions,
) -> FloatModel:
    """Operate, translate and write the bundle."""
    origins = {name: Origin(name) for name in outputs}
    roles, files = described.roles, {FLOAT_ONNX: loaded.onnx, FLOAT_TFLITE: loaded.tflite}
    manifest, names = described.manifest, loaded.output_names
    if loaded.operable and loaded.onnx:
        head = fused_head(described) if options.split_outputs else None
        with np.load(probe) as values:
            inputs = values["input_0"]
        operated = leaf(SURGERY, "surgery")(loaded.onnx, inputs, head, manifest, options, described.input.size_wh)
        origins, roles, files[FLOAT_TFLITE] = operated.origins, operated.roles or roles, operated.tflite
        notes += operated.notes
        if operated.raw_boxes is not None:
            manifest, names = _with_raw_boxes(manifest, probe, names, operated.raw_boxes)
    elif options.split_outputs and (whole := fused_head(described)):
        notes.append(
            f"'{whole.output}' stays in one piece, since only ONNX graphs are split: int8 and mixed put it together in "
            "float, in full-integer files its parts share one scale; for those give the network one output each for "
            f"{', '.join(whole.roles)}"
        )
    labels = described.labels
    if labels:
        write_atomically(folder / "labels.txt", "\n".join(labels) + "\n")
    manifest = msgspec.structs.replace(manifest, targets={}, labels="labels.txt" if labels else [])
    model = FloatModel(folder, manifest, labels, original, probe, names, origins, tuple(notes))
    for target, file in files.items():
        if file is not None:
            model = add_target(model, target, Target(file=file.name, outputs=roles))
    return model


def _with_raw_boxes(
    manifest: Manifest, probe: Path, names: tuple[str, ...], raw: np.ndarray
) -> tuple[Manifest, tuple[str, ...]]:
    """The manifest of a YOLOX whose boxes are raw now; the probe learns the original's inner tensor."""
    with np.load(probe) as values:
        kept = {name: values[name] for name in values.files}
    kept[f"output_{len(names)}"] = raw
    np.savez(probe, **kept)  # type: ignore[arg-type]
    params = {key: value for key, value in manifest.decoder.params.items() if key != "decoded"}
    decoder = msgspec.structs.replace(manifest.decoder, params=params)
    return msgspec.structs.replace(manifest, decoder=decoder), (*names, RAW_BOXES)


def _check_errors(model: FloatModel) -> None:
    for target in model.manifest.targets:
        errors = float_error(model, target)
        output, worst = max(errors.items(), key=lambda item: item[1])
        if not worst <= MOST_FLOAT_ERROR:
            raise ModelError(
                f"output '{output}' of {target} differs from the original by {worst:.1e} of its largest value, "
                f"more than {MOST_FLOAT_ERROR:g}",
                "convert to the other format, and report this model",
            )
