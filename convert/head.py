"""A detector's fused output: which of its columns are boxes, objectness and scores, by decoder family."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["RAW_BOXES", "Head", "head_columns"]

RAW_BOXES = "raw boxes"  # the name of an inner tensor that the original never shows


@dataclass(frozen=True, slots=True)
class Head:
    """A fused output: its name, the axis of its channels and the columns (first, last exclusive) of each role."""

    output: str
    axis: int
    roles: Mapping[str, tuple[int, int]]


def head_columns(family: str, params: Mapping[str, Any], class_count: int) -> dict[str, tuple[int, int]]:
    """Return which columns of a family's fused output are which role, {} where the decoder reads it whole only."""
    box_first = {"boxes": (0, 4)}
    if family == "yolox" or (family == "yolo" and params.get("objectness")):
        found = {**box_first, "objectness": (4, 5), "scores": (5, 5 + class_count)}
    elif family == "yolo" and not params.get("end_to_end"):
        found = {**box_first, "scores": (4, 4 + class_count)}
    elif family == "detr":
        return {**box_first, "logits": (4, 4 + class_count)}
    elif family == "fastestdet":
        return {"objectness": (0, 1), "boxes": (1, 5), "scores": (5, 5 + class_count)}
    elif family == "nanodet":
        bins = 4 * (int(params.get("reg_max", 7)) + 1)
        return {"scores": (0, class_count), "boxes": (class_count, class_count + bins)}
    else:
        return {}
    if points := int(params.get("keypoints", 0)) * int(params.get("keypoint_dims", 3)):
        end = found["scores"][1]
        found["keypoints"] = (end, end + points)
    return found
