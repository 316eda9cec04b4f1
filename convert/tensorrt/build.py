"""Building one engine: probe, parse, check the precisions, configure, build, look at what came out, write."""

import logging
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convert.tensorrt.caches import keep_timings, set_calibration, use_timings, write_atomically
from convert.tensorrt.features import Features, probe
from convert.tensorrt.find import find_tensorrt
from convert.tensorrt.layers import LayerRow, check_precision, count_precisions, engine_layers, network_layers
from convert.tensorrt.machine import available_mib, gpu_capability, l4t_release
from convert.tensorrt.messages import first_error, logger_of
from convert.tensorrt.network import add_profile, parse_onnx
from convert.tensorrt.options import check_chip, configure, set_precision
from convert.tensorrt.request import BuildRequest, BuildResult, check_request, needs_of
from convert.tensorrt.watch import Watch, supervised
from edge.errors import AcceleratorError, ConfigError, ModelError
from edge.progress import Progress

__all__ = ["build"]

_LOG = logging.getLogger(__name__)
_MIB = 1 << 20
# rough: TensorRT-RTX on a CPU took 250 to 410 MiB in all; the full library loads CUDA's kernels as well
_BASE_MIB = {"TensorRT-RTX": 400, "TensorRT": 1500}
_ONNX_COPIES = 8


@dataclass(slots=True)
class _Bench:
    """The objects one build works with; the parser owns the weights until the end."""

    trt: Any
    features: Features
    logger: Any
    builder: Any
    network: Any = None
    parser: Any = None
    strongly_typed: bool = False
    rows: tuple[LayerRow, ...] = ()


def build(request: BuildRequest, progress: Progress | None = None, trt: Any = None) -> BuildResult:
    """Build the engine and write it. trt: the TensorRT module, looked for when it is not given.

    Raises: MissingBackendError without TensorRT, ConfigError for what this TensorRT cannot do, ModelError for the
    ONNX, AcceleratorError for the chip, KeyboardInterrupt after Ctrl-C; in all cases no engine was written.
    """
    check_request(request)
    trt = trt or find_tensorrt()
    progress = progress or Progress(f"building {request.out.name}")
    features, logger = probe(trt), logger_of(trt)
    logger.errors.clear()
    logger.warnings.clear()
    here = gpu_capability()
    bench = _Bench(trt, features, logger, _builder(trt, features, logger))
    check_chip(bench.builder, features, request, here)
    notes = _parse(bench, request)
    config = bench.builder.create_builder_config()
    timings, said = _configure(bench, config, request)
    notes += said
    for note in notes:
        _LOG.warning("%s", note)
    started = time.monotonic()
    plan = _plan(bench, config, request, progress)
    seconds = time.monotonic() - started
    made = engine_layers(trt, logger, plan) if request.options.inspect else None
    if request.options.inspect and made is None:
        notes.append("the engine could not be read back here: the layers are those asked of the builder")
        _LOG.warning("%s", notes[-1])
    if timings:
        keep_timings(config, timings)
    write_atomically(request.out, plan)
    return BuildResult(
        engine=request.out,
        features=features,
        needs=needs_of(features, request, here),
        strongly_typed=bench.strongly_typed,
        seconds=seconds,
        onnx_bytes=request.onnx.stat().st_size,
        engine_bytes=len(plan),
        layers=made or bench.rows,
        layer_source="engine" if made else "network",
        precisions=count_precisions(made or bench.rows),
        notes=tuple(notes),
    )


def _builder(trt: Any, features: Features, logger: Any) -> Any:
    try:
        return trt.Builder(logger)
    except (TypeError, RuntimeError) as exc:  # pybind's word for a factory that gave nothing
        raise AcceleratorError(
            f"{features.name} {features.version} cannot start a builder ({first_error(logger.errors or [str(exc)])})",
            "it needs an NVIDIA GPU and its driver; without one, TensorRT-RTX builds ahead of time",
        ) from exc


def _parse(bench: _Bench, request: BuildRequest) -> list[str]:
    """Parse strongly typed where the ONNX itself has the precision asked for, else weakly typed."""
    features = bench.features
    if features.typing != "weak" and not (features.typing == "both" and request.options.calibration_cache):
        _read(bench, request, True)
        if request.options.calibration_cache:  # strongly typed only: say why it is of no use
            set_calibration(bench.trt, features, None, request.options.calibration_cache)
        try:
            return check_precision(bench.rows, request.precision)
        except ModelError:
            if features.typing == "strong" or request.precision == "fp32":
                raise
    _read(bench, request, False)
    counts = count_precisions(bench.rows)
    if request.precision == "fp32":
        return check_precision(bench.rows, "fp32")
    if request.precision in ("int8", "best"):
        quantized = "INT8" in counts
        if quantized and request.options.calibration_cache:
            raise ConfigError("the ONNX has its own scales: the calibration cache would not be used", "leave one out")
        if not request.options.calibration_cache:
            return check_precision(bench.rows, "int8")  # which refuses a float ONNX
    return []


def _read(bench: _Bench, request: BuildRequest, strongly_typed: bool) -> None:
    bench.network, bench.parser = parse_onnx(
        bench.trt, bench.features, bench.builder, bench.logger, request.onnx, strongly_typed
    )
    bench.strongly_typed, bench.rows = strongly_typed, network_layers(bench.network)


def _configure(bench: _Bench, config: Any, request: BuildRequest) -> tuple[Path | None, list[str]]:
    """Set everything and return where the timings are to be kept, if anywhere, and notes."""
    trt, features, options = bench.trt, bench.features, request.options
    notes = configure(trt, features, config, bench.logger, options)
    add_profile(bench.builder, config, bench.network, options.shapes)
    if not bench.strongly_typed:
        set_precision(trt, config, request.precision)
    if options.calibration_cache:
        set_calibration(trt, features, config, options.calibration_cache)
    timings = options.timing_cache
    if timings:
        uses_timings, said = use_timings(config, bench.logger, timings)
        timings, notes = timings if uses_timings else None, notes + said
    return timings, notes + _memory_note(features, request)


def _plan(bench: _Bench, config: Any, request: BuildRequest, progress: Progress) -> bytes:
    watch = Watch()
    if bench.features.progress:
        watch.attach(bench.trt, config)
    heard = len(bench.logger.errors)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        plan = supervised(lambda: bench.builder.build_serialized_network(bench.network, config), watch, progress)
    if plan is None:
        why = first_error(bench.logger.errors[heard:])
        cure = "see docs/tensorrt.md"
        if "workspace" in why.lower() and request.options.workspace_mib:
            cure = f"give more than --workspace {request.options.workspace_mib}"
        elif "memory" in why.lower():
            cure = "close other programs, or give a smaller --workspace"
        raise ModelError(f"{bench.features.name} could not build {request.onnx.name} ({why})", cure)
    return bytes(plan)


def _memory_note(features: Features, request: BuildRequest) -> list[str]:
    have = available_mib()
    need = _BASE_MIB[features.name] + _ONNX_COPIES * request.onnx.stat().st_size // _MIB
    if l4t_release():  # GPU and CPU share the memory
        need += request.options.workspace_mib or 0
    if have is None or have >= need:
        return []
    return [f"{have} MiB of memory are free and the build needs roughly {need}: close other programs or add swap"]
