"""Calibration on rendered pictures of boards, through lenses that are known; and sets that are refused."""

import re

import cv2
import numpy as np
import pytest
from pictures import Lens, charuco, chessboard, poses
from scenes import brown

from edge.calibrate_camera import CalibrationJob, calibrate_camera, look_for_views
from edge.camera_report import report_text
from edge.errors import ConfigError
from edge.geometry.board import BoardView, find_board, other_board, parse_board
from edge.geometry.calibration import calibrate
from edge.geometry.camera import MountSection, read_camera, write_camera
from edge.geometry.lens import Lens as FoundLens
from edge.geometry.views import ViewSet, covered_cells, tilt_of

WH = (640, 480)
BENT = (-0.25, 0.08, 0.0008, -0.0006, -0.01)
CHESSBOARD, CHARUCO = "chessboard:9x6:0.025", "charuco:7x5:0.04:0.03"
COUNT = 14


@pytest.fixture(scope="module")
def lens() -> Lens:
    return Lens(WH, (520.0, 522.0), (325.0, 236.0), BENT)


@pytest.fixture(scope="module")
def chessboards(lens) -> list[np.ndarray]:
    return [lens.picture(chessboard((9, 6), 0.025), *pose, 0.5) for pose in poses(COUNT, 1, 0.3, 0.5, (0.3, 0.22), 0.6)]


@pytest.fixture(scope="module")
def charucos(lens) -> list[np.ndarray]:
    texture = charuco((7, 5), 0.04, 0.03, "DICT_4X4_50")
    return [lens.picture(texture, *pose, 0.5) for pose in poses(COUNT, 1, 0.3, 0.45, (0.35, 0.25), 0.6)]


def views_of(board: str, pictures: list[np.ndarray]) -> list[BoardView]:
    found = [find_board(parse_board(board), picture, str(i)) for i, picture in enumerate(pictures)]
    return [view for view in found if view]


def folder_of(tmp_path, pictures: list[np.ndarray], copies: int = 1) -> str:
    folder = tmp_path / "views"
    folder.mkdir()
    for i, picture in enumerate(pictures):
        for copy in range(copies):
            cv2.imwrite(str(folder / f"{i:02}-{copy}.png"), picture)
    return str(folder)


def check_values(found, values: tuple[float, ...], most_px: float) -> None:
    """Every value is near the truth and within what its sigma says."""
    errors = found.parameters - np.array(values)
    assert np.abs(errors[:4]).max() < most_px
    assert np.abs(errors / np.sqrt(np.diag(found.covariance))).max() < 4


def test_a_chessboard_gives_the_lens_back(chessboards):
    found = calibrate(views_of(CHESSBOARD, chessboards), WH)
    check_values(found, (520, 522, 325, 236, *BENT), 0.6)
    assert found.rms_px < 0.06
    assert not found.dropped


def test_a_charuco_board_gives_the_lens_back_though_it_sticks_out(charucos):
    views = views_of(CHARUCO, charucos)
    assert min(len(view.image_px) for view in views) < 24  # not all corners are in sight
    found = calibrate(views, WH)
    check_values(found, (520, 522, 325, 236, *BENT), 2.0)


def test_a_fisheye_gives_its_lens_back():
    fisheye = Lens(WH, (260.0, 261.0), (325.0, 236.0), (-0.02, 0.005, -0.002, 0.0003), fisheye=True)
    texture = chessboard((9, 6), 0.025)
    views = views_of(
        CHESSBOARD, [fisheye.picture(texture, *pose, 0.5) for pose in poses(18, 1, 0.12, 0.25, (0.9, 0.6), 0.6)]
    )
    found = calibrate(views, WH, "fisheye")
    check_values(found, (260, 261, 325, 236, -0.02, 0.005, -0.002, 0.0003), 0.6)


def test_the_sigmas_are_those_of_opencv(chessboards):
    views = views_of(CHESSBOARD, chessboards)
    expected = cv2.calibrateCameraExtended([v.board_m for v in views], [v.image_px for v in views], WH, None, None)
    found = calibrate(views, WH)
    np.testing.assert_allclose(np.sqrt(np.diag(found.covariance)), expected[5].ravel()[:9], rtol=0.02)
    np.testing.assert_allclose(found.errors_px, expected[7].ravel(), rtol=0.02)


def test_a_view_that_does_not_fit_is_dropped_by_name(chessboards):
    views = views_of(CHESSBOARD, chessboards)
    rng = np.random.default_rng(0)
    bad = views[3]
    noise = rng.normal(0, 2.5, bad.image_px.shape).astype(np.float32)
    views[3] = BoardView("smudged", bad.board_m, bad.image_px + noise, bad.edge_px)
    found = calibrate(views, WH)
    assert [view.name for view, _ in found.dropped] == ["smudged"]
    check_values(found, (520, 522, 325, 236, *BENT), 0.6)


