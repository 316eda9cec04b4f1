"""What docs/geometry.md shows is read as it would be from a file."""

import re
from pathlib import Path

import msgspec
import pytest

from edge.config import read_config
from edge.geometry.camera import Camera, MountSection
from edge.geometry.regions import Regions
from edge.structs import as_struct, read_toml

PAGE = Path(__file__).resolve().parents[2] / "docs" / "geometry.md"


class _Mount(msgspec.Struct, forbid_unknown_fields=True):
    mount: MountSection


def shown(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize(("kind", "struct"), [("mount", _Mount), ("camera", Camera)])
def test_shown_camera_files_are_valid(tmp_path, kind, struct):
    (body,) = shown(f"toml {kind}")
    path = tmp_path / "shown.toml"
    path.write_text(body)
    assert as_struct(read_toml(path), struct, PAGE.name).mount.height_m == 0.62


def test_shown_configurations_say_what_the_page_says(tmp_path):
    """That they are configurations is tested with those of all pages."""
    sections = []
    for body in shown("toml"):
        path = tmp_path / "shown.toml"
        path.write_text(body)
        sections.append(read_config(path))
    geometry, regions = sections
    assert geometry.geometry.sizes["person"].height_m == 1.7
    assert [region.kind for region in regions.region] == ["include", "zone", "line"]
    assert regions.tracking is not None
    Regions(regions.region, ["person"])
