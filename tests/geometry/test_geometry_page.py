"""What docs/geometry.md shows is read as it would be from a file."""

import re
from pathlib import Path

import msgspec
import pytest

from edge.geometry.camera import Camera, MountSection
from edge.geometry.regions import Regions
from edge.geometry_config import GeometrySection, RegionSection
from edge.structs import as_struct, read_toml

PAGE = Path(__file__).resolve().parents[2] / "docs" / "geometry.md"


class _Mount(msgspec.Struct, forbid_unknown_fields=True):
    mount: MountSection


class _Geometry(msgspec.Struct, forbid_unknown_fields=True):
    geometry: GeometrySection


class _Regions(msgspec.Struct, forbid_unknown_fields=True):
    region: list[RegionSection]


@pytest.mark.parametrize(
    ("kind", "struct"), [("mount", _Mount), ("geometry", _Geometry), ("camera", Camera), ("regions", _Regions)]
)
def test_shown_tables_are_valid(tmp_path, kind, struct):
    (body,) = re.findall(rf"^```toml {kind}\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    path = tmp_path / "shown.toml"
    path.write_text(body)
    found = as_struct(read_toml(path), struct, PAGE.name)
    if isinstance(found, _Regions):
        Regions(found.region, ["person"])
