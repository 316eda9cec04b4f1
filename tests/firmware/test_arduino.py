"""The Arduino library as it is installed, and its sketch: compiled, and run on bytes."""

import subprocess
import zipfile
from pathlib import Path

import msgspec
import pytest
from controller import FIRMWARE, HERE, ROOT, STRICT, build, tool
from golden_messages import messages

from edge.wire.encoder import encode
from edge.wire.framing import framed


@pytest.fixture(scope="module")
def library(tmp_path_factory) -> Path:
    """The library, unpacked."""
    folder = tmp_path_factory.mktemp("arduino")
    made = subprocess.run([FIRMWARE / "make-arduino-library.sh", folder], capture_output=True, text=True, timeout=60)
    assert made.returncode == 0, made.stderr
    with zipfile.ZipFile(folder / "Harrier.zip") as archive:
        archive.extractall(folder)
    return folder / "Harrier"


def test_the_library_has_what_the_arduino_ide_asks_for(library):
    found = {path.relative_to(library).as_posix() for path in library.rglob("*") if path.is_file()}
    assert found == {
        "library.properties",
        "src/harrier.h",
        "src/harrier.c",
        "src/harrier_layout.h",
        "examples/Follow/Follow.ino",
    }
    keys = [line.partition("=")[0] for line in (library / "library.properties").read_text().splitlines()]
    assert {"name", "version", "author", "maintainer", "sentence", "paragraph", "category", "url"} <= set(keys)


def sketches(library: Path, folder: Path) -> dict[str, Path]:
    """The library's example, and those that the documentation shows."""
    found = {"example": library / "examples" / "Follow" / "Follow.ino"}
    for name in ("firmware", "integrate"):
        page = (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8")
        found[name] = folder / f"{name}.ino"
        found[name].write_text(page.partition("```cpp\n")[2].partition("```")[0])
    return found


@pytest.mark.parametrize("which", ["example", "firmware", "integrate"])
def test_the_sketch_follows_and_stops(which, library, tmp_path):
    sketch = sketches(library, tmp_path)[which]
    strict = ("-std=c++11", "-pedantic", "-Wall", "-Wextra", "-Werror")
    here = HERE / "arduino"
    build(tool("gcc", "gcc"), "-std=c99", "-O1", "-c", library / "src" / "harrier.c", "-o", tmp_path / "harrier.o")
    define = f'-DSKETCH="{sketch}"'
    sources = (here / "sketch.cpp", tmp_path / "harrier.o")
    build(tool("g++", "g++"), *strict, define, "-I", library / "src", "-I", here, *sources, "-o", tmp_path / "sketch")

    def frame(name: str) -> str:
        return framed(encode(msgspec.structs.replace(messages()[name], age_ms=10)), True, True).hex()

    seen = messages()["detections-one"]  # 12.5 to 100 of 640 px: well to the left
    told = [
        (0, ""),
        (1000, frame("detections-one")),
        (400_000, ""),
        (500_000, ""),  # 509 ms old
        (600_000, frame("detections-none")),
        (700_000, frame("detections-one")),
        (5_000_000, ""),
    ]
    lines = "".join(f"{now_us} {data}\n" for now_us, data in told)
    result = subprocess.run([tmp_path / "sketch"], input=lines, capture_output=True, text=True, timeout=20)
    turn = int(1000 * ((12.5 + 100) / 2 - 320) / 320) // 10 + 1  # C rounds towards zero
    assert seen.frame == (640, 480)
    follows = f"{120 + turn} {120 - turn}"
    assert result.stdout.splitlines() == ["0 0", follows, follows, "0 0", "0 0", follows, "0 0"]


def test_the_sketch_fits_a_small_arduino(tmp_path, library):
    """Of an ATmega328P, an Uno's: 32 KB of flash, 2 KB of memory."""
    compiler = tool("avr-gcc", "gcc-avr avr-libc")
    made = tmp_path / "harrier.o"
    build(
        compiler,
        "-std=c99",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-Os",
        "-mmcu=atmega328p",
        "-c",
        library / "src" / "harrier.c",
        "-o",
        made,
    )
    sizes = (
        subprocess.run(["avr-size", made], capture_output=True, text=True, timeout=20).stdout.splitlines()[1].split()
    )
    assert int(sizes[0]) < 6500
    assert int(sizes[1]) + int(sizes[2]) == 0


def test_the_shown_program_for_stm32_compiles(tmp_path):
    page = (ROOT / "docs" / "firmware.md").read_text(encoding="utf-8")
    hal = (
        "#include <stdint.h>\ntypedef struct { int port; } UART_HandleTypeDef;\nuint32_t HAL_GetTick(void);\n"
        "int HAL_UART_Receive_IT(UART_HandleTypeDef *, uint8_t *, uint16_t);\n"
        "void HAL_UART_RxCpltCallback(UART_HandleTypeDef *);\nvoid vision_begin(UART_HandleTypeDef *);\n"
        "void vision_loop(void);\nvoid steer(int16_t);\n"
        '#include "harrier.h"\nvoid motors_off(harrier *, harrier_state);\n'
    )
    program = tmp_path / "stm32.c"
    program.write_text(hal + page.partition("```c\n")[2].partition("```")[0])
    words = ("-mthumb", "-mcpu=cortex-m0", "-Os", "-I", FIRMWARE, "-c", program, "-o", tmp_path / "stm32.o")
    build(tool("arm-none-eabi-gcc", "gcc-arm-none-eabi"), *STRICT, *words)
