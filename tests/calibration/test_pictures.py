"""Representative data: every source, every refusal with its reason, and no false alarm on real pictures."""

import json
import shutil
from dataclasses import replace

import cv2
import numpy as np
import pytest
from calibration_pictures import noisy_night, page, scene

from calibration.pictures import read_pictures
from calibration.plausibility import check_looks, count_distinct, look_at
from calibration.preprocessed import tensors
from edge.errors import ConfigError
from edge.manifest import InputContract
from edge.preprocess.pixels import Preprocessor
from edge.tensor import TensorSpec


def looks_of(pictures):
    return [look_at(picture) for picture in pictures]


def as_jpeg(picture: np.ndarray, quality: int) -> np.ndarray:
    return cv2.imdecode(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)


def test_a_folder_a_list_and_a_coco_json_give_the_same_pictures(folder_of, tmp_path):
    folder = folder_of([scene(i) for i in range(50)], "images")
    names = sorted(path.name for path in folder.iterdir())
    listing = tmp_path / "list.txt"
    listing.write_text("".join(f"images/{name}\n" for name in names) + "\n")
    coco = tmp_path / "instances.json"
    coco.write_text(json.dumps({"images": [{"id": i, "file_name": name} for i, name in enumerate(names)]}))
    for reference in (folder, listing, coco):
        found = read_pictures(str(reference))
        assert [path.name for path in found.paths] == names
        assert len(found) == len(found.names) == 50
        assert np.array_equal(found.picture(7), scene(7))
        assert not found.notes
    few = read_pictures(str(folder), limit=5, allow_few=True)
    assert list(few.names) == [names[i] for i in (0, 12, 24, 37, 49)]
    assert [picture.sum() for picture in few.chosen([4, 1])] == [scene(49).sum(), scene(12).sum()]
    assert len(replace(few, names=few.names[:2])) == 2


