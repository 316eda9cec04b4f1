"""What the tests of tracking share: detections of boxes, and a tracker that is told frames one by one."""

import numpy as np

from edge.config import TrackingSection
from edge.detections import Detections
from edge.tracking.bytetrack import ByteTracker

FRAME_S = 1 / 30
CAPACITY = 64


def filled(boxes, scores=None, class_ids=None, keypoints=None) -> Detections:
    """Detections of these boxes; score 0.9 and class 0 where nothing else is said."""
    n = len(boxes)
    found = Detections(CAPACITY, 0 if keypoints is None else len(keypoints[0]))
    found.count = n
    found.xyxy[:n] = np.reshape(boxes, (n, 4))
    found.scores[:n] = 0.9 if scores is None else scores
    found.class_ids[:n] = 0 if class_ids is None else class_ids
    if keypoints is not None:
        found.keypoints[:n] = keypoints
    return found


class Watched:
    """A tracker with a clock: each call is one frame later."""

    def __init__(self, settings: TrackingSection | None = None, keypoints: int = 0, kind=ByteTracker) -> None:
        self.tracker = kind(settings or TrackingSection(), CAPACITY, keypoints)
        self.into = Detections(CAPACITY, keypoints, moving=True)
        self.t_ns = 0

    def see(self, boxes=(), scores=None, class_ids=None, keypoints=None, dt_s=FRAME_S, moved=None) -> list[int]:
        """The numbers published for a frame with these detections."""
        self.t_ns += round(dt_s * 1e9)
        found = filled(list(boxes), scores, class_ids, keypoints)
        self.tracker.update(found, self.into, self.t_ns, moved)
        return self.into.track_ids[: self.into.count].tolist()

    @property
    def boxes(self) -> np.ndarray:
        """The boxes published last."""
        return self.into.xyxy[: self.into.count].copy()

    @property
    def velocity(self) -> np.ndarray:
        """The velocities of their centres."""
        rates = self.into.motion.rates[: self.into.count]
        return (rates[:, :2] + rates[:, 2:]) / 2


def box(x: float, y: float, width: float = 60, height: float = 120) -> tuple[float, float, float, float]:
    """A box around a centre."""
    return x - width / 2, y - height / 2, x + width / 2, y + height / 2
