"""Rigid transforms, named target_from_source: points in the target frame = target_from_source @ points in the source.

Camera (optical) frame: x right, y down, z forward. Base frame: x forward, y left, z up (REP 103).
"""

import math

import numpy as np

from edge.geometry.camera import MountSection

__all__ = ["base_from_camera", "rotation_from_angles"]

_BODY_FROM_OPTICAL = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])


def rotation_from_angles(pan_left_rad: float, tilt_down_rad: float, roll_right_rad: float) -> np.ndarray:
    """Return base_from_body, (3, 3) float64: rolled first, then tilted, then panned (URDF's rpy, fixed axes)."""
    (cp, sp), (ct, st), (cr, sr) = ((math.cos(a), math.sin(a)) for a in (pan_left_rad, tilt_down_rad, roll_right_rad))
    pan = np.array([[cp, -sp, 0.0], [sp, cp, 0.0], [0.0, 0.0, 1.0]])
    tilt = np.array([[ct, 0.0, st], [0.0, 1.0, 0.0], [-st, 0.0, ct]])
    roll = np.array([[1.0, 0.0, 0.0], [0.0, cr, -sr], [0.0, sr, cr]])
    return pan @ tilt @ roll


def base_from_camera(mount: MountSection | None) -> np.ndarray:
    """Return base_from_camera, (4, 4) float64; without a mount the camera is level, ahead, at the base's origin."""
    found = np.eye(4)
    mount = mount or MountSection()
    found[:3, :3] = rotation_from_angles(*mount.pan_tilt_roll_rad) @ _BODY_FROM_OPTICAL
    found[:3, 3] = mount.origin_m
    return found
