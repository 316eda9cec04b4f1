"""Results, as structs of arrays with a fixed capacity and a count. They know no vendor."""

import numpy as np

__all__ = ["BoxMotion", "Classification", "Detections"]


class BoxMotion:
    """How boxes move; row for row beside the boxes of a Detections.

    unseen_s (K,) float32: time since the box was last detected; 0 for what was seen on this frame, more for what is
    expected to be there. rates (K, 4) float32, px/s: how fast the edges x1, y1, x2, y2 move; flow (K, 4) float32, px/s:
    what part of that is the camera's own motion, 0 where that is not known. variances (K, 4) float32:
    coefficients a, b, c, d of the variance a + b t + c t^2 + d t^3, in px^2, that the box's centre has along either
    axis t seconds after capture. told (K, 12) float32: rates, flow and variances side by side; those are views of it.
    """

    __slots__ = ("flow", "rates", "told", "unseen_s", "variances")

    def __init__(self, capacity: int) -> None:
        self.unseen_s = np.zeros(capacity, np.float32)
        self.told = np.zeros((capacity, 12), np.float32)
        self.rates, self.flow, self.variances = self.told[:, :4], self.told[:, 4:8], self.told[:, 8:]


class Detections:
    """Up to `capacity` boxes; only the first `count` entries of each array mean anything.

    xyxy (K, 4) float32: source px after the pipeline, engine-input px between decoder and NMS; x right, y down.
    scores (K,) float32 in [0, 1]. class_ids (K,) int32. track_ids (K,) int32, -1 for none.
    keypoints (K, P, 2) float32 in the frame of xyxy, or None. motion: how the boxes move, or None where nobody knows.
    The owner refills the arrays for every frame.
    """

    __slots__ = ("capacity", "class_ids", "count", "keypoints", "motion", "scores", "track_ids", "xyxy")

    def __init__(self, capacity: int, keypoint_count: int = 0, moving: bool = False) -> None:
        self.capacity = capacity
        self.count = 0
        self.xyxy = np.zeros((capacity, 4), np.float32)
        self.scores = np.zeros(capacity, np.float32)
        self.class_ids = np.zeros(capacity, np.int32)
        self.track_ids = np.full(capacity, -1, np.int32)
        self.keypoints = np.zeros((capacity, keypoint_count, 2), np.float32) if keypoint_count else None
        self.motion = BoxMotion(capacity) if moving else None

    def __len__(self) -> int:
        return self.count

    def take(self, other: "Detections", indices: np.ndarray) -> None:
        """Refill with the entries of `other` at `indices` (N,) int64, in that order, as far as capacity reaches."""
        n = min(len(indices), self.capacity)
        chosen = indices[:n]
        self.count = n
        self.xyxy[:n] = other.xyxy[chosen]
        self.scores[:n] = other.scores[chosen]
        self.class_ids[:n] = other.class_ids[chosen]
        self.track_ids[:n] = other.track_ids[chosen]
        if self.keypoints is not None and other.keypoints is not None:
            self.keypoints[:n] = other.keypoints[chosen]
        if self.motion is not None and other.motion is not None:
            self.motion.unseen_s[:n] = other.motion.unseen_s[chosen]
            self.motion.told[:n] = other.motion.told[chosen]

    def clip(self, frame_wh: tuple[int, int]) -> None:
        """Cut boxes off at the edges of a frame of this size in px, and drop those that lie outside."""
        boxes = self.xyxy[: self.count]
        np.maximum(boxes, 0, out=boxes)
        np.minimum(boxes, frame_wh * 2, out=boxes)
        inside = boxes[:, 2:] > boxes[:, :2]
        if not inside.all():
            self.take(self, np.flatnonzero(inside.all(axis=1)))


class Classification:
    """The `capacity` best classes, best first; only the first `count` entries mean anything.

    class_ids (K,) int32, scores (K,) float32 in [0, 1]. The owner refills the arrays for every frame.
    """

    __slots__ = ("capacity", "class_ids", "count", "scores")

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.count = 0
        self.class_ids = np.zeros(capacity, np.int32)
        self.scores = np.zeros(capacity, np.float32)

    def __len__(self) -> int:
        return self.count
