"""[geometry] and [[region]] of a configuration: which camera sees, how large things are, and which places matter."""

import math
from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec

__all__ = ["GeometrySection", "ObjectSize", "RegionSection"]

Length = Annotated[float, msgspec.Meta(gt=0, le=1000)]
Sigma = Annotated[float, msgspec.Meta(ge=0, le=1000)]
Fraction = Annotated[float, msgspec.Meta(ge=0, le=1)]
Seconds = Annotated[float, msgspec.Meta(ge=0, le=86400)]
Anchor = Literal["center", "bottom"]
Point = tuple[float, float]
RegionKind = Literal["include", "exclude", "zone", "line"]


class ObjectSize(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """[geometry.sizes.LABEL]: how tall and wide things of a class are; a sigma not given is a tenth of its size.

    The sigma is how much the things differ: one standard deviation.
    """

    height_m: Length | None = None
    height_sigma_m: Sigma | None = None
    width_m: Length | None = None
    width_sigma_m: Sigma | None = None

    def __post_init__(self) -> None:
        """Check that there is a size for every sigma.

        Raises: ValueError, which becomes a ConfigError.
        """
        if self.height_m is None and self.width_m is None:
            raise ValueError("give 'height_m', 'width_m' or both")
        for axis in ("height", "width"):
            if getattr(self, f"{axis}_sigma_m") is not None and getattr(self, f"{axis}_m") is None:
                raise ValueError(f"'{axis}_sigma_m' without '{axis}_m'")


class GeometrySection(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """[geometry]: camera is the file `harrier camera calibrate` wrote; without it nothing is located.

    anchor: the point of a box that bearing and position are of. A box edge is off by noise_px and, on top,
    noise_fraction of the box's size (one standard deviation). A range whose sigma is a larger part of it than
    max_range_sigma is left out.
    """

    camera: str | None = None
    anchor: Anchor = "center"
    noise_px: Annotated[float, msgspec.Meta(ge=0, le=1000)] = 1.0
    noise_fraction: Fraction = 0.03
    max_range_sigma: Annotated[float, msgspec.Meta(gt=0, le=0.5)] = 0.25
    sizes: dict[str, ObjectSize] = {}


class RegionSection(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """[[region]]: a polygon, or a line of two points, in the picture; x right, y down.

    include and exclude drop detections; zone tells who enters, leaves and stays for dwell_s; line who crosses.
    points: parts of the frame's width and height, or px with unit = "px". anchor: the point of a box that counts.
    labels: the classes it is for; all when empty. Against flicker: a side is left only margin_fraction of the frame's
    height beyond the edge and after settle_s there; a track unseen for lost_s is gone.
    """

    name: str
    kind: RegionKind
    points: list[Point]
    unit: Literal["fraction", "px"] = "fraction"
    anchor: Anchor = "bottom"
    labels: list[str] = []
    margin_fraction: Annotated[float, msgspec.Meta(ge=0, le=0.5)] = 0.01
    settle_s: Seconds = 0.0
    dwell_s: Seconds = 0.0
    lost_s: Seconds = 1.0

    def __post_init__(self) -> None:
        """Check the shape.

        Raises: ValueError, which becomes a ConfigError.
        """
        if not self.name:
            raise ValueError("'name' is empty")
        _check_points(self)
        if self.dwell_s and self.kind != "zone":
            raise ValueError(f"'dwell_s' of region '{self.name}' is for zones, not for kind = \"{self.kind}\"")


def _check_points(region: RegionSection) -> None:
    points, where = region.points, f"'points' of region '{region.name}'"
    if not all(math.isfinite(v) for point in points for v in point):
        raise ValueError(f"{where}: not a number")
    if region.unit == "fraction" and not all(0 <= v <= 1 for point in points for v in point):
        raise ValueError(f'{where} are not all from 0 to 1 (for pixels write unit = "px")')
    if len(set(points)) < len(points):
        raise ValueError(f"{where} name a point twice (a polygon closes by itself)")
    if region.kind == "line":
        if len(points) != 2:
            raise ValueError(f"{where}: a line has 2 points, not {len(points)}")
        return
    if len(points) < 3:
        raise ValueError(f"{where}: a polygon has at least 3 points, not {len(points)}")
    if _edges_cross(points):
        raise ValueError(f"{where}: two edges cross (name the corners in order)")
    if _twice_area(points) == 0:
        raise ValueError(f"{where} lie on one line")


def _twice_area(points: Sequence[Point]) -> float:
    around = zip(points, [*points[1:], points[0]], strict=True)
    return abs(sum(x1 * y2 - x2 * y1 for (x1, y1), (x2, y2) in around))


def _edges_cross(points: Sequence[Point]) -> bool:
    n = len(points)
    edges = [(points[i], points[(i + 1) % n]) for i in range(n)]
    pairs = ((edges[i], edges[j]) for i in range(n) for j in range(i + 2, n) if (j + 1) % n != i)
    return any(_turn(a, b, c) * _turn(a, b, d) < 0 and _turn(c, d, a) * _turn(c, d, b) < 0 for (a, b), (c, d) in pairs)


def _turn(a: Point, b: Point, c: Point) -> float:
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
