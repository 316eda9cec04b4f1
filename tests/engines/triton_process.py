"""Starts the real Triton of triton_server.py in a process group of its own, and ends it."""

import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

TOKEN = "for-tests"
START_S = 60.0
ATTEMPTS = 3


def interpreter() -> str:
    """The Python that has nvidia-pytriton; skip without one, fail with one that does not work."""
    python = os.environ.get("HARRIER_TRITON_PYTHON")
    if not python:
        pytest.skip("HARRIER_TRITON_PYTHON is not set: no Python with nvidia-pytriton and onnxruntime")
    found = subprocess.run([python, "-c", "import pytriton, onnxruntime"], capture_output=True, text=True, timeout=60)
    if found.returncode:
        pytest.fail(f"HARRIER_TRITON_PYTHON is set, but Triton does not load there:\n{found.stderr[-2000:]}")
    return python


def free_ports(count: int) -> list[int]:
    """Ports nobody listens on just now."""
    held = [socket.socket() for _ in range(count)]
    for one in held:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return ports


class TritonProcess:
    """The server; http_port and grpc_port stay the same over restarts."""

    def __init__(self, python: str, onnx: Path, folder: Path) -> None:
        self.ports = free_ports(3)
        self.http_port, self.grpc_port = self.ports[:2]
        self._command = [python, str(Path(__file__).parent / "triton_server.py"), str(onnx)]
        self._folder = folder
        self._starts = 0
        library = subprocess.run(
            [python, "-c", "import sysconfig; print(sysconfig.get_config_var('LIBDIR'))"],
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        self._env = {**os.environ, "LD_LIBRARY_PATH": library.stdout.strip()}
        self.start()

    def start(self) -> None:
        """Start it and wait until its models are loaded; now and then one of its parts begins before the other."""
        for _ in range(ATTEMPTS):
            if said := self._start():
                print(said)
            else:
                return
        pytest.fail("Triton did not start")

    def _start(self) -> str:
        """What it said when it did not start, else ""."""
        self._starts += 1
        workspace = self._folder / f"workspace-{self._starts}"
        with (self._folder / f"triton-{self._starts}.log").open("w+") as log:
            self._process = subprocess.Popen(
                [*self._command, str(workspace), TOKEN, *map(str, self.ports)],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=self._env,
                start_new_session=True,
            )
            deadline = time.monotonic() + START_S
            while not (workspace / "ready").exists():
                if self._process.poll() is not None or time.monotonic() > deadline:
                    self.kill()
                    log.seek(0)
                    return f"it ended with {self._process.returncode}:\n{log.read()[-4000:]}"
                time.sleep(0.05)
        return ""

    def signal(self, number: int) -> None:
        """Send a signal to every process of the server."""
        os.killpg(self._process.pid, number)

    def kill(self) -> None:
        """End it at once, as losing power would."""
        try:
            self.signal(signal.SIGKILL)
        except ProcessLookupError:
            pass
        self._process.wait(10)
