"""What a TensorRT can do, asked of its classes: releases differ too much for version numbers to be trusted."""

from dataclasses import dataclass, fields
from typing import Any

__all__ = ["Features", "feature_table", "probe"]


@dataclass(frozen=True, slots=True)
class Features:
    """What the builder of one TensorRT offers.

    typing: "weak" (precision by flags), "strong" (precision by the tensors of the ONNX), or "both".
    memory: how the workspace is limited. compute_capabilities: those it can build for without such a GPU.
    """

    name: str
    version: str
    typing: str
    explicit_batch: bool
    memory: str
    tactic_memory: bool
    implicit_calibration: bool
    optimization_level: bool
    aux_streams: bool
    hardware_compatibility: tuple[str, ...]
    compute_capabilities: tuple[str, ...]
    progress: bool
    asks_platform: bool


def probe(trt: Any) -> Features:
    """Return what the TensorRT module `trt` offers."""
    config, flags = trt.IBuilderConfig, trt.BuilderFlag
    creation = trt.NetworkDefinitionCreationFlag
    weak, strong = hasattr(flags, "FP16"), hasattr(creation, "STRONGLY_TYPED")
    capabilities = getattr(trt, "ComputeCapability", None)
    return Features(
        name="TensorRT-RTX" if "rtx" in trt.__name__ else "TensorRT",
        version=trt.__version__,
        typing="both" if weak and strong else "strong" if strong else "weak",
        explicit_batch=hasattr(creation, "EXPLICIT_BATCH"),
        memory="memory pools" if hasattr(config, "set_memory_pool_limit") else "max_workspace_size",
        tactic_memory=hasattr(getattr(trt, "MemoryPoolType", None), "TACTIC_DRAM"),
        implicit_calibration=hasattr(config, "int8_calibrator") and hasattr(trt, "IInt8EntropyCalibrator2"),
        optimization_level=hasattr(config, "builder_optimization_level"),
        aux_streams=hasattr(config, "max_aux_streams"),
        hardware_compatibility=tuple(
            name.lower()
            for name in getattr(getattr(trt, "HardwareCompatibilityLevel", None), "__members__", ())
            if name != "NONE"
        ),
        compute_capabilities=tuple(
            f"{name[2:-1]}.{name[-1]}"
            for name in getattr(capabilities, "__members__", ())
            if name.startswith("SM") and hasattr(config, "set_compute_capability")
        ),
        progress=hasattr(trt, "IProgressMonitor") and hasattr(config, "progress_monitor"),
        asks_platform=hasattr(trt.Builder, "platform_has_fast_int8"),
    )


def feature_table(features: Features) -> str:
    """Return the features as a table for people, one a line."""
    lines = []
    for field in fields(features):
        value = getattr(features, field.name)
        text = ("yes" if value else "no") if isinstance(value, bool) else value
        text = (", ".join(value) or "none") if isinstance(value, tuple) else text
        lines.append(f"{field.name.replace('_', ' '):<24} {text}")
    return "\n".join(lines)