@pytest.mark.parametrize(
    ("chosen", "said"),
    [
        ("few", "5 usable views are too few"),
        ("middle", "the corners cover only"),
        ("flat", "faces the camera squarely in all views"),
        ("bent", "the corners miss the lens model by"),
        ("hardly tilted", "the focal length is known only to [1-9][0-9.]* %"),
    ],
)
def test_bad_sets_are_refused_with_the_reason(lens, chessboards, chosen, said):
    texture = chessboard((9, 6), 0.025)
    views = views_of(CHESSBOARD, chessboards)
    if chosen == "few":
        views = views[:5]
    elif chosen == "middle":
        views = views_of(CHESSBOARD, [lens.picture(texture, *p) for p in poses(9, 2, 0.5, 0.6, (0.02, 0.02), 0.6)])
    elif chosen == "flat":
        views = views_of(CHESSBOARD, [lens.picture(texture, *p) for p in poses(9, 2, 0.3, 0.4, (0.3, 0.22), 0.02)])
    elif chosen == "hardly tilted":
        rng = np.random.default_rng(1)
        views = views_of(CHESSBOARD, [lens.picture(texture, *p) for p in poses(9, 2, 0.35, 0.36, (0.3, 0.22), 0.22)])
        for i, view in enumerate(views):
            moved = view.image_px + rng.normal(0, 0.4, view.image_px.shape).astype(np.float32)
            views[i] = BoardView(view.name, view.board_m, moved, view.edge_px)
    else:  # the paper was not flat: each view in its own way, else the lens would take it up
        for i, view in enumerate(views):
            bow = np.sin(view.board_m[:, 0] * 40 + i) * 3
            moved = view.image_px + np.stack([bow, bow[::-1]], 1).astype(np.float32)
            views[i] = BoardView(view.name, view.board_m, moved, view.edge_px)
    with pytest.raises(ConfigError, match=said):
        calibrate(views, WH)


def test_tilts_are_seen_as_they_were_made(lens):
    texture = chessboard((9, 6), 0.025)
    for turn, sideways, up in (((0, 0.5, 0), -0.5, 0), ((0.5, 0, 0), 0, 0.5), ((0, 0, 0.4), 0, 0)):
        (view,) = views_of(CHESSBOARD, [lens.picture(texture, turn, (0, 0, 0.4))])
        np.testing.assert_allclose(tilt_of(view, WH), (sideways, up), atol=0.12)  # the focal length is only guessed


def test_a_set_says_what_it_lacks_until_it_lacks_nothing(chessboards):
    views = ViewSet(WH, 10)
    assert views.missing() == "show the board"
    said = []
    for view in views_of(CHESSBOARD, chessboards):
        views.offer(view)
        said.append(views.missing())
    assert any(text.startswith("fill the ") for text in said)
    assert views.complete
    assert said[-1] == ""
    assert covered_cells(views.views, WH).mean() >= 0.8
    kept, alike = len(views.views), views.alike
    assert not views.offer(views.views[0])
    assert (len(views.views), views.alike) == (kept, alike + 1)


def test_blurred_views_are_left_out(lens):
    texture = chessboard((9, 6), 0.025)
    views = ViewSet(WH, 10)
    sharp, blurred = (views_of(CHESSBOARD, [lens.picture(texture, (0, 0.3, 0), (0, 0, 0.4), b)])[0] for b in (0.5, 4))
    assert views.offer(sharp)
    assert not views.offer(blurred)
    assert views.blurred == 1


def test_a_folder_becomes_a_camera_file_and_a_report(tmp_path, chessboards):
    source, out = folder_of(tmp_path, chessboards), tmp_path / "front.toml"
    job = CalibrationJob(source, parse_board(CHESSBOARD), out, report=tmp_path / "front.png", frame_id="front")
    found, camera = calibrate_camera(job)
    assert read_camera(out) == camera
    assert camera.frame_id == "front"
    assert (camera.width_px, camera.height_px) == WH
    assert COUNT - 1 <= camera.views == len(found.views)  # older detectors miss one
    np.testing.assert_allclose(camera.parameters, found.parameters, rtol=1e-8)
    picture = cv2.imread(str(tmp_path / "front.png"))
    assert picture.shape[1] == 1280
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 10
    across, down = map(float, re.search(r"field of view +([\d.]+) x ([\d.]+)", report_text(found, camera)).groups())
    assert (across, down) == pytest.approx((68.75, 51.9), abs=0.2)
    x, y = brown(*FoundLens(camera).rays(np.array([[600.0], [40.0]]))[:2, 0], BENT)
    assert (x * 520 + 325, y * 522 + 236) == pytest.approx((600, 40), abs=0.3)


