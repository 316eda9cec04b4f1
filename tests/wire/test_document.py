"""The page that specifies the wire is the table that the codec uses."""

from pathlib import Path

import pytest

from edge.wire import layout
from edge.wire.document import tables, with_tables

PAGE = Path(__file__).resolve().parents[2] / "docs" / "wire.md"


def test_the_page_has_the_table_of_the_codec():
    page = PAGE.read_text(encoding="utf-8")
    assert with_tables(page) == page, "run: python -m edge.wire"


def test_every_field_and_kind_is_on_it():
    text = tables()
    for one in layout.LAYOUTS:
        assert f"### {one.number} {one.kind.upper()}" in text
        for field in one.fields:
            assert f"`{field.name}`" in text
    offsets = [line.split("|")[1].strip() for line in text.splitlines() if "| `model_id` |" in line]
    assert offsets[0] == str(12 + 8 + 4 + 2)  # behind header, t_capture_ns, age_us and ttl_ms


def test_a_page_without_markers_is_left_alone():
    with pytest.raises(ValueError, match="lacks"):
        with_tables("no table here")
