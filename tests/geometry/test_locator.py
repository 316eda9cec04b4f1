"""Bearings, ranges and positions against rendered scenes whose geometry is known."""

import math
import tracemalloc

import msgspec
import numpy as np
import pytest
from scenes import TrueCamera, bearings_of, boxes_of, detections_of, plates

from edge.detections import Detections
from edge.errors import ConfigError
from edge.geometry.camera import Camera, DistortionSection, IntrinsicsSection, MountSection, SigmaSection, write_camera
from edge.geometry.locator import Locator, open_locator
from edge.geometry_config import GeometrySection, ObjectSize

WH = (1280, 720)
BENT = (-0.28, 0.07, 0.001, -0.0005, 0.0)
VALUES = np.array([700.0, 705.0, 650.0, 350.0, *BENT])
SIGMAS = np.array([0.5, 0.5, 0.6, 0.6, 0.001, 0.002, 1e-4, 1e-4, 0.0005])
MOUNT = MountSection(
    height_m=1.2,
    height_sigma_m=0.02,
    position_m=(0.2, 0.1, 1.2),
    tilt_down_rad=0.15,
    tilt_sigma_rad=0.009,
    pan_left_rad=0.3,
    roll_right_rad=0.02,
)
PERSON = {"person": ObjectSize(height_m=1.7, height_sigma_m=0.17)}
BOTH = {"person": ObjectSize(height_m=1.7, height_sigma_m=0.17, width_m=0.5, width_sigma_m=0.05)}
SCENES = 1500
TOLERANCE = 3 * math.sqrt(0.95 * 0.05 / SCENES)  # three sigma of a binomial share of 95 %


def camera_of(mount: MountSection | None = MOUNT) -> Camera:
    fx, fy, cx, cy = VALUES[:4].tolist()
    return Camera(
        frame_id="front",
        width_px=WH[0],
        height_px=WH[1],
        intrinsics=IntrinsicsSection(fx_px=fx, fy_px=fy, cx_px=cx, cy_px=cy),
        distortion=DistortionSection(coefficients=list(BENT)),
        sigma=SigmaSection(covariance=np.diag(SIGMAS**2).tolist()),
        mount=mount,
    )


def locator_of(sizes: dict | None = None, mount: MountSection | None = MOUNT, **settings: object) -> Locator:
    section = GeometrySection(**{"noise_px": 1.0, "noise_fraction": 0.0, "sizes": sizes or {}, **settings})
    return Locator(camera_of(mount), section, ["person", "ball"], 64)


def drawn_camera(rng: np.random.Generator, exact: bool) -> TrueCamera:
    """A camera as the file says it may be: height and tilt off by their sigmas; unless exact, the lens, too."""
    fx, fy, cx, cy, *bent = rng.normal(VALUES, SIGMAS * (not exact)).tolist()
    height = 1.2 + rng.normal(0, 0.02)
    tilt = 0.15 + rng.normal(0, 0.009)
    return TrueCamera(*WH, (fx, fy), (cx, cy), tuple(bent), False, (0.2, 0.1, height), 0.3, tilt, 0.02)


def scenes(rng, ranges_m: tuple[float, float], size_m: tuple[float, float], part: float, exact: bool = False):
    """Yield camera, foot, height, range and outline of one upright thing after the other, wholly in the picture."""
    found = 0
    while found < SCENES:
        true = drawn_camera(rng, exact)
        distance, angle = rng.uniform(*ranges_m), 0.3 + rng.uniform(-0.6, 0.6)
        foot = np.array([[0.2 + distance * math.cos(angle), 0.1 + distance * math.sin(angle)]])
        height, width = (np.array([size * (1 + part * rng.normal())]) for size in size_m)
        outline = plates(foot, height, width, true.origin_m)
        box = boxes_of(true, outline)[0]
        if box[0] > 10 and box[1] > 10 and box[2] < WH[0] - 10 and box[3] < WH[1] - 10:
            found += 1
            yield true, foot[0], float(height[0]), distance, box


