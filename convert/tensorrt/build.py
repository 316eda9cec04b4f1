"""Building one engine: probe, parse, check the precisions, configure, build, look at what came out, write."""

import logging
import time
import warnings
from dataclasses import dataclass
from typing import Any

from convert.tensorrt.caches import set_calibration, timings_of, use_timings
from convert.tensorrt.features import Features, probe
from convert.tensorrt.find import find_tensorrt
from convert.tensorrt.layers import LayerRow, check_precision, count_precisions, engine_layers, network_layers
from convert.tensorrt.messages import logger_of
from convert.tensorrt.network import add_profile, parse_onnx
from convert.tensorrt.options import check_chip, configure, set_precision
from convert.tensorrt.request import BuildRequest, BuildResult, check_request, needs_of
from convert.tensorrt.watch import Watch, supervised
from edge.board import available_mib, l4t_release
from edge.engines.driver import gpu_capability
from edge.engines.tensorrt_words import first_error
from edge.errors import AcceleratorError, ConfigError, ModelError
from edge.files import write_atomically
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


@dataclass(frozen=True, slots=True)
class _Plan:
    """What TensorRT made, before anything is written."""

    engine: bytes
    timings: bytes
    seconds: float
    strongly_typed: bool
    rows: tuple[LayerRow, ...]
    rows_made: tuple[LayerRow, ...] | None
    notes: list[str]


def build(request: BuildRequest, progress: Progress | None = None, trt: Any = None) -> BuildResult:
    """Build the engine and write it. trt: the TensorRT module, looked for when it is not given.

    Raises: MissingBackendError without TensorRT, ConfigError for what this TensorRT cannot do, ModelError for the
    ONNX, AcceleratorError for the chip, KeyboardInterrupt after Ctrl-C; in all cases no engine was written.
    """
    check_request(request)
    trt = trt or find_tensorrt()
    features, here = probe(trt), gpu_capability()
    watch = Watch(features.progress)
    progress = progress or Progress(f"building {request.out.name}")
    plan = supervised(lambda: _work(trt, features, here, request, watch), watch, progress)
    if plan.timings and request.options.timing_cache:
        write_atomically(request.options.timing_cache, plan.timings)
    write_atomically(request.out, plan.engine)
    return BuildResult(
        engine=request.out,
        features=features,
        needs=needs_of(features, request, here),
        strongly_typed=plan.strongly_typed,
        seconds=plan.seconds,
        onnx_bytes=request.onnx.stat().st_size,
        engine_bytes=len(plan.engine),
        layers=plan.rows_made or plan.rows,
        layer_source="engine" if plan.rows_made else "network",
        precisions=count_precisions(plan.rows_made or plan.rows),
        notes=tuple(plan.notes),
    )


def _work(trt: Any, features: Features, here: str | None, request: BuildRequest, watch: Watch) -> _Plan | None:
    """Do everything TensorRT has to do; None when it was stopped. Runs in a thread of its own."""
    logger = logger_of(trt)
    logger.errors.clear()
    logger.warnings.clear()
    bench = _Bench(trt, features, logger, _builder(trt, features, logger))
    check_chip(bench.builder, features, request, here)
    notes = _parse(bench, request)
    config = bench.builder.create_builder_config()
    uses_timings, said = _configure(bench, config, request)
    notes += said
    for note in notes:
        _LOG.warning("%s", note)
    started = time.monotonic()
    engine = _engine(bench, config, request, watch)
    if engine is None:
        return None
    seconds = time.monotonic() - started
    made = engine_layers(trt, logger, engine) if request.options.inspect else None
    if request.options.inspect and made is None:
        notes.append("the engine could not be read back here: the layers are those asked of the builder")
        _LOG.warning("%s", notes[-1])
    timings = timings_of(config) if uses_timings else b""
    return _Plan(engine, timings, seconds, bench.strongly_typed, bench.rows, made, notes)


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


def _configure(bench: _Bench, config: Any, request: BuildRequest) -> tuple[bool, list[str]]:
    """Set everything and return whether timings are kept, and notes."""
    trt, features, options = bench.trt, bench.features, request.options
    notes = configure(trt, features, config, bench.logger, options)
    add_profile(bench.builder, config, bench.network, options.shapes)
    if not bench.strongly_typed:
        set_precision(trt, config, request.precision)
    if options.calibration_cache:
        set_calibration(trt, features, config, options.calibration_cache)
    uses_timings = False
    if options.timing_cache:
        uses_timings, said = use_timings(config, bench.logger, options.timing_cache)
        notes += said
    return uses_timings, notes + _memory_note(features, request)


def _engine(bench: _Bench, config: Any, request: BuildRequest, watch: Watch) -> bytes | None:
    if bench.features.progress:
        watch.attach(bench.trt, config)
    if watch.stopped.is_set():
        return None
    heard = len(bench.logger.errors)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        plan = bench.builder.build_serialized_network(bench.network, config)
    if plan is None and not watch.stopped.is_set():
        why = first_error(bench.logger.errors[heard:])
        cure = "see docs/tensorrt.md"
        if "workspace" in why.lower() and request.options.workspace_mib:
            cure = f"give more than --workspace {request.options.workspace_mib}"
        elif "memory" in why.lower():
            cure = "close other programs, or give a smaller --workspace"
        raise ModelError(f"{bench.features.name} could not build {request.onnx.name} ({why})", cure)
    return None if plan is None else bytes(plan)


def _memory_note(features: Features, request: BuildRequest) -> list[str]:
    have = available_mib()
    need = _BASE_MIB[features.name] + _ONNX_COPIES * request.onnx.stat().st_size // _MIB
    if l4t_release():  # GPU and CPU share the memory
        need += request.options.workspace_mib or 0
    if have is None or have >= need:
        return []
    return [f"{have} MiB of memory are free and the build needs roughly {need}: close other programs or add swap"]
