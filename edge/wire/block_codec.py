"""The blocks behind a DETECTIONS record, to numbers and back; what a record does not know is told as unknown."""

from edge.wire import layout
from edge.wire.messages import DetectionRecord

__all__ = ["add_blocks", "blocks_of", "numbers_of"]

_NOW_PX, _ANGLE, _RANGE, _BASE = (layout.SCALES[name] for name in ("now_x1", "azimuth", "range", "base_x"))
_MOST = -layout.NO_ANGLE - 1
_NO_VELOCITY, _NO_ANGLES = (layout.NO_SPEED,) * 2, (layout.NO_ANGLE,) * 2
_NO_PREDICTION = (0, 0, 0, 0, layout.NO_SIGMA, 0)
_NO_PLACE = (layout.NO_PLACE, 0, 0, layout.NO_SIGMA)


def blocks_of(record: DetectionRecord) -> int:
    """Return the bits of `blocks` that this record needs."""
    return (
        (record.velocity_px_s is not None)
        | (record.bearing_rad is not None or record.range_m is not None) << 1
        | (record.predicted_box is not None) << 2
        | (record.position_m is not None) << 3
    )


def add_blocks(record: DetectionRecord, numbers: tuple, blocks: int) -> None:
    """Give a record what stands behind it; what is not known stays None."""
    if blocks & 1:
        right, down = numbers[:2]
        numbers = numbers[2:]
        if right != layout.NO_SPEED:
            record.velocity_px_s = (float(right), float(down))
    if blocks & 2:
        azimuth, elevation, sigma, distance, distance_sigma = numbers[:5]
        numbers = numbers[5:]
        if azimuth != layout.NO_ANGLE:
            record.bearing_rad = (azimuth / _ANGLE, elevation / _ANGLE)
            record.bearing_sigma_rad = None if sigma == layout.NO_SIGMA else sigma / _ANGLE
        if distance != layout.NO_RANGE:
            record.range_m = distance / _RANGE
            record.range_sigma_m = None if distance_sigma == layout.NO_SIGMA else distance_sigma / _RANGE
    if blocks & 4:
        x1, y1, x2, y2, spread, unseen_ms = numbers[:6]
        numbers = numbers[6:]
        if spread != layout.NO_SIGMA:
            record.predicted_box = (x1 / _NOW_PX, y1 / _NOW_PX, x2 / _NOW_PX, y2 / _NOW_PX)
            record.predicted_sigma_px = spread / _NOW_PX
            record.unseen_ms = float(unseen_ms) or None
    if blocks & 8 and numbers[0] != layout.NO_PLACE:
        x, y, z, spread = numbers
        record.position_m = (x / _BASE, y / _BASE, z / _BASE)
        record.position_sigma_m = None if spread == layout.NO_SIGMA else spread / _BASE


def numbers_of(record: DetectionRecord, blocks: int) -> list[int]:
    """Return what stands behind a record; a value it does not have is told as unknown, never as 0.

    Raises: ValueError or OverflowError for NaN and infinity.
    """
    found: list[int] = []
    if blocks & 1:
        if record.velocity_px_s is None:
            found += _NO_VELOCITY
        else:
            right, down = record.velocity_px_s
            found += (_signed(right), _signed(down))
    if blocks & 2:
        angles = record.bearing_rad
        found += _NO_ANGLES if angles is None else (_signed(angles[0] * _ANGLE), _signed(angles[1] * _ANGLE))
        found += (
            _unsigned(record.bearing_sigma_rad, _ANGLE),
            _unsigned(record.range_m, _RANGE),
            _unsigned(record.range_sigma_m, _RANGE),
        )
    if blocks & 4:
        if record.predicted_box is None:
            found += _NO_PREDICTION
        else:
            x1, y1, x2, y2 = record.predicted_box
            found += (_signed(x1 * _NOW_PX), _signed(y1 * _NOW_PX), _signed(x2 * _NOW_PX), _signed(y2 * _NOW_PX))
            found += (_unsigned(record.predicted_sigma_px or 0.0, _NOW_PX), _unsigned(record.unseen_ms or 0.0, 1))
    if blocks & 8:
        if record.position_m is None:
            found += _NO_PLACE
        else:
            x, y, z = record.position_m
            found += (_signed(x * _BASE), _signed(y * _BASE), _signed(z * _BASE))
            found.append(_unsigned(record.position_sigma_m, _BASE))
    return found


def _signed(value: float) -> int:
    """Rounded, and kept off the number that stands for unknown."""
    number = round(value)
    if -_MOST <= number <= _MOST:
        return number
    return _MOST if number > 0 else -_MOST


def _unsigned(value: float | None, scale: float) -> int:
    if value is None:
        return layout.NO_SIGMA
    number = round(value * scale)
    if 0 <= number < layout.NO_SIGMA:
        return number
    return layout.NO_SIGMA - 1 if number > 0 else 0