@pytest.mark.parametrize(("noise_px", "exact", "share"), [(0.5, True, 1.0), (0.5, False, 0.99), (1.0, False, 0.985)])
def test_bearings_are_within_a_fifth_of_a_degree(noise_px, exact, share):
    rng = np.random.default_rng(8)
    locator = locator_of(noise_px=noise_px)
    errors, parts = [], []
    for true, foot, height, _, box in scenes(rng, (2.5, 25.0), (0.2, 0.2), 0.0, exact):
        found = locator.locate(detections_of(box[None] + rng.normal(0, noise_px, (1, 4))), WH)
        middle = np.array([[*foot, height / 2]])
        error = (found.azimuth_rad[0], found.elevation_rad[0]) - bearings_of(true, middle)[0]
        errors.append(np.abs(error).max())
        parts.append(error / found.angle_sigma_rad[0])
    assert (np.degrees(errors) < 0.2).mean() >= share
    assert (np.abs(parts) < 2).mean() > 0.95 - TOLERANCE
    assert exact or (np.abs(parts) < 2).mean() < 0.99  # sigma is not simply too large


@pytest.mark.parametrize("noise_px", [0.5, 2.0])
@pytest.mark.parametrize(("sizes", "most_error"), [({}, 0.09), (PERSON, 0.07), (BOTH, 0.07)], ids=["ground", "h", "hw"])
def test_ranges_are_within_two_sigma_95_percent_of_the_time(noise_px, sizes, most_error):
    rng = np.random.default_rng(int(10 * noise_px) + len(sizes))
    locator = locator_of(sizes, noise_px=noise_px)
    errors, parts, off, apart = [], [], [], []
    for _, foot, height, distance, box in scenes(rng, (3.0, 15.0), (1.7, 0.5), 0.1):
        found = locator.locate(detections_of(box[None] + rng.normal(0, noise_px, (1, 4))), WH)
        errors.append(float(found.range_m[0]) - distance)
        parts.append(errors[-1] / found.range_sigma_m[0])
        error_m = np.linalg.norm(found.position_m[0] - (*foot, height / 2))
        off.append(error_m / distance)
        apart.append(error_m / found.position_sigma_m[0])
    errors, parts = np.array(errors), np.array(parts)
    assert np.isnan(parts).mean() < 0.01
    held = np.abs(parts[~np.isnan(parts)]) < 2
    assert 0.95 - TOLERANCE < held.mean() < 0.99
    assert np.nanmedian(np.abs(errors) / 9) < most_error
    assert np.nanmedian(off) < 0.09
    near = np.array(apart)[~np.isnan(apart)] < 2.448  # 95 % of a round normal distribution, the widest there can be
    assert near.mean() > 0.95 - TOLERANCE


def test_fusing_is_surer_than_either():
    true = TrueCamera(*WH, (700, 705), (650, 350), BENT, False, (0.2, 0.1, 1.2), 0.3, 0.15, 0.02)
    foot = np.array([[8.0, 2.0]])
    seen = detections_of(boxes_of(true, plates(foot, np.array([1.7]), np.array([0.5]), true.origin_m)))
    sigmas = [float(locator_of(sizes, mount).locate(seen, WH).range_sigma_m[0]) for sizes, mount in (
        ({}, MOUNT), (PERSON, msgspec.structs.replace(MOUNT, height_m=None)), (PERSON, MOUNT), (BOTH, MOUNT)
    )]  # fmt: skip
    assert sigmas[2] < min(sigmas[:2])
    assert sigmas[3] < sigmas[2]
    distance = math.hypot(8.0 - 0.2, 2.0 - 0.1)
    for sizes, mount in (({}, MOUNT), (PERSON, MOUNT), (BOTH, MOUNT)):
        assert locator_of(sizes, mount).locate(seen, WH).range_m[0] == pytest.approx(distance, rel=0.03)


