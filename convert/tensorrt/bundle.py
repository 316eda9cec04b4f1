"""The TensorRT targets of a bundle, built from the ONNX files that travel in it."""

import logging
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import msgspec

from convert.float_model import write_manifest
from convert.tensorrt.build import build
from convert.tensorrt.features import Features, probe
from convert.tensorrt.find import find_builder
from convert.tensorrt.request import PRECISIONS, BuildOptions, BuildRequest, BuildResult
from convert.tensorrt.trtexec import build_by_tool, probe_tool
from edge.bundle import MANIFEST_NAME
from edge.engines.driver import gpu_capability
from edge.errors import AcceleratorError, ConfigError, ManifestError, MissingBackendError
from edge.manifest import Manifest, Target, read_manifest, sha256_of, verify_file
from edge.progress import Progress
from edge.structs import did_you_mean

__all__ = ["Built", "build_bundle", "build_target", "features_of", "options_for_this_machine"]

_LOG = logging.getLogger(__name__)
_PREFIX = "tensorrt-"
_QUANTIZED = ("onnx-mixed", "onnx-int8")  # with layers the search left in float, if it was made; else all int8


@dataclass(frozen=True, slots=True)
class Built:
    """A target that was added to the manifest: its name there, what was built, and the ONNX target it is from."""

    name: str
    source: str
    result: BuildResult


def build_bundle(
    folder: Path, precisions: Sequence[str] = (), options: BuildOptions | None = None, trt: Any = None
) -> list[Built]:
    """Build the TensorRT targets of the bundle in `folder` and write them into its manifest, one after the other.

    precisions: which; empty: those the manifest has, else whatever its ONNX files and the chip allow.
    trt: TensorRT's module or the path of `trtexec`, looked for when it is not given.
    Raises: ConfigError for a folder that cannot be written, ManifestError without the ONNX, and what `build` raises.
    """
    if not (folder / MANIFEST_NAME).is_file():
        raise ManifestError(f"{folder} is no bundle folder", "unpack the zip, or give the folder with manifest.toml")
    if not os.access(folder, os.W_OK):
        raise ConfigError(f"{folder} is read-only", "copy the bundle to where you may write, and build there")
    for precision in precisions:
        if precision not in PRECISIONS:
            raise ConfigError(f"TensorRT has no precision '{precision}'", did_you_mean(precision, list(PRECISIONS)))
    manifest = read_manifest(folder / MANIFEST_NAME)
    trt = trt or find_builder()
    built = []
    for precision in precisions or _precisions_of(manifest):
        try:
            manifest, one = build_target(folder, manifest, precision, options, trt)
        except AcceleratorError as exc:
            if precision in precisions or precision != "int8":
                raise
            _LOG.warning("int8 was left out: %s", exc)
            continue
        built.append(one)
    return built


def build_target(
    folder: Path, manifest: Manifest, precision: str, options: BuildOptions | None = None, trt: Any = None
) -> tuple[Manifest, Built]:
    """Build one precision from the ONNX in the bundle, and return the manifest, rewritten, with the target in it.

    Raises: ManifestError when the bundle has no fitting ONNX, and what `build` raises.
    """
    options, trt = options or BuildOptions(), trt or find_builder()
    features = features_of(trt)
    source = _source(manifest, precision, features, options)
    entry = manifest.targets[source]
    verify_file(folder / entry.file, entry.sha256)
    name = _PREFIX + precision
    out = folder / f"model-{precision}.{_tag(features, options)}.engine"
    progress = Progress(f"building {name}")
    with tempfile.TemporaryDirectory(prefix="harrier-") as scratch:
        onnx = folder / entry.file
        if precision == "best" and features.typing == "strong" and source in _QUANTIZED:
            onnx = _mixed(onnx, Path(scratch))
        request = BuildRequest(onnx=onnx, out=out, precision=precision, options=options)
        result = build_by_tool(trt, request, progress) if isinstance(trt, Path) else build(request, progress, trt)
    needs = {**result.needs, "onnx_sha256": sha256_of(folder / entry.file)}
    result = replace(result, needs=needs)
    target = Target(file=out.name, sha256=sha256_of(out), outputs=entry.outputs, needs=needs)
    manifest = msgspec.structs.replace(manifest, targets=_with_target(manifest, name, target))
    write_manifest(folder, manifest)
    return manifest, Built(name, source, result)


def options_for_this_machine(options: BuildOptions, trt: Any) -> BuildOptions:
    """Return the options for the GPU of this machine.

    Raises: AcceleratorError when it has none, or one this TensorRT cannot build for.
    """
    here, features = gpu_capability(), features_of(trt)
    if here is None:
        raise AcceleratorError(
            "there is no NVIDIA GPU here to build for",
            "run this on the board; ahead of time name the GPU, as in --compute-capability 8.6",
        )
    if not features.compute_capabilities:
        return options
    if here not in features.compute_capabilities:
        known = ", ".join(features.compute_capabilities)
        raise AcceleratorError(
            f"{features.name} {features.version} cannot build for this GPU (it has {here}, known are {known})",
            "install NVIDIA's TensorRT with its Python wheel (docs/tensorrt.md)",
        )
    return replace(options, compute_capabilities=(here,))


def features_of(trt: Any) -> Features:
    """Return what TensorRT's module, or `trtexec` by its path, offers."""
    return probe_tool(trt) if isinstance(trt, Path) else probe(trt)


def _precisions_of(manifest: Manifest) -> list[str]:
    had = [p for p in PRECISIONS if _PREFIX + p in manifest.targets]
    found = [p for p in ("fp16", "int8") if f"onnx-{p}" in manifest.targets]
    return had or found or ["fp32"]


def _source(manifest: Manifest, precision: str, features: Features, options: BuildOptions) -> str:
    weak = features.typing != "strong"
    wanted = [f"onnx-{precision}"]
    if precision == "best":
        wanted += _QUANTIZED
    if weak and (precision == "fp16" or options.calibration_cache):
        wanted.append("onnx-fp32")
    if options.calibration_cache and precision in ("int8", "best"):
        wanted = ["onnx-fp32"]  # a cache is of no use to a model that has its own scales
    for name in wanted:
        if name in manifest.targets:
            return name
    missing = "int8" if precision == "best" else precision
    raise ManifestError(
        f"the bundle has no {' or '.join(wanted)} to build {precision} from",
        f"convert the model again with --to onnx,tensorrt --precision {missing}",
    )


def _tag(features: Features, options: BuildOptions) -> str:
    here = None if features.compute_capabilities else gpu_capability()
    names = options.compute_capabilities or ((here,) if here else ())
    return "-".join("sm" + name.replace(".", "") for name in names) or "sm80plus"


def _mixed(onnx: Path, scratch: Path) -> Path:
    try:
        mixed = import_module("convert.tensorrt.mixed")
    except ModuleNotFoundError as exc:
        raise MissingBackendError(
            f"best needs {exc.name} here, which is not installed", "pip install 'harrier-edge[convert]'"
        ) from exc
    mixed.write_mixed(onnx, scratch / onnx.name)
    return scratch / onnx.name


def _with_target(manifest: Manifest, name: str, target: Target) -> dict[str, Target]:
    """Put the target first; one for other GPUs stays, under a longer name."""
    others = {key: value for key, value in manifest.targets.items() if key != name}
    old = manifest.targets.get(name)
    if old and old.file != target.file:
        others[f"{name}-sm{old.needs.get('sm', 'old').replace('.', '').replace(' ', '-sm')}"] = old
    return {name: target, **others}
