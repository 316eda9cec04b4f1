"""A message drawn on its frame, for people: boxes with label, track, bearing and range, where they are expected now."""

import math
from collections.abc import Sequence

import cv2
import numpy as np

from edge.geometry_config import RegionSection
from edge.wire.messages import ClassificationMessage, DetectionRecord, DetectionsMessage

__all__ = ["annotate", "class_color"]

_REGION_COLORS = {  # BGR
    "include": (90, 200, 90),
    "exclude": (80, 80, 220),
    "zone": (220, 180, 60),
    "line": (60, 200, 240),
}
_DASH_PX = 6
_PLATE = (24, 20, 16)  # BGR


def class_color(class_id: int) -> tuple[int, int, int]:
    """Return a BGR colour that stays the same for a class and differs between neighbouring ones."""
    hue = (class_id * 67 + 100) % 180  # 67 steps apart: neighbours are far away on the hue circle of 180
    pixel = np.array([[[hue, 200, 255]]], np.uint8)
    blue, green, red = cv2.cvtColor(pixel, cv2.COLOR_HSV2BGR)[0, 0].tolist()
    return blue, green, red


def annotate(
    image: np.ndarray,
    message: DetectionsMessage | ClassificationMessage,
    caption: bool = True,
    regions: Sequence[RegionSection] = (),
) -> None:
    """Draw a message's detections or classes on `image` (H, W, 3) uint8 BGR, in place.

    A track has its number, a dashed box where it is expected when the message was sent, with an arrow to there and a
    circle of two sigma; one that was not seen on this frame has a thin box. caption: model and age, too. regions: of
    the configuration, drawn under the boxes.
    """
    unit = max(image.shape[0], 240) / 480  # text and lines grow with the picture
    lines = []
    for region in regions:
        _draw_region(image, region, unit)
    if isinstance(message, DetectionsMessage):
        for record in message.detections:
            _draw_detection(image, record, unit)
    else:
        lines = [f"{record.label} {record.score:.2f}" for record in message.classes]
    if caption:
        lines.append(f"{message.model}  frame {message.seq}  age {message.age_ms:.1f} ms")
    for i, line in enumerate(lines):
        _text(image, line, (round(8 * unit), round((22 + 22 * i) * unit)), (255, 255, 255), unit)


def _draw_region(image: np.ndarray, region: RegionSection, unit: float) -> None:
    height, width = image.shape[:2]
    size = (width, height) if region.unit == "fraction" else (1, 1)
    points = np.round(np.array(region.points) * size).astype(np.int32)
    color, thickness = _REGION_COLORS[region.kind], max(1, round(1.5 * unit))
    if region.kind == "line":
        # the end says which way the line looks: its right is on the right of the arrow
        cv2.arrowedLine(image, points[0].tolist(), points[1].tolist(), color, thickness, cv2.LINE_AA, tipLength=0.05)
    else:
        x, y, w, h = cv2.boundingRect(points)
        x1, y1, x2, y2 = max(x, 0), max(y, 0), min(x + w, width), min(y + h, height)
        part = image[y1:y2, x1:x2]
        if part.size:
            tinted = part.copy()
            cv2.fillPoly(tinted, [points - (x1, y1)], color, cv2.LINE_AA)
            cv2.addWeighted(tinted, 0.15, part, 0.85, 0, dst=part)
        cv2.polylines(image, [points], True, color, thickness, cv2.LINE_AA)
    at = points[points[:, 1].argmin()].tolist()
    _text(image, region.name, (at[0] + round(4 * unit), at[1] + round(16 * unit)), color, unit)