def test_a_video_gives_evenly_spaced_frames_by_number(video_of):
    frames = [scene(i // 4) for i in range(240)]
    found = read_pictures(str(video_of(frames)), limit=60)
    assert len(found) == 60
    assert not found.paths
    assert found.frames[0] == 0
    assert np.ptp(np.diff(found.frames)) <= 4
    assert found.names[1] == f"clip_frame{found.frames[1]:06d}"
    in_order = list(found)
    assert np.array_equal(found.picture(3), in_order[3])  # going back begins again
    for i in (0, 30, 59):
        assert np.abs(in_order[i].astype(int) - frames[found.frames[i]]).mean() < 6


def test_one_corrupt_picture_is_left_out_by_name(folder_of):
    folder = folder_of([scene(i) for i in range(51)])
    data = (folder / "0007.png").read_bytes()
    (folder / "0007.png").write_bytes(data[: len(data) // 2])
    found = read_pictures(str(folder))
    assert len(found) == 50
    assert "0007.png" not in found.names
    assert found.notes == ("left out: 0007.png is truncated",)
    (folder / "0008.png").write_bytes(b"text")
    with pytest.raises(ConfigError, match="49 readable pictures, fewer than 50"):
        read_pictures(str(folder))


def test_what_holds_no_pictures_is_refused(tmp_path, folder_of):
    (tmp_path / "empty").mkdir()
    (tmp_path / "rec.bag").write_bytes(b"")
    (tmp_path / "bad.json").write_text('{"images": 3}')
    (tmp_path / "list.txt").write_text("none.png\n")
    folder_of([scene(0)], "one")
    cases = {
        "none": "there is no",
        "empty": "no pictures in",
        "rec.bag": "only MCAP is read",
        "bad.json": "no COCO JSON",
        "list.txt": "no picture of .* can be read",
        "one": "1 readable pictures, fewer than 50",
    }
    for name, said in cases.items():
        with pytest.raises(ConfigError, match=said):
            read_pictures(str(tmp_path / name))
    one = read_pictures(str(tmp_path / "one"), allow_few=True)
    assert len(one) == 1
    assert one.notes[0].startswith("1 pictures are few to calibrate with")


@pytest.mark.parametrize(
    ("kind", "quality"),  # 28 px of noise in JPEG's coarse blocks would be smooth
    [("uniform", None), ("uniform", 95), ("uniform", 30), ("gaussian", None), ("gaussian", 30), ("small", None)],
)
def test_noise_is_refused(kind, quality):
    rng = np.random.default_rng(0)
    shape = (28, 28, 3) if kind == "small" else (208, 208, 3)
    pictures = [
        np.clip(rng.normal(114, 40, shape), 0, 255).astype(np.uint8)
        if kind == "gaussian"
        else rng.integers(0, 256, shape, dtype=np.uint8)
        for _ in range(12)
    ]
    if quality:
        pictures = [as_jpeg(picture, quality) for picture in pictures]
    with pytest.raises(ConfigError, match="12 of 12 pictures are random noise"):
        check_looks(looks_of(pictures), wants_colour=False)


def test_some_noise_among_pictures_is_only_a_remark():
    rng = np.random.default_rng(0)
    pictures = [scene(i) for i in range(9)] + [rng.integers(0, 256, (99, 99, 3), dtype=np.uint8)]
    assert check_looks(looks_of(pictures), True) == ["1 of 10 pictures are random noise"]


@pytest.mark.parametrize(("level", "sigma"), [(0, 0), (3, 2), (255, 0), (128, 1)])
def test_a_single_colour_is_refused(level, sigma):
    rng = np.random.default_rng(0)
    pictures = [np.clip(rng.normal(level, sigma, (240, 320, 3)), 0, 255).astype(np.uint8) for _ in range(5)]
    with pytest.raises(ConfigError, match="5 of 5 pictures are of a single colour"):
        check_looks(looks_of(pictures), wants_colour=False)


def test_near_copies_are_refused_and_counted():
    rng = np.random.default_rng(0)
    still = [np.clip(scene(1) + rng.normal(0, 3, scene(1).shape), 0, 255).astype(np.uint8) for _ in range(5)]
    changed = [as_jpeg(scene(2), 50), cv2.resize(scene(2), None, fx=0.5, fy=0.5), (scene(2) * 0.8).astype(np.uint8)]
    looks = looks_of([*still, scene(2), *changed, scene(3)])
    assert count_distinct([look.marks for look in looks]) == 3
    with pytest.raises(ConfigError, match="only 3 of 10 pictures are distinct"):
        check_looks(looks, wants_colour=False)


def test_grey_pictures_are_refused_for_a_model_that_takes_colour():
    gray = [cv2.cvtColor(cv2.cvtColor(scene(i), cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR) for i in range(10)]
    looks = looks_of([as_jpeg(picture, 80) for picture in gray])
    assert check_looks(looks, wants_colour=False) == []
    with pytest.raises(ConfigError, match="all 10 pictures are grey"):
        check_looks(looks, wants_colour=True)
    assert check_looks([*looks, look_at(scene(11))], wants_colour=True) == []


def test_pages_and_nights_are_no_noise():
    assert check_looks(looks_of([page(i) for i in range(12)]), wants_colour=True) == []
    nights = [noisy_night(scene(i, 640, 480), i) for i in range(12)]
    assert check_looks(looks_of(nights), wants_colour=True) == []


@pytest.mark.shared
@pytest.mark.parametrize("name", ["coco-calib80", "coco-val80"])
def test_real_photographs_pass_without_a_remark(shared, name):
    found = read_pictures(str(shared / "data" / name), wants_colour=True)
    assert (len(found), found.notes) == (80, ())


@pytest.mark.shared
def test_real_photographs_by_night_pass(shared):
    paths = sorted((shared / "data/coco-calib80").rglob("*.jpg"))[:16]
    nights = [noisy_night(cv2.imread(str(path)), i) for i, path in enumerate(paths)]
    assert check_looks(looks_of(nights), wants_colour=True) == []


@pytest.mark.shared
def test_fashion_mnist_passes(shared):
    stored = np.load(shared / "data/fashion-mnist-900/fashion_mnist_900.npz")["images"]
    looks = looks_of([cv2.cvtColor(image, cv2.COLOR_GRAY2BGR) for image in stored])
    assert check_looks(looks, wants_colour=False) == []


@pytest.mark.shared
def test_a_corrupt_photograph_among_real_ones(shared, tmp_path):
    paths = sorted((shared / "data/coco-calib80").rglob("*.jpg"))[:51]
    for path in paths:
        shutil.copy(path, tmp_path)
    (tmp_path / paths[3].name).write_bytes(paths[3].read_bytes()[:4000])
    found = read_pictures(str(tmp_path))
    assert len(found) == 50
    assert found.notes == (f"left out: {paths[3].name} is truncated",)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_calibrated_pixels_are_the_runtimes(folder_of, layout):
    found = read_pictures(str(folder_of([scene(i, 100 + i, 80) for i in range(3)])), allow_few=True)
    contract = InputContract(resize="letterbox", scale=1 / 255, mean=(0.5, 0.4, 0.3), std=(0.2, 0.2, 0.2))
    shape = (1, 3, 64, 64) if layout == "NCHW" else (1, 64, 64, 3)
    spec = TensorSpec("x", shape, np.dtype(np.float32), layout)
    made = list(tensors(found, contract, spec))
    assert len({id(tensor) for tensor in made}) == 3
    for i, tensor in enumerate(made):
        expected = np.zeros(shape, np.float32)
        Preprocessor(contract, spec, expected)(scene(i, 100 + i, 80))
        assert np.array_equal(tensor, expected)
