"""Pulling and opening what a service runs, as the user it runs as.

Its folder is that user's: what root writes there may go where a link of that user leads, and what root opens there may
be code of that user's. So a process does it that has been that user's from its first instruction; this module is its
program, too.
"""

import json
import logging
import os
import pwd
import subprocess
import sys
from pathlib import Path

import msgspec

from edge import errors
from edge.config import RunConfig
from edge.errors import ConfigError, DeviceError, EdgeError
from edge.log_lines import JsonLines, TextLines, are_for_people
from edge.parts import check_parts
from edge.progress import LogHandler
from edge.service.checking import PYTHON_CURE, pull_model

__all__ = ["prepare", "prepare_as"]

_OF_THE_CALLER = ("HOME", "LOGNAME", "MAIL", "TMPDIR", "USER")
_UMASK = 0o027  # of the unit


class _Order(msgspec.Struct):
    config: RunConfig
    home: str
    is_opened: bool
    level: int
    lines: str


class _Trouble(msgspec.Struct):
    kind: str
    cause: str
    cure: str


def prepare(config: RunConfig, home: Path, is_opened: bool) -> None:
    """Pull the catalogue's model into `home`; is_opened: and check the parts, as `harrier check` does.

    Raises: EdgeError from whichever part is wrong.
    """
    pull_model(config, home)
    if is_opened:
        check_parts(config)


def prepare_as(
    user: pwd.struct_passwd, gids: set[int], config: RunConfig, home: Path, cache: Path, is_opened: bool
) -> None:
    """Do the same in a process of a user, with these groups beside its own and this folder for caches; needs root.

    Raises: EdgeError as it was there, DeviceError when that process cannot start or ends without a word.
    """
    lines = "text" if are_for_people() else "json"
    order = _Order(config, str(home), is_opened, logging.getLogger().getEffectiveLevel(), lines)
    mine = {name: value for name, value in os.environ.items() if name not in _OF_THE_CALLER and name[:4] != "XDG_"}
    theirs = {"HOME": user.pw_dir, "USER": user.pw_name, "LOGNAME": user.pw_name}
    theirs |= {"HARRIER_HOME": str(home), "XDG_CACHE_HOME": str(cache), "CUDA_CACHE_PATH": str(cache / "cuda")}
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-m", __name__],
            input=msgspec.json.encode(order),
            stdout=subprocess.PIPE,
            cwd="/",
            env={**mine, **theirs},
            user=user.pw_uid,
            group=user.pw_gid,
            extra_groups=sorted({*os.getgrouplist(user.pw_name, user.pw_gid), *gids}),
            umask=_UMASK,
        )
    except (OSError, subprocess.SubprocessError) as exc:
        raise DeviceError(f"cannot start {sys.executable} as {user.pw_name} ({exc})", PYTHON_CURE) from exc
    if done.returncode == 0:
        return
    try:
        trouble = msgspec.json.decode(done.stdout, type=_Trouble)
    except msgspec.DecodeError as exc:
        ended = f"signal {-done.returncode}" if done.returncode < 0 else f"exit code {done.returncode}"
        cure = "see what it said above, or try another target of the model"
        raise DeviceError(f"opening the parts as {user.pw_name} ended with {ended}", cure) from exc
    kind = getattr(errors, trouble.kind) if trouble.kind in errors.__all__ else DeviceError
    raise kind(trouble.cause, trouble.cure)


def _work() -> int:
    """Do what standard input says, and write what went wrong to standard output as it was at the start."""
    with os.fdopen(os.dup(1), "w") as answer:
        os.dup2(2, 1)  # libraries print there, too
        order = msgspec.json.decode(sys.stdin.buffer.read(), type=_Order)
        handler = LogHandler()
        handler.setFormatter(TextLines() if order.lines == "text" else JsonLines())
        logging.basicConfig(handlers=[handler], level=order.level)
        try:
            prepare(order.config, Path(order.home), order.is_opened)
        except PermissionError as exc:  # of whatever file it was
            trouble: EdgeError = ConfigError(
                f"no permission for {exc.filename}", "give the service's user access to it"
            )
        except EdgeError as exc:
            trouble = exc
        except KeyboardInterrupt:  # the caller, who got it too, tells
            return 130
        else:
            return 0
        json.dump({"kind": type(trouble).__name__, "cause": trouble.cause, "cure": trouble.cure}, answer)
        return trouble.exit_code


if __name__ == "__main__":
    sys.exit(_work())
