"""Regions: which detections are kept, and what is told of tracks, beside answers worked out by hand or by OpenCV."""

import cv2
import msgspec
import numpy as np
import pytest

from edge.detections import Detections
from edge.errors import ConfigError
from edge.events import RegionEvent
from edge.geometry.polygons import Lines, Polygons, with_one
from edge.geometry.regions import Regions
from edge.geometry_config import RegionSection
from edge.structs import as_struct

WH = (1000, 500)
LABELS = ["person", "dog", "car"]
SQUARE = [(0.4, 0.4), (0.6, 0.4), (0.6, 0.8), (0.4, 0.8)]  # 400..600, 200..400 px
FRAME_NS = 100_000_000


def section(name: str, kind: str, points: list, **settings: object) -> RegionSection:
    return as_struct({"name": name, "kind": kind, "points": points, **settings}, RegionSection, "test")


def at(*feet: tuple[float, float], ids: list[int] | None = None, classes: list[int] | None = None) -> Detections:
    """Boxes 20 px wide and 60 px tall that stand at these points."""
    found = Detections(16)
    found.count = n = len(feet)
    for i, (x, y) in enumerate(feet):
        found.xyxy[i] = (x - 10, y - 60, x + 10, y)
    found.track_ids[:n] = ids if ids is not None else range(n)
    found.class_ids[:n] = classes or 0
    return found


def walk(regions: Regions, way: list[tuple[float, float] | None], track_id: int = 7) -> list[RegionEvent]:
    """The events of one track, a frame every 100 ms; None: it is not seen."""
    found = []
    for i, point in enumerate(way):
        found += regions.events(at(point, ids=[track_id]) if point else at(), WH, i * FRAME_NS)
    return found


def around(points: np.ndarray) -> np.ndarray:
    """Boxes with their middles at (N, 2) points, as shapes take them."""
    half = np.array([9, 30])
    return with_one(np.concatenate([points - half, points + half], axis=1), np.empty((len(points), 5)))


def test_polygons_agree_with_opencv_on_random_shapes():
    rng = np.random.default_rng(3)
    shapes = []
    for corners in (3, 4, 7, 12):
        angles = np.sort(rng.uniform(0, 2 * np.pi, corners))
        radii = rng.uniform(20, 100, corners)
        shapes.append(np.stack([100 + radii * np.cos(angles), 100 + radii * np.sin(angles)], 1).round())
    points = rng.uniform(0, 200, (500, 2))
    inside, squared = Polygons(shapes, [0.5] * len(shapes)).squared(around(points))
    depth = np.where(inside, 1, -1) * np.sqrt(squared)
    for i, shape in enumerate(shapes):
        contour = shape.astype(np.float32)[:, None]
        expected = [cv2.pointPolygonTest(contour, point, True) for point in points.tolist()]
        np.testing.assert_allclose(depth[:, i], expected, atol=1e-3)


def test_a_line_has_its_right_side_where_a_walker_has_it():
    up = Lines(np.array([[(100.0, 200.0), (100.0, 100.0)]]), [0.5])  # y grows downwards
    right, points = up.side(around(np.array([(130.0, 150.0), (60.0, 20.0)])))
    np.testing.assert_allclose(right[:, 0], [30, -40])
    np.testing.assert_allclose(points[:, 0], [(130, 150), (60, 20)])


def test_include_and_exclude_are_by_class_and_by_anchor():
    regions = Regions(
        [
            section("road", "include", SQUARE, labels=["person", "dog"]),
            section("puddle", "exclude", [(0.5, 0.4), (0.6, 0.4), (0.6, 0.8), (0.5, 0.8)], labels=["dog"]),
            section("sky", "exclude", [(0, 0), (1, 0), (1, 0.2), (0, 0.2)], anchor="center"),
        ],
        LABELS,
    )
    seen = at((450, 300), (550, 300), (550, 300), (100, 300), (100, 300), (100, 120), (100, 140))
    seen.class_ids[:7] = [0, 0, 1, 0, 2, 2, 2]
    kept = regions.kept(seen, WH)
    # the dog in the puddle, the person off the road, and the car whose middle (not foot) is in the sky
    assert kept.tolist() == [True, True, False, False, True, False, True]


def test_without_filters_all_are_kept():
    assert Regions([], LABELS).kept(at((1, 1), (2, 2)), WH).tolist() == [True, True]
    assert Regions([], LABELS).events(at((1, 1)), WH, 0) == []


def test_pixels_and_fractions_say_the_same():
    corners = [(x * WH[0], y * WH[1]) for x, y in SQUARE]
    pixels = Regions([section("a", "include", corners, unit="px")], LABELS)
    parts = Regions([section("a", "include", SQUARE)], LABELS)
    rng = np.random.default_rng(0)
    for _ in range(20):
        seen = at(*rng.uniform((300, 150), (700, 450), (8, 2)).tolist())
        assert pixels.kept(seen, WH).tolist() == parts.kept(seen, WH).tolist()
    assert parts.kept(at((250, 150)), (500, 250)).tolist() == [True]  # another frame size, the same place


