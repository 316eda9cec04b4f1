"""What the recipes share: running `harrier` as a person would, and writing pictures where it looks for them."""

import re
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np

HARRIER = [sys.executable, "-m", "edge"]


def harrier(*arguments: str | Path, may_fail_gate: bool = False) -> int:
    """Print and run one command, ending the recipe with its exit code when it fails."""
    words = [str(word) for word in arguments]
    print(f"\n$ harrier {' '.join(words)}", flush=True)
    code = subprocess.run([*HARRIER, *words]).returncode
    if code and not (may_fail_gate and code == 5):
        sys.exit(code)
    return code


def write_class_folders(folder: Path, images: np.ndarray, labels: np.ndarray, names: list[str]) -> Path:
    """Write (N, H, W) or (N, H, W, 3) uint8 pictures as FOLDER/CLASS/NUMBER.png, as `harrier eval` reads them."""
    for i, (image, label) in enumerate(zip(images, labels, strict=True)):
        path = folder / names[label] / f"{i:05d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), image)
    return folder


def write_pictures(folder: Path, images: np.ndarray) -> Path:
    """Write (N, H, W) or (N, H, W, 3) uint8 pictures as FOLDER/NUMBER.png."""
    folder.mkdir(parents=True, exist_ok=True)
    for i, image in enumerate(images):
        cv2.imwrite(str(folder / f"{i:05d}.png"), image)
    return folder


def run_and_listen(bundle: Path, source: str, count: int) -> list[str]:
    """Run the bundle in one process and return `count` lines that another process received from it over TCP."""
    run = ["run", "--model", str(bundle), "--source", source, "--publish", "tcp://127.0.0.1:0"]
    print(f"\n$ harrier {' '.join(run)}", flush=True)
    runner = subprocess.Popen([*HARRIER, *run], stderr=subprocess.PIPE, text=True)
    said, address = [], ""
    deadline = time.monotonic() + 60
    while not address and time.monotonic() < deadline and (line := runner.stderr.readline()):
        said.append(line)
        found = re.search(r"publishing to (tcp://\S+)", line)
        address = found[1] if found else ""
    if not address:
        runner.kill()
        sys.exit("".join(said) or "the pipeline did not start")
    listen = ["listen", address, "--count", str(count)]
    print(f"$ harrier {' '.join(listen)}      (another process)", flush=True)
    heard = subprocess.run([*HARRIER, *listen], capture_output=True, text=True, timeout=60)
    runner.terminate()
    runner.communicate()
    if heard.returncode:
        sys.exit(heard.stderr or heard.returncode)
    print(heard.stdout, end="")
    return heard.stdout.splitlines()
