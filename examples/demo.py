"""The demo of the README: a real photo becomes a moving camera, and another process receives what is seen in it.

Run it with ./run demo, or `python examples/demo.py --out FOLDER`.
"""

import argparse
import json
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np

from edge import catalogue
from edge.client import line_of
from edge.draw import annotate
from edge.errors import EdgeError
from edge.progress import Progress
from edge.wire.jsonl import decode
from edge.wire.messages import DetectionsMessage, Message

FPS = 30
SECONDS = 5
FRAME_WH = (640, 480)
HARRIER = [sys.executable, "-m", "edge"]


def main() -> int:
    """Pull, film, run, listen, show."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("demo-out"), help="folder for the video and the picture")
    out = parser.parse_args().out.resolve()
    try:
        out.mkdir(parents=True, exist_ok=True)
        photo = fetch()
        video = film(photo, out / "moving-camera.avi")
        messages, stats = run_and_listen(video, out / "stats.json")
        show(messages, stats, video, out / "annotated.png")
    except EdgeError as exc:
        print(f"demo: {exc}", file=sys.stderr)
        return exc.exit_code
    return 0


def fetch() -> Path:
    """Pull the face detector and the sample photo; at once when they are here already."""
    for name in ("face", "astronaut"):
        progress = Progress(f"pulling {name}")
        folder = catalogue.pull(name, lambda stage, done, total, p=progress: p.update(done, stage, total))
        print(f"{name:<10} {folder}")
    return folder / catalogue.entries()["astronaut"].file


def film(photo: Path, path: Path) -> Path:
    """Pan and zoom over the photo, as a camera on a moving robot would see it."""
    picture = cv2.imread(str(photo))
    side = min(picture.shape[:2])
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), FPS, FRAME_WH)
    for phase in np.linspace(0, 2 * np.pi, FPS * SECONDS, endpoint=False):
        width = side * (0.75 + 0.2 * np.cos(phase))
        height = width * FRAME_WH[1] / FRAME_WH[0]
        center = np.array([0.45 + 0.06 * np.sin(phase), 0.33 + 0.05 * np.sin(2 * phase)]) * side
        left, top = np.clip(center - (width / 2, height / 2), 0, (side - width, side - height))
        corners = np.array([[left, top], [left + width, top], [left, top + height]], np.float32)
        target = np.array([[0, 0], [FRAME_WH[0], 0], [0, FRAME_WH[1]]], np.float32)
        writer.write(cv2.warpAffine(picture, cv2.getAffineTransform(corners, target), FRAME_WH))
    writer.release()
    print(f"video      {path}: {FPS * SECONDS} frames at {FPS} frames/s")
    return path


def run_and_listen(video: Path, stats: Path) -> tuple[list[Message], dict]:
    """Run the pipeline in one process and receive its messages in another; return what arrived and what it took."""
    run = [
        *HARRIER,
        "run",
        "--model",
        "face",
        "--source",
        f"file://{video}",
        "--publish",
        "tcp://127.0.0.1:0",
    ]
    print("\n$ harrier run --model face --source file://... --publish tcp://127.0.0.1:0")
    runner = subprocess.Popen([*run, "--stats", str(stats)], stderr=subprocess.PIPE, text=True)
    address = ""
    while not address and (line := runner.stderr.readline()):
        found = re.search(r"publishing to (tcp://\S+)", line)
        address = found[1] if found else ""
    if not address:
        sys.exit(runner.wait() or 1)
    print(f"$ harrier listen {address} --json      (another process)\n")
    listener = subprocess.Popen([*HARRIER, "listen", address, "--json"], stdout=subprocess.PIPE)
    messages = []
    for line in listener.stdout:
        message = decode(line)
        messages.append(message)
        if isinstance(message, DetectionsMessage) and message.seq % FPS == 0:
            print(line_of(message))
    runner.communicate()
    if runner.returncode or listener.wait():
        sys.exit(f"demo: run ended with {runner.returncode}, listen with {listener.returncode}")
    return messages, json.loads(stats.read_text())


def show(messages: list[Message], stats: dict, video: Path, picture: Path) -> None:
    """Print the latency table and write the annotated picture."""
    seen = [message for message in messages if isinstance(message, DetectionsMessage) and message.detections]
    print(
        f"\n{len(messages)} messages arrived, {len(seen)} with a face; "
        f"{stats['source_stats']['dropped']} frames were dropped"
    )
    print(f"\n{'stage':<20}{'p50 ms':>10}{'p90 ms':>10}{'p99 ms':>10}")
    rows = {
        **stats["stages_ms"],
        "step (wall clock)": stats["wall_ms"],
        "capture to publish": stats["capture_to_publish_ms"],
    }
    for name, row in rows.items():
        if row is None:  # not one frame
            continue
        print(f"{name:<20}" + "".join(f"{row[p]:>10.3f}" for p in ("p50", "p90", "p99")))
    if not seen:
        sys.exit("demo: no face was found, which should not happen: please report it")
    best = max(seen, key=lambda message: message.detections[0].score)
    reader = cv2.VideoCapture(str(video))
    for _ in range(best.seq + 1):
        _, image = reader.read()
    annotate(image, best)
    cv2.imwrite(str(picture), image)
    print(f"\nannotated picture: {picture}")
    cameras = sorted(Path("/dev").glob("video*"))
    if cameras:
        print(f"a camera is here: harrier run --model face --source {cameras[0]}")
    else:
        print("with a camera: harrier run --model face --source 0")


if __name__ == "__main__":
    sys.exit(main())
