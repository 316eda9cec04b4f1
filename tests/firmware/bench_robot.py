"""A controller in QEMU, the serial line to it, and whoever damages the bytes on the way."""

import os
import pty
import random
import re
import select
import signal
import subprocess
import sys
import threading
import time
import tty
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from controller import FIRMWARE, build, tool

from edge.wire.decoder import decode
from edge.wire.framing import SerialDeframer
from edge.wire.messages import DetectionsMessage

__all__ = ["Damage", "Robot", "build_firmware", "bursts", "clean", "noise", "start_harrier"]

Damage = Callable[[bytes], bytes]

_PTY = re.compile(rb"char device redirected to (\S+)")
_FRAME = re.compile(rb"\0[^\0]*\0")
_WAIT_S = 60.0


def build_firmware(folder: Path) -> Path:
    """The image for the Cortex-M3."""
    compiler = tool("arm-none-eabi-gcc", "gcc-arm-none-eabi libnewlib-arm-none-eabi")
    made, here = folder / "firmware.elf", FIRMWARE / "mps2"
    words = ("-std=c99", "-Wall", "-Wextra", "-Werror", "-Os", "-mthumb", "-mcpu=cortex-m3", "-nostartfiles")
    sources = [here / name for name in ("startup.c", "uart.c", "main.c")]
    build(compiler, *words, "-I", FIRMWARE, "-T", here / "mps2.ld", *sources, FIRMWARE / "harrier.c", "-o", made)
    return made


def start_harrier(port: str, picture: Path, ttl_ms: int, folder: Path) -> subprocess.Popen:
    """A real `harrier run` that sees a face and says so on this port."""
    config = folder / "robot.toml"
    config.write_text(
        f'model = "face"\nsource = "images://{picture}?fps=30&loop=yes"\n'
        f'publish = ["serial://{port}?baud=115200&max_bytes=256"]\n[wire]\nttl_ms = {ttl_ms}\nheartbeat_ms = 250\n'
    )
    with (folder / "harrier.log").open("wb") as log:
        return subprocess.Popen([sys.executable, "-m", "edge", "run", str(config)], stdout=log, stderr=log)


def clean(data: bytes) -> bytes:
    """A line without damage."""
    return data


def noise(share: float, seed: int) -> Damage:
    """Every byte is another one with this probability."""
    draw = random.Random(seed)

    def damage(data: bytes) -> bytes:
        return bytes(b ^ draw.randrange(1, 256) if draw.random() < share else b for b in data)

    return damage


def bursts(share: float, length: int, seed: int) -> Damage:
    """This share of all bytes is damaged, so many in a row."""
    draw = random.Random(seed)
    left = 0

    def damage(data: bytes) -> bytes:
        nonlocal left
        out = bytearray(data)
        for i in range(len(out)):
            if left == 0 and draw.random() < share / length / (1 - share):
                left = length
            if left:
                out[i] ^= draw.randrange(1, 256)
                left -= 1
        return bytes(out)

    return damage


class Robot:
    """QEMU with the firmware, a pseudo terminal `port` for Harrier, and a thread that carries bytes between them.

    sent: results that Harrier wrote, by seq. damage: what the line does to bytes on their way to the controller.
    """

    def __init__(self, image: Path) -> None:
        self.damage: Damage = clean
        self.sent: dict[int, DetectionsMessage] = {}
        self._said = bytearray()
        self._deframer = SerialDeframer()
        self._closing = False
        words = ["-M", "mps2-an385", "-kernel", str(image), "-display", "none", "-monitor", "none", "-serial", "pty"]
        self._qemu = subprocess.Popen(
            [tool("qemu-system-arm", "qemu-system-arm"), *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        assert self._qemu.stdout is not None
        found = _PTY.search(self._qemu.stdout.readline())
        assert found, "QEMU did not say where its serial line is"
        self._controller = os.open(found[1], os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        self._master, self._slave = pty.openpty()  # the slave stays open here, so that Harrier may come and go
        tty.setraw(self._controller)
        tty.setraw(self._slave)
        self.port = os.ttyname(self._slave)
        self._thread = threading.Thread(target=self._carry, daemon=True)

    def __enter__(self) -> "Robot":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing = True
        self._thread.join(10)
        self._qemu.send_signal(signal.SIGKILL)
        self._qemu.wait(10)
        for descriptor in (self._controller, self._master, self._slave):
            os.close(descriptor)

    def lines(self, word: str = "") -> list[list[str]]:
        """What the controller has said so far, in words; only lines that begin with this one."""
        text = _FRAME.sub(b"", bytes(self._said)).partition(b"\0")[0]
        found = [line.split() for line in text.decode("ascii").split("\n")[:-1]]
        return [line for line in found if line and (not word or line[0] == word)]

    def counted(self, what: str) -> int:
        """The newest figure of one of the controller's counters."""
        lines = self.lines("COUNT")
        return int(lines[-1][1 + ("messages", "bad", "too_long", "foreign", "missed").index(what)]) if lines else 0

    def wait_for(self, what: Callable[[], object], why: str) -> None:
        """Wait until something is so."""
        deadline = time.monotonic() + _WAIT_S
        while not what():
            assert time.monotonic() < deadline, f"{why}; the last lines: {self.lines()[-20:]}"
            assert self._qemu.poll() is None, "QEMU has ended"
            time.sleep(0.02)

    def _carry(self) -> None:
        to_controller, to_harrier = bytearray(), bytearray()
        while not self._closing:
            writers = [self._controller] * bool(to_controller) + [self._master] * bool(to_harrier)
            readable, writable, _ = select.select([self._controller, self._master], writers, [], 0.1)
            if self._master in readable:
                data = os.read(self._master, 4096)
                for payload in self._deframer.feed(data):
                    message = decode(payload)
                    if isinstance(message, DetectionsMessage):
                        self.sent[message.seq] = message
                to_controller += self.damage(data)
            if self._controller in readable:
                data = os.read(self._controller, 4096)
                self._said += data
                to_harrier += data
            if self._controller in writable:
                del to_controller[: os.write(self._controller, to_controller)]
            if self._master in writable:
                del to_harrier[: os.write(self._master, to_harrier[:1024])]
