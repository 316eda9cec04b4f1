"""A message drawn on its frame, for people: boxes with label and score, key points, and the age of the result."""

import cv2
import numpy as np

from edge.wire.messages import ClassificationMessage, DetectionRecord, DetectionsMessage

__all__ = ["annotate", "class_color"]


def class_color(class_id: int) -> tuple[int, int, int]:
    """Return a BGR colour that stays the same for a class and differs between neighbouring ones."""
    hue = (class_id * 67 + 100) % 180  # 67 steps apart: neighbours are far away on the hue circle of 180
    pixel = np.array([[[hue, 200, 255]]], np.uint8)
    blue, green, red = cv2.cvtColor(pixel, cv2.COLOR_HSV2BGR)[0, 0].tolist()
    return blue, green, red


def annotate(image: np.ndarray, message: DetectionsMessage | ClassificationMessage, caption: bool = True) -> None:
    """Draw a message's detections or classes on `image` (H, W, 3) uint8 BGR, in place; caption: model and age, too."""
    unit = max(image.shape[0], 240) / 480  # text and lines grow with the picture
    lines = []
    if isinstance(message, DetectionsMessage):
        for record in message.detections:
            _draw_detection(image, record, unit)
    else:
        lines = [f"{record.label} {record.score:.2f}" for record in message.classes]
    if caption:
        lines.append(f"{message.model}  frame {message.seq}  age {message.age_ms:.1f} ms")
    for i, line in enumerate(lines):
        _text(image, line, (round(8 * unit), round((22 + 22 * i) * unit)), (255, 255, 255), unit)


def _draw_detection(image: np.ndarray, record: DetectionRecord, unit: float) -> None:
    color = class_color(record.class_id)
    thickness = max(1, round(2 * unit))
    if record.box:
        x1, y1, x2, y2 = (round(v) for v in record.box)
        cv2.rectangle(image, (x1, y1), (x2, y2), color, thickness, cv2.LINE_AA)
        name = f"{record.label} {record.score:.2f}"
        if record.track_id is not None:
            name += f" #{record.track_id}"
        above = y1 - round(6 * unit)
        _text(image, name, (x1, above if above > 16 * unit else y1 + round(18 * unit)), color, unit)
    for x, y in record.keypoints or []:
        cv2.circle(image, (round(x), round(y)), max(2, round(3 * unit)), color, -1, cv2.LINE_AA)


def _text(image: np.ndarray, text: str, at: tuple[int, int], color: tuple[int, int, int], unit: float) -> None:
    """Text with a dark rim, readable on any background."""
    font, size = cv2.FONT_HERSHEY_SIMPLEX, 0.55 * unit
    cv2.putText(image, text, at, font, size, (0, 0, 0), max(2, round(3 * unit)), cv2.LINE_AA)
    cv2.putText(image, text, at, font, size, color, max(1, round(unit)), cv2.LINE_AA)
