"""synthetic://: the drawn pixels are where the truth says, and everything is deterministic."""

import numpy as np
import pytest

from edge.errors import ConfigError, EndOfStreamError
from edge.sources.base import open_source
from edge.sources.synthetic import SHAPE_LABELS, SyntheticOptions, SyntheticSource, truth
from edge.uri import parse_uri


def changed_box(image: np.ndarray, without: np.ndarray) -> tuple[int, ...]:
    """xyxy of the pixels in which two images differ."""
    ys, xs = np.nonzero((image != without).any(axis=2))
    return int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("shapes", [1, 2, 3])
def test_the_truth_matches_the_drawn_pixels(seed: int, shapes: int) -> None:
    """The last shape is drawn over the others: it alone differs from the scene with one shape less."""
    uri = f"synthetic://?fps=0&seed={seed}&size=320x240&shapes="
    scene, less = (SyntheticSource(parse_uri(f"{uri}{n}")) for n in (shapes, shapes - 1))
    scene.open()
    less.open()
    for seq in range(40):
        boxes, class_ids = truth(seq, scene.options)
        assert class_ids[-1] == (shapes - 1) % len(SHAPE_LABELS)
        box = changed_box(scene.grab(None).image, less.grab(None).image)
        assert box == tuple(boxes[-1])
        assert (boxes[:, :2] >= 0).all()
        assert (boxes[:, 2:] <= (320, 240)).all()


def test_the_truth_is_reached_from_the_sequence_number_though_frames_were_dropped() -> None:
    seen = []
    with open_source("synthetic://?fps=200&frames=60&shapes=1&size=160x120") as source:
        options = source.options
        assert isinstance(options, SyntheticOptions)
        try:
            while True:
                frame = source.read(5)
                seen.append(frame.info.seq)
                assert frame.info.frame_ref == str(frame.info.seq)
                (box,), _ = truth(frame.info.seq, options)
                x0, y0, x1, y1 = box.astype(int)
                red = (frame.image == (40, 40, 230)).all(axis=2)
                assert red[y0:y1, x0:x1].all()
                assert red.sum() == (y1 - y0) * (x1 - x0)
        except EndOfStreamError:
            pass
        assert len(seen) + source.stats.dropped == 60


def test_fps_0_delivers_every_frame_and_a_rate_is_paced() -> None:
    with open_source("synthetic://?fps=0&frames=100&size=64x64") as source:
        assert not source.live
        assert [source.read(5).info.seq for _ in range(100)] == list(range(100))
        with pytest.raises(EndOfStreamError, match="all 100"):
            source.read(5)
    with open_source("synthetic://?fps=50&size=64x64") as source:
        first, last = source.read(5).info, source.read(5).info
        assert last.t_capture_ns - first.t_capture_ns == (last.seq - first.seq) * 20_000_000


def test_the_same_seed_gives_the_same_pixels_and_another_seed_others() -> None:
    def image(seed: int) -> np.ndarray:
        with open_source(f"synthetic://?fps=0&seed={seed}&size=96x64") as source:
            return source.read(5).image.copy()

    assert (image(3) == image(3)).all()
    assert (image(3) != image(4)).any()


def test_truth_of_an_empty_scene() -> None:
    boxes, class_ids = truth(0, SyntheticOptions(shapes=0))
    assert boxes.shape == (0, 4)
    assert class_ids.shape == (0,)


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("synthetic://?sizes=1x1", "did you mean 'size'"),
        ("synthetic://?size=4x4", "size"),
        ("synthetic://?shapes=-1", "shapes"),
        ("synthetic://scene7", "only options"),
    ],
)
def test_wrong_options(uri: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        open_source(uri)
