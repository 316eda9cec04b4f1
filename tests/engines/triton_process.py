"""Starts the real Triton of triton_server.py in a process group of its own, and ends it."""

import os
import queue
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

TOKEN = "for-tests"
START_S = 120.0


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
        self.http_port, self.grpc_port, metrics_port = self.ports = free_ports(3)
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
        self._starts += 1
        errors = (self._folder / f"triton-{self._starts}.log").open("w")
        self._process = subprocess.Popen(
            [*self._command, str(self._folder / f"workspace-{self._starts}"), TOKEN, *map(str, self.ports)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=self._env,
            start_new_session=True,
        )
        lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        process = self._process
        threading.Thread(
            target=lambda: [lines.put(line) for line in process.stdout] or lines.put(""), daemon=True
        ).start()
        line = ""
        try:
            while (line := lines.get(timeout=START_S)) not in ("ready\n", ""):
                pass
        except queue.Empty:
            pass
        if line != "ready\n":
            self.kill()
            print(Path(errors.name).read_text()[-4000:], file=sys.stderr)
            pytest.fail("Triton did not start")

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
