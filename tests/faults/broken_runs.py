"""What the fault tests share: a real `harrier run` whose parts can be broken, and a reader that watches it."""

import contextlib
import hashlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import faulty_camera

import edge

NULL = '[[inputs]]\nname = "x"\nshape = [1, 8, 8, 3]\nlayout = "NHWC"\n[[outputs]]\nname = "s"\nshape = [1, 3]\n'
PATIENCE_S = 20.0
QUICK_CAMERA = "fps=100&read_timeout_s=0.3&open_timeout_s=2&backoff_s=0.05&backoff_max_s=0.2"


def null_bundle(folder: Path, fill: float = 0.5, name: str = "front", ballast: int = 0) -> Path:
    """Make a bundle of a classifier with this score, two targets ("first", "second") and every file hashed."""
    folder.mkdir(parents=True)
    targets = ""
    for target, share in (("first", 1.0), ("second", 0.5)):
        text = NULL + f"fill = {fill * share}\n" + f"# {'x' * ballast}\n"
        (folder / f"{target}.null").write_text(text)
        digest = hashlib.sha256(text.encode()).hexdigest()
        targets += f'[targets.{target}]\nfile = "{target}.null"\nsha256 = "{digest}"\noutputs = {{ scores = "s" }}\n'
    (folder / "labels.txt").write_text("cat\ndog\nbird\n")
    head = f'name = "{name}"\nlabels = "labels.txt"\n'
    (folder / "manifest.toml").write_text(head + targets + '[input]\n[decoder]\nfamily = "classification"\n')
    return folder


def wait_for(condition: Callable[[], object], what: str, timeout_s: float = PATIENCE_S) -> float:
    """Wait until something is so, for a bounded time; return how many seconds it took."""
    begin = time.monotonic()
    while not condition():
        assert time.monotonic() < begin + timeout_s, f"not within {timeout_s} s: {what}"
        time.sleep(0.005)
    return time.monotonic() - begin


class Camera:
    """The orders of a `faulty_camera`."""

    def __init__(self, folder: Path) -> None:
        self.orders = folder / "orders"
        faulty_camera.install(folder)
        self.tell("ok")

    def tell(self, order: str) -> None:
        partial = self.orders.with_suffix(".partial")
        partial.write_text(order)
        partial.replace(self.orders)

    def uri(self, options: str = QUICK_CAMERA) -> str:
        return f"faulty://{self.orders}?{options}"


class Run:
    """`harrier run` in a process of its own, in a folder; ended by `stop`."""

    def __init__(
        self, folder: Path, config: str, arguments: list[str] | None = None, before: list[str] | None = None, **env: str
    ) -> None:
        self.folder = folder
        self.config = folder / "run.toml"
        self.config.write_text(config)
        self._log = folder / "log.txt"
        command = [*(before or []), sys.executable, "-m", "edge", "run", str(self.config), *(arguments or [])]
        path = os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH", ""))))
        environment = {**os.environ, "PYTHONPATH": path, "HARRIER_HOME": str(folder / "home"), **env}
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    @property
    def address(self) -> str:
        """Where its tcp:// publisher listens."""
        self.says("publishing to tcp://")
        found = re.search(r"publishing to (tcp://\S+)", self.log)
        assert found
        return found[1]

    def says(self, text: str, times: int = 1, timeout_s: float = PATIENCE_S) -> float:
        """Wait until its log has a text so often; return how many seconds that took."""

        def said() -> bool:
            assert self.process.poll() is None or self.log.count(text) >= times, f"it ended: {self.log}"
            return self.log.count(text) >= times

        try:
            return wait_for(said, text, timeout_s)
        except AssertionError as exc:
            raise AssertionError(f"{exc}\n{self.log[-3000:]}") from None

    def engine_pid(self) -> int:
        """The process of the isolated engine, 0 where there is none just now."""
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                stat = (entry / "stat").read_text().rpartition(")")[2].split()
                ours = int(stat[1]) == self.process.pid and stat[0] != "Z"
                if ours and (entry / "comm").read_text().startswith("harrier-engine"):
                    return int(entry.name)
        return 0

    def stop(self) -> int:
        """End it as systemd does; return the exit code, which a healthy run has within seconds."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"it did not end: {self.log[-3000:]}") from None
        assert "Traceback" not in self.log, self.log
        return code


class Reader:
    """Reads the results of a run as a robot does."""

    def __init__(self, address: str) -> None:
        self.connection = edge.connect(address, kinds=("detections", "classification", "status"), timeout_s=5)
        self.status: list[str] = []

    def __enter__(self) -> "Reader":
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()

    def result(self, condition: Callable = lambda message: True, timeout_s: float = PATIENCE_S):
        """The next result of which something is so."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            message = self.connection.read(0.1)
            if message is None:
                continue
            if message.kind == "status":
                self.status.append(f"{message.state} {message.reason}".strip())
            elif condition(message):
                return message
        raise AssertionError(f"no such result within {timeout_s} s; states: {self.status}")

    def results(self, seconds: float) -> list:
        """All results that come in this time, and when (CLOCK_MONOTONIC s)."""
        found, end = [], time.monotonic() + seconds
        while time.monotonic() < end:
            message = self.connection.read(0.02)
            if message is not None and message.kind != "status":
                found.append((time.monotonic(), message))
        return found


@contextlib.contextmanager
def running(folder: Path, config: str, **options) -> Iterator[Run]:
    """A run that must end well when asked to."""
    run = Run(folder, config, **options)
    try:
        yield run
    except BaseException:
        run.process.kill()
        run.process.wait()
        print(run.log[-3000:])
        raise
    assert run.stop() == 0, run.log
