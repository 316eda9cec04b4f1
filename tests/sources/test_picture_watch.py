"""A picture that never changes, or shows nothing, is told; one that lives, or is drawn, is not."""

import time
from collections.abc import Callable

import numpy as np
import pytest

from edge.clock import monotonic_ns
from edge.sources.base import FrameSource, open_source
from edge.sources.capture import Grabbed, SourceOptions
from edge.sources.picture_watch import PictureWatch

FROZEN = "the picture has not changed for 10 s"
FRAME_NS = 33_000_000


def noise(seed: int, size_wh: tuple[int, int] = (320, 240), mean: float = 120.0, spread: float = 2.0) -> np.ndarray:
    """What a sensor gives of an even wall."""
    pixels = np.random.default_rng(seed).normal(mean, spread, (size_wh[1], size_wh[0], 3))
    return pixels.clip(0, 255).astype(np.uint8)


def faults_of(pictures: list[np.ndarray], seconds: float, watch: PictureWatch | None = None) -> list[str]:
    """What is told of these pictures, one after the other for so long at 30 frames/s: each change."""
    watch = watch or PictureWatch(10.0, 3.0)
    told = [""]
    for i in range(int(seconds * 1e9 / FRAME_NS)):
        watch.look(pictures[i % len(pictures)], 5_000_000_000 + i * FRAME_NS)
        if watch.fault != told[-1]:
            told.append(watch.fault)
    return told[1:]


@pytest.mark.parametrize("size_wh", [(8, 8), (320, 240), (1921, 1079)])
def test_the_same_picture_for_ever_is_frozen(size_wh: tuple[int, int]) -> None:
    picture = noise(1, size_wh, spread=30)
    assert faults_of([picture], 9.9) == []
    assert faults_of([picture], 10.5) == [FROZEN]


def test_a_driver_that_goes_round_in_its_old_buffers_is_frozen() -> None:
    assert faults_of([noise(i) for i in range(4)], 11) == [FROZEN]


def test_a_sensor_that_looks_at_a_wall_is_alive() -> None:
    assert faults_of([noise(i) for i in range(40)], 12) == []


@pytest.mark.parametrize(
    ("picture", "what"),
    [
        (np.zeros((240, 320, 3), np.uint8), "black"),
        (noise(3, mean=6, spread=4), "black"),
        (np.full((240, 320, 3), (0, 135, 0), np.uint8), "of one colour"),
        (np.full((240, 320, 3), 128, np.uint8), "of one colour"),
    ],
)
def test_a_picture_that_shows_nothing(picture: np.ndarray, what: str) -> None:
    assert faults_of([picture], 2.9) == []
    assert faults_of([picture], 3.5) == [f"the picture is {what}"]


def test_a_dark_yard_with_a_lamp_and_a_bright_sky_show_something() -> None:
    yard = [noise(i, mean=4, spread=3) for i in range(20)]
    for picture in yard:
        picture[100:140, 150:190] = 220
    assert faults_of(yard, 5) == []
    assert faults_of([noise(i, mean=240, spread=3) for i in range(20)], 5) == []


def test_what_lives_again_is_told() -> None:
    watch = PictureWatch(1.0, 0.5)
    still, black = noise(1), np.zeros((240, 320, 3), np.uint8)
    t_ns, told = 0, []
    for picture in [still] * 60 + [black] * 60 + [noise(i) for i in range(2, 12)]:
        watch.look(picture, t_ns := t_ns + FRAME_NS)
        if not told or told[-1] != watch.fault:
            told.append(watch.fault)
    assert told == ["", "the picture has not changed for 1 s", "", "the picture is black", ""]


def test_0_looks_for_nothing_and_few_frames_prove_nothing() -> None:
    assert faults_of([np.zeros((8, 8, 3), np.uint8)], 60, PictureWatch(0, 0)) == []
    watch = PictureWatch(1.0, 1.0)
    for i in range(4):  # one in ten seconds
        watch.look(np.zeros((8, 8, 3), np.uint8), i * 10_000_000_000)
        assert watch.fault == ""


class Still:
    """A camera of the same grey for ever."""

    note = ""
    live = True
    options = SourceOptions(frozen_s=0.1, blank_s=0)

    def __init__(self, quality: str) -> None:
        self.quality = quality

    def open(self) -> None:
        pass

    def grab(self, into: np.ndarray | None) -> Grabbed:
        time.sleep(0.01)
        return Grabbed(noise(1), monotonic_ns(), self.quality)

    def close(self) -> None:
        pass

    def interrupt(self) -> None:
        pass


@pytest.mark.parametrize("quality", ["driver", "pts", "arrival"])
def test_a_source_looks_at_what_comes_from_a_camera(quality: str, until: Callable[..., None]) -> None:
    with FrameSource(lambda: Still(quality), "test") as source:
        until(lambda: source.picture_fault == "the picture has not changed for 0.1 s")


def test_what_is_drawn_or_read_from_files_may_stand_still(tmp_path) -> None:
    with FrameSource(lambda: Still("generated"), "test") as source:
        for _ in range(40):
            source.read(5)
        assert source.picture_fault == ""
    with open_source("synthetic://?fps=500&shapes=0&size=64x48&frozen_s=0.05&blank_s=0.05") as source:
        for _ in range(100):
            source.read(5)
        assert source.picture_fault == ""
