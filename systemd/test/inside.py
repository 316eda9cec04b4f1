"""What run.sh has done inside the booted root: install the service, break it, and measure how long it took to be back.

A recovery ends with the first fresh result that a reader on the service's socket (or on the serial line) has in hand.
Its times are counted from the fault itself; of a camera or line that was away on purpose, from when it was back.
"""

import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import edge

HERE = Path("/test")
HARRIER = "/opt/harrier/bin/harrier"
UNIT = "harrier@front.service"
SOCKET = "unix:///run/harrier/front/out.sock"
DEADLINE_S = 90.0
QUICK = (HERE / "quick").exists()  # each fault once, and none that takes minutes


class Reader:
    """Notes when each fresh result arrived (CLOCK_MONOTONIC s)."""

    def __init__(self, address: str) -> None:
        self.arrivals: list[float] = []
        self._address = address
        threading.Thread(target=self._read, daemon=True).start()

    def first_after(self, t_s: float) -> float:
        """Return when the first result after t_s arrived, and wait for it."""
        until(lambda: bool(self.arrivals) and self.arrivals[-1] > t_s, f"a result on {self._address}")
        return next(arrival for arrival in self.arrivals if arrival > t_s)

    def longest_gap(self, begin_s: float, end_s: float) -> float:
        """Return the longest time without a result between two times."""
        inside = [begin_s, *(t for t in self.arrivals if begin_s < t < end_s), end_s]
        return max(b - a for a, b in itertools.pairwise(inside))

    def _read(self) -> None:
        with edge.connect(self._address, every=True) as vision:
            while True:
                message = vision.read(1.0)
                if message and message.kind == "detections" and "stale" not in message.flags:
                    self.arrivals.append(time.monotonic())


def until(condition: Callable[[], bool], what: str) -> None:
    """Wait for something, at most for DEADLINE_S."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        if time.monotonic() > deadline:
            sys.exit(f"FAILED: waited {DEADLINE_S:g} s for {what}")
        time.sleep(0.01)


def say(*words: object) -> None:
    """Print a line at once."""
    print(*words, flush=True)


def systemctl(*words: str) -> str:
    """Run systemctl and return what it printed."""
    return subprocess.run(["systemctl", *words], check=True, capture_output=True, text=True).stdout.strip()


def known(name: str, unit: str = UNIT) -> str:
    """Return a property of a unit."""
    return systemctl("show", "--value", f"--property={name}", unit)


def process(unit: str = UNIT) -> int:
    """Return the main process of a unit."""
    return int(known("MainPID", unit))


def expect(holds: bool, what: str) -> None:
    """End the test where something does not hold."""
    if not holds:
        subprocess.run(["journalctl", "--no-pager", f"--unit={UNIT}", "--lines=60"], check=False)
        sys.exit(f"FAILED: {what}")


def steady(reader: Reader) -> None:
    """Wait until the service has run for a while, so that faults do not meet."""
    until(lambda: known("ActiveState") == "active", "the service to be active")
    reader.first_after(time.monotonic() + 1.0)


def members() -> set[int]:
    """Return the processes of the service: the main one and its workers."""
    return {int(line) for line in Path(f"/sys/fs/cgroup{known('ControlGroup')}/cgroup.procs").read_text().split()}


def ended(reader: Reader, number: signal.Signals) -> float:
    """Send the main process a signal; return the time until the process after it gave the first result."""
    steady(reader)
    old, restarts, before = process(), int(known("NRestarts")), members()
    expect(old in before, "the main process among those of the service")
    t_s = time.monotonic()
    os.kill(old, number)
    until(lambda: process() not in (0, old), "another main process")
    back_s = reader.first_after(int(known("ExecMainStartTimestampMonotonic")) / 1e6)
    until(lambda: known("ActiveState") == "active", "READY=1")
    if number == signal.SIGSTOP:
        log = subprocess.run(["journalctl", f"--unit={UNIT}", "--lines=200"], capture_output=True, text=True).stdout
        expect(
            "Fatal Python error: Aborted" in log and "most recent call first" in log, f"the stacks in the log: {log}"
        )
    expect(int(known("NRestarts")) == restarts + 1, "one restart for one fault")
    expect(not before & members(), "no process of before to be left")
    return back_s - t_s


def worker_ended(reader: Reader) -> float:
    """Kill the engine's process; return the longest time without a result from then on."""
    steady(reader)
    restarts, main_process = int(known("NRestarts")), process()
    workers = members() - {main_process}
    expect(len(workers) == 1, f"one process for the engine, not {len(workers)}")
    t_s = time.monotonic()
    os.kill(*workers, signal.SIGKILL)
    until(lambda: bool(members() - workers - {main_process}), "another process for the engine")
    reader.first_after(time.monotonic() + 2.0)
    expect(int(known("NRestarts")) == restarts, "no restart for a worker")
    return reader.longest_gap(t_s, time.monotonic())


