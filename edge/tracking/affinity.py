"""How well each track fits each detection."""

import numpy as np

from edge.detections import Detections

__all__ = ["Affinity", "nearness"]

# Detections of another class overlap a track by less than any threshold.
APART = -1.0

# What is found again has about the size it had (factor e^0.3 = 1.35 at most), and is not further off than this.
SIZE_CHANGE = 0.3
GATE_SIGMAS = 3.0

_TINY = np.finfo(np.float32).tiny


class Affinity:
    """Overlaps of tracks and detections, written into buffers made once for `tracks` x `detections`."""

    def __init__(self, tracks: int, detections: int, class_aware: bool) -> None:
        self._class_aware = class_aware
        self._buffers = [np.empty(2 * tracks * detections, np.float32) for _ in range(2)]

    def iou(self, xyxy: np.ndarray, class_ids: np.ndarray, detections: Detections) -> np.ndarray:
        """Return (N, M) float32 intersection over union of tracks with detections, below 0 where classes differ.

        xyxy (4, N) float32, corners by rows, and class_ids (N,) int32 of the tracks. Valid until the next call.
        """
        boxes = detections.xyxy[: detections.count].T.copy()
        n, m = xyxy.shape[1], boxes.shape[1]
        size, other = (buffer[: 2 * n * m].reshape(2, n, m) for buffer in self._buffers)  # width and height at once
        tracks, seen = xyxy[:, :, None], boxes[:, None]
        np.minimum(tracks[2:], seen[2:], out=size)
        np.maximum(tracks[:2], seen[:2], out=other)
        size -= other
        np.maximum(size, 0, out=size)
        inter, union = other
        np.multiply(size[0], size[1], out=inter)
        np.add(_area(xyxy)[:, None], _area(boxes), out=union)
        union -= inter
        np.maximum(union, _TINY, out=union)
        inter /= union
        if self._class_aware:
            apart = class_ids[:, None] != detections.class_ids[:m]
            if np.count_nonzero(apart):  # quicker than any()
                np.copyto(inter, APART, where=apart)
        return inter


def nearness(xywh: np.ndarray, sigma_px: np.ndarray, seen: np.ndarray, reach: float) -> np.ndarray:
    """Return (N, M) float64: 1 for a detection right where a track is expected, 0 or less for one out of reach.

    xywh (N, 4) float64 of the tracks, sigma_px (N,) float64 of their centres, seen (M, 4) float64 xywh of the
    detections; reach: the most a track may be off, in parts of its size.
    """
    size = xywh[:, 2:].mean(axis=1)
    off = seen[:, :2] - xywh[:, None, :2]
    gate = np.minimum(GATE_SIGMAS * sigma_px + 0.1 * size, reach * size)
    near = 1 - np.sqrt((off * off).sum(axis=2)) / np.maximum(gate, 1e-9)[:, None]
    change = np.abs(np.log(np.maximum(seen[:, 2:], 1) / xywh[:, None, 2:])).max(axis=2)
    near[change > SIZE_CHANGE] = APART
    return near


def _area(xyxy: np.ndarray) -> np.ndarray:
    """Of (4, N) corners."""
    size = xyxy[2:] - xyxy[:2]
    np.maximum(size, 0, out=size)
    return size[0] * size[1]
