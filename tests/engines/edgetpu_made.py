"""Made by hand for the Edge TPU tests: trees of the kernel's files, a stand-in for libedgetpu, and compiled files."""

import shutil
import struct
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent
USB_FRESH, USB_USED = ("1a6e", "089a"), ("18d1", "9302")


def put(path: Path, text: str = "") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n")


def usb_tpu(root: Path, place: str, ids: tuple[str, str] = USB_USED, number: int = 3, speed: str = "5000") -> Path:
    """A TPU as Documentation/ABI of the kernel says that sysfs shows a USB device; returns its folder."""
    folder = root / "sys/bus/usb/devices" / place
    bus = int(place.partition("-")[0])
    values = {"idVendor": ids[0], "idProduct": ids[1], "busnum": str(bus), "devnum": str(number)}
    for name, value in {**values, "speed": speed, "bMaxPower": "896mA"}.items():
        put(folder / name, value)
    put(folder.with_name(f"{place}:1.0") / "bInterfaceClass", "ff")
    put(root / f"dev/bus/usb/{bus:03d}/{number:03d}")
    return folder


def pci_tpu(root: Path, number: int = 0, temperature: int = 45_000) -> Path:
    """A TPU with the apex driver; returns its folder in /sys/class."""
    folder = root / f"sys/class/apex/apex_{number}"
    values = {"temp": temperature, "trip_point0_temp": 84_800, "device_owner": 0, "status": "ALIVE"}
    for name, value in values.items():
        put(folder / name, str(value))
    put(root / f"dev/apex_{number}")
    return folder


def build_stand_in(folder: Path) -> Path:
    """The stand-in for libedgetpu.so.1, compiled."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler: libedgetpu's stand-in cannot be built")
    library = folder / "libedgetpu.so.1"
    source = HERE / "edgetpu_stand_in.c"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", str(library), str(source)], check=True, timeout=60)
    return library


def compiled_model(path: Path, runtime: int = 13, op: str = "edgetpu-custom-op", size: int = 8) -> Path:
    """A .tflite file of one custom operator with uint8 input and output of (1, size, size, 3), written byte by byte.

    Its options carry an Edge TPU package that states the least runtime version, as the compiler's do.
    """
    shape = [1, size, size, 3]
    package = struct.pack("<I4sHHHHii", 16, b"DWN1", 6, 8, 4, 0, 8, runtime)  # one field: its vtable at 8, itself at 16
    file = _Writer()
    names = {name: file.string(name) for name in ("x", "y")}
    shapes = {name: file.vector("i", shape) for name in names}
    scale, zero = file.vector("f", [0.5]), file.vector("q", [3])
    quantization = file.table({2: ("o", scale), 3: ("o", zero)})
    tensors = [
        file.table({0: ("o", shapes[n]), 1: ("B", 3), 2: ("I", 0), 3: ("o", names[n]), 4: ("o", quantization)})
        for n in names
    ]
    options = file.vector("B", b"\x00" * 4 + package)
    ends = file.vector("i", [0]), file.vector("i", [1])
    operator = file.table({0: ("I", 0), 1: ("o", ends[0]), 2: ("o", ends[1]), 5: ("o", options)})
    graph = file.table(
        {0: ("o", file.offsets(tensors)), 1: ("o", ends[0]), 2: ("o", ends[1]), 3: ("o", file.offsets([operator]))}
    )
    code = file.table({0: ("b", 32), 1: ("o", file.string(op)), 2: ("i", 1), 3: ("i", 32)})
    buffers = file.offsets([file.table({})])
    model = {0: ("I", 3), 1: ("o", file.offsets([code])), 2: ("o", file.offsets([graph])), 4: ("o", buffers)}
    path.write_bytes(file.finish(file.table(model)))
    return path


class _Writer:
    """Builds a flatbuffer front to back: what is pointed to lies further on, so parts are put in reverse at the end."""

    def __init__(self) -> None:
        self.parts: list[tuple[bytes, list[tuple[int, int]], int]] = []  # bytes, (where, part pointed to), start

    def _add(self, content: bytes, points: list[tuple[int, int]], start: int = 0) -> int:
        self.parts.append((content, points, start))
        return len(self.parts) - 1

    def string(self, text: str) -> int:
        return self._add(struct.pack("<I", len(text)) + text.encode() + b"\0", [])

    def vector(self, code: str, values) -> int:
        pad = 4 if code == "q" else 0  # 8-byte items begin at a multiple of 8
        content = b"\0" * pad + struct.pack(f"<I{len(values)}{code}", len(values), *values)
        return self._add(content, [], pad)

    def offsets(self, parts: list[int]) -> int:
        points = [(4 + 4 * i, part) for i, part in enumerate(parts)]
        return self._add(struct.pack("<I", len(parts)) + b"\0" * 4 * len(parts), points)

    def table(self, fields: dict[int, tuple[str, int]]) -> int:
        count = max(fields, default=-1) + 1
        vtable = 4 + 2 * count + (-(4 + 2 * count)) % 8
        places = [0] * count
        points, body = [], b""
        for i, (number, (code, value)) in enumerate(sorted(fields.items())):
            places[number] = 4 + 4 * i
            if code == "o":
                points.append((vtable + 4 + 4 * i, value))
                value, code = 0, "I"
            body += struct.pack(f"<{code}", value).ljust(4, b"\0")
        head = struct.pack(f"<HH{count}H", 4 + 2 * count, 4 + len(body), *places).ljust(vtable, b"\0")
        return self._add(head + struct.pack("<i", vtable) + body, points, vtable)

    def finish(self, root: int) -> bytes:
        starts: dict[int, int] = {}
        data = bytearray(struct.pack("<I4s", 0, b"TFL3"))
        for i in reversed(range(len(self.parts))):
            data += b"\0" * (-len(data) % 8)
            starts[i] = len(data)
            data += self.parts[i][0]
        for i, (_, points, _) in enumerate(self.parts):
            for where, part in points:
                at = starts[i] + where
                struct.pack_into("<I", data, at, starts[part] + self.parts[part][2] - at)
        struct.pack_into("<I", data, 0, starts[root] + self.parts[root][2])
        return bytes(data)
