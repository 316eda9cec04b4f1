"""A camera of another distribution that breaks as a file tells it while it runs: faulty:///path/of/orders?fps=100.

Orders: ok, gone (unplugged), hang (silent, the driver blocks), freeze (the same picture, newly stamped, for ever),
black, resize WIDTH HEIGHT, bad (every other frame is damaged). frame_ref is the true capture time (CLOCK_MONOTONIC).
"""

import threading
import time
from pathlib import Path

import cv2
import numpy as np

from edge.clock import monotonic_ns
from edge.errors import SourceError
from edge.sources.capture import BadFrameError, Grabbed, SourceOptions

PICTURES = 32


class FaultyOptions(SourceOptions, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """fps: frames a second. size: width x height in px. picture: a file that is shown, with noise."""

    fps: float = 100.0
    size: tuple[int, int] = (64, 48)
    picture: str = ""


class FaultyCamera:
    """Looks at its orders before every frame."""

    live = True
    note = ""

    def __init__(self, uri):
        self.options = uri.options(FaultyOptions)
        self._orders = Path(uri.rest)
        self._interrupted = threading.Event()
        self._taken = 0
        self._due_s = time.monotonic()

    def open(self):
        if self._order()[0] == "gone":
            raise SourceError("there is no camera", "plug it in")
        random = np.random.default_rng(7)
        width, height = self.options.size
        scene = random.integers(0, 255, (height, width, 3), np.uint8)
        if self.options.picture:
            scene = cv2.resize(cv2.imread(self.options.picture), self.options.size)
        noise = [random.integers(0, 3, scene.shape, np.uint8) for _ in range(PICTURES)]
        self._pictures = [cv2.add(scene, one) for one in noise]

    def grab(self, into):
        order, *rest = self._order()
        if order == "gone":
            raise SourceError("the camera was unplugged", "plug it in again")
        if order == "hang":
            while self._order()[0] == "hang":
                if self._interrupted.wait(0.02):
                    raise SourceError("the camera was interrupted", "open it again")
        self._due_s = max(self._due_s + 1 / self.options.fps, time.monotonic() - 0.2)
        time.sleep(max(0.0, self._due_s - time.monotonic()))
        self._taken += 1
        if order == "bad" and self._taken % 2:
            raise BadFrameError("a frame was damaged", "check the cable")
        image = self._pictures[0 if order == "freeze" else self._taken % PICTURES]
        if order == "black":
            image = np.zeros_like(image)
        if order == "resize":
            image = cv2.resize(image, (int(rest[0]), int(rest[1])))
        if into is None or into.shape != image.shape:
            into = np.empty_like(image)
        np.copyto(into, image)
        t_ns = monotonic_ns()
        return Grabbed(into, t_ns, "driver", str(t_ns))

    def close(self):
        pass

    def interrupt(self):
        self._interrupted.set()

    def _order(self):
        return self._orders.read_text().split()


def install(folder: Path) -> None:
    """Make this module a distribution in a folder, for PYTHONPATH."""
    (folder / "faulty_camera.py").write_text(Path(__file__).read_text(encoding="utf-8"), encoding="utf-8")
    info = folder / "faulty_camera-1.dist-info"
    info.mkdir(exist_ok=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: faulty-camera\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[edge.sources]\nfaulty = faulty_camera:FaultyCamera\n")
