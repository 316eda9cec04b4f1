"""One process that runs an engine, seen from outside: start it, talk to it, end it, and say what became of it."""

import logging
import os
import select
import signal
import socket
import subprocess
import threading
import time
from collections import deque
from pathlib import Path
from typing import Any

from edge.clock import monotonic_ns
from edge.engines.worker_child import HEADER, RUN, send
from edge.errors import ConfigError

__all__ = ["CHILD", "WorkerProcess", "foreign_environment", "python_version"]

log = logging.getLogger("harrier")

CHILD = Path(__file__).with_name("worker_child.py")
"""The program a worker runs."""

_LINES_KEPT = 2
_LINE_BYTES = 4096
_CHUNKS_LEFT = 16  # a pipe holds fewer; others may go on writing into it
_FOREIGN = ("PYTHONHOME", "PYTHONPATH", "__PYVENV_LAUNCHER__")
"""What is meant for this interpreter and breaks another one."""


class WorkerProcess:
    """A running process with a group, a channel and a pipe of its own. `ask` belongs to one thread, `hear` to another.

    python: the interpreter. foreign: it is not this one. memory_fd: what it shall share. name: for the log.
    Raises: ConfigError where there is no such interpreter.
    """

    def __init__(self, python: str, foreign: bool, memory_fd: int, name: str) -> None:
        self._name = name
        self._channel, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        command = [python, "-u", str(CHILD), str(other.fileno()), str(memory_fd)]
        try:
            self._popen = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=(other.fileno(), memory_fd),
                start_new_session=True,  # Ctrl-C is for the parent, and all it starts can be ended at once
                env=foreign_environment() if foreign else None,
            )
        except OSError as exc:
            self._channel.close()
            raise ConfigError(
                f"the interpreter {python} cannot be started ({exc.strerror})",
                "give the path of a Python from 3.6 on, such as /usr/bin/python3",
            ) from exc
        finally:
            other.close()
        assert self._popen.stdout
        self.pid = self._popen.pid
        self.output_fd = self._popen.stdout.fileno()
        os.set_blocking(self.output_fd, False)
        self._answers, self._anything = select.poll(), select.poll()
        self._answers.register(self._channel, select.POLLIN)
        self._anything.register(self._channel, select.POLLIN)
        self._anything.register(self.output_fd, select.POLLIN)
        self._reading = threading.Lock()
        self._partial = b""
        self._lines: deque[str] = deque(maxlen=_LINES_KEPT)

    def tell(self, what: int, content: Any) -> None:
        """Send a message of the start.

        Raises: EOFError.
        """
        try:
            send(self._channel, what, 0, content)
        except OSError as exc:
            raise EOFError from exc

    def hear(self, until_ns: int) -> tuple[int, int, bytes]:
        """Return the next message of the start, relaying meanwhile what the process prints.

        Raises: TimeoutError at `until_ns` (monotonic), EOFError where the process has ended.
        """
        while True:
            left_ms = (until_ns - monotonic_ns()) / 1e6
            if left_ms <= 0:
                raise TimeoutError
            for fd, _ in self._anything.poll(left_ms):
                if fd == self._channel.fileno():
                    return self._message(until_ns)
                if not self.relay():
                    self._anything.unregister(self.output_fd)

    def ask(self, number: int, timeout_ns: int) -> tuple[int, int, bytes]:
        """Have frame `number` computed; returns the answer as (what, number, JSON or nothing).

        Raises: TimeoutError, EOFError.
        """
        until_ns = monotonic_ns() + timeout_ns
        try:
            self._channel.send(HEADER.pack(RUN, 0, number))
        except OSError as exc:
            raise EOFError from exc
        return self._message(until_ns)  # sleeps: to spin would take a core from the engine's own threads

    def relay(self) -> bool:
        """Log the lines the process has printed since the last call; returns whether there may be more."""
        with self._reading:
            try:
                chunk = os.read(self.output_fd, 1 << 16)
            except BlockingIOError:
                return True
            *lines, self._partial = (self._partial + chunk).split(b"\n")
            if not chunk or len(self._partial) > _LINE_BYTES:
                lines, self._partial = [*lines, self._partial], b""
            for line in lines:
                text = line[:_LINE_BYTES].decode("utf-8", "replace").strip()
                if text:
                    self._lines.append(text)
                    log.debug("%s: %s", self._name, text)
            return bool(chunk)

    def relay_rest(self) -> None:
        """Relay what an ended process has left in the pipe."""
        left = select.poll()
        left.register(self.output_fd, select.POLLIN)
        for _ in range(_CHUNKS_LEFT):
            if not left.poll(0) or not self.relay():
                return

    def has_started(self) -> None:
        """Forget what it printed until now: that tells nothing of how it will end."""
        self.relay_rest()
        self._lines.clear()

    def resident_bytes(self) -> int:
        """How much memory the process occupies, 0 where it is gone."""
        try:
            with open(f"/proc/{self.pid}/statm", "rb") as file:
                return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")
        except (OSError, IndexError):
            return 0

    def hang_up(self) -> None:
        """End the conversation, upon which the process releases the engine and ends."""
        try:
            self._channel.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # it has ended it

    def kill(self) -> None:
        """End the process and all it started, stopped ones too."""
        if self._popen.returncode is None:  # until it is reaped no other group can have its number
            try:
                os.killpg(self.pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                pass

    def reap(self, timeout_s: float) -> bool:
        """Wait until the process is gone for good; returns whether it is."""
        try:
            self._popen.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return False
        return True

    def leave(self, timeout_s: float) -> None:
        """Wait until the process, hung up on, has ended by itself, at most this long; its number stays taken."""
        until_ns = monotonic_ns() + int(timeout_s * 1e9)
        seen = os.WEXITED | os.WNOHANG | os.WNOWAIT
        while self._popen.returncode is None and not os.waitid(os.P_PID, self.pid, seen) and monotonic_ns() < until_ns:
            time.sleep(0.002)

    def fate(self) -> str:
        """What became of the process, with its last words."""
        self.relay_rest()
        code = self._popen.returncode
        if code is None:
            said = "closed its channel"
        elif code >= 0:
            said = f"ended with exit code {code}"
        else:
            said = f"was ended by {_signal_name(-code)}"
        if code == -signal.SIGKILL:
            return said + " (from outside, or by the kernel for want of memory: see dmesg)"
        return said + (f"; its last words: {' / '.join(self._lines)}" if self._lines else "")

    def close(self) -> None:
        """Release channel and pipe."""
        self._channel.close()
        assert self._popen.stdout
        with self._reading:
            self._popen.stdout.close()

    def _message(self, until_ns: int) -> tuple[int, int, bytes]:
        what, size, number = HEADER.unpack(self._read(HEADER.size, until_ns))
        return what, number, self._read(size, until_ns) if size else b""

    def _read(self, size: int, until_ns: int) -> bytes:
        got = b""
        while len(got) < size:
            left_ms = (until_ns - monotonic_ns()) / 1e6
            if not self._answers.poll(max(left_ms, 0)):
                raise TimeoutError
            try:
                chunk = self._channel.recv(size - len(got))
            except OSError as exc:
                raise EOFError from exc
            if not chunk:
                raise EOFError
            got += chunk
        return got


def foreign_environment() -> dict[str, str]:
    """Return the environment for another interpreter."""
    return {key: value for key, value in os.environ.items() if key not in _FOREIGN}


def python_version(python: str) -> tuple[int, int] | None:
    """Return (major, minor) of an interpreter, None where the program is none."""
    ask = "import sys; print(sys.version_info[0], sys.version_info[1])"
    try:
        said = subprocess.run(
            [python, "-c", ask],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=10,
            env=foreign_environment(),
        ).stdout
        major, minor = said.decode("ascii").strip("() \n").replace(",", "").split()
        return int(major), int(minor)
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
