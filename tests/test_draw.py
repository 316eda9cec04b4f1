"""The annotated picture: what a message knows is on it, what it does not know is not, and nothing can break it."""

import math

import msgspec
import numpy as np
import pytest

from edge.draw import annotate, class_color
from edge.geometry_config import RegionSection
from edge.wire.messages import ClassificationMessage, DetectionRecord, DetectionsMessage

WH = (640, 480)
HEAD = {"t_publish_ns": 1, "t_capture_ns": 1, "age_ms": 20.0, "frame": WH, "model": "m"}
BARE = DetectionRecord("cat", 1, 0.9, (200.0, 150.0, 300.0, 300.0))
ZONE = RegionSection(name="door", kind="zone", points=[(0.1, 0.5), (0.4, 0.5), (0.4, 0.9), (0.1, 0.9)])
GATE = RegionSection(name="gate", kind="line", points=[(600, 400), (600, 100)], unit="px")


def drawn(*records: DetectionRecord, regions: tuple = ()) -> np.ndarray:
    image = np.full((WH[1], WH[0], 3), 90, np.uint8)
    annotate(image, DetectionsMessage(**HEAD, detections=list(records)), caption=False, regions=regions)
    return image


def changed(a: np.ndarray, b: np.ndarray) -> tuple[int, int, int, int]:
    """Left, upper, right and lower end of where two pictures differ."""
    ys, xs = np.nonzero((a != b).any(axis=2))
    return xs.min(), ys.min(), xs.max() + 1, ys.max() + 1


@pytest.mark.parametrize(
    ("more", "where"),
    [
        ({"track_id": 12}, (200, 126, 400, 152)),  # behind the name
        ({"predicted_box": (330.0, 150.0, 430.0, 300.0), "predicted_sigma_px": 20.0}, (248, 149, 432, 302)),
        ({"bearing_rad": (-0.2, 0.1), "bearing_sigma_rad": 0.01}, (199, 300, 400, 325)),  # below the box
        ({"range_m": 3.1, "range_sigma_m": 0.2}, (199, 300, 400, 325)),
        ({"unseen_ms": 66.0}, (198, 126, 420, 304)),  # another name, and a thinner box
        ({"keypoints": [(500.0, 100.0)]}, (490, 90, 510, 110)),
    ],
)
def test_what_is_known_is_drawn_where_it_belongs(more, where):
    x1, y1, x2, y2 = changed(drawn(BARE), drawn(msgspec.structs.replace(BARE, **more)))
    assert where[0] <= x1 < x2 <= where[2]
    assert where[1] <= y1 < y2 <= where[3]


def test_a_box_that_was_only_expected_is_thinner():
    seen, expected = drawn(BARE), drawn(msgspec.structs.replace(BARE, unseen_ms=66.0))
    row = slice(200, 260), slice(190, 210)
    color = np.array(class_color(1))
    inked = [int((np.abs(image[row] - color).sum(axis=2) < 60).sum()) for image in (seen, expected)]
    assert inked[0] > inked[1] > 0


def test_regions_lie_under_the_boxes_at_their_places():
    blank = drawn()
    x1, y1, x2, y2 = changed(blank, drawn(regions=(ZONE,)))
    assert (x1, y1, x2, y2) == pytest.approx((64, 240, 256, 432), abs=4)
    assert changed(blank, drawn(regions=(GATE,))) == pytest.approx((592, 98, 640, 402), abs=8)
    box = DetectionRecord("cat", 1, 0.9, (100.0, 260.0, 200.0, 400.0))
    with_zone = drawn(box, regions=(ZONE,))
    assert with_zone[330, 100].tolist() == drawn(box)[330, 100].tolist() == list(class_color(1))


def test_a_caption_and_classes():
    image = np.zeros((240, 320, 3), np.uint8)
    classes = [DetectionRecord("tench", 0, 0.9), DetectionRecord("goldfish", 1, 0.05)]
    annotate(image, ClassificationMessage(**HEAD, classes=classes))
    assert [bool(image[y : y + 11].any()) for y in (0, 11, 22, 60)] == [True, True, True, False]


@pytest.mark.parametrize("size", [(1, 1), (3, 7), (240, 320), (2000, 20)])
def test_nothing_it_is_told_breaks_it(size):
    rng = np.random.default_rng(2)
    outside = RegionSection(name="x", kind="exclude", points=[(9000, 9000), (9100, 9000), (9000, 9100)], unit="px")
    for _ in range(30):
        box, expected = rng.normal(0, 3000, (2, 4)).tolist()
        record = DetectionRecord(
            *("ü°±" * 5, int(rng.integers(65536)), float(rng.random()), tuple(box), int(rng.integers(1 << 31))),
            predicted_box=tuple(expected),
            predicted_sigma_px=float(10 ** rng.uniform(-3, 6)),
            bearing_rad=(float(rng.normal()), math.pi),
            range_m=float(10 ** rng.uniform(-3, 6)),
        )
        image = np.zeros((*size, 3), np.uint8)
        annotate(image, DetectionsMessage(**HEAD, detections=[record, BARE]), regions=(ZONE, GATE, outside))
