"""python -m benchmarks.tracking_picture FILE.png: one frame of a made-up scene, as the tracker sees it."""

import sys

import cv2
import numpy as np

from benchmarks.tracking_scenes import SIZE_WH, Scene, make
from edge.config import TrackingSection
from edge.detections import Detections
from edge.tracking.bytetrack import ByteTracker

__all__ = ["picture"]

SCENE = Scene("pillar", objects=6, pillars=((590, 690),), speed=1.8)
SEED, LAST, TRAIL, AHEAD_S = 9, 150, 60, 0.3
COLOURS = [
    (180, 119, 31),
    (14, 127, 255),
    (44, 160, 44),
    (40, 39, 214),
    (189, 103, 148),
    (75, 86, 140),
    (194, 119, 227),
]


def picture() -> np.ndarray:
    """Return (450, 800, 3) uint8 BGR: trails of the last two seconds, boxes, and where they are expected in 0.3 s."""
    shots = make(SCENE, SEED)[: LAST + 1]
    tracker, found, into = ByteTracker(TrackingSection(), 64), Detections(64), Detections(64, moving=True)
    trails: dict[int, list] = {}
    image = np.full((SIZE_WH[1], SIZE_WH[0], 3), 255, np.uint8)
    for left, right in SCENE.pillars:
        cv2.rectangle(image, (left, 0), (right, SIZE_WH[1]), (225, 225, 225), -1)
    for i, shot in enumerate(shots):
        n = found.count = len(shot.scores)
        found.xyxy[:n], found.scores[:n], found.class_ids[:n] = shot.xyxy, shot.scores, shot.class_ids
        tracker.update(found, into, shot.t_ns)
        for j in range(into.count):
            centre = (into.xyxy[j, :2] + into.xyxy[j, 2:]) / 2
            trails.setdefault(int(into.track_ids[j]), []).append((i, *centre))
    for x1, y1, x2, y2 in shots[-1].xyxy.round().astype(int).tolist():
        cv2.rectangle(image, (x1, y1), (x2, y2), (170, 170, 170), 1, cv2.LINE_AA)
    for j in range(into.count):
        track = int(into.track_ids[j])
        colour = COLOURS[track % len(COLOURS)]
        for i, x, y in trails[track]:
            if i > LAST - TRAIL:
                cv2.circle(image, (round(float(x)), round(float(y))), 3, colour, -1, cv2.LINE_AA)
        x1, y1, x2, y2 = into.xyxy[j].round().astype(int).tolist()
        cv2.rectangle(image, (x1, y1), (x2, y2), colour, 3, cv2.LINE_AA)
        cv2.putText(image, f"#{track}", (x1, y1 - 10), cv2.FONT_HERSHEY_SIMPLEX, 1.0, colour, 2, cv2.LINE_AA)
        ahead = into.xyxy[j] + into.motion.rates[j] * AHEAD_S
        sigma = float(np.sqrt(into.motion.variances[j] @ (1, AHEAD_S, AHEAD_S**2, AHEAD_S**3)))
        middle = ((ahead[:2] + ahead[2:]) / 2).round().astype(int).tolist()
        cv2.circle(image, middle, round(2 * sigma), colour, 2, cv2.LINE_AA)
        start = ((into.xyxy[j, :2] + into.xyxy[j, 2:]) / 2).round().astype(int).tolist()
        cv2.arrowedLine(image, start, middle, colour, 2, cv2.LINE_AA)
    return cv2.resize(image, (800, 450), interpolation=cv2.INTER_AREA)


if __name__ == "__main__":
    cv2.imwrite(sys.argv[1], picture(), [cv2.IMWRITE_PNG_COMPRESSION, 9])
