"""Compiling a quantized .tflite file for the Edge TPU: with edgetpu_compiler here, over ssh, or by hand elsewhere."""

import shlex
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convert.edgetpu.log import CompilerLog, log_text, parse_log
from convert.edgetpu.processes import COMPILER, compile_here, compile_remote, remote_host
from convert.inline_buffers import inline_buffers
from edge.engines.litert import EDGE_TPU_OP
from edge.errors import ConfigError, ModelError
from edge.tflite_file import custom_ops, mapped_model

__all__ = ["CompileOptions", "CompileResult", "compile_for_edgetpu"]

_ARGUMENTS = ["-s"]  # each operator's fate in the log
_INSTALL = (
    "the compiler runs on x86-64 Linux; on Debian, Ubuntu or in a Docker container of debian:bookworm add Coral's apt"
    " repository (coral-edgetpu-stable, see coral.ai/docs/edgetpu/compiler) and run: apt install edgetpu-compiler"
)


@dataclass(frozen=True, slots=True)
class CompileOptions:
    """How to compile. remote: user@host or a name of ~/.ssh/config, used where the compiler is not installed here."""

    remote: str | None = None
    timeout_s: float = 300.0


@dataclass(frozen=True, slots=True)
class CompileResult:
    """What came of it. file: the compiled file, None when no compiler was found; then `by_hand` says what to do.

    place: "here", the remote host, or "" when nothing was compiled. command: for a machine that has the compiler.
    """

    file: Path | None
    place: str
    command: str
    log: CompilerLog | None

    @property
    def text(self) -> str:
        """The result as a few lines for a terminal."""
        if self.log is not None:
            return log_text(self.log)
        return f"not compiled: no {COMPILER} here; on a machine that has it run\n  {self.command}\n{_INSTALL}\n"

    @property
    def facts(self) -> dict[str, Any]:
        """The result, ready for JSON."""
        return {
            "file": self.file.name if self.file else None,
            "place": self.place,
            "command": self.command,
            "install": None if self.file else _INSTALL,
            "log": self.log.facts if self.log else None,
        }


def compile_for_edgetpu(tflite_file: Path, out_dir: Path, options: CompileOptions | None = None) -> CompileResult:
    """Write `<name>_edgetpu.tflite` into `out_dir` and return the compiler's report.

    The compiler on the PATH is used, else the one of `options.remote`; without either nothing is written but the
    result tells the command. The compiler gets a copy of the file with all weights inside the flatbuffer.
    Raises: ModelError when the file cannot be read or compiled, ConfigError for a bad host or folder, DeviceError
    when the remote machine cannot be reached or the compiler takes longer than `options.timeout_s`.
    """
    options = options or CompileOptions()
    target = out_dir / f"{tflite_file.stem}_edgetpu.tflite"
    command = shlex.join([COMPILER, *_ARGUMENTS, "-o", ".", tflite_file.name])
    host = remote_host(options.remote) if options.remote else ""
    here = shutil.which(COMPILER)
    if _is_compiled(tflite_file):
        raise ModelError(f"{tflite_file.name} is compiled for the Edge TPU already", "give the uncompiled file")
    if not here and not host:
        return CompileResult(None, "", command, None)
    try:
        scratch = tempfile.TemporaryDirectory(prefix=".edgetpu-", dir=out_dir)
    except OSError as exc:
        raise ConfigError(f"cannot write {out_dir} ({exc.strerror})", "choose another folder") from exc
    with scratch as name:
        model = Path(name) / "model.tflite"
        inline_buffers(tflite_file, model)
        if here:
            said = compile_here(here, _ARGUMENTS, model, options.timeout_s)
        else:
            said = compile_remote(host, _ARGUMENTS, model, options.timeout_s)
        log = parse_log(said)
        _take(model.with_name("model_edgetpu.tflite"), target, tflite_file.name, log, said)
    return CompileResult(target, "here" if here else host, command, log)


def _is_compiled(path: Path) -> bool:
    try:
        with mapped_model(path) as model:
            return EDGE_TPU_OP in custom_ops(model)
    except OSError as exc:
        raise ModelError(f"cannot read {path} ({exc.strerror})", "check the path") from exc
    except ValueError as exc:
        raise ModelError(f"{path.name} is damaged or no .tflite file", "convert it again") from exc


def _take(made: Path, target: Path, name: str, log: CompilerLog, said: str) -> None:
    """Move the compiled file to its place, if it is one: the compiler's exit code alone proves nothing."""
    if not made.is_file():
        if log.error:
            raise ModelError(f"{COMPILER} refuses {name}: {log.error.why}", log.error.cure)
        last = next((line.strip() for line in reversed(said.splitlines()) if line.strip()), "nothing")
        raise ModelError(
            f"{COMPILER} made no file of {name}; it said last: {_printable(last)}", "run it by hand and see its output"
        )
    try:
        compiled = _is_compiled(made)
    except ModelError as exc:
        raise ModelError(f"what {COMPILER} made of {name} is no .tflite file", "run it again") from exc
    if not compiled:
        raise ModelError(
            f"{COMPILER} left all of {name} on the CPU", "see the placement report for what to change in the model"
        )
    try:
        made.replace(target)
    except OSError as exc:
        raise ConfigError(f"cannot write {target} ({exc.strerror})", "choose another folder") from exc


def _printable(line: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in line)[:200]
