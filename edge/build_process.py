"""The builder of engines as a process: its words passed on, its end told in one line, never left behind."""

import atexit
import functools
import os
import signal
import subprocess
import sys
import threading
from collections import deque
from contextlib import suppress
from pathlib import Path

from edge.errors import InterruptedWorkError

__all__ = ["run_build"]

_ENDS_S = ((signal.SIGINT, 10.0), (signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0))
_STOPPED = (InterruptedWorkError.exit_code, -signal.SIGINT, -signal.SIGTERM)
_PREFIX = "harrier: "  # of the line in which the command says what went wrong
_MOST_CHARS = 500


def run_build(command: list[str], lock: int) -> str:
    """Run `harrier build` and return "" when it built, else why it did not. lock: a file it shall hold open.

    What it says goes to standard error, since standard output may carry messages. It is ended, with what it started, on
    Ctrl-C and when this process ends.
    Raises: InterruptedWorkError when somebody stopped it.
    """
    child = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,  # so that all of it can be ended
        pass_fds=(lock,),
    )
    with suppress(OSError):  # when memory runs out the builder goes, not the robot's programs
        Path(f"/proc/{child.pid}/oom_score_adj").write_text("1000")
    last: deque[str] = deque(maxlen=50)
    reader = threading.Thread(target=_pass_on, args=(child, last), name="build-words", daemon=True)
    reader.start()
    end = functools.partial(_end, child)
    atexit.register(end)  # this may be a thread that nobody waits for
    try:
        code = child.wait()
    except BaseException:
        end()
        raise
    finally:
        atexit.unregister(end)
    with suppress(ProcessLookupError):  # a trtexec whose parent was killed would keep the pipe open
        os.killpg(child.pid, signal.SIGKILL)
    reader.join(5)
    if code in _STOPPED:
        raise InterruptedWorkError("the build was stopped", "start again")
    return _why(code, list(last)) if code else ""


def _pass_on(child: subprocess.Popen, last: deque[str]) -> None:
    for line in child.stdout or ():
        last.append(line.rstrip())
        with suppress(OSError, ValueError):  # nobody may be reading
            print(line, end="", file=sys.stderr, flush=True)


def _why(code: int, lines: list[str]) -> str:
    if code == -signal.SIGKILL:
        return "the builder was killed: most likely there was too little memory"
    if code < 0:
        return f"the builder crashed with signal {-code}"
    told = [line.removeprefix(_PREFIX) for line in lines if line.startswith(_PREFIX)] or [
        line for line in lines if line
    ]
    return (told or [f"exit code {code}"])[-1][:_MOST_CHARS]


def _end(child: subprocess.Popen) -> None:
    for number, wait_s in _ENDS_S:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, number)
        try:
            child.wait(wait_s)
        except subprocess.TimeoutExpired:
            continue
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        return
