"""The C library as a Python object, and the tools that may be missing."""

import ctypes
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from edge.wire import jsonl
from edge.wire.messages import Message

ROOT = Path(__file__).resolve().parents[2]
FIRMWARE = ROOT / "examples" / "firmware"
HERE = Path(__file__).resolve().parent
STRICT = ("-std=c99", "-pedantic", "-Wall", "-Wextra", "-Wconversion", "-Wno-sign-conversion", "-Werror")


def tool(name: str, package: str) -> str:
    """The path of a program, or skip; on continuous integration it must be there."""
    found = shutil.which(name)
    if found is None and os.environ.get("CI"):
        pytest.fail(f"{name} is not installed: .ci/run installs {package}")
    return found or pytest.skip(f"{name} is not installed (Debian: apt install {package})")


def build(compiler: str, *words: str | Path) -> None:
    """Run a compiler; its complaints are the test's."""
    result = subprocess.run([compiler, *map(str, words)], capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr


class Controller:
    """The C library as a Python object: what is fed, what it says."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._c = library
        self._text = ctypes.create_string_buffer(1 << 20)
        for name in ("tick", "stops"):
            getattr(library, f"harness_{name}").restype = ctypes.c_char_p
        for name in ("feed", "datagram"):
            function = getattr(library, f"harness_{name}")
            function.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint32, ctypes.c_char_p, ctypes.c_size_t]
            function.restype = ctypes.c_size_t
        library.harness_interrupt.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint32]
        library.harness_unix_ns.restype = ctypes.c_uint64
        for name in ("age_us", "seq", "unix_error_us"):
            getattr(library, f"harness_{name}").restype = ctypes.c_uint32
        self.restart()

    def restart(self) -> None:
        """As after a reset."""
        self._c.harness_start()

    def feed(self, data: bytes, now_us: int = 0) -> list[Message]:
        """The messages that are complete with these bytes of a serial line, as the C code reads them."""
        return self._messages(self._c.harness_feed, data, now_us)

    def datagram(self, data: bytes, now_us: int = 0) -> list[Message]:
        """The message in a datagram, if it is one."""
        return self._messages(self._c.harness_datagram, data, now_us)

    def interrupt(self, data: bytes, now_us: int) -> None:
        """Feed without a look at what comes of it."""
        self._c.harness_interrupt(data, len(data), now_us & 0xFFFFFFFF)

    def tick(self, now_us: int) -> str:
        """The state at this time."""
        return self._c.harness_tick(ctypes.c_uint32(now_us)).decode()

    def tell(self, name: str, *numbers: int) -> int:
        """What harness_NAME returns."""
        return getattr(self._c, f"harness_{name}")(*(ctypes.c_uint32(number) for number in numbers))

    def sent(self, name: str, number: int, room: int = 256) -> bytes:
        """What harrier_write_NAME writes into so much room."""
        frame = ctypes.create_string_buffer(256)
        size = getattr(self._c, f"harness_write_{name}")(frame, ctypes.c_uint16(room), ctypes.c_uint32(number))
        return frame.raw[:size]

    def control(self, kinds: int, rate_dhz: int, class_ids: tuple[int, ...], command: int, room: int = 256) -> bytes:
        """What harrier_write_control writes."""
        frame, ids = ctypes.create_string_buffer(256), (ctypes.c_uint16 * len(class_ids))(*class_ids)
        size = self._c.harness_write_control(frame, room, kinds, rate_dhz, ids, len(class_ids), command)
        return frame.raw[:size]

    @property
    def stops(self) -> list[str]:
        """The reasons given to the stop callback so far."""
        return self._c.harness_stops().decode().split()

    @property
    def counts(self) -> dict[str, int]:
        """The counters, brought up to date."""
        five = (ctypes.c_uint16 * 5)()
        self._c.harness_counts(five)
        return dict(zip(("messages", "bad", "too_long", "foreign", "missed"), five, strict=True))

    def _messages(self, function: Callable[..., int], data: bytes, now_us: int) -> list[Message]:
        size = function(data, len(data), now_us & 0xFFFFFFFF, self._text, len(self._text))
        assert size < len(self._text) - 1
        return [jsonl.decode(line) for line in self._text.raw[:size].splitlines()]
