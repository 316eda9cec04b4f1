"""What an engine is asked to be, and what came of it."""

import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from convert.tensorrt.features import Features
from convert.tensorrt.layers import LayerRow
from edge.board import l4t_release
from edge.errors import ConfigError, ModelError
from edge.manifest import sha256_of
from edge.structs import did_you_mean

__all__ = ["PRECISIONS", "BuildOptions", "BuildRequest", "BuildResult", "Shapes", "check_request", "needs_of"]

_DEFAULT_SM = "8.0+"  # what NVIDIA says TensorRT-RTX builds for when no GPU is named
PRECISIONS = ("fp32", "fp16", "int8", "best")
Shapes = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """How engines are built, whichever the model.

    workspace_mib: most GPU memory in MiB a layer may use. tactic_mib: most GPU memory in MiB while timing.
    timing_cache: read if it is there, and written. calibration_cache: TensorRT's own, for a float ONNX.
    hardware_compatibility: "ampere_plus" or "same_compute_capability". compute_capabilities: such as "8.6".
    shapes: least, best and greatest shape of each input with an open dimension.
    inspect: keep what the engine made of each layer in it, to be read back (costs some latency).
    """

    workspace_mib: int | None = None
    tactic_mib: int | None = None
    max_aux_streams: int | None = None
    optimization_level: int | None = None
    timing_cache: Path | None = None
    calibration_cache: Path | None = None
    hardware_compatibility: str | None = None
    compute_capabilities: tuple[str, ...] = ()
    shapes: Mapping[str, Shapes] = field(default_factory=dict)
    inspect: bool = False


@dataclass(frozen=True, slots=True)
class BuildRequest:
    """One engine to build.

    onnx: float32, float16-cast, or Q/DQ (symmetric); it is only read. out: the engine's file.
    precision: fp32, fp16, int8 (the rest stays as the ONNX has it), or best (int8 with float16 between).
    """

    onnx: Path
    out: Path
    precision: str = "fp32"
    options: BuildOptions = BuildOptions()


@dataclass(frozen=True, slots=True)
class BuildResult:
    """An engine that was built.

    needs: what the engine asks of the machine it runs on, for the manifest. strongly_typed: how it was built.
    layers: one row a layer; layer_source: "network" (what was asked of the builder) or "engine" (what it made).
    precisions: how many convolutions and matrix products have each precision. notes: what a person should know.
    """

    engine: Path
    features: Features
    needs: dict[str, str]
    strongly_typed: bool
    seconds: float
    onnx_bytes: int
    engine_bytes: int
    layers: tuple[LayerRow, ...]
    layer_source: str
    precisions: dict[str, int]
    notes: tuple[str, ...]


def check_request(request: BuildRequest) -> None:
    """Check that there is something to build from and a place to put it.

    Raises: ConfigError for an unknown precision or level or a missing folder, ModelError for a missing model.
    """
    if request.precision not in PRECISIONS:
        raise ConfigError(
            f"TensorRT has no precision '{request.precision}'", did_you_mean(request.precision, list(PRECISIONS))
        )
    level = request.options.optimization_level
    if level is not None and not 0 <= level <= 5:  # TensorRT itself takes any number without a word
        raise ConfigError(f"there is no optimization level {level}", "give 0 to 5")
    if not request.onnx.is_file():
        raise ModelError(f"no model file {request.onnx}", "check the path")
    if not request.out.parent.is_dir():
        raise ConfigError(f"no folder {request.out.parent} for the engine", "make it, or give another")


def needs_of(features: Features, request: BuildRequest, here: str | None) -> dict[str, str]:
    """Return what the engine asks of its machine: TensorRT, GPU (`here`: this one's), Jetson Linux, and its ONNX."""
    sm = " ".join(request.options.compute_capabilities) or (
        _DEFAULT_SM if features.compute_capabilities else here or ""
    )
    if request.options.hardware_compatibility == "ampere_plus":
        sm = "8.0+"
    return {
        key: value
        for key, value in {
            "tensorrt": features.version,
            "flavour": features.name.lower(),
            "sm": sm,
            "l4t": l4t_release() or "",
            "machine": "" if features.compute_capabilities else platform.machine(),
            "onnx_sha256": sha256_of(request.onnx),
        }.items()
        if value
    }
