"""Engines with known faults, the file they are opened with, and a camera that sees a light."""

import mmap
import time
from pathlib import Path

import numpy as np

from edge.clock import monotonic_ns
from edge.engines.null import NullEngine
from edge.sources.capture import Grabbed
from edge.sources.synthetic import SyntheticSource

CLASSIFIER = """
[[inputs]]
name = "image"
shape = [1, 8, 8, 3]
layout = "NHWC"

[[outputs]]
name = "scores"
shape = [1, 3]
fill = 0.5
"""


class Sleep2Engine(NullEngine):
    """Takes 2 ms at least."""

    def run(self) -> None:
        time.sleep(0.002)


class Sleep4Engine(NullEngine):
    """Takes 4 ms at least."""

    def run(self) -> None:
        time.sleep(0.004)


class LeakEngine(NullEngine):
    """Keeps 500 kB more with every run, from the kernel: a process that freed much before would reuse that at first."""

    def run(self) -> None:
        if not hasattr(self, "kept"):
            self.kept = []
        self.kept.append(mmap.mmap(-1, 500_000))
        np.frombuffer(self.kept[-1], np.uint8)[:] = 1
        time.sleep(0.002)


class SpinEngine(NullEngine):
    """Keeps a core busy for 3 ms of its own CPU time."""

    def run(self) -> None:
        end = time.thread_time() + 0.003
        while time.thread_time() < end:
            pass


class LedCameraSource(SyntheticSource):
    """A camera before the LED whose file `led` names: 40 ms from the light to the frame, stamped when it comes."""

    led: Path

    def grab(self, into: np.ndarray | None) -> Grabbed:
        frame = super().grab(into)
        time.sleep(max(0, frame.t_capture_ns - monotonic_ns()) / 1e9)
        frame.image[:] = 30 if self.led.read_text() == "0" else 220
        time.sleep(0.04)
        return Grabbed(frame.image, monotonic_ns(), "arrival", frame.frame_ref)
