"""Which target of a bundle runs here: the one that is named, or the best, and why not the others."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from edge.config import EngineSection
from edge.embedded import tflite_custom_ops
from edge.engines.base import Engine
from edge.engines.worker import WorkerEngine
from edge.engines.worker_child import RUNNERS
from edge.errors import AcceleratorError, ConfigError, EngineError, ManifestError, MissingBackendError
from edge.manifest import Manifest, Target, verify_file
from edge.rebuild import fit_target
from edge.registry import names, resolve
from edge.remote_target import matching_target
from edge.structs import did_you_mean
from edge.uri import parse_uri

__all__ = ["Opened", "load_engine", "open_target", "ranked"]

_TENSORRT = ("engine", "plan")
_KINDS = ("tensorrt", "edgetpu", "provider", "tflite", "onnx", "other")  # the quickest first
_PRECISIONS = {  # the quickest first; what is not named comes last, in the manifest's order
    "tensorrt": ("best", "int8", "fp16", "fp32"),
    "tflite": ("int8", "int8-io", "uint8-io", "mixed", "dynamic", "fp16", "fp32", "int16x8"),
    "provider": ("fp16", "fp32"),
    "onnx": ("fp32", "fp16"),  # Q/DQ is for TensorRT: on a CPU it is slower than float
}
_EDGE_TPU_OP = "edgetpu-custom-op"
_MAX_DROP = 0.03  # what "auto" gives away of the best target's accuracy for speed


@dataclass(slots=True)
class Opened:
    """A target's engine, loaded, with the manifest's words on it and a note on each target that was passed over."""

    name: str
    file: Path
    target: Target
    engine: Engine
    notes: list[str] = field(default_factory=list)


def load_engine(file: Path, options: EngineSection) -> Engine:
    """Return the engine for a model file, chosen by its suffix; in a process of its own where the options say so.

    Raises: EngineError for a suffix no engine takes or a path that is not UTF-8, MissingBackendError for an engine
    that is not installed, and what the engine raises.
    """
    suffix = file.suffix.lower().lstrip(".")
    if suffix not in names("engines"):
        try:
            resolve("engines", suffix)
        except ConfigError as exc:
            raise EngineError(f"{file.name} is no model file an engine knows", "give a .tflite or .onnx file") from exc
    try:
        str(file).encode()
    except UnicodeEncodeError as exc:  # which ONNX Runtime and the TensorFlow Lite interpreters do not take
        raise EngineError(
            f"{str(file)!a} cannot be opened (its name is not UTF-8)", "rename it, or the folder that is not UTF-8"
        ) from exc
    if options.isolate or options.python:
        return WorkerEngine(file, options)
    return resolve("engines", suffix)(file, options)


def open_target(folder: Path, manifest: Manifest, options: EngineSection) -> Opened:
    """Return the engine of the target that `options` asks for: by name, by a server's URI, "auto", or the first here.

    Raises: ManifestError for a target the bundle has not, and what the engine raises; where there was a choice, one as
    the first one with the reasons of all.
    """
    wanted = options.target
    if wanted and "://" in wanted:
        return _remote(manifest, options)
    notes: list[str] = []
    if wanted and wanted != "auto":
        order = [wanted]
    else:
        order = list(manifest.targets)
        if wanted:
            order = ranked(folder, manifest, options, notes)
    failed: dict[str, MissingBackendError | AcceleratorError] = {}
    for name in order:
        if name not in manifest.targets:
            raise ManifestError(f"the bundle has no target '{name}'", did_you_mean(name, [*manifest.targets, "auto"]))
        try:
            if options.python and name != wanted:
                _check_portable(manifest.targets[name].file, options.python)
            opened = _local(name, folder, manifest, options)
        except (MissingBackendError, AcceleratorError) as exc:
            notes.append(f"target '{name}' was passed over: {exc}")
            failed[name] = exc
            continue
        if wanted == "auto":
            notes += [
                f"target '{other}' was not needed: '{name}' is quicker" for other in order[order.index(name) + 1 :]
            ]
        opened.notes = notes
        return opened
    if not failed:
        raise ManifestError(f"{folder} has no targets", "add [targets.tflite] with a file")
    raise _none_of(failed)


def ranked(folder: Path, manifest: Manifest, options: EngineSection, notes: list[str]) -> list[str]:
    """Return the targets worth trying, the best first, and add to `notes` why others are not.

    Accelerators come before the CPU, and of one kind the quickest precision first, unless the manifest's own figures
    say that it loses more than 0.03 of the best target's accuracy.
    """
    best = max((value for value in manifest.accuracy.values() if isinstance(value, int | float)), default=None)
    worth = []
    for place, (name, target) in enumerate(manifest.targets.items()):
        value = manifest.accuracy.get(name)
        if best is not None and isinstance(value, int | float) and best - value > _MAX_DROP:
            notes.append(f"target '{name}' was passed over: its accuracy is {value:.3f}, the best has {best:.3f}")
            continue
        kind = _kind(folder / target.file, options)
        precisions = _PRECISIONS.get(kind, ())
        precision = name.partition("-")[2]
        speed = precisions.index(precision) if precision in precisions else len(precisions)
        worth.append((_KINDS.index(kind), speed, place, name))
    return [name for *_, name in sorted(worth)]


def _check_portable(file: str, python: str) -> None:
    """Raise MissingBackendError for a file that another interpreter than Harrier's own does not run."""
    if Path(file).suffix.lower().lstrip(".") not in RUNNERS:
        raise MissingBackendError(f"{python} cannot run {file}", "leave out python for this target")


def _none_of(failed: Mapping[str, MissingBackendError | AcceleratorError]) -> MissingBackendError | AcceleratorError:
    """The error of the first target that was passed over, with the reasons of the others."""
    first = next(iter(failed.values()))
    names: dict[str, list[str]] = {}
    for name, exc in failed.items():
        names.setdefault(exc.cause, []).append(name)
    if len(names) == 1:
        return first
    causes = "; ".join(f"{', '.join(those)}: {cause}" for cause, those in names.items())
    return type(first)(f"no target runs here ({causes})", "; or ".join(dict.fromkeys(e.cure for e in failed.values())))


def _kind(file: Path, options: EngineSection) -> str:
    suffix = file.suffix.lower().lstrip(".")
    if suffix in _TENSORRT:
        return "tensorrt"
    if suffix == "tflite":
        return "edgetpu" if _EDGE_TPU_OP in tflite_custom_ops(file) else "tflite"
    if suffix == "onnx":
        return "onnx" if options.providers == ["CPUExecutionProvider"] else "provider"
    return "other"


def _local(name: str, folder: Path, manifest: Manifest, options: EngineSection) -> Opened:
    target = manifest.targets[name]
    if Path(target.file).suffix.lower().lstrip(".") in _TENSORRT:
        target, folder = fit_target(name, manifest, folder, options)
    file = folder / target.file
    verify_file(file, target.sha256)
    return Opened(name, file, target, load_engine(file, options))


def _remote(manifest: Manifest, options: EngineSection) -> Opened:
    """A server's model, under the name of the bundle's target whose tensors it has."""
    uri = parse_uri(options.target or "")
    engine = resolve("engines", uri.scheme)(uri, options)
    try:
        target = manifest.targets[matching_target(manifest, engine)]
    except Exception:
        engine.close()
        raise
    return Opened(uri.safe_text, Path(target.file), target, engine)
