"""The camera file: what a lens does, how sure that is, and where the camera is mounted. TOML, for people to read."""

import datetime
import math
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import numpy as np

from edge.files import write_atomically
from edge.structs import as_struct, read_toml
from edge.toml_text import toml_text

__all__ = [
    "COEFFICIENT_COUNTS",
    "Camera",
    "DistortionSection",
    "IntrinsicsSection",
    "MountSection",
    "SigmaSection",
    "read_camera",
    "write_camera",
]

COEFFICIENT_COUNTS = {"opencv": (4, 5, 8), "fisheye": (4,)}
"""How many distortion coefficients each model may have, in OpenCV's order."""

Positive = Annotated[float, msgspec.Meta(gt=0)]
NotNegative = Annotated[float, msgspec.Meta(ge=0)]
Pixels = Annotated[int, msgspec.Meta(ge=16, le=65535)]
_ANGLES = ("pan_left", "tilt_down", "roll_right", "tilt_sigma")


class IntrinsicsSection(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """[intrinsics]: focal lengths and principal point in px; (0, 0) is the middle of the first pixel, as in OpenCV."""

    fx_px: Positive
    fy_px: Positive
    cx_px: float
    cy_px: float


class DistortionSection(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """[distortion]: opencv (k1, k2, p1, p2[, k3[, k4, k5, k6]]) or fisheye (k1, k2, k3, k4)."""

    model: Literal["opencv", "fisheye"] = "opencv"
    coefficients: list[float] = msgspec.field(default_factory=lambda: [0.0] * 4)

    def __post_init__(self) -> None:
        """Check that the model has that many coefficients.

        Raises: ValueError, which becomes a ConfigError.
        """
        counts = COEFFICIENT_COUNTS[self.model]
        if len(self.coefficients) not in counts:
            allowed = " or ".join(map(str, counts))
            raise ValueError(f"'coefficients' of {self.model} are {allowed}, not {len(self.coefficients)}")


class SigmaSection(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """[sigma]: one standard deviation of each intrinsic, and the covariance (order: fx, fy, cx, cy, coefficients)."""

    fx_px: NotNegative = 0.0
    fy_px: NotNegative = 0.0
    cx_px: NotNegative = 0.0
    cy_px: NotNegative = 0.0
    coefficients: list[NotNegative] = []
    covariance: list[list[float]] = []


class MountSection(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """[mount]: where the camera is on the robot. Base frame: x forward, y left, z up (REP 103).

    height_m: of the lens above the ground. position_m: of the lens in the base frame, by default (0, 0, height_m).
    pan_left, tilt_down and roll_right are yaw, pitch and roll of a URDF; each as _deg or as _rad. height_sigma_m and
    tilt_sigma: one standard deviation of what may be wrong with the two, on a robot that nods while it drives.
    """

    base_frame_id: str = "base_link"
    height_m: Positive | None = None
    height_sigma_m: NotNegative = 0.02
    position_m: tuple[float, float, float] | None = None
    pan_left_deg: float | None = None
    pan_left_rad: float | None = None
    tilt_down_deg: float | None = None
    tilt_down_rad: float | None = None
    roll_right_deg: float | None = None
    roll_right_rad: float | None = None
    tilt_sigma_deg: NotNegative | None = None
    tilt_sigma_rad: NotNegative | None = None

    def __post_init__(self) -> None:
        """Check that no angle is given twice.

        Raises: ValueError, which becomes a ConfigError.
        """
        for name in _ANGLES:
            if getattr(self, f"{name}_deg") is not None and getattr(self, f"{name}_rad") is not None:
                raise ValueError(f"both '{name}_deg' and '{name}_rad' are given")

    @property
    def pan_tilt_roll_rad(self) -> tuple[float, float, float]:
        """pan_left, tilt_down and roll_right in rad, 0 where not given."""
        pan, tilt, roll = (self._angle_rad(name, 0.0) for name in _ANGLES[:3])
        return pan, tilt, roll

    @property
    def sigma_of_tilt_rad(self) -> float:
        """One standard deviation of tilt_down in rad; half a degree where not given."""
        return self._angle_rad("tilt_sigma", math.radians(0.5))

    @property
    def origin_m(self) -> tuple[float, float, float]:
        """The lens in the base frame."""
        return self.position_m or (0.0, 0.0, self.height_m or 0.0)

    def _angle_rad(self, name: str, default: float) -> float:
        degrees, radians = getattr(self, f"{name}_deg"), getattr(self, f"{name}_rad")
        return radians if radians is not None else default if degrees is None else math.radians(degrees)


class Camera(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """The whole file. width_px and height_px: of the pictures it was calibrated with. rms_px: reprojection error.

    frame_id names the camera's optical frame (x right, y down, z forward) where there are several.
    """

    frame_id: str = "camera"
    width_px: Pixels
    height_px: Pixels
    calibrated: datetime.date | None = None
    rms_px: NotNegative | None = None
    views: Annotated[int, msgspec.Meta(ge=1)] | None = None
    intrinsics: IntrinsicsSection
    distortion: DistortionSection = msgspec.field(default_factory=DistortionSection)
    sigma: SigmaSection = msgspec.field(default_factory=SigmaSection)
    mount: MountSection | None = None

    def __post_init__(self) -> None:
        """Check what the sections say together.

        Raises: ValueError, which becomes a ConfigError.
        """
        _check_finite(self, "")
        for axis, size in (("x", self.width_px), ("y", self.height_px)):
            if not 0 < getattr(self.intrinsics, f"c{axis}_px") < size:
                raise ValueError(f"'intrinsics.c{axis}_px' lies outside the picture of {size} px")
        count = len(self.distortion.coefficients)
        if self.sigma.coefficients and len(self.sigma.coefficients) != count:
            raise ValueError(f"'sigma.coefficients' are not {count}, as 'distortion.coefficients' are")
        _check_covariance(self.sigma.covariance, 4 + count)

    @property
    def matrix(self) -> np.ndarray:
        """The camera matrix, (3, 3) float64."""
        i = self.intrinsics
        return np.array([[i.fx_px, 0.0, i.cx_px], [0.0, i.fy_px, i.cy_px], [0.0, 0.0, 1.0]])

    @property
    def parameters(self) -> np.ndarray:
        """All intrinsics, (4 + coefficients,) float64: fx, fy, cx, cy in px, then the coefficients."""
        i = self.intrinsics
        return np.array([i.fx_px, i.fy_px, i.cx_px, i.cy_px, *self.distortion.coefficients])

    @property
    def covariance(self) -> np.ndarray:
        """Of `parameters`, (P, P) float64; from the sigmas alone where the file has no covariance."""
        if self.sigma.covariance:
            return np.array(self.sigma.covariance)
        s = self.sigma
        rest = s.coefficients or [0.0] * len(self.distortion.coefficients)
        return np.diag(np.square([s.fx_px, s.fy_px, s.cx_px, s.cy_px, *rest]))


def read_camera(path: Path) -> Camera:
    """Return the camera of a TOML file.

    Raises: ConfigError naming the file and the key.
    """
    return as_struct(read_toml(path), Camera, str(path))


def write_camera(path: Path, camera: Camera) -> None:
    """Write a camera file, so that it is there whole or as it was.

    Raises: ConfigError when it cannot be written.
    """
    values = msgspec.to_builtins(camera, builtin_types=(datetime.date,))
    write_atomically(path, toml_text(_without_none(values)))


def _without_none(values: dict[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in values.items() if value is not None and value != []}
    return {key: _without_none(value) if isinstance(value, dict) else value for key, value in kept.items()}


def _check_finite(values: Any, path: str) -> None:
    if isinstance(values, msgspec.Struct):
        for key, value in msgspec.structs.asdict(values).items():
            _check_finite(value, f"{path}.{key}" if path else key)
    elif isinstance(values, list | tuple):
        for value in values:
            _check_finite(value, path)
    elif isinstance(values, float) and not math.isfinite(values):
        raise ValueError(f"'{path}' is not a number")


def _check_covariance(rows: list[list[float]], size: int) -> None:
    if not rows:
        return
    if len(rows) != size or any(len(row) != size for row in rows):
        raise ValueError(f"'sigma.covariance' is not {size} x {size}: fx, fy, cx, cy and the coefficients")
    matrix = np.array(rows)
    scale = np.sqrt(np.abs(np.diag(matrix)))
    scale[scale == 0] = 1.0
    matrix = matrix / np.outer(scale, scale)
    if not np.allclose(matrix, matrix.T, atol=1e-6) or np.linalg.eigvalsh(matrix).min() < -1e-6:
        raise ValueError("'sigma.covariance' is not symmetric and positive")