def reloaded(reader: Reader, appended: str, prepended: str = "") -> float:
    """Add lines to the configuration and have it read again; return the longest time without a result from then on."""
    steady(reader)
    restarts, old, config = int(known("NRestarts")), process(), Path("/etc/harrier/front.toml")
    before = config.read_text()
    config.write_text(prepended + before + appended)
    t_s = time.monotonic()
    systemctl("reload", UNIT)
    reader.first_after(t_s + 5.0)
    until(lambda: known("ActiveState") == "active", "the end of reloading")
    expect((int(known("NRestarts")), process()) == (restarts, old), "the same process after a reload")
    config.write_text(before)
    return reader.longest_gap(t_s, time.monotonic())


def camera_away(reader: Reader, away_s: float, restarts: int) -> float:
    """Stop the camera's server for a while; return the time from its return to the first result."""
    steady(reader)
    before = int(known("NRestarts"))
    systemctl("stop", "harrier-camera.service")
    time.sleep(away_s)
    systemctl("start", "harrier-camera.service")
    t_s = time.monotonic()
    back_s = reader.first_after(t_s)
    expect(int(known("NRestarts")) - before == restarts, f"{restarts} restarts, not {int(known('NRestarts')) - before}")
    return back_s - t_s


def camera_frozen(reader: Reader, away_s: float) -> float:
    """Let the camera's server hang with the connection open; return the time from its going on to the first result."""
    steady(reader)
    before, server = int(known("NRestarts")), process("harrier-camera.service")
    os.kill(server, signal.SIGSTOP)
    time.sleep(away_s)
    os.kill(server, signal.SIGCONT)
    t_s = time.monotonic()
    back_s = reader.first_after(t_s)
    expect(int(known("NRestarts")) == before, "no restart for a short silence")
    return back_s - t_s


def line_away(reader: Reader, line: Reader, away_s: float) -> float:
    """Take the serial line away; return the time from its return to the first result at its other end."""
    steady(reader)
    before, begin_s = int(known("NRestarts")), time.monotonic()
    systemctl("stop", "harrier-line.service")
    time.sleep(away_s)
    systemctl("start", "harrier-line.service")
    t_s = time.monotonic()
    back_s = line.first_after(t_s)
    gap_s = reader.longest_gap(begin_s, time.monotonic())
    expect(gap_s < 1.0, f"the socket's reader goes on while the line is away, without a gap of {gap_s:.2f} s")
    expect(int(known("NRestarts")) == before, "no restart for a serial line")
    return back_s - t_s


def check_confinement() -> None:
    """Look at the running process: no privileges, its user, a filter of calls; and at what systemd says of the unit."""
    facts = dict(
        line.split(":\t") for line in Path(f"/proc/{process()}/status").read_text().splitlines() if ":\t" in line
    )
    expect(
        facts["NoNewPrivs"] == "1" and facts["Seccomp"] == "2" and int(facts["CapEff"], 16) == 0, f"confined: {facts}"
    )
    expect(facts["Uid"].split()[0] == str(Path("/var/lib/harrier").stat().st_uid) != "0", "a user of its own")
    subprocess.run(["systemd-analyze", "verify", "--man=no", UNIT], check=True)
    found = subprocess.run(
        ["systemd-analyze", "--no-pager", "security", UNIT], capture_output=True, text=True, check=True
    )
    say(found.stdout.strip().splitlines()[-1].strip("→ "))
    udevadm = subprocess.run(
        ["udevadm", "verify", "/etc/udev/rules.d/70-harrier.rules"], capture_output=True, text=True
    )
    if "Unknown command" not in udevadm.stderr and "verify" not in udevadm.stderr:
        expect(udevadm.returncode == 0, f"udev's rules: {udevadm.stdout}{udevadm.stderr}")
        say("udevadm verify:", (udevadm.stdout or udevadm.stderr).strip().splitlines()[-1])


