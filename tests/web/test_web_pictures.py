"""Pictures for viewers: only while somebody looks, drawn beside the loop, as large as is asked for."""

import queue
import threading

import cv2
import numpy as np
import pytest
from live_runs import LiveRun, until

from edge.config import WebSection
from edge.frame import Frame, FrameInfo
from edge.web import pictures as pictures_module
from edge.web.pictures import Pictures, scaled, shrunk
from edge.wire.messages import ClassificationMessage, DetectionRecord, DetectionsMessage

pytest.importorskip("aiohttp", reason="the extra 'web' is not installed")

FRAME = Frame(np.full((64, 96, 3), 60, np.uint8), FrameInfo(1, "test", 0, 96, 64))


def message(box=(10.0, 10.0, 50.0, 40.0)) -> DetectionsMessage:
    found = [DetectionRecord("cat", 0, 0.9, box, keypoints=[(20.0, 20.0)], predicted_box=box, predicted_sigma_px=2.0)]
    return DetectionsMessage(seq=1, t_publish_ns=0, t_capture_ns=0, age_ms=1.0, detections=found)


@pytest.fixture
def drawn(tmp_path):
    """Pictures of a pipeline that does not run, and the queue they come in."""
    run = LiveRun(tmp_path)
    came: queue.Queue[bytes] = queue.Queue()
    pictures = Pictures(run.pipeline, WebSection(picture_hz=60, picture_width=96), came.put)
    yield pictures, came
    pictures.close()
    run.page._socket.close()
    run.page._pictures.close()
    run.pipeline.lineup.close()


def test_nothing_is_copied_while_nobody_looks(drawn):
    pictures, came = drawn
    pictures.show(FRAME, message())
    assert pictures._buffer.size == 0
    assert pictures.newest is not None
    pictures.wanted = True
    pictures.show(FRAME, message())
    picture = cv2.imdecode(np.frombuffer(came.get(timeout=10), np.uint8), cv2.IMREAD_COLOR)
    assert picture.shape == (64, 96, 3)
    assert np.abs(picture.astype(int) - 60).max() > 60, "nothing is drawn on it"
    assert (FRAME.image == 60).all(), "the frame is only lent"


def test_a_frame_that_the_source_took_back_is_not_shown(drawn, monkeypatch):
    """Then the loop is quicker than the drawing thread, and copies the next ones itself."""
    pictures, came = drawn
    source, copy = pictures._pipeline.source, pictures._copy
    copied_by: list[threading.Thread] = []

    def copy_late(image: np.ndarray) -> None:
        copied_by.append(threading.current_thread())
        copy(image)
        if copied_by[-1] is pictures._thread:
            source.read(1)  # what the loop does meanwhile

    monkeypatch.setattr(pictures, "_copy", copy_late)
    pictures.wanted = True
    pictures.show(FRAME, message())
    until(lambda: not pictures._busy, "it waits for a frame that is gone")
    assert pictures.drawn == 0
    assert came.empty()
    pictures.show(FRAME, message())
    assert copied_by == [pictures._thread, threading.current_thread()]
    source.read(1)
    assert came.get(timeout=10)


def test_it_draws_no_more_than_so_many_a_second(drawn):
    pictures, came = drawn
    pictures._period_ns = 10**12
    pictures.wanted = True
    for _ in range(5):
        pictures.show(FRAME, message())
    came.get(timeout=10)
    pictures.show(FRAME, message())
    with pytest.raises(queue.Empty):
        came.get(timeout=0.1)
    assert pictures.drawn == 1


def test_a_defect_while_drawing_ends_the_pictures_and_not_the_run(drawn, monkeypatch, caplog):
    pictures, came = drawn
    monkeypatch.setattr(pictures_module, "annotate", lambda *args, **kwargs: 1 / 0)
    pictures.wanted = True
    pictures.show(FRAME, message())
    pictures._thread.join(10)
    pictures.show(FRAME, message())
    assert came.empty()
    assert "report this as a defect" in caplog.text


@pytest.mark.parametrize(
    ("size", "most", "expected"),
    [
        ((1280, 720), 640, (640, 360)),
        ((1280, 720), 800, (800, 450)),
        ((1920, 1080), 800, (768, 432)),
        ((800, 600), 640, (640, 480)),
        ((641, 483), 640, (560, 420)),  # 7/8 of what divides by 8
        ((640, 480), 640, (640, 480)),
        ((5000, 100), 64, (63, 1)),
        ((4056, 3040), 320, (312, 233)),
    ],
)
def test_pictures_are_shrunk_as_far_as_is_asked_for(size, most, expected):
    picture, scale = shrunk(np.zeros((size[1], size[0], 3), np.uint8), most)
    assert picture.shape[1] <= most
    assert picture.shape[1::-1] == expected
    assert picture.shape[1] == pytest.approx(size[0] * scale, abs=8)


def test_strips_give_the_picture_that_one_piece_gives():
    image = np.random.default_rng(1).integers(0, 255, (720, 1280, 3), np.uint8)
    for most, whole in ((640, (640, 360)), (800, (800, 450))):
        picture, _ = shrunk(image, most)
        expected = cv2.resize(image, whole, interpolation=cv2.INTER_AREA)
        assert np.abs(picture.astype(int) - expected).max() <= 1


def test_boxes_go_along_with_the_picture():
    (record,) = scaled(message(), 0.5).detections
    assert record.box == record.predicted_box == (5.0, 5.0, 25.0, 20.0)
    assert record.keypoints == [(10.0, 10.0)]
    assert record.predicted_sigma_px == 1.0
    assert message().detections[0].box == (10.0, 10.0, 50.0, 40.0)
    classes = ClassificationMessage(seq=1, t_publish_ns=0, t_capture_ns=0, age_ms=1.0, classes=[])
    assert scaled(classes, 0.5) is classes


def test_a_program_gets_pictures_too(tmp_path):
    with LiveRun(tmp_path, WebSection(listen="127.0.0.1:0", picture_width=128)) as run:
        status, jpeg = run.ask("/picture.jpg")
        assert status == 200
        assert cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR).shape == (64, 128, 3)
        run.frames = False
        status, told = run.ask("/picture.jpg")
        assert (status, "no picture came" in told["error"]) == (503, True)
