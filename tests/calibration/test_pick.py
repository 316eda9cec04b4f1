"""Diverse frames: one of every scene before two of one, none dark or blurred, always the same."""

import re

import cv2
import numpy as np
import pytest
from calibration_pictures import scene

from calibration import pick as pick_module
from calibration.pick import descriptor_of, pick
from edge.errors import ConfigError

PER_SCENE = 12


@pytest.fixture
def clip(video_of):
    """Six panned scenes of 12 frames; the third is dark, and in the fifth the first frames are blurred."""
    frames = []
    for number in range(6):
        wide = scene(number, 240, 120)
        for step in range(PER_SCENE):
            frame = wide[:, step * 2 : step * 2 + 160].copy()
            if number == 2:
                frame = (frame * 0.05).astype(np.uint8)
            if number == 4 and step < 6:
                frame = cv2.blur(frame, (31, 31))
            frames.append(frame)
    return video_of(frames)


def numbers_of(files) -> list[int]:
    return [int(re.fullmatch(r"clip_frame(\d{6})\.png", file.name)[1]) for file in files]


def test_every_lit_scene_is_there_before_any_comes_twice(clip, tmp_path):
    seen = []
    picked = pick(str(clip), 5, tmp_path / "out", progress=seen.append)
    numbers = numbers_of(picked.files)
    assert sorted({n // PER_SCENE for n in numbers}) == [0, 1, 3, 4, 5]
    assert not {n for n in numbers if 48 <= n < 54}  # blurred
    assert (picked.frames, picked.dark, seen[-1]) == (72, 12, 72)
    assert 4 <= picked.blurred <= 8
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [file.name for file in picked.files]
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_the_choice_is_the_same_every_time_and_the_pixels_are_the_videos(clip, tmp_path):
    first, second = (pick(str(clip), 8, tmp_path / name) for name in ("a", "b"))
    assert [f.read_bytes() for f in first.files] == [f.read_bytes() for f in second.files]
    video = cv2.VideoCapture(str(clip))
    frames = [video.read()[1] for _ in range(72)]
    for number, file in zip(numbers_of(first.files), first.files, strict=True):
        assert np.array_equal(cv2.imread(str(file)), frames[number])


def test_candidates_stay_few_and_copies_never_count(video_of, tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    frames = [scene(i // 2) for i in range(160)]
    most = 0
    write = pick_module._write_picture

    def counted(path, picture):
        nonlocal most
        write(path, picture)
        most = max(most, len(list(path.parent.iterdir())))

    monkeypatch.setattr(pick_module, "_write_picture", counted)
    picked = pick(str(video_of(frames)), 6, tmp_path / "out")
    assert len(picked.files) == 6
    assert most <= 6 * pick_module._CANDIDATES + 1
    looks = [descriptor_of(cv2.imread(str(file))) for file in picked.files]
    nearest = min(np.linalg.norm(a - b) for i, a in enumerate(looks) for b in looks[:i])
    chance = []
    for _ in range(20):
        some = [descriptor_of(scene(int(i))) for i in rng.choice(80, 6, replace=False)]
        chance.append(min(np.linalg.norm(a - b) for i, a in enumerate(some) for b in some[:i]))
    assert nearest > max(chance)  # farther apart than chance puts them


def test_a_folder_with_a_corrupt_picture(folder_of, tmp_path):
    folder = folder_of([scene(0), scene(0), scene(1)])
    (folder / "0003.png").write_bytes(b"no picture")
    sheet = tmp_path / "sheet.png"
    picked = pick(str(folder), 5, tmp_path / "out", sheet)
    assert [file.name for file in picked.files] == ["0000_png.png", "0002_png.png"]
    assert (picked.frames, picked.unreadable) == (4, 1)
    assert np.array_equal(cv2.imread(str(picked.files[1])), scene(1))
    shown = cv2.imread(str(sheet))
    assert shown.shape[1] > 2 * shown.shape[0]
    assert np.abs(shown[40:130, 30:180].astype(int) - 255).mean() > 30  # the first picture is on it


def test_what_cannot_be_picked(folder_of, tmp_path):
    folder = folder_of([np.full((60, 80, 3), 5, np.uint8)] * 3)
    with pytest.raises(ConfigError, match=r"none of the 3 frames .* will do \(3 dark"):
        pick(str(folder), 2, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(ConfigError, match="is there already"):
        pick(str(folder), 2, folder)
    light = folder_of([scene(0)], "light")
    with pytest.raises(ConfigError, match=r"neither .png nor .jpg"):
        pick(str(light), 1, tmp_path / "out", tmp_path / "sheet.gif")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["light", "pictures"]