def measured(what: str, count: int, measure: Callable[[], float]) -> dict[str, list[float]]:
    """Measure some times, say what came out and return it."""
    seconds = sorted(measure() for _ in range(1 if QUICK else count))
    say(f"{what:<32} {len(seconds)} times, median {seconds[len(seconds) // 2]:6.2f} s, longest {seconds[-1]:6.2f} s")
    return {what: seconds}


def installed() -> float:
    """Install the service; return how long that took, which is until it was ready."""
    t_s = time.monotonic()
    subprocess.run([HARRIER, "service", "install", str(HERE / "front.toml")], check=True)
    return time.monotonic() - t_s


def run_faults() -> dict[str, list[float]]:
    """Install, break and mend; return the seconds that each recovery took."""
    until(Path("/dev/robot").exists, "the serial line")
    times = measured("install until ready", 1, installed)
    check_confinement()
    reader, line = Reader(SOCKET), Reader("serial:///dev/controller?baud=115200")
    line.first_after(0.0)
    times |= measured("kill -9", 5, lambda: ended(reader, signal.SIGKILL))
    times |= measured("hang (SIGSTOP)", 3, lambda: ended(reader, signal.SIGSTOP))
    times |= measured("engine's process, kill -9", 3, lambda: worker_ended(reader))
    times |= measured("reload", 2, lambda: reloaded(reader, "[thresholds]\nscore = 0.7\n"))
    times |= measured("reload of what is wrong", 2, lambda: reloaded(reader, "[thresholds]\nscore = 7\n"))
    timeouts = itertools.count(2)  # another one each time: it is of what cannot change while the parts stay open
    anew = "reload that opens the parts anew"
    times |= measured(anew, 2, lambda: reloaded(reader, "", f"frame_timeout_s = {next(timeouts)}\n"))
    times |= measured("camera silent for 3 s", 3, lambda: camera_frozen(reader, 3.0))
    times |= measured("camera gone for 6 s", 3, lambda: camera_away(reader, 6.0, 0))
    if not QUICK:
        times |= measured("camera gone for 40 s", 1, lambda: camera_away(reader, 40.0, 1))
        # one restart by the watchdog, one because a start has waited for 90 s
        times |= measured("camera gone for 2 min", 1, lambda: camera_away(reader, 120.0, 2))
    times |= measured("serial line gone for 5 s", 3, lambda: line_away(reader, line, 5.0))
    subprocess.run([HARRIER, "service", "status"], check=True)
    return times


def run_boot() -> dict[str, list[float]]:
    """See that the service starts with the machine, and remove it; return the seconds from its start to ready."""
    reader = Reader(SOCKET)
    reader.first_after(0.0)
    until(lambda: known("ActiveState") == "active", "the service after a boot")
    begin_us, ready_us = (int(known(f"{name}TimestampMonotonic")) for name in ("InactiveExit", "ActiveEnter"))
    times = measured("boot: unit started until ready", 1, lambda: (ready_us - begin_us) / 1e6)
    subprocess.run([HARRIER, "service", "status", "front"], check=True)
    subprocess.run([HARRIER, "service", "uninstall", "front"], check=True)
    expect(not Path(f"/etc/systemd/system/{UNIT}.d").exists(), "the unit to be gone")
    expect(Path("/etc/harrier/front.toml").exists(), "the configuration to stay")
    return times


def main() -> None:
    """Run the phase that is due."""
    phase, work = ("boot", run_boot) if (HERE / "faults.done").exists() else ("faults", run_faults)
    if phase == "faults":
        say(systemctl("--version").splitlines()[0])
    times = work()
    report = HERE / "report.json"
    found = {**(json.loads(report.read_text()) if report.exists() else {}), **times}
    report.write_text(json.dumps(found, indent=2))
    (HERE / f"{phase}.done").touch()


main()