def test_a_lens_model_that_ends_inside_the_picture_is_refused(tmp_path, chessboards, monkeypatch):
    def folding(*words) -> object:
        found = calibrate(*words)
        found.parameters[4:] = (-2.0, 0.0, 0.0, 0.0, 0.0)
        return found

    monkeypatch.setattr("edge.calibrate_camera.calibrate", folding)
    job = CalibrationJob(folder_of(tmp_path, chessboards), parse_board(CHESSBOARD), tmp_path / "front.toml")
    with pytest.raises(ConfigError, match="does not reach the outer [0-9]+ % of the picture"):
        calibrate_camera(job)
    assert not job.out.exists()


def test_recalibrating_keeps_name_and_mount(tmp_path, chessboards):
    source, out = folder_of(tmp_path, chessboards), tmp_path / "front.toml"
    job = CalibrationJob(source, parse_board(CHESSBOARD), out, frame_id="front", report=tmp_path / "page.html")
    _, camera = calibrate_camera(job)
    mounted = read_camera(out)
    write_camera(out, type(mounted)(**{**{f: getattr(mounted, f) for f in mounted.__struct_fields__},
                                       "mount": MountSection(height_m=0.4, tilt_down_deg=3.0)}))  # fmt: skip
    _, again = calibrate_camera(CalibrationJob(source, parse_board(CHESSBOARD), out))
    assert again.mount == MountSection(height_m=0.4, tilt_down_deg=3.0)
    assert again.frame_id == camera.frame_id == "front"
    page = (tmp_path / "page.html").read_text()
    assert "data:image/jpeg;base64," in page
    assert page.count("<tr>") >= COUNT
    out.write_text("[other]\n")
    with pytest.raises(ConfigError, match="is no camera file"):
        calibrate_camera(CalibrationJob(source, parse_board(CHESSBOARD), out))


def test_a_live_camera_is_watched_until_nothing_is_missing(tmp_path, chessboards):
    source = f"images://{folder_of(tmp_path, chessboards, copies=3)}?fps=60&loop=on"
    job = CalibrationJob(source, parse_board(CHESSBOARD), tmp_path / "front.toml", wanted=8, seconds=20)
    looked = look_for_views(job)  # it ends although the source does not
    assert looked.views.complete
    assert len(looked.views.views) >= 8
    assert looked.moving > 0  # a new place is taken when the board has come to rest


@pytest.mark.parametrize(
    ("board", "said"),
    [
        ("chessboard:8x5:0.025", "but a chessboard of 9x6 inner corners"),
        ("chessboard:10x7:0.025", "but a chessboard of 9x6 inner corners"),
        ("charuco:7x5:0.04:0.03", "no 7x5 charuco with DICT_4X4_50 in 3 frames"),
    ],
)
def test_the_wrong_board_is_told(tmp_path, chessboards, board, said):
    source = folder_of(tmp_path, chessboards[:3])
    with pytest.raises(ConfigError, match=said):
        calibrate_camera(CalibrationJob(source, parse_board(board), tmp_path / "front.toml"))


def test_the_wrong_board_is_guessed_in_a_small_picture(chessboards, monkeypatch):
    """Two dozen sizes are tried, each of which takes a second in a picture of 1280 px."""
    widths, look = [], cv2.findChessboardCorners

    def find(image, *words, **more):
        widths.append(image.shape[1])
        return look(image, *words, **more)

    monkeypatch.setattr(cv2, "findChessboardCorners", find)
    large = cv2.resize(chessboards[4], (1920, 1440), interpolation=cv2.INTER_CUBIC)
    assert other_board(parse_board("chessboard:9x7:0.025"), large) == "a chessboard of 9x6 inner corners"
    assert max(widths) == 640


def test_the_wrong_dictionary_is_told(tmp_path, charucos):
    source = folder_of(tmp_path, charucos[:3])
    job = CalibrationJob(source, parse_board(CHARUCO + ":DICT_6X6_50"), tmp_path / "front.toml")
    with pytest.raises(ConfigError, match="markers of DICT_4X4_1000"):
        calibrate_camera(job)


def test_pictures_of_two_sizes_are_refused(tmp_path, chessboards):
    source = folder_of(tmp_path, [*chessboards[:2], chessboards[2][:400]])
    with pytest.raises(ConfigError, match=r"02-0\.png has 640x400 px, those before 640x480"):
        calibrate_camera(CalibrationJob(source, parse_board(CHESSBOARD), tmp_path / "front.toml"))


@pytest.mark.parametrize(
    "text",
    [
        "chessboard",
        "chessboard:9x6",
        "chessboard:9x6:25",
        "chessboard:2x2:0.1",
        "charuco:7x5:0.03:0.04",
        "chessboard:9x6:1.2.3",
    ],
)
def test_what_is_no_board_is_refused(text):
    with pytest.raises(ConfigError):
        parse_board(text)


def test_a_dictionary_is_suggested():
    with pytest.raises(ConfigError, match="did you mean 'DICT_4X4_50'"):
        parse_board("charuco:7x5:0.04:0.03:DICT_4X4_55")
