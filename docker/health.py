#!/opt/harrier/bin/python -IS
"""Is Harrier in this container well? Exit code 0 while fresh results are published, else 1; the last word is printed.

`harrier run` gives signs of life to the socket NOTIFY_SOCKET, as it does under systemd: from its own loop, and only
with fresh results. This program is that socket for a few seconds, whatever the publishers are.

Docker only marks a container as unhealthy. With HARRIER_RESTART_AFTER_S a run that was well once and has given no sign
for that long is ended, so that the restart policy starts it anew; the stack of every thread is then in its log.
"""

import os
import signal
import socket
import sys
import time
from pathlib import Path

__all__ = ["listen", "main", "restart_if_silent", "running"]

_LISTEN_S = 8.0
_ABORT_S = 1.0


def listen(address: str, limit_s: float) -> tuple[bool, str]:
    """Return whether a sign of life came to a socket at `address` within `limit_s`, and the last status that did."""
    Path(address).unlink(missing_ok=True)
    deadline, status = time.monotonic() + limit_s, ""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as inbox:
        inbox.bind(address)
        try:
            while (left_s := deadline - time.monotonic()) > 0:
                inbox.settimeout(left_s)
                try:
                    lines = inbox.recv(4096).decode(errors="replace").splitlines()
                except TimeoutError:
                    break
                status = next((line[7:] for line in lines if line.startswith("STATUS=")), status)
                if "WATCHDOG=1" in lines:
                    return True, status
        finally:
            Path(address).unlink(missing_ok=True)
    return False, status


def running(proc: Path = Path("/proc")) -> str:
    """Return process id and start time of the program that the container's first process started, as "7-1234"."""
    for folder in sorted(proc.glob("[0-9]*"), key=lambda path: int(path.name)):
        try:
            words = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:  # it has ended meanwhile
            continue
        if words[1] == "1" and words[0] != "Z":
            return f"{folder.name}-{words[19]}"
    return ""


def restart_if_silent(name: str, well: Path, limit_s: float) -> str:
    """End the process `name` of `running` if `well`, touched at its last sign of life, is older than `limit_s`."""
    try:
        silent_s = time.time() - well.stat().st_mtime
        own = well.read_text() == name
    except OSError:
        return ""
    if not own or not 0 < limit_s <= silent_s:
        return ""
    process = int(name.partition("-")[0])
    os.kill(process, signal.SIGABRT)
    time.sleep(_ABORT_S)
    try:
        os.kill(process, signal.SIGKILL)  # a process that is stopped takes nothing else
    except ProcessLookupError:
        pass
    return f"; silent for {silent_s:.0f} s: ended, to be started again"


def main() -> int:
    """Listen, tell, and where that is wanted end what hangs."""
    address = os.environ.get("NOTIFY_SOCKET", "/tmp/harrier-health")
    well = Path(f"{address}.well")
    name = running()
    if not name:
        print("nothing runs")
        return 1
    is_well, status = listen(address, float(os.environ.get("HARRIER_HEALTH_S", _LISTEN_S)))
    if is_well:
        well.write_text(name)
        print(status or "well")
        return 0
    print(
        (status or "no sign of life")
        + restart_if_silent(name, well, float(os.environ.get("HARRIER_RESTART_AFTER_S", 0)))
    )
    return 1


if __name__ == "__main__":
    sys.exit(main())