def test_a_camera_that_nods_knows_less_of_what_it_looks_down_on():
    """From above, a tilt that is off changes how tall things look: 1 / range by d(tan^2) of top and foot."""
    true = TrueCamera(*WH, (700, 705), (650, 350), BENT, False, (0.2, 0.1, 4.0), 0.3, 0.7, 0.02)
    foot = np.array([[3.5, 1.0]])
    seen = detections_of(boxes_of(true, plates(foot, np.array([1.0]), np.array([0.5]), true.origin_m)))
    known = {"person": ObjectSize(height_m=1.0, height_sigma_m=0.0)}
    parts = []
    for sigma in (0.0, 0.03):
        mount = MountSection(pan_left_rad=0.3, tilt_down_rad=0.7, roll_right_rad=0.02, tilt_sigma_rad=sigma)
        found = locator_of(known, mount, noise_px=0.5).locate(seen, WH)
        parts.append(float(found.range_sigma_m[0] / found.range_m[0]))
    distance = math.hypot(3.5 - 0.2, 1.0 - 0.1)
    top, low = -(4.0 - 1.0) / distance, -4.0 / distance
    nod = 0.03 * (low**2 - top**2) * distance / 1.0  # a part of the range
    assert math.sqrt(parts[1] ** 2 - parts[0] ** 2) == pytest.approx(nod, rel=0.2)


def test_estimates_that_contradict_each_other_are_less_sure():
    true = TrueCamera(*WH, (700, 705), (650, 350), BENT, False, (0.2, 0.1, 1.2), 0.3, 0.15, 0.02)
    feet = np.array([[8.0, 2.0], [8.0, 2.0]])
    heights = np.array([1.7, 0.7])  # the second is a child where a grown-up is expected
    seen = detections_of(boxes_of(true, plates(feet, heights, np.array([0.5, 0.5]), true.origin_m)))
    found = locator_of(PERSON).locate(seen, WH)
    assert found.range_sigma_m[1] > 2 * found.range_sigma_m[0]
    assert abs(found.range_m[1] - 8.0) < 2 * found.range_sigma_m[1]


def test_what_cannot_be_ranged_is_absent_not_zero():
    above = (600, 100, 640, 200)  # its foot is above the horizon
    below = (600, 400, 640, 600)
    cut = (600, 400, 640, 720)  # its foot is out of sight
    far = (600, 240, 640, 246.5)  # a hair below the horizon
    ground = locator_of().locate(detections_of(np.array([above, below, cut, far], float)), WH)
    assert np.isnan(ground.range_m[:4]).tolist() == [True, False, True, True]
    assert np.isnan(ground.range_sigma_m[:4]).tolist() == [True, False, True, True]
    assert np.isnan(ground.position_m[:4, 0]).tolist() == [True, False, True, True]
    assert np.isfinite(ground.azimuth_rad[:4]).all()
    rows = ground.rows()
    assert rows[0].range_m is None
    assert rows[0].bearing_rad is not None
    assert rows[1].range_m == pytest.approx(float(ground.range_m[1]), abs=1e-3)
    assert (rows[0].position_m, rows[0].position_sigma_m) == (None, None)
    assert rows[1].position_m == pytest.approx(ground.position_m[1].tolist(), abs=1e-3)
    assert rows[1].position_sigma_m > rows[1].range_sigma_m  # it looks down: along the ray it is further
    by_size = locator_of(PERSON).locate(detections_of(np.array([above, cut], float)), WH)
    assert np.isnan(by_size.range_m[:2]).tolist() == [False, True]
    of_another_class = locator_of(PERSON).locate(detections_of(np.array([above, below], float), 1), WH)
    assert np.isnan(of_another_class.range_m[:2]).tolist() == [True, False]


def test_without_a_mount_there_are_bearings_and_ranges_from_size():
    true = TrueCamera(*WH, (700, 705), (650, 350), BENT, origin_m=(0.0, 0.0, 0.9))
    outline = plates(np.array([[6.0, 1.0]]), np.array([1.7]), np.array([0.5]), true.origin_m)
    seen = detections_of(boxes_of(true, outline))
    assert np.isnan(locator_of({}, None).locate(seen, WH).range_m[0])
    locator = locator_of(PERSON, None)
    found = locator.locate(seen, WH)
    assert found.range_m[0] == pytest.approx(math.hypot(6, 1), rel=0.02)
    assert locator.frame_ids == ("front", "")  # nobody knows where it is on the robot, so no position is told
    assert found.rows()[0].position_m is None
    assert found.rows()[0].range_m == pytest.approx(float(found.range_m[0]), abs=1e-3)


