"""`harrier build` on the command line. What builds is imported when the command runs."""

import argparse
from importlib import import_module
from pathlib import Path
from typing import Any

from edge.arguments import count, positive
from edge.errors import ConfigError, InterruptedWorkError

__all__ = ["add_build", "execute_build"]


def add_build(commands: argparse._SubParsersAction) -> None:
    """Add `harrier build` to the subcommands."""
    parser = commands.add_parser("build", help="build a bundle's TensorRT engines from the ONNX in it")
    parser.add_argument("bundle", metavar="BUNDLE", nargs="?", type=Path, help="bundle folder; it is added to")
    parser.add_argument("--on-device", action="store_true", help="for the GPU of this machine")
    parser.add_argument(
        "--compute-capability", metavar="X.Y[,X.Y]", help="ahead of time for these GPUs, with TensorRT-RTX: 8.6,8.9"
    )
    parser.add_argument(
        "--precision", metavar="P[,P]", help="fp32, fp16, int8, best (those of the bundle; else fp16 and int8)"
    )
    parser.add_argument("--workspace", metavar="MIB", type=positive, help="most GPU memory a layer may use")
    parser.add_argument("--tactic-memory", metavar="MIB", type=positive, help="most GPU memory while timing")
    parser.add_argument("--aux-streams", metavar="N", type=count, help="most streams besides the main one")
    parser.add_argument("--optimization-level", metavar="0-5", type=count, help="higher: longer search, faster engine")
    parser.add_argument("--timing-cache", metavar="FILE", type=Path, help="read and written: the next build is quick")
    parser.add_argument(
        "--calibration-cache", metavar="FILE", type=Path, help="TensorRT's own, for int8 without the Q/DQ ONNX"
    )
    parser.add_argument(
        "--hardware-compatibility", metavar="LEVEL", help="ampere_plus or same_compute_capability, where there is one"
    )
    parser.add_argument("--inspect", action="store_true", help="build with details and read the engine's layers back")
    parser.add_argument("--layers", action="store_true", help="print what each layer computes in")
    parser.add_argument("--features", action="store_true", help="print what the TensorRT here can do")
    parser.add_argument("--python", action="store_true", help="by TensorRT's Python module only, never by trtexec")
    parser.set_defaults(command=execute_build)


def execute_build(arguments: argparse.Namespace) -> None:
    """Run `harrier build`.

    Raises: ConfigError when there is nothing to build, InterruptedWorkError after Ctrl-C, and what building raises.
    """
    trt = import_module("convert.tensorrt.find").find_builder(arguments.python)
    bundle = import_module("convert.tensorrt.bundle")
    if arguments.features:
        print(import_module("convert.tensorrt.features").feature_table(bundle.features_of(trt)))
    if arguments.bundle is None:
        if not arguments.features:
            raise ConfigError("no bundle to build", "harrier build BUNDLE --on-device")
        return
    options = _options(arguments)
    if arguments.on_device:
        if arguments.compute_capability:
            raise ConfigError("--on-device and --compute-capability contradict each other", "give one of them")
        options = bundle.options_for_this_machine(options, trt)
    try:
        built = bundle.build_bundle(arguments.bundle, _names(arguments.precision), options, trt)
    except KeyboardInterrupt as exc:
        raise InterruptedWorkError(
            "the build was stopped, no half engine was written", "the same command builds again"
        ) from exc
    for one in built:
        print(_line(one))
        if arguments.layers:
            print(import_module("convert.tensorrt.layers").layer_table(one.result.layers))


def _options(arguments: argparse.Namespace) -> Any:
    return import_module("convert.tensorrt.request").BuildOptions(
        workspace_mib=arguments.workspace,
        tactic_mib=arguments.tactic_memory,
        max_aux_streams=arguments.aux_streams,
        optimization_level=arguments.optimization_level,
        timing_cache=arguments.timing_cache,
        calibration_cache=arguments.calibration_cache,
        hardware_compatibility=arguments.hardware_compatibility,
        compute_capabilities=tuple(dict.fromkeys(_names(arguments.compute_capability))),
        inspect=arguments.inspect,
    )


def _names(text: str | None) -> list[str]:
    return [name.strip() for name in (text or "").split(",") if name.strip()]


def _line(one: Any) -> str:
    result = one.result
    counts = ", ".join(f"{number} {name}" for name, number in sorted(result.precisions.items())) or "none"
    return (
        f"{one.name:<14} {result.engine.name}  {result.engine_bytes / 1e6:.1f} MB in {result.seconds:.1f} s, "
        f"{result.features.name} {result.features.version}, sm {result.needs.get('sm', '?')}; "
        f"convolutions and products in the {result.layer_source}: {counts}"
    )
