"""Results as MAVLink messages: which detection is the target, and what of it each message says.

Field meanings: MAVLink's common message set (https://mavlink.io/en/messages/common.html). There is no message for a
list of detections; these three are what ArduPilot, PX4 and ground stations act on.
"""

import math
from collections.abc import Sequence

from pymavlink.dialects.v20 import common

from edge.wire.messages import DetectionRecord, DetectionsMessage

__all__ = ["CameraView", "choose_target", "landing_target", "obstacle_distance", "tracking_status"]

_SECTORS = 72
_UNKNOWN_CM = 0xFFFF


class CameraView:
    """A forward or downward pinhole camera of which only the horizontal field of view is known, in rad.

    Angles of a box come from the result itself where it has them, else from the field of view; without either there
    are none.
    """

    def __init__(self, horizontal_fov_rad: float | None) -> None:
        self.horizontal_fov_rad = horizontal_fov_rad

    def angles_rad(self, x_px: float, y_px: float, frame_wh: tuple[int, int]) -> tuple[float, float] | None:
        """Return the angles (right positive, down positive) of a point from the middle of the frame."""
        width, height = frame_wh
        if self.horizontal_fov_rad is None or not width:
            return None
        focal_px = width / 2 / math.tan(self.horizontal_fov_rad / 2)
        return math.atan((x_px - width / 2) / focal_px), math.atan((y_px - height / 2) / focal_px)

    def center_angles_rad(self, record: DetectionRecord, frame_wh: tuple[int, int]) -> tuple[float, float] | None:
        """Return the angles (right positive, down positive) of a detection."""
        if record.bearing_rad is not None:
            return record.bearing_rad[0], -record.bearing_rad[1]
        x1, y1, x2, y2 = record.box or (0, 0, 0, 0)
        return self.angles_rad((x1 + x2) / 2, (y1 + y2) / 2, frame_wh)


def choose_target(
    message: DetectionsMessage, target: str, least_score: float, last_track_id: int | None
) -> DetectionRecord | None:
    """Return the detection to act on, or None.

    target: a label or class number, "" for any. The track followed before is kept while it is there; else the highest
    score wins, at or above `least_score`.
    """
    found = [
        record
        for record in message.detections
        if record.score >= least_score and target in ("", record.label, str(record.class_id))
    ]
    followed = [record for record in found if last_track_id is not None and record.track_id == last_track_id]
    return max(followed or found, key=lambda record: record.score, default=None)


def tracking_status(
    link: common.MAVLink, record: DetectionRecord | None, frame_wh: tuple[int, int]
) -> common.MAVLink_message:
    """Return CAMERA_TRACKING_IMAGE_STATUS: the target's box, 0 to 1 of the frame; idle when there is none."""
    nan = math.nan
    if record is None or record.box is None or not all(frame_wh):
        idle, none = common.CAMERA_TRACKING_STATUS_FLAGS_IDLE, common.CAMERA_TRACKING_MODE_NONE
        return link.camera_tracking_image_status_encode(idle, none, 0, nan, nan, nan, nan, nan, nan, nan)
    width, height = frame_wh
    x1, y1, x2, y2 = record.box
    return link.camera_tracking_image_status_encode(
        common.CAMERA_TRACKING_STATUS_FLAGS_ACTIVE,
        common.CAMERA_TRACKING_MODE_RECTANGLE,
        common.CAMERA_TRACKING_TARGET_DATA_IN_STATUS,
        nan,
        nan,
        nan,
        x1 / width,
        y1 / height,
        x2 / width,
        y2 / height,
    )


def landing_target(
    link: common.MAVLink, message: DetectionsMessage, record: DetectionRecord, view: CameraView
) -> common.MAVLink_message | None:
    """Return LANDING_TARGET of a target seen by a camera that looks down, None where its angles are not known.

    The frame is BODY_FRD, the one ArduPilot takes; distance is 0 where the range is not known, and position_valid 0, so
    that the autopilot takes the angles and its own range finder.
    """
    angles = view.center_angles_rad(record, message.frame)
    if angles is None or record.box is None:
        return None
    x1, y1, x2, y2 = record.box
    first, last = view.angles_rad(x1, y1, message.frame), view.angles_rad(x2, y2, message.frame)
    size = (last[0] - first[0], last[1] - first[1]) if first and last else (0.0, 0.0)
    return link.landing_target_encode(
        message.t_capture_ns // 1000,
        (record.track_id or 0) & 0xFF,
        common.MAV_FRAME_BODY_FRD,
        angles[0],
        angles[1],
        record.range_m or 0.0,
        size[0],
        size[1],
        type=common.LANDING_TARGET_TYPE_VISION_OTHER,
        position_valid=0,
    )


def obstacle_distance(
    link: common.MAVLink,
    message: DetectionsMessage,
    view: CameraView,
    records: Sequence[DetectionRecord],
    limits_m: tuple[float, float],
) -> common.MAVLink_message | None:
    """Return OBSTACLE_DISTANCE in 72 sectors over the camera's field of view, None where no detection has a range.

    A sector in which nothing was detected is unknown, not free: a detector knows only its classes.
    """
    if view.horizontal_fov_rad is None or not message.frame[0]:
        return None
    width_rad = view.horizontal_fov_rad / _SECTORS
    nearest = [_UNKNOWN_CM] * _SECTORS
    for record in records:
        if record.range_m is None or record.box is None or not limits_m[0] <= record.range_m <= limits_m[1]:
            continue
        edges = [view.angles_rad(x, 0, message.frame) for x in (record.box[0], record.box[2])]
        first, last = (edge[0] / width_rad + _SECTORS / 2 for edge in edges if edge)
        for sector in range(max(0, math.floor(first)), min(_SECTORS - 1, math.floor(last)) + 1):
            nearest[sector] = min(nearest[sector], round(record.range_m * 100))
    if all(distance == _UNKNOWN_CM for distance in nearest):
        return None
    return link.obstacle_distance_encode(
        message.t_capture_ns // 1000,
        common.MAV_DISTANCE_SENSOR_UNKNOWN,
        nearest,
        0,
        round(limits_m[0] * 100),
        round(limits_m[1] * 100),
        increment_f=math.degrees(width_rad),
        angle_offset=math.degrees(-view.horizontal_fov_rad / 2 + width_rad / 2),
        frame=common.MAV_FRAME_BODY_FRD,
    )
