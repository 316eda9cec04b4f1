"""What the recipes share: running `harrier` as a person would, and writing pictures where it looks for them."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np

from edge.wire.jsonl import decode
from edge.wire.messages import Message

HARRIER = [sys.executable, "-m", "edge"]


def new_folder(out: Path) -> Path:
    """Make the folder a recipe writes to; one with files in it is left alone, and the recipe ends."""
    out = out.expanduser().absolute()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        sys.exit(f"{out} is there already: remove it, or give another --out")
    out.mkdir(parents=True, exist_ok=True)
    return out


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
        write_picture(path, image)
    return folder


def write_pictures(folder: Path, images: np.ndarray) -> Path:
    """Write (N, H, W) or (N, H, W, 3) uint8 pictures as FOLDER/NUMBER.png."""
    folder.mkdir(parents=True, exist_ok=True)
    for i, image in enumerate(images):
        write_picture(folder / f"{i:05d}.png", image)
    return folder


def write_picture(path: Path, image: np.ndarray) -> None:
    """Write one (H, W) or (H, W, 3) uint8 BGR picture, ending the recipe where the disk does not take it."""
    if not cv2.imwrite(str(path), image):
        sys.exit(f"cannot write {path}: free some space, or give another --out")


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
    try:
        heard = subprocess.run([*HARRIER, *listen], capture_output=True, text=True, timeout=60)
    finally:
        runner.terminate()
        runner.communicate()
    if heard.returncode:
        sys.exit(heard.stderr or heard.returncode)
    print(heard.stdout, end="")
    return heard.stdout.splitlines()


def messages_of(bundle: Path, target: str, pictures: Path, score: float | None = None) -> list[Message]:
    """Run one target of the bundle over a folder of pictures and return what it published, a message a picture."""
    stem = bundle.parent / f"{bundle.name}-{target}"
    config, lines = stem.with_suffix(".toml"), stem.with_suffix(".jsonl")
    lines.unlink(missing_ok=True)  # what an earlier call wrote: the publisher appends
    config.write_text(f'[engine]\ntarget = "{target}"\n')
    least = () if score is None else ("--score", str(score))
    harrier(
        *("run", config, "--model", bundle, "--source", f"images://{pictures}", "--publish", f"file://{lines}"), *least
    )
    found = [decode(line) for line in lines.read_bytes().splitlines()]
    return [message for message in found if message.kind != "status"]


def summary(bundle: Path, extra: dict[str, str] | None = None) -> None:
    """Print the bundle's targets, what the recipe measured besides, and how much CPU time it all took."""
    report = json.loads((bundle / "report.json").read_text())
    metric = {"map": "mAP50-95", "top1": "top-1"}.get((report["evaluation"] or {}).get("metric"), "accuracy")
    print(f"\n{'target':<18}{'kB':>10}{'ms':>9}  {metric} (95 %)")
    for target in report["targets"]:
        size = f"{target['bytes'] / 1e3:.1f}" if target["bytes"] else "-"
        latency = f"{target['latency_ms']:.3f}" if target["latency_ms"] else "-"
        figure = target["accuracy"]
        seen = f"{figure['value']:.4f} ({figure['low']:.3f} to {figure['high']:.3f})" if figure else "-"
        left_out = "" if target["written"] else "  not in the bundle"
        print(f"{target['name']:<18}{size:>10}{latency:>9}  {seen}{left_out}")
    for what, figure in (extra or {}).items():
        print(f"{what:<37}  {figure}")
    print(f"{'CPU time of it all':<37}  {cpu_seconds():.0f} s")
    print(f"\nthe bundle  {bundle}\nits report  {bundle / 'report.html'}")


def cpu_seconds() -> float:
    """Return the CPU time, in s, of this process and of the commands it has run."""
    return sum(os.times()[:4])
