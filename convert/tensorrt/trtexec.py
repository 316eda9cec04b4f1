"""Building by NVIDIA's `trtexec`, where TensorRT's Python module belongs to an older Python than Harrier's.

That is so on JetPack 4 and 5. The types of the layers cannot be checked before the build, since it shows no network.
"""

import functools
import json
import logging
import re
import subprocess
import tempfile
import time
from pathlib import Path

from convert.tensorrt.features import Features
from convert.tensorrt.layers import LayerRow, count_precisions, rows_of
from convert.tensorrt.options import check_chip
from convert.tensorrt.request import BuildOptions, BuildRequest, BuildResult, check_request, needs_of
from edge.engines.driver import gpu_capability
from edge.engines.tensorrt_words import first_error
from edge.errors import ConfigError, DeviceError, ModelError
from edge.progress import Progress

__all__ = ["build_by_tool", "command_line", "probe_tool"]

_LOG = logging.getLogger(__name__)
_HELP_TIMEOUT_S = 60
_BANNER = re.compile(r"TensorRT v([\d.]+)")
_LINE = re.compile(r"^(?:\[[^\]]*\] )?\[(?P<level>[EWIV])\] (?:\[TRT\] )?(?P<text>.*)$")


def probe_tool(tool: Path) -> Features:
    """Return what a `trtexec` offers, read from its own help.

    Raises: DeviceError when it does not run.
    """
    said = _help(str(tool))
    banner = _BANNER.search(said)
    known = _flags(said)
    return Features(
        name="TensorRT",
        version=_version(banner[1]) if banner else "unknown",
        typing="weak" if "--fp16" in known else "strong",
        explicit_batch=True,
        memory="memory pools" if "--memPoolSize" in known else "max_workspace_size",
        tactic_memory=False,
        implicit_calibration="--calib" in known,
        optimization_level="--builderOptimizationLevel" in known,
        aux_streams="--maxAuxStreams" in known,
        hardware_compatibility=(),
        compute_capabilities=(),
        progress=False,
        asks_platform=False,
    )


def command_line(tool: Path, request: BuildRequest, out: Path, layers: Path) -> list[str]:
    """Return the `trtexec` command that builds what was asked for into `out`. layers: where it says what it made.

    Raises: ConfigError for an option this `trtexec` does not have.
    """
    options, precision = request.options, request.precision
    if options.compute_capabilities or options.hardware_compatibility:
        raise ConfigError("trtexec builds only for the GPU it runs on", "leave the other GPUs out")
    known = _flags(_help(str(tool)))
    weak = "--fp16" in known  # else the ONNX alone decides
    pools = "--memPoolSize" in known
    wanted: dict[str, object] = {
        "--onnx": request.onnx,
        "--saveEngine": out,
        "--skipInference" if "--skipInference" in known else "--buildOnly": True,
        "--fp16": weak and precision in ("fp16", "best"),
        "--int8": weak and precision in ("int8", "best"),
        "--memPoolSize" if pools else "--workspace": options.workspace_mib
        and (f"workspace:{options.workspace_mib}" if pools else options.workspace_mib),
        "--timingCacheFile": options.timing_cache,
        "--calib": options.calibration_cache,
        "--builderOptimizationLevel": options.optimization_level,
        "--maxAuxStreams": options.max_aux_streams,
        "--profilingVerbosity": "detailed" if options.inspect else None,
        "--exportLayerInfo": layers if options.inspect else None,
        "--minShapes": _shapes(options, 0),
        "--optShapes": _shapes(options, 1),
        "--maxShapes": _shapes(options, 2),
    }
    asked = {flag: value for flag, value in wanted.items() if value is not None and value is not False}
    if lacking := [flag for flag in asked if flag not in known]:
        raise ConfigError(f"this trtexec has no {', '.join(lacking)}", "leave that out")
    return [str(tool), *(flag if value is True else f"{flag}={value}" for flag, value in asked.items())]


def build_by_tool(tool: Path, request: BuildRequest, progress: Progress | None = None) -> BuildResult:
    """Build the engine with `trtexec` and write it.

    Raises: ModelError when it fails, AcceleratorError for the chip, ConfigError, KeyboardInterrupt after Ctrl-C.
    """
    check_request(request)
    features, here = probe_tool(tool), gpu_capability()
    check_chip(None, features, request, here)
    progress = progress or Progress(f"building {request.out.name}")
    partial = request.out.with_name(f".{request.out.name}.partial")
    with tempfile.TemporaryDirectory(prefix="harrier-") as scratch:
        layers = Path(scratch) / "layers.json"
        command = command_line(tool, request, partial, layers)
        _LOG.info("%s", " ".join(command))
        started = time.monotonic()
        try:
            _run(command, request, progress)
            partial.replace(request.out)
        except OSError as exc:
            raise ConfigError(f"cannot write {request.out} ({exc.strerror})", "free space") from exc
        finally:
            partial.unlink(missing_ok=True)
            progress.clear()
        rows = _rows(layers)
    return BuildResult(
        engine=request.out,
        features=features,
        needs=needs_of(features, request, here),
        strongly_typed=False,
        seconds=time.monotonic() - started,
        onnx_bytes=request.onnx.stat().st_size,
        engine_bytes=request.out.stat().st_size,
        layers=rows,
        layer_source="engine" if rows else "none",
        precisions=count_precisions(rows),
        notes=() if rows else ("built by trtexec: the layers were not checked (with --inspect they are read back)",),
    )


def _run(command: list[str], request: BuildRequest, progress: Progress) -> None:
    errors, started = [], time.monotonic()
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as tool:
        try:
            for line in tool.stdout or ():
                found = _LINE.match(line.strip())
                if found and found["level"] == "E":
                    errors.append(found["text"])
                progress.update(int(time.monotonic() - started), "s")
        except KeyboardInterrupt:
            tool.terminate()
            raise
    if tool.returncode:
        raise ModelError(f"trtexec could not build {request.onnx.name} ({first_error(errors)})", "see docs/tensorrt.md")


def _rows(path: Path) -> tuple[LayerRow, ...]:
    try:
        return rows_of(json.loads(path.read_text())) or ()
    except (OSError, ValueError):
        return ()


@functools.cache
def _help(tool: str) -> str:
    try:
        run = subprocess.run([tool, "--help"], capture_output=True, text=True, timeout=_HELP_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise DeviceError(f"{tool} does not run ({exc})", "install JetPack's TensorRT again") from exc
    return run.stdout + run.stderr


def _shapes(options: BuildOptions, which: int) -> str | None:
    texts = [f"{name}:{'x'.join(map(str, shapes[which]))}" for name, shapes in options.shapes.items()]
    return ",".join(texts) or None


def _flags(said: str) -> set[str]:
    return set(re.findall(r"--\w+", said))


def _version(digits: str) -> str:
    """The banner says 8201 for 8.2.1, 100300 for 10.3.0, and later writes the dots."""
    if "." in digits:
        return digits
    if len(digits) >= 6:
        return f"{int(digits[:-4])}.{int(digits[-4:-2])}.{int(digits[-2:])}"
    return f"{digits[:1]}.{digits[1:2]}.{int(digits[2:] or 0)}"
