"""Running edgetpu_compiler as a process, here or over ssh, without ever waiting for longer than agreed."""

import contextlib
import os
import re
import shlex
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from edge.errors import ConfigError, DeviceError

__all__ = ["COMPILER", "compile_here", "compile_remote", "remote_host"]

COMPILER = "edgetpu_compiler"
_CONNECT_S = 10
_COPY_S = 120.0
_LOG_BYTES = 1 << 20
_NOT_FOUND, _TIMED_OUT, _SSH_FAILED = 127, 124, 255
_HOST = re.compile(r"(?:[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}@)?[A-Za-z0-9][A-Za-z0-9.-]{0,252}")
_REMOTE_FOLDER = re.compile(r"/[A-Za-z0-9_./-]{1,200}")
_SSH_OPTIONS = ("-o", "BatchMode=yes", "-o", f"ConnectTimeout={_CONNECT_S}", "-o", "ServerAliveInterval=10")

_SSH_ERRORS = (
    ("Host key verification failed", "does not know its host key", "connect once by hand: ssh {host}"),
    ("Permission denied", "refuses the login", "set up a key: ssh-copy-id {host}"),
    ("Could not resolve hostname", "is not a known host", "check the name"),
    ("Connection refused", "runs no ssh server", "start sshd there, or check the name"),
    ("timed out", "does not answer", "check that it is switched on and reachable"),
    ("No route to host", "cannot be reached", "check the network"),
)


class _Ended(NamedTuple):
    """How a process ended. code: its exit status; said: its output and errors."""

    code: int
    said: str


def remote_host(text: str) -> str:
    """Return a host that is safe to give to ssh: user@host, a host name, or a name of ~/.ssh/config.

    Raises: ConfigError for anything else.
    """
    if not _HOST.fullmatch(text):
        raise ConfigError(f"'{text}' is no host for ssh", "give user@host, ports and keys belong into ~/.ssh/config")
    return text


def compile_here(compiler: str, arguments: Sequence[str], model: Path, timeout_s: float) -> str:
    """Run the compiler on `model`, the result beside it, and return what it printed.

    Raises: DeviceError when it cannot be started or takes longer than `timeout_s`.
    """
    return _run([compiler, *arguments, "-o", str(model.parent), str(model)], model.parent, timeout_s).said


def compile_remote(host: str, arguments: Sequence[str], model: Path, timeout_s: float) -> str:
    """Copy `model` to the host, run its compiler, fetch the result beside `model`, and return what it printed.

    Raises: DeviceError when the host cannot be reached, has no compiler, or takes longer than `timeout_s`.
    """
    folder = _ssh(host, "mktemp -d", model.parent, _COPY_S).said.strip().splitlines()[-1:]
    if not folder or not _REMOTE_FOLDER.fullmatch(folder[0]) or ".." in folder[0]:
        raise DeviceError(f"{host} made no temporary folder", "check its disk and what its shell prints at login")
    place = folder[0]
    try:
        _copy(host, str(model), f"{host}:{place}/model.tflite", model.parent)
        command = shlex.join(["timeout", str(max(1, int(timeout_s))), COMPILER, *arguments, "-o", place])
        # 60 s more than the limit over there: it is for the connection alone
        ended = _ssh(host, f"{command} {place}/model.tflite", model.parent, timeout_s + 60, checked=False)
        if ended.code == _NOT_FOUND:
            raise DeviceError(f"{host} has no {COMPILER}", "install it there: apt install edgetpu-compiler")
        if ended.code == _TIMED_OUT:
            raise _too_slow(COMPILER, timeout_s)
        if ended.code == 0:
            _copy(host, f"{host}:{place}/model_edgetpu.tflite", f"{model.parent}/", model.parent, checked=False)
        return ended.said
    finally:
        with contextlib.suppress(DeviceError):  # what went wrong before counts more than a folder left in /tmp
            _ssh(host, f"rm -rf {place}", model.parent, _COPY_S)


def _ssh(host: str, command: str, folder: Path, timeout_s: float, checked: bool = True) -> _Ended:
    ended = _run(["ssh", "-T", *_SSH_OPTIONS, "--", host, command], folder, timeout_s)
    if ended.code == _SSH_FAILED or (checked and ended.code != 0):
        raise _unreachable(host, ended.said)
    return ended


def _copy(host: str, source: str, target: str, folder: Path, checked: bool = True) -> None:
    ended = _run(["scp", "-q", "-B", *_SSH_OPTIONS, "--", source, target], folder, _COPY_S)
    if checked and ended.code != 0:
        raise _unreachable(host, ended.said)


def _unreachable(host: str, said: str) -> DeviceError:
    for text, cause, cure in _SSH_ERRORS:
        if text in said:
            return DeviceError(f"{host} {cause}", cure.format(host=host))
    last = next((line.strip() for line in reversed(said.splitlines()) if line.strip()), "nothing")
    return DeviceError(f"ssh to {host} failed ({last[:200]})", f"try by hand: ssh {host}")


def _run(command: Sequence[str], folder: Path, timeout_s: float) -> _Ended:
    """Run to the end, or kill it and all it started. Its output goes through a file, so that no child holds a pipe.

    Raises: DeviceError when it cannot be started or takes longer than `timeout_s`.
    """
    said = folder / "said.txt"
    with said.open("wb") as output:
        try:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
            )
        except FileNotFoundError as exc:
            raise DeviceError(f"{command[0]} is not installed here", "install it (Debian: openssh-client)") from exc
        except OSError as exc:
            raise DeviceError(f"cannot start {command[0]} ({exc.strerror})", "check that it is a program") from exc
        try:
            process.wait(timeout_s)
        except subprocess.TimeoutExpired as exc:
            _kill(process)
            raise _too_slow(command[0], timeout_s) from exc
        except BaseException:  # Ctrl-C: nothing is left running
            _kill(process)
            raise
    with said.open("rb") as file:
        return _Ended(process.returncode, file.read(_LOG_BYTES).decode("utf-8", "replace"))


def _kill(process: subprocess.Popen) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)  # also what it started
    except (ProcessLookupError, PermissionError):
        pass
    process.wait()


def _too_slow(program: str, timeout_s: float) -> DeviceError:
    name = Path(program).name
    cure = "check the connection" if name in ("ssh", "scp") else "allow more time or use a smaller model"
    return DeviceError(f"{name} took longer than {timeout_s:g} s", cure)
