"""Bearings, ranges and regions of 20 detections a frame, beside the letterbox of a 1280x720 frame, in one run."""

import time
from collections.abc import Callable

import cv2
import numpy as np

from edge.detections import Detections
from edge.geometry.camera import Camera, DistortionSection, IntrinsicsSection, MountSection
from edge.geometry.locator import Locator
from edge.geometry.regions import Regions
from edge.geometry_config import GeometrySection, ObjectSize, RegionSection

ROUNDS, BLOCK, OBJECTS = 300, 10, 20
WH = (1280, 720)
TARGETS_MS = {"ground": 0.1, "ground and height": 0.1, "regions": 0.15}
LABELS = ["person", "dog"]
CAMERA = Camera(
    width_px=WH[0],
    height_px=WH[1],
    intrinsics=IntrinsicsSection(fx_px=700.0, fy_px=700.0, cx_px=640.0, cy_px=360.0),
    distortion=DistortionSection(coefficients=[-0.28, 0.07, 2e-4, -1e-4, 0.0]),
    mount=MountSection(height_m=1.0, tilt_down_deg=10.0),
)
_SQUARE = [(0.3, 0.3), (0.7, 0.3), (0.7, 0.9), (0.3, 0.9)]
REGIONS = [
    RegionSection(name="road", kind="include", points=[(0.0, 0.2), (1.0, 0.2), (1.0, 1.0), (0.0, 1.0)]),
    RegionSection(name="door", kind="zone", points=_SQUARE, dwell_s=2.0, labels=["person"]),
    RegionSection(name="gate", kind="line", points=[(0.5, 0.9), (0.5, 0.1)]),
]


def measure() -> bool:
    """Print the median of each; return whether all kept their target."""
    parts = _parts()
    spent: dict[str, list[float]] = {name: [] for name in parts}
    for round_ in range(ROUNDS):  # in turn, so that a busy machine is busy for all
        for name, part in parts.items():
            t_start = time.perf_counter()
            for i in range(BLOCK):
                part(round_ * BLOCK + i)
            spent[name].append((time.perf_counter() - t_start) / BLOCK)
    print(f"\ngeometry of {OBJECTS} detections, {ROUNDS} blocks of {BLOCK} in turn: median, and the quickest tenth")
    kept = []
    for name, seconds in spent.items():
        median_ms, quick_ms = (1e3 * float(np.quantile(seconds, q)) for q in (0.5, 0.1))
        target = TARGETS_MS.get(name)
        said = "" if target is None else f", target {target} ms: {'kept' if median_ms < target else 'MISSED'}"
        kept.append(target is None or median_ms < target)
        print(f"  {name:<26} {median_ms:.3f} ms  {quick_ms:.3f} ms{said}")
    return all(kept)


def _parts() -> dict[str, Callable[[int], object]]:
    tall, both = ObjectSize(height_m=1.7), ObjectSize(height_m=1.7, width_m=0.5)
    locators = {
        "ground": Locator(CAMERA, GeometrySection(), LABELS, OBJECTS),
        "ground and height": Locator(CAMERA, GeometrySection(sizes={"person": tall}), LABELS, OBJECTS),
        "ground, height and width": Locator(CAMERA, GeometrySection(sizes={"person": both}), LABELS, OBJECTS),
    }
    regions = Regions(REGIONS, LABELS)
    frames = _frames()
    frame, small = np.zeros((WH[1], WH[0], 3), np.uint8), np.zeros((360, 640, 3), np.uint8)

    def watch(i: int) -> object:
        seen = frames[i % len(frames)]
        regions.kept(seen, WH)
        return regions.events(seen, WH, i * 33_000_000)

    def locate(name: str) -> Callable[[int], object]:
        return lambda i: locators[name].locate(frames[i % len(frames)], WH)

    parts: dict[str, Callable[[int], object]] = {name: locate(name) for name in locators}
    parts["regions"] = watch
    parts["(cv2.resize to 640x360)"] = lambda _: cv2.resize(frame, (640, 360), dst=small)
    return parts


def _frames() -> list[Detections]:
    """Tracks that wander about for a minute."""
    rng = np.random.default_rng(0)
    places = rng.uniform((100, 200), (1100, 600), (OBJECTS, 2))
    size = rng.uniform((20, 60), (80, 200), (OBJECTS, 2))
    found = []
    for _ in range(200):
        places += rng.normal(0, 4, places.shape)
        seen = Detections(OBJECTS)
        seen.count = OBJECTS
        seen.xyxy[:, :2], seen.xyxy[:, 2:] = places - size / 2, places + size / 2
        seen.track_ids[:] = np.arange(OBJECTS)
        seen.class_ids[:] = np.arange(OBJECTS) % 2
        found.append(seen)
    return found
