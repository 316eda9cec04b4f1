"""Prints how much flash and memory harrier.c takes, as tables for docs/firmware.md: python3 size.py.

Needs arm-none-eabi-gcc and avr-gcc (Debian: gcc-arm-none-eabi, gcc-avr, avr-libc); what is missing is left out.
"""

import shutil
import subprocess
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
TARGETS = (
    ("Cortex-M0", "arm-none-eabi", ("-mthumb", "-mcpu=cortex-m0")),
    ("Cortex-M3", "arm-none-eabi", ("-mthumb", "-mcpu=cortex-m3")),
    ("Cortex-M4", "arm-none-eabi", ("-mthumb", "-mcpu=cortex-m4")),
    ("AVR (ATmega328P)", "avr", ("-mmcu=atmega328p",)),
)
FOLLOW = """
#include "harrier.h"
extern volatile unsigned char uart; extern volatile int motor; unsigned long now(void);
static harrier h;
void receive(void) { harrier_feed(&h, uart, now()); }
int main(void) {
    harrier_init(&h, 0);
    for (;;) {
        if (harrier_tick(&h, now()) == HARRIER_SEEING) motor = harrier_offset_x(&h, harrier_best(&h, 0));
        else motor = 0;
    }
}
"""


def sizes(target: str, words: tuple[str, ...]) -> tuple[int, int, int]:
    """Bytes of flash of a follower and of everything, with the compiler's helpers, and of memory."""
    with tempfile.TemporaryDirectory() as folder:
        main = Path(folder, "main.c")
        main.write_text(FOLLOW)
        options = ["-std=c99", "-Os", "-ffunction-sections", "-fdata-sections", *words, "-I", str(HERE)]
        for source in (HERE / "harrier.c", main):
            subprocess.run([f"{target}-gcc", *options, "-c", source, "-o", f"{folder}/{source.stem}.o"], check=True)
        link = [f"{target}-gcc", *words, "-nostartfiles", "-Wl,--unresolved-symbols=ignore-all", "-Wl,-e,main"]
        objects = [f"{folder}/main.o", f"{folder}/harrier.o"]
        found = []
        for collect in (["-Wl,--gc-sections", "-Wl,-u,receive"], []):
            subprocess.run([*link, *collect, *objects, "-o", f"{folder}/all.elf"], check=True, capture_output=True)
            line = subprocess.run([f"{target}-size", f"{folder}/all.elf"], check=True, capture_output=True, text=True)
            found.append([int(word) for word in line.stdout.splitlines()[1].split()[:3]])
        return found[0][0], found[1][0], found[1][1] + found[1][2]


def memory(buffer_bytes: int) -> int:
    """Bytes of a `harrier` on a 32-bit controller."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "h.c")
        source.write_text('#include "harrier.h"\nharrier h;\n')
        size = f"-DHARRIER_BUFFER_BYTES={buffer_bytes}"
        words = ["arm-none-eabi-gcc", "-std=c99", "-mcpu=cortex-m0", "-mthumb", size, "-I", str(HERE), "-c"]
        subprocess.run([*words, source, "-o", f"{folder}/h.o"], check=True)
        line = subprocess.run(["arm-none-eabi-size", f"{folder}/h.o"], check=True, capture_output=True, text=True)
        return int(line.stdout.splitlines()[1].split()[2])


def main() -> None:
    """Print both tables."""
    print("| controller | flash, a follower | flash, all functions |\n|---|---|---|")
    for name, target, words in TARGETS:
        if shutil.which(f"{target}-gcc"):
            follower, everything, _ = sizes(target, words)
            print(f"| {name} | {follower:,} | {everything:,} |")
    if shutil.which("arm-none-eabi-gcc"):
        print("\n| option | memory | detections |\n|---|---|---|")
        for size in (64, 128, 256, 512, 1024):
            print(f"| `HARRIER_BUFFER_BYTES={size}` | {memory(size):,} | {(size - 41) // 14} |")


if __name__ == "__main__":
    main()
