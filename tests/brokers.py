"""A real MQTT broker (mosquitto) of a test's own, which can be stopped, stalled and started again."""

import getpass
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

_PATH = f"{os.environ.get('PATH', '')}{os.pathsep}/usr/sbin"  # where Debian puts it, and not every user looks


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


class Mosquitto:
    """Listens on 127.0.0.1 at a port that stays the same over restarts; `lines` are added to its configuration."""

    def __init__(self, folder: Path, lines: str = "allow_anonymous true") -> None:
        program = shutil.which("mosquitto", path=_PATH)
        if program is None:
            if os.environ.get("CI"):
                pytest.fail("mosquitto is not installed, but CI is set")
            pytest.skip("mosquitto is not installed")
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        config = folder / "mosquitto.conf"
        # as root, mosquitto would become a user that may not read what a test wrote
        own = ["set_tcp_nodelay true", "persistence false", f"user {getpass.getuser()}", lines]
        config.write_text("\n".join([f"listener {self.port} 127.0.0.1", *own, ""]))
        self._command = [program, "-c", str(config)]
        self._process: subprocess.Popen | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 20
        while True:
            assert self._process.poll() is None, "mosquitto ended"
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                assert time.monotonic() < deadline, "mosquitto does not answer"
                time.sleep(0.01)

    def stall(self) -> None:
        """Let it keep its connections, but do nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(20)
            self._process = None