def test_another_size_of_the_same_shape_gives_the_same_angles():
    rng = np.random.default_rng(2)
    boxes = np.sort(rng.uniform((0, 0, 0, 0), (1280, 720, 1280, 720), (30, 4)).reshape(30, 2, 2), axis=1).reshape(30, 4)
    whole, half = locator_of(noise_px=0.0), locator_of(noise_px=0.0)
    a = whole.locate(detections_of(boxes), WH)
    b = half.locate(detections_of(boxes / 2), (640, 360))
    np.testing.assert_allclose(a.azimuth_rad[:30], b.azimuth_rad[:30], atol=1e-5)
    np.testing.assert_allclose(a.elevation_rad[:30], b.elevation_rad[:30], atol=1e-5)
    np.testing.assert_allclose(a.angle_sigma_rad[:30], b.angle_sigma_rad[:30], rtol=1e-3)
    noisy = locator_of().locate(detections_of(boxes / 2), (640, 360))
    assert (noisy.angle_sigma_rad[:30] > b.angle_sigma_rad[:30]).all()


def test_another_shape_is_refused():
    with pytest.raises(ConfigError, match="640x480 have another shape than the 1280x720"):
        locator_of().locate(detections_of(np.ones((1, 4))), (640, 480))


def test_after_a_right_frame_one_of_another_shape_gets_no_places_until_the_next_right_one():
    locator, found = locator_of(), detections_of(np.array([(600.0, 300.0, 680.0, 500.0)]))
    before = locator.locate(found, WH).azimuth_rad[0]
    assert locator.locate(found, (640, 480)).count == 0
    assert "640x480 have another shape than the 1280x720" in locator.misfit
    assert locator.locate(found, WH).count == 1
    assert locator.misfit == ""
    assert locator.locations.azimuth_rad[0] == before


def test_the_anchor_may_be_the_foot():
    box = np.array([(600.0, 300.0, 680.0, 500.0)])
    middle, foot = (
        locator_of().locate(detections_of(box), WH),
        locator_of(anchor="bottom").locate(detections_of(box), WH),
    )
    assert foot.elevation_rad[0] < middle.elevation_rad[0]
    assert foot.position_m[0, 2] == pytest.approx(0.0, abs=1e-4)  # it stands on the ground
    assert foot.range_m[0] == middle.range_m[0]


def test_refilling_forgets_the_frame_before():
    locator = locator_of()
    found = locator.locate(detections_of(np.array([(600.0, 400.0, 640.0, 600.0)] * 3)), WH)
    assert len(found) == len(found.rows()) == 3
    again = locator.locate(Detections(4), WH)
    assert again is found
    assert len(found) == len(found.rows()) == 0


def test_a_frame_leaves_nothing_behind_and_needs_little():
    locator = locator_of(BOTH)
    rng = np.random.default_rng(0)
    seen = detections_of(np.sort(rng.uniform(0, 700, (64, 2, 2)), axis=1).reshape(64, 4))
    for _ in range(3):
        locator.locate(seen, WH)
    tracemalloc.start()
    for _ in range(20):
        locator.locate(seen, WH)
    kept, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept < 4 * 1024
    assert peak < 128 * 1024


def test_a_section_opens_a_locator_or_none(tmp_path):
    assert open_locator(GeometrySection(), ["person"], 4) is None
    write_camera(tmp_path / "front.toml", camera_of())
    section = GeometrySection(camera=str(tmp_path / "front.toml"), sizes=PERSON)
    assert open_locator(section, ["person"], 4).camera.frame_id == "front"
    with pytest.raises(ConfigError, match=r"names the class 'person'.*did you mean 'persons'"):
        open_locator(section, ["persons"], 4)
    with pytest.raises(ConfigError, match="no file"):
        open_locator(GeometrySection(camera=str(tmp_path / "none.toml")), [], 4)


@pytest.mark.parametrize("values", [{}, {"height_sigma_m": 0.1}, {"height_m": 1.0, "width_sigma_m": 0.1}])
def test_sizes_without_size_are_refused(values):
    with pytest.raises(msgspec.ValidationError, match="_m'"):
        msgspec.convert(values, ObjectSize)
