"""How well each track fits each detection."""

import numpy as np

from edge.detections import Detections

__all__ = ["Affinity", "nearness"]

# What is found again has about the size it had (factor e^0.3 = 1.35 at most), and is not further off than this.
SIZE_CHANGE = 0.3
GATE_SIGMAS = 3.0

# arrays: a number is made into one on each call
_ZERO_PX = np.array(0, np.float32)
_TINY_PX = np.array(1e-18, np.float32)  # its square is still a number of float32: no union is 0


class Affinity:
    """Overlaps of tracks and detections, written into buffers made once for `tracks` x `detections`."""

    def __init__(self, tracks: int, detections: int, class_aware: bool) -> None:
        self._class_aware = class_aware
        self._corners = np.empty((4, tracks + detections), np.float32)
        self._buffer = np.empty(4 * tracks * detections, np.float32)

    def iou(self, xyxy: np.ndarray, class_ids: np.ndarray, detections: Detections) -> np.ndarray:
        """Return (N, M) float32 intersection over union of tracks with detections, 0 where classes differ.

        xyxy (4, N) float32 or float64, corners by rows, and class_ids (N,) int32 of the tracks. Valid until the next
        call.
        """
        n, m = xyxy.shape[1], detections.count
        corners = self._corners[:, : n + m]  # of all in one array: fewer calls
        corners[:, :n] = xyxy
        corners[:, n:] = detections.xyxy[:m].T
        sides = corners[2:] - corners[:2]
        np.maximum(sides, _TINY_PX, out=sides)
        area = sides[0] * sides[1]
        buffer = self._buffer[: 4 * n * m].reshape(4, n, m)
        size, other = buffer[:2], buffer[2:]  # width and height at once
        tracks, seen = corners[:, :n, None], corners[:, None, n:]
        np.minimum(tracks[2:], seen[2:], out=size)
        np.maximum(tracks[:2], seen[:2], out=other)
        size -= other
        np.maximum(size, _ZERO_PX, out=size)
        inter, union = buffer[2], buffer[3]
        np.multiply(buffer[0], buffer[1], out=inter)
        np.add(area[:n, None], area[n:], out=union)
        union -= inter
        inter /= union
        if self._class_aware:
            inter *= class_ids[:, None] == detections.class_ids[:m]
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
    near[change > SIZE_CHANGE] = 0
    return near
