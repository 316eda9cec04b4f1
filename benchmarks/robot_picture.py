"""python -m benchmarks.robot_picture FILE.png: a made-up scene with tracks, bearings, ranges and regions on it."""

import sys

import cv2
import numpy as np

from benchmarks.tracking_scenes import SIZE_WH
from edge.clock import monotonic_ns
from edge.config import TrackingSection
from edge.detections import Detections
from edge.draw import annotate
from edge.frame import FrameInfo
from edge.geometry.camera import Camera, IntrinsicsSection, MountSection
from edge.geometry.locator import Locator
from edge.geometry.regions import Regions
from edge.geometry_config import GeometrySection, ObjectSize, RegionSection
from edge.tracking.bytetrack import ByteTracker
from edge.wire.building import Stream, message_of

__all__ = ["picture"]

FRAMES, FRAME_NS, AGE_NS, SCALE = 45, 33_000_000, 120_000_000, 0.75
TALL_M, WIDE_M = 1.7, 0.5
CAMERA = Camera(
    width_px=SIZE_WH[0],
    height_px=SIZE_WH[1],
    intrinsics=IntrinsicsSection(fx_px=800.0, fy_px=800.0, cx_px=639.5, cy_px=359.5),
    mount=MountSection(height_m=1.1, tilt_down_deg=6.0),
)
REGIONS = [
    RegionSection(name="door", kind="zone", points=[(0.09, 0.36), (0.30, 0.36), (0.28, 0.62), (0.03, 0.62)]),
    RegionSection(name="gate", kind="line", points=[(0.62, 0.97), (0.575, 0.36)]),
]
# where people are at the last frame, and how fast they walk: metres ahead and to the left of the robot
PEOPLE = [
    ((8.6, 4.6), (-0.3, 0.9), (120, 90, 60)),
    ((6.0, 0.4), (-0.2, -1.3), (70, 120, 160)),
    ((4.2, -1.5), (0.2, -1.1), (150, 110, 120)),
    ((12.0, -6.3), (-1.0, 0.4), (90, 140, 90)),
]


def _project(points: np.ndarray, base_from_camera: np.ndarray) -> np.ndarray:
    """(N, 2) px of points (N, 3) in the base frame, m."""
    x, y, z = ((np.asarray(points, float) - base_from_camera[:3, 3]) @ base_from_camera[:3, :3]).T
    i = CAMERA.intrinsics
    return np.stack([i.fx_px * x / z + i.cx_px, i.fy_px * y / z + i.cy_px], axis=1)


def _ground(base_from_camera: np.ndarray) -> np.ndarray:
    image = np.full((SIZE_WH[1], SIZE_WH[0], 3), (226, 220, 212), np.uint8)
    horizon = round(float(_project(np.array([(1e6, 0.0, 0.0)]), base_from_camera)[0, 1]))
    image[horizon:] = (176, 182, 184)
    for at in range(-30, 31, 2):  # tiles of 2 m
        along = np.array([(2.2, at, 0.0), (80.0, at, 0.0)], float)
        across = np.array([(at + 32.0, -60.0, 0.0), (at + 32.0, 60.0, 0.0)], float)
        for line in (along, across):
            a, b = _project(line, base_from_camera).round().astype(int).tolist()
            cv2.line(image, a, b, (156, 162, 164), 2, cv2.LINE_AA)
    return image


def _person(image: np.ndarray, foot: np.ndarray, color: tuple[int, int, int], base_from_camera: np.ndarray) -> None:
    """A figure of TALL_M that stands at `foot` (2,) m."""
    ends = _project(np.array([(*foot, 0.0), (*foot, TALL_M)]), base_from_camera)
    (x, y2), (_, y1) = ends.tolist()
    tall = y2 - y1
    body = [(-0.09, 0.0), (-0.15, 0.55), (-0.13, 0.80), (0.13, 0.80), (0.15, 0.55), (0.09, 0.0), (0.02, 0.40)]
    points = np.array([(x + a * tall, y2 - b * tall) for a, b in body]).round().astype(np.int32)
    cv2.fillPoly(image, [points], color, cv2.LINE_AA)
    cv2.circle(image, (round(x), round(y1 + 0.09 * tall)), round(0.085 * tall), (150, 170, 200), -1, cv2.LINE_AA)


def picture() -> np.ndarray:
    """Return (540, 960, 3) uint8 BGR: the last frame of 1.5 s as annotate() draws it, 120 ms after its capture."""
    rng = np.random.default_rng(4)
    locator = Locator(CAMERA, GeometrySection(sizes={"person": ObjectSize(height_m=TALL_M)}), ["person"], 16)
    tracker, regions = ByteTracker(TrackingSection(high_score=0.5), 16), Regions(REGIONS, ["person"])
    found, into = Detections(16), Detections(16, moving=True)
    t_last_ns = monotonic_ns() - AGE_NS
    base_from_camera = locator.base_from_camera
    for i in range(FRAMES):
        before_s = (FRAMES - 1 - i) * FRAME_NS / 1e9
        feet = np.array([np.array(at) - before_s * np.array(speed) for at, speed, _ in PEOPLE])
        found.count = len(feet)
        for j, foot in enumerate(feet):
            (x, y2), (_, y1) = _project(np.array([(*foot, 0.0), (*foot, TALL_M)]), base_from_camera)
            half = (y2 - y1) * WIDE_M / TALL_M / 2
            found.xyxy[j] = np.array([x - half, y1, x + half, y2]) + rng.normal(0, 1.5, 4)
            found.scores[j] = 0.9 - 0.06 * j
        t_ns = t_last_ns - (FRAMES - 1 - i) * FRAME_NS
        tracker.update(found, into, t_ns)
        for event in regions.events(into, SIZE_WH, t_ns):
            print(f"{event.region}: {event.kind} #{event.track_id} {event.direction} {event.inside}")
    image = _ground(base_from_camera)
    for at, _, color in sorted(PEOPLE, key=lambda one: -one[0][0]):
        _person(image, np.array(at), color, base_from_camera)
    info = FrameInfo(FRAMES, "front", t_last_ns, *SIZE_WH, timestamp_quality="generated")
    stream = Stream(source="front", model="coco", labels=("person",))
    message = message_of(info, into, stream, locations=locator.locate(into, SIZE_WH))
    image = cv2.resize(image, None, fx=SCALE, fy=SCALE, interpolation=cv2.INTER_AREA)
    for record in message.detections:  # to the picture's size
        record.box = tuple(v * SCALE for v in record.box)
        record.predicted_box = tuple(v * SCALE for v in record.predicted_box)
        record.predicted_sigma_px *= SCALE
    annotate(image, message, regions=REGIONS)
    return image


if __name__ == "__main__":
    cv2.imwrite(sys.argv[1], picture())
