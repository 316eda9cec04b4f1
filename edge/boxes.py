"""Box arithmetic. Boxes are float32 arrays whose last axis is a corner or centre form; x right, y down, in px."""

import numpy as np

__all__ = ["area", "iou_one_to_many", "xyxy_from_cxcywh"]


def xyxy_from_cxcywh(cxcywh: np.ndarray) -> np.ndarray:
    """Turn (N, 4) float32 centre boxes into xyxy corners in place, and return the same array."""
    first, second = cxcywh[:, :2], cxcywh[:, 2:]
    half = second * np.float32(0.5)
    np.add(first, half, out=second)
    first -= half
    return cxcywh


def area(xyxy: np.ndarray) -> np.ndarray:
    """Return (N,) float32 areas in px^2 of (N, 4) float32 xyxy boxes; inverted boxes have area 0."""
    wh = np.maximum(xyxy[:, 2:] - xyxy[:, :2], 0)
    return wh[:, 0] * wh[:, 1]


def iou_one_to_many(box: np.ndarray, others: np.ndarray, others_area: np.ndarray | None = None) -> np.ndarray:
    """Return (N,) float32 intersection over union of one (4,) float32 xyxy box with (N, 4); 0 where both are empty.

    others_area (N,) float32, as `area` gives it, spares computing it again for each box.
    """
    x1, y1, x2, y2 = box.tolist()
    wh = np.minimum(box[2:], others[:, 2:])
    wh -= np.maximum(box[:2], others[:, :2])
    np.maximum(wh, 0, out=wh)
    inter = wh[:, 0] * wh[:, 1]
    union = (area(others) if others_area is None else others_area) + np.float32(max(x2 - x1, 0) * max(y2 - y1, 0))
    union -= inter
    np.maximum(union, np.finfo(np.float32).tiny, out=union)  # only where both are empty, and then inter is 0
    inter /= union
    return inter
