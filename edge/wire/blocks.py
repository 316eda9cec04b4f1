"""What a DETECTIONS record may have beside its box: part of the table in `edge.wire.layout`."""

from edge.wire.fields import Block, Field

__all__ = ["BLOCKS", "NO_ANGLE", "NO_PLACE", "NO_RANGE", "NO_SIGMA", "NO_SPEED"]

NO_RANGE = 0xFFFF
NO_ANGLE = -0x8000
NO_SPEED = -0x8000
NO_SIGMA = 0xFFFF
NO_PLACE = -0x8000

BLOCKS = (
    Block(
        "velocity",
        (
            Field("velocity_x", "i16", f"of the track, right is positive; {NO_SPEED} where it is not known", "px/s"),
            Field("velocity_y", "i16", "down is positive; means nothing where velocity_x is not known", "px/s"),
        ),
    ),
    Block(
        "position",
        (
            Field("azimuth", "i16", f"from the optical axis, right is positive; {NO_ANGLE}: not known", "rad", 1e4),
            Field("elevation", "i16", "up is positive; means nothing where azimuth is not known", "rad", 1e4),
            Field("angle_sigma", "u16", f"one standard deviation of either; {NO_SIGMA}: not known", "rad", 1e4),
            Field("range", "u16", f"distance along the ground; {NO_RANGE} where it is not known", "m", 100),
            Field("range_sigma", "u16", f"one standard deviation; {NO_SIGMA} where it is not known", "m", 100),
        ),
    ),
    Block(
        "prediction",
        (
            Field("now_x1", "i16", "left edge of where the object is expected when the message is sent", "px", 4),
            Field("now_y1", "i16", "upper edge", "px", 4),
            Field("now_x2", "i16", "right edge", "px", 4),
            Field("now_y2", "i16", "lower edge", "px", 4),
            Field("now_sigma", "u16", f"one standard deviation of its middle; {NO_SIGMA}: not expected", "px", 4),
            Field("unseen_ms", "u16", "since it was seen last; 0: on this very frame", "ms"),
        ),
    ),
    Block(
        "base",
        (
            Field("base_x", "i16", f"ahead of the origin of HELLO's base_frame_id; {NO_PLACE}: not known", "m", 50),
            Field("base_y", "i16", "to the left of it", "m", 50),
            Field("base_z", "i16", "above it", "m", 50),
            Field("base_sigma", "u16", f"one standard deviation, the largest; {NO_SIGMA}: not known", "m", 50),
        ),
    ),
)
"""They stand behind the record, by bit of `blocks`, in this order."""
