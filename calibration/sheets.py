"""A contact sheet: many pictures, small, with their names, as one picture."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from calibration.frames import read_picture_file
from edge.errors import ConfigError
from edge.files import write_atomically

__all__ = ["contact_sheet"]

_TILE_WH = (200, 150)  # px
_CAPTION = 16
_GAP = 6
_COLUMNS = 8
_MOST = 400


def contact_sheet(pictures: Sequence[tuple[str, Path]], path: Path) -> None:
    """Write the first 400 pictures (name, file) as one PNG or JPEG, replacing the file at once.

    Raises: ConfigError for another suffix, or when the folder cannot be written.
    """
    if path.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise ConfigError(f"{path} is neither .png nor .jpg", "name the sheet FILE.png")
    shown = pictures[:_MOST]
    columns = min(_COLUMNS, len(shown))
    rows = -(-len(shown) // columns)
    width, height = _TILE_WH[0] + _GAP, _TILE_WH[1] + _CAPTION + _GAP
    sheet = np.full((rows * height + _GAP, columns * width + _GAP, 3), 255, np.uint8)
    for i, (name, file) in enumerate(shown):
        left, top = _GAP + i % columns * width, _GAP + i // columns * height
        _put(sheet, left, top, read_picture_file(file), name)
    write_atomically(path, cv2.imencode(path.suffix, sheet)[1].tobytes())


def _put(sheet: np.ndarray, left: int, top: int, picture: np.ndarray, name: str) -> None:
    width, height = _TILE_WH
    share = min(width / picture.shape[1], height / picture.shape[0])
    size = max(1, round(picture.shape[1] * share)), max(1, round(picture.shape[0] * share))
    small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    x, y = left + (width - size[0]) // 2, top + (height - size[1]) // 2
    sheet[y : y + size[1], x : x + size[0]] = small
    text = name if len(name) <= 28 else f"..{name[-26:]}"  # the end tells frames apart
    place = (left, top + height + _CAPTION - 4)
    cv2.putText(sheet, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.38, (40, 40, 40), 1, cv2.LINE_AA)
