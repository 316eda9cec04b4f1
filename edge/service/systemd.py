"""What is asked of systemd's tools, and what they answer."""

import shutil
import subprocess
import time
from collections.abc import Callable

from edge.errors import DeviceError

__all__ = ["call", "journal", "properties", "systemd_version", "unit_of", "wait_until_ready"]

_TOOL_S = 60.0
_POLL_S = 0.25
_FAILED_STARTS = 3
_PROPERTIES = (
    "LoadState,ActiveState,SubState,StatusText,NRestarts,MainPID,Result,ExecMainStatus,ActiveEnterTimestampMonotonic,"
    "WatchdogTimestampMonotonic,WatchdogUSec,MemoryCurrent,UnitFileState"
)


def unit_of(name: str) -> str:
    """Return the unit of an instance."""
    return f"harrier@{name}.service"


def call(words: list[str]) -> str:
    """Run one of systemd's or the user database's tools and return what it printed.

    Raises: DeviceError when it is not there, hangs or fails, with its own last words.
    """
    if shutil.which(words[0]) is None:
        raise DeviceError(f"{words[0]} is not there", "install it; without systemd there is no such service")
    try:
        done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_TOOL_S)
    except subprocess.TimeoutExpired as exc:
        raise DeviceError(f"`{' '.join(words)}` did not end within {_TOOL_S:g} s", "look at journalctl -b") from exc
    except OSError as exc:
        raise DeviceError(f"cannot run {words[0]} ({exc.strerror})", "check its installation") from exc
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines() or [f"exit code {done.returncode}"]
        cure = "run it with sudo" if "denied" in said[-1] or "authentication" in said[-1] else "do what it asks for"
        raise DeviceError(f"`{' '.join(words)}` failed ({said[-1]})", cure)
    return done.stdout


def systemd_version() -> int:
    """Return the version of systemd, 0 where it does not say."""
    try:
        words = call(["systemctl", "--version"]).split()
    except DeviceError:
        return 0
    return int(words[1]) if len(words) > 1 and words[1].isdigit() else 0


def properties(name: str) -> dict[str, str]:
    """Return what systemd knows of an instance, as it prints it.

    Raises: DeviceError when systemd does not answer.
    """
    lines = call(["systemctl", "show", unit_of(name), f"--property={_PROPERTIES}"]).splitlines()
    return {key: value for key, _, value in (line.partition("=") for line in lines)}


def journal(name: str, count: int) -> list[str]:
    """Return the last lines of an instance's log; none where it cannot be read."""
    try:
        text = call(["journalctl", "--no-pager", "--output=cat", f"--lines={count}", f"--unit={unit_of(name)}"])
    except DeviceError:
        return []
    return text.splitlines()


def wait_until_ready(name: str, limit_s: float, tell: Callable[[str], None]) -> dict[str, str]:
    """Wait until an instance has published a result; `tell` gets its status whenever that changes.

    Raises: DeviceError when it fails again and again, or is not ready in time. systemd goes on starting it.
    """
    deadline, told, code = time.monotonic() + limit_s, "", "0"
    before = int(properties(name).get("NRestarts") or 0)
    while True:
        found = properties(name)
        status = found.get("StatusText", "")
        if found.get("ActiveState") == "active":
            return found
        if status and status != told:
            told = status
            tell(status)
        code = found.get("ExecMainStatus", "0") if found.get("MainPID", "0") == "0" else code  # of one that has ended
        failed = found.get("ActiveState") == "failed"
        if failed or int(found.get("NRestarts") or 0) - before >= _FAILED_STARTS:
            raise DeviceError(
                f"{unit_of(name)} ends again and again (exit code {code}{_because(told)})",
                f"its log says why: harrier service logs {name}; systemd goes on starting it",
            )
        if time.monotonic() >= deadline:
            raise DeviceError(
                f"{unit_of(name)} has published no result within {limit_s:g} s{_because(told)}",
                f"see harrier service logs {name}; it goes on trying",
            )
        time.sleep(_POLL_S)


def _because(status: str) -> str:
    return f", its last word: {status}" if status else ""