def test_a_track_enters_stays_and_leaves():
    regions = Regions([section("door", "zone", SQUARE, dwell_s=0.3)], LABELS)
    events = walk(regions, [(300, 300), (450, 300), (460, 300), (470, 300), (480, 300), (490, 300), (700, 300)])
    assert [(e.kind, e.t_capture_ns // FRAME_NS) for e in events] == [("enter", 1), ("dwell", 4), ("leave", 6)]
    assert [e.dwell_s for e in events] == pytest.approx([0, 0.3, 0.5])
    assert {(e.region, e.track_id, e.class_id, e.lost) for e in events} == {("door", 7, 0, False)}


def test_a_box_that_trembles_on_the_edge_enters_once():
    regions = Regions([section("door", "zone", SQUARE, margin_fraction=0.02)], LABELS)  # 10 px
    rng = np.random.default_rng(5)
    way = [(300, 300), *((400 + x, 300) for x in rng.uniform(-9, 9, 100)), (450, 300)]
    way += [(400 + x, 300) for x in rng.uniform(-9, 9, 100)]
    assert [e.kind for e in walk(regions, way)] == ["enter"]
    sharp = Regions([section("door", "zone", SQUARE, margin_fraction=0.0)], LABELS)
    assert len(walk(sharp, way)) > 40


def test_a_side_counts_only_after_settling_and_then_from_when_it_was_reached():
    regions = Regions([section("door", "zone", SQUARE, settle_s=0.2)], LABELS)
    outside, inside = (300, 300), (500, 300)
    events = walk(regions, [outside, inside, outside, outside, inside, inside, inside, inside])
    assert [(e.kind, e.t_capture_ns // FRAME_NS) for e in events] == [("enter", 4)]


def test_a_track_that_is_gone_has_left_and_a_short_gap_is_none():
    regions = Regions([section("door", "zone", SQUARE, lost_s=0.5)], LABELS)
    events = walk(regions, [(500, 300), None, None, None, (500, 300), *[None] * 7])
    assert [(e.kind, e.lost, e.t_capture_ns // FRAME_NS) for e in events] == [("enter", False, 0), ("leave", True, 4)]
    assert events[1].dwell_s == pytest.approx(0.4)
    assert [e.kind for e in regions.events(at((500, 300), ids=[7]), WH, 20 * FRAME_NS)] == ["enter"]


@pytest.mark.parametrize("lost_s", [0.0, 1.0])
def test_who_is_on_every_frame_is_not_gone_however_slowly_they_come(lost_s):
    """A frame every 1.2 s, as after a source that stalled: unseen is who is left out of a frame."""
    sections = [
        section("door", "zone", SQUARE, lost_s=lost_s, dwell_s=3.0),
        section("gate", "line", [(0.5, 0.9), (0.5, 0.1)], lost_s=lost_s),
    ]
    regions, found = Regions(sections, LABELS), []
    for i, point in enumerate([(450, 300), (450, 300), (550, 300), (550, 300), None, None]):
        found += regions.events(at(point, ids=[7]) if point else at(), WH, i * 12 * FRAME_NS)
    assert [(e.kind, e.lost, e.t_capture_ns // FRAME_NS) for e in found] == [
        ("enter", False, 0),
        ("cross", False, 24),
        ("dwell", False, 36),
        ("leave", True, 36),
    ]


def test_a_line_tells_the_direction_and_ends_at_its_ends():
    line = section("gate", "line", [(0.5, 0.8), (0.5, 0.4)])  # upwards at x = 500, y from 400 to 200
    assert [e.direction for e in walk(Regions([line], LABELS), [(400, 300), (600, 300)])] == ["left_to_right"]
    assert [e.direction for e in walk(Regions([line], LABELS), [(600, 300), (400, 300)])] == ["right_to_left"]
    assert walk(Regions([line], LABELS), [(400, 150), (600, 150)]) == []  # past its end
    assert walk(Regions([line], LABELS), [(400, 300), (400, 100), (600, 100), (600, 300)]) == []  # around it
    assert walk(Regions([line], LABELS), [(400, 300), (499, 300), (400, 300)]) == []  # not beyond the margin
    there_and_back = walk(Regions([line], LABELS), [(400, 300), (501, 300), (520, 300), (501, 300), (480, 300)])
    assert [e.direction for e in there_and_back] == ["left_to_right", "right_to_left"]


def test_slow_crossings_count_once():
    line = section("gate", "line", [(0.5, 0.8), (0.5, 0.4)], margin_fraction=0.02)
    way = [(450 + 3 * i, 300 + (-1) ** i) for i in range(40)]
    assert [e.kind for e in walk(Regions([line], LABELS), way)] == ["cross"]


def test_regions_are_for_their_classes_and_tracks_only():
    regions = Regions([section("door", "zone", SQUARE, labels=["person"]), section("all", "zone", SQUARE)], LABELS)
    seen = at((500, 300), (510, 300), (520, 300), ids=[1, 2, -1], classes=[0, 1, 0])
    assert {(e.region, e.track_id) for e in regions.events(seen, WH, 0)} == {("door", 1), ("all", 1), ("all", 2)}


def test_memory_is_bounded_and_the_oldest_makes_room():
    regions = Regions([section("door", "zone", SQUARE, lost_s=60)], LABELS, tracks=4)
    for i in range(4):
        assert [e.kind for e in regions.events(at((500, 300), ids=[i]), WH, i * FRAME_NS)] == ["enter"]
    events = regions.events(at((500, 300), ids=[99]), WH, 4 * FRAME_NS)
    assert [(e.kind, e.track_id, e.lost) for e in events] == [("leave", 0, True), ("enter", 99, False)]
    crowd = at(*[(500, 300)] * 10, ids=list(range(200, 210)))
    assert sum(e.kind == "enter" for e in regions.events(crowd, WH, 5 * FRAME_NS)) == 4  # no more than it can remember


def test_many_tracks_give_what_each_would_alone():
    rng = np.random.default_rng(11)
    sections = [
        section("door", "zone", SQUARE, dwell_s=0.4, settle_s=0.1),
        section("gate", "line", [(0.5, 0.9), (0.5, 0.1)], anchor="center"),
    ]
    ways = np.array([500, 300]) + np.cumsum(rng.normal(0, 40, (6, 60, 2)), axis=1)
    together = Regions(sections, LABELS)
    found = []
    for i in range(60):
        found += together.events(at(*ways[:, i].tolist()), WH, i * FRAME_NS)
    assert len(found) > 30
    for track in range(6):
        alone = walk(Regions(sections, LABELS), ways[track].tolist(), track)
        assert [e for e in found if e.track_id == track] == alone


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"points": [(0, 0), (1, 1)]}, "at least 3 points"),
        ({"points": [(0, 0), (2, 0), (1, 1)]}, "from 0 to 1"),
        ({"points": [(0, 0), (0.5, 0.5), (1, 1)]}, "lie on one line"),
        ({"points": [(0, 0), (1, 1), (1, 0), (0, 1)]}, "two edges cross"),
        ({"points": [(0, 0), (1, 1), (0, 0)]}, "name a point twice"),
        ({"points": [(0, 0), (1, 1), (1, 0)], "kind": "line"}, "a line has 2 points"),
        ({"kind": "exclude", "dwell_s": 2.0}, "'dwell_s'"),
        ({"kind": "includes"}, "did you mean 'include'"),
        ({"labls": ["dog"]}, "did you mean 'labels'"),
        ({"name": ""}, "'name' is empty"),
    ],
)
def test_wrong_regions_are_refused_by_name(values, said):
    whole = {"name": "door", "kind": "zone", "points": SQUARE, **values}
    with pytest.raises(ConfigError, match=said):
        as_struct(msgspec.to_builtins(whole), RegionSection, "run.toml")


def test_unknown_classes_and_double_names_are_refused():
    with pytest.raises(ConfigError, match="did you mean 'person'"):
        Regions([section("door", "zone", SQUARE, labels=["persn"])], LABELS)
    with pytest.raises(ConfigError, match="two regions are named 'door'"):
        Regions([section("door", "zone", SQUARE), section("door", "include", SQUARE)], LABELS)


def test_whoever_is_inside_leaves_when_all_tracks_are_forgotten():
    regions = Regions([RegionSection(name="z", kind="zone", points=[(0, 0), (1, 0), (1, 1), (0, 1)])], ["a"])
    found = Detections(4)
    found.count = 2
    found.xyxy[:2] = (10, 10, 30, 50), (50, 10, 70, 60)
    found.track_ids[:2] = 7, 8
    entered = regions.events(found, (100, 100), 1_000)
    assert [(e.kind, e.track_id, e.inside) for e in entered] == [("enter", 7, 2), ("enter", 8, 2)]
    left = regions.leave_all()
    assert sorted((e.kind, e.track_id, e.lost, e.t_capture_ns) for e in left) == [
        ("leave", 7, True, 1_000),
        ("leave", 8, True, 1_000),
    ]
    assert regions.leave_all() == []
    assert [e.kind for e in regions.events(found, (100, 100), 2_000)] == ["enter", "enter"]