def _draw_detection(image: np.ndarray, record: DetectionRecord, unit: float) -> None:
    color = class_color(record.class_id)
    if record.box:
        x1, y1, x2, y2 = (round(v) for v in record.box)
        thickness = max(1, round((1 if record.unseen_ms else 2) * unit))
        cv2.rectangle(image, (x1, y1), (x2, y2), color, thickness, cv2.LINE_AA)
        _draw_expected(image, record, color, unit)
        name = f"{record.label} {record.score:.2f}"
        if record.track_id is not None:
            name += f" #{record.track_id}"
        if record.unseen_ms:
            name += f" unseen {record.unseen_ms:.0f} ms"
        above = y1 - round(6 * unit)
        _text(image, name, (x1, above if above > 16 * unit else y1 + round(18 * unit)), color, unit)
        below = y2 + round(16 * unit)
        where = _where(record)
        _text(image, where, (x1, below if below < image.shape[0] else y2 - round(6 * unit)), color, unit)
    for x, y in record.keypoints or []:
        cv2.circle(image, (round(x), round(y)), max(2, round(3 * unit)), color, -1, cv2.LINE_AA)


def _draw_expected(image: np.ndarray, record: DetectionRecord, color: tuple[int, int, int], unit: float) -> None:
    """A dashed box where it is expected, and how sure that is."""
    if record.predicted_box is None or record.box is None:
        return
    x1, y1, x2, y2 = (round(v) for v in record.predicted_box)
    thin = max(1, round(unit))
    for start, end in (((x1, y1), (x2, y1)), ((x2, y1), (x2, y2)), ((x2, y2), (x1, y2)), ((x1, y2), (x1, y1))):
        _dashed(image, start, end, color, thin, unit)
    middle = round((x1 + x2) / 2), round((y1 + y2) / 2)
    was = round((record.box[0] + record.box[2]) / 2), round((record.box[1] + record.box[3]) / 2)
    if math.dist(was, middle) > 4 * unit:
        cv2.arrowedLine(image, was, middle, color, thin, cv2.LINE_AA, tipLength=0.25)
    radius = round(2 * (record.predicted_sigma_px or 0.0))
    if 0 < radius < max(image.shape):
        cv2.circle(image, middle, radius, color, thin, cv2.LINE_AA)


def _dashed(
    image: np.ndarray,
    start: tuple[int, int],
    end: tuple[int, int],
    color: tuple[int, int, int],
    thickness: int,
    unit: float,
) -> None:
    whole, a, b = cv2.clipLine((0, 0, image.shape[1], image.shape[0]), start, end)
    if not whole:
        return
    length = math.dist(a, b)
    step = 2 * _DASH_PX * unit
    for i in range(int(length / step) + 1):
        parts = [min(at / max(length, 1), 1.0) for at in (i * step, i * step + step / 2)]
        p, q = ((round(a[0] + (b[0] - a[0]) * t), round(a[1] + (b[1] - a[1]) * t)) for t in parts)
        cv2.line(image, p, q, color, thickness, cv2.LINE_AA)


def _where(record: DetectionRecord) -> str:
    """Bearing and range in words; the font has ASCII only."""
    parts = []
    if record.bearing_rad is not None:
        degrees = math.degrees(record.bearing_rad[0])
        parts.append(f"{abs(degrees):.0f} deg {'right' if degrees >= 0 else 'left'}")
    if record.range_m is not None:
        sigma = "" if record.range_sigma_m is None else f" +-{record.range_sigma_m:.1f}"
        parts.append(f"{record.range_m:.1f}{sigma} m")
    return "  ".join(parts)


def _text(image: np.ndarray, text: str, at: tuple[int, int], color: tuple[int, int, int], unit: float) -> None:
    """Text on a dark plate, readable on any background; it is moved to the left where it would reach over the edge."""
    if not text:
        return
    font, size, thickness, rim = cv2.FONT_HERSHEY_SIMPLEX, 0.5 * unit, max(1, round(unit)), max(1, round(3 * unit))
    (width, height), below = cv2.getTextSize(text, font, size, thickness)
    x, y = max(0, min(at[0], image.shape[1] - width - 2 * rim)), at[1]
    cv2.rectangle(image, (x, y - height - rim), (x + width + 2 * rim, y + below), _PLATE, -1)
    cv2.putText(image, text, (x + rim, y), font, size, color, thickness, cv2.LINE_AA)
