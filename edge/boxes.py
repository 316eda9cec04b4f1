"""Box arithmetic. Boxes are float32 arrays whose last axis is a corner or centre form; x right, y down, in px."""

import numpy as np

__all__ = ["area", "clip_xyxy", "cxcywh_from_xyxy", "iou_one_to_many", "xyxy_from_cxcywh"]


def xyxy_from_cxcywh(cxcywh: np.ndarray) -> np.ndarray:
    """Return (N, 4) float32 xyxy corners of (N, 4) float32 centre boxes; a new array."""
    half = cxcywh[:, 2:] * np.float32(0.5)
    return np.concatenate([cxcywh[:, :2] - half, cxcywh[:, :2] + half], axis=1)


def cxcywh_from_xyxy(xyxy: np.ndarray) -> np.ndarray:
    """Return (N, 4) float32 centre boxes of (N, 4) float32 xyxy corners; a new array."""
    return np.concatenate([(xyxy[:, :2] + xyxy[:, 2:]) * np.float32(0.5), xyxy[:, 2:] - xyxy[:, :2]], axis=1)


def area(xyxy: np.ndarray) -> np.ndarray:
    """Return (N,) float32 areas in px^2 of (N, 4) float32 xyxy boxes; inverted boxes have area 0."""
    wh = np.maximum(xyxy[:, 2:] - xyxy[:, :2], 0)
    return wh[:, 0] * wh[:, 1]


def iou_one_to_many(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return (N,) float32 intersection over union of one (4,) float32 xyxy box with (N, 4); 0 where both are empty."""
    wh = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    np.maximum(wh, 0, out=wh)
    inter = wh[:, 0] * wh[:, 1]
    union = area(box[None]) + area(others) - inter
    return np.divide(inter, union, out=np.zeros_like(inter), where=union > 0)


def clip_xyxy(xyxy: np.ndarray, size_wh: tuple[int, int]) -> None:
    """Clip (N, 4) float32 xyxy boxes in place to [0, width] x [0, height] px."""
    np.clip(xyxy[:, 0::2], 0, size_wh[0], out=xyxy[:, 0::2])
    np.clip(xyxy[:, 1::2], 0, size_wh[1], out=xyxy[:, 1::2])
