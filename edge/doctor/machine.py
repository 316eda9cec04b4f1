"""The one seam between the checks and a machine: its files under a root, and what its programs print.

A recorded machine is a folder with its /proc, /sys, /etc and /dev facts as plain files and links, and a folder
`commands` with one file for each command: its name is the command line, percent-encoded but for spaces, its content
what was printed; a first line `[exit N]` says that it failed. A command without a file is not installed there.
"""

import ctypes
import os
import shutil
import signal
import subprocess
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from edge.bench.reading import number_in, text_in

__all__ = ["COMMANDS", "Machine", "Said", "command_file"]

COMMANDS = "commands"
_TIMEOUT_S = 3.0
_MAX_CHARACTERS = 1_000_000
_ELSEWHERE = ("/usr/sbin", "/sbin", "/usr/src/tensorrt/bin")  # of programs that a user's PATH may lack


@dataclass(frozen=True, slots=True)
class Said:
    """What a command printed, and its exit code; negative when a signal ended it, None when it took too long."""

    text: str
    code: int | None = 0


class _Timex(ctypes.Structure):
    """The kernel's `struct timex`, as far as it is asked for."""

    _fields_ = [
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_char * 256),
    ]


@dataclass
class Machine:
    """A machine to look at: this one, or with another root a copy or recording of one."""

    root: Path = Path("/")
    _said: dict[tuple[str, ...], Said | None] = field(default_factory=dict)

    @property
    def live(self) -> bool:
        """Whether this is the machine that the doctor runs on."""
        return self.root == Path("/")

    def path(self, name: str | Path) -> Path:
        """Return where a path of the machine lies here."""
        return self.root / str(name).lstrip("/")

    def text(self, name: str | Path) -> str:
        """Return the text of a file, "" when it cannot be read."""
        return text_in(self.path(name)) or ""

    def number(self, name: str | Path) -> float | None:
        """Return the number in a file, None when there is none."""
        value = number_in(self.path(name))
        return value if value is not None and abs(value) < 1e18 else None

    def exists(self, name: str | Path) -> bool:
        """Return whether there is such a file, folder or link."""
        return os.path.lexists(self.path(name))

    def glob(self, pattern: str) -> list[Path]:
        """Return the sorted paths that fit, as they lie here."""
        with suppress(OSError):
            return sorted(self.root.glob(pattern.lstrip("/")))
        return []

    def names_of(self, folder: str, target: str) -> list[str]:
        """Return the links in a folder such as dev/v4l/by-id that lead to a device such as video0."""
        links = [path for path in self.glob(f"{folder}/*") if path.is_symlink()]
        return [f"/{folder}/{link.name}" for link in links if Path(os.readlink(link)).name == target]

    def run(self, words: list[str], timeout_s: float = _TIMEOUT_S) -> Said | None:
        """Return what a command prints; None when the machine has no such program. Asked once only."""
        key = tuple(words)
        if key not in self._said:
            self._said[key] = self._run(words, timeout_s) if self.live else self._recorded(words)
        return self._said[key]

    def tool(self, words: list[str]) -> str | None:
        """Return what a command prints, None when it is missing or fails; as `edge.bench.reading.Tool`."""
        said = self.run(words)
        return said.text if said and said.code == 0 else None

    def has(self, program: str) -> bool:
        """Return whether a program is installed."""
        if self.live:
            return shutil.which(program) is not None
        recorded = (self.root / COMMANDS).glob(f"{quote(program, safe=' ')}*")
        return any(path.name.partition(" ")[0] == quote(program) for path in recorded)

    def kernel_clock(self) -> tuple[int, float] | None:
        """Return the kernel's clock status flags and the most it may be off by, in s; None where it is not told."""
        if self.live:
            with suppress(OSError, AttributeError):
                timex = _Timex()
                if ctypes.CDLL(None).adjtimex(ctypes.byref(timex)) >= 0:
                    return timex.status, timex.maxerror / 1e6
            return None
        words = (self.tool(["adjtimex"]) or "").split()  # as in `status 64 maxerror 16000000`
        values = dict(zip(words[::2], words[1::2], strict=False))
        with suppress(KeyError, ValueError):
            return int(values["status"]), int(values["maxerror"]) / 1e6
        return None

    def _recorded(self, words: list[str]) -> Said | None:
        try:
            text = (self.root / COMMANDS / command_file(words)).read_text(encoding="utf-8", errors="replace")
        except OSError:
            return None
        first, _, rest = text.partition("\n")
        if first.startswith("[exit ") and first.endswith("]"):
            code = first[6:-1]
            return Said(rest.strip(), int(code) if code.lstrip("-").isdigit() else None)
        return Said(text.strip())

    def _run(self, words: list[str], timeout_s: float) -> Said | None:
        path = os.pathsep.join((os.environ.get("PATH", os.defpath), *_ELSEWHERE))
        program = shutil.which(words[0], path=path)
        if program is None:
            return None
        try:
            process = subprocess.Popen(
                [program, *words[1:]],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,  # so that what it started ends with it
                env={**os.environ, "LC_ALL": "C", "SYSTEMD_COLORS": "0", "SYSTEMD_PAGER": "cat"},
            )
        except OSError:
            return None
        try:
            out, err = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            with suppress(OSError):
                os.killpg(process.pid, signal.SIGKILL)
            with suppress(subprocess.TimeoutExpired, OSError, ValueError):
                process.communicate(timeout=1.0)
            return Said("", None)
        said = (out or err if process.returncode == 0 else out + err)[:_MAX_CHARACTERS]
        return Said(said.decode("utf-8", "replace").strip(), process.returncode)


def command_file(words: list[str]) -> str:
    """Return the name under which a recorded tree has what a command printed."""
    return quote(" ".join(words), safe=" ")
