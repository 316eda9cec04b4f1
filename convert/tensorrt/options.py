"""The builder's settings, each by whatever name this TensorRT has for it."""

from typing import Any

from convert.tensorrt.features import Features
from convert.tensorrt.request import BuildOptions, BuildRequest
from edge.engines.tensorrt_words import first_error
from edge.errors import AcceleratorError, ConfigError

__all__ = ["check_chip", "configure", "set_precision"]

_OLD_WORKSPACE_MIB = 256  # before memory pools nothing was allowed unless it was said
# compute capabilities without fast arithmetic: Maxwell and Pascal, but for 6.1 (int8) and 5.3, 6.0, 6.2 (fp16)
_NO_FAST_INT8 = {"5.0": "Maxwell", "5.2": "Maxwell", "5.3": "Jetson Nano, TX1", "6.0": "Pascal", "6.2": "Jetson TX2"}
_NO_FAST_FP16 = {"5.0": "Maxwell", "5.2": "Maxwell", "6.1": "Pascal"}


def check_chip(builder: Any, features: Features, request: BuildRequest, here: str | None) -> None:
    """Refuse a precision the chip is not fast at. here: the compute capability of this machine's GPU.

    Raises: AcceleratorError with the reason and the precision to take instead.
    """
    chips = request.options.compute_capabilities or ((here,) if here else ())
    asks = features.asks_platform and not request.options.compute_capabilities
    if request.precision in ("int8", "best"):
        slow = [f"{chip} ({_NO_FAST_INT8[chip]})" for chip in chips if chip in _NO_FAST_INT8]
        if slow or (asks and not builder.platform_has_fast_int8):
            which = f"compute capability {slow[0]}" if slow else "this GPU"
            raise AcceleratorError(f"{which} has no fast INT8: it would be slower than FP16", "build --precision fp16")
    if request.precision == "fp16":
        slow = [f"{chip} ({_NO_FAST_FP16[chip]})" for chip in chips if chip in _NO_FAST_FP16]
        if slow or (asks and not builder.platform_has_fast_fp16):
            which = f"compute capability {slow[0]}" if slow else "this GPU"
            raise AcceleratorError(f"{which} has no fast FP16", "build --precision fp32")


def configure(trt: Any, features: Features, config: Any, logger: Any, options: BuildOptions) -> list[str]:
    """Set everything but the precision; return notes on what this TensorRT has no setting for.

    Raises: ConfigError for a limit or target this TensorRT does not know.
    """
    notes = _set_memory(trt, features, config, options)
    for wanted, has, name in (
        (options.max_aux_streams, features.aux_streams, "max_aux_streams"),
        (options.optimization_level, features.optimization_level, "builder_optimization_level"),
    ):
        if wanted is not None and has:
            setattr(config, name, wanted)
        elif wanted is not None:
            notes.append(f"{features.name} {features.version} has no {name}: left out")
    if options.inspect:
        config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if options.hardware_compatibility:
        _set_compatibility(trt, features, config, logger, options.hardware_compatibility)
    _set_capabilities(trt, features, config, options.compute_capabilities)
    return notes


def set_precision(trt: Any, config: Any, precision: str) -> None:
    """Allow the precisions a weakly typed build may choose from."""
    if precision in ("fp16", "best"):
        config.set_flag(trt.BuilderFlag.FP16)
    if precision in ("int8", "best"):
        config.set_flag(trt.BuilderFlag.INT8)


def _set_memory(trt: Any, features: Features, config: Any, options: BuildOptions) -> list[str]:
    notes = []
    if features.memory == "memory pools":
        if options.workspace_mib:
            config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_mib << 20)
    else:
        config.max_workspace_size = (options.workspace_mib or _OLD_WORKSPACE_MIB) << 20
        if not options.workspace_mib:
            notes.append(f"workspace set to {_OLD_WORKSPACE_MIB} MiB: this TensorRT sets none itself")
    if options.tactic_mib and features.tactic_memory:
        config.set_memory_pool_limit(trt.MemoryPoolType.TACTIC_DRAM, options.tactic_mib << 20)
    elif options.tactic_mib:
        notes.append(f"{features.name} {features.version} cannot limit the memory of its timing: left out")
    return notes


def _set_compatibility(trt: Any, features: Features, config: Any, logger: Any, level: str) -> None:
    if level not in features.hardware_compatibility:
        known = ", ".join(features.hardware_compatibility) or "none"
        raise ConfigError(
            f"{features.name} {features.version} has no hardware compatibility '{level}' (it has {known})",
            "build on each kind of GPU, without it",
        )
    heard = len(logger.errors), len(logger.warnings)
    config.hardware_compatibility_level = getattr(trt.HardwareCompatibilityLevel, level.upper())
    if said := logger.errors[heard[0] :] + logger.warnings[heard[1] :]:  # the name may be there and do nothing
        raise ConfigError(f"hardware compatibility '{level}': {first_error(said)}", "name compute capabilities instead")


def _set_capabilities(trt: Any, features: Features, config: Any, wanted: tuple[str, ...]) -> None:
    if not wanted:
        return
    known = features.compute_capabilities
    if not known:
        raise ConfigError(
            f"{features.name} {features.version} builds only for the GPU it runs on, not for {', '.join(wanted)}",
            "build there (harrier build --on-device), or ahead of time with TensorRT-RTX",
        )
    for name in wanted:
        if name not in known:
            raise ConfigError(
                f"{features.name} {features.version} cannot build for compute capability {name}",
                f"it knows {', '.join(known)}; for any other GPU build on it (harrier build --on-device)",
            )
    config.num_compute_capabilities = len(wanted)
    for index, name in enumerate(wanted):
        if not config.set_compute_capability(getattr(trt.ComputeCapability, "SM" + name.replace(".", "")), index):
            raise ConfigError(f"{features.name} refuses compute capability {name}", "name others, each once")
