"""Camera and regions in the pipeline: bearings and ranges reach the message, what lies outside does not."""

import logging
import math
import tracemalloc
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.cli import main
from edge.config import RunConfig, TrackingSection
from edge.detections import Detections
from edge.errors import ConfigError
from edge.geometry.locator import open_locator
from edge.geometry_config import GeometrySection, ObjectSize, RegionSection
from edge.model import open_model
from edge.pipeline import Pipeline
from edge.testing import MemoryPublisher, MemorySource
from edge.wire.decoder import decode
from edge.wire.encoder import encode

CLASSIFIER = '[[inputs]]\nname = "x"\nshape = [1, 4, 4, 3]\nlayout = "NHWC"\n[[outputs]]\nname = "y"\nshape = [1, 2]\n'
CAMERA = """
frame_id = "front"
width_px = 512
height_px = 512
[intrinsics]
fx_px = 400.0
fy_px = 400.0
cx_px = 255.5
cy_px = 255.5
[mount]
height_m = 1.0
"""


@pytest.fixture
def steps(catalogue):
    """Three steps of the face model on a photo, with a configuration; the messages."""
    catalogue("face")
    astronaut = cv2.imread(str(next(catalogue("astronaut").glob("*.png"))))

    def run(config: RunConfig) -> list:
        publisher = MemoryPublisher()
        model = open_model("face", config.engine)
        pipeline = Pipeline(MemorySource([astronaut], frames=3), model, [publisher], config)
        for _ in range(3):
            pipeline.step()
        model.close()
        run.events = [message for message in publisher.messages if message.kind == "region"]
        run.hello = next(message for message in publisher.messages if message.kind == "hello")
        return [message for message in publisher.messages if message.kind == "detections"]

    return run


def test_a_polygon_keeps_what_lies_in_it_and_tells_who_came(steps, caplog):
    left = [(0.0, 0.0), (0.6, 0.0), (0.6, 1.0), (0.0, 1.0)]
    right = [(0.9, 0.0), (1.0, 0.0), (1.0, 1.0), (0.9, 1.0)]
    keep = RunConfig(region=[RegionSection(name="left", kind="include", points=left)])
    assert [len(message.detections) for message in steps(keep)] == [1, 1, 1]
    drop = RunConfig(region=[RegionSection(name="right", kind="include", points=right)])
    assert [len(message.detections) for message in steps(drop)] == [0, 0, 0]
    watched = RunConfig(
        region=[RegionSection(name="left", kind="zone", points=left)], tracking=TrackingSection(min_hits=1)
    )
    with caplog.at_level(logging.INFO, "harrier"):
        message, *_ = steps(watched)
    (event,) = steps.events
    assert (event.region, event.event, event.index, event.inside, event.label) == ("left", "enter", 0, 1, "face")
    assert (event.track_id, event.seq) == (message.detections[0].track_id, message.seq)
    assert event.t_event_ns == pytest.approx(message.t_capture_ns, abs=2_000_000)
    assert decode(encode(event)).region == "left"
    assert any("region left: enter" in record.getMessage() for record in caplog.records)


def test_bearing_and_range_reach_the_reader(steps, tmp_path):
    camera = tmp_path / "front.toml"
    camera.write_text(CAMERA)
    face = ObjectSize(height_m=0.2, height_sigma_m=0.02)
    config = RunConfig(geometry=GeometrySection(camera=str(camera), sizes={"face": face}))
    message = steps(config)[-1]
    (found,) = message.detections
    x1, y1, x2, y2 = found.box
    assert found.bearing_rad[0] == pytest.approx(math.atan(((x1 + x2) / 2 - 256) / 400), abs=0.01)
    assert found.bearing_rad[1] > 0  # above the middle
    assert found.bearing_sigma_rad > 0
    assert found.range_m == pytest.approx(0.2 * 400 / (y2 - y1), rel=0.2)
    assert found.range_sigma_m > 0
    assert found.position_m[0] == pytest.approx(found.range_m, rel=0.1)  # straight ahead, more or less
    assert found.position_m[1] == pytest.approx(-math.tan(found.bearing_rad[0]) * found.position_m[0], abs=0.02)
    assert found.position_m[2] > 1.0  # it is above the middle of the picture
    assert found.position_sigma_m >= found.range_sigma_m - 1e-3
    assert (steps.hello.frame_id, steps.hello.base_frame_id) == ("front", "base_link")
    (back,) = decode(encode(message)).detections
    assert back.position_m == pytest.approx(found.position_m, abs=0.011)
    assert back.position_sigma_m == pytest.approx(found.position_sigma_m, abs=0.011)
    assert back.bearing_rad == pytest.approx(found.bearing_rad, abs=1e-4)
    assert back.range_m == pytest.approx(found.range_m, abs=0.006)


def test_all_parts_together_keep_nothing_from_frame_to_frame(catalogue, tmp_path, caplog):
    """20 tracks, the camera, three regions: what a step takes beside its message is given back with it."""
    caplog.set_level(logging.WARNING, "harrier")  # else pytest keeps what is logged of events
    catalogue("face")
    camera = tmp_path / "front.toml"
    camera.write_text(CAMERA)
    square = [(0.2, 0.2), (0.7, 0.2), (0.7, 0.9), (0.2, 0.9)]
    config = RunConfig(
        tracking=TrackingSection(min_hits=1),
        geometry=GeometrySection(camera=str(camera), sizes={"face": ObjectSize(height_m=0.2)}),
        region=[
            RegionSection(name="all", kind="include", points=[(0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)]),
            RegionSection(name="door", kind="zone", points=square, dwell_s=0.001),
            RegionSection(name="gate", kind="line", points=[(0.5, 1.0), (0.5, 0.0)]),
        ],
    )
    model, publisher = open_model("face", config.engine), MemoryPublisher()
    pipeline = Pipeline(MemorySource([np.zeros((512, 512, 3), np.uint8)]), model, [publisher], config)
    rng = np.random.default_rng(1)
    places = rng.uniform(50, 450, (20, 2))

    def select(result: Detections, *_: object) -> None:
        result.count = len(places)
        result.xyxy[:20, :2], result.xyxy[:20, 2:] = places - 15, places + 15
        result.scores[:20], result.class_ids[:20] = 0.9, 0
        places[:] += rng.normal(0, 2, places.shape)

    pipeline._select = select
    for _ in range(40):
        message = pipeline.step()
    assert len(message.detections) >= 15
    assert message.detections[0].position_m is not None
    publisher.messages.clear()
    tracemalloc.start()
    sizes = []
    for _ in range(60):
        pipeline.step()
        publisher.messages.clear()
        pipeline.region_events = []
        sizes.append(tracemalloc.get_traced_memory()[0])
        tracemalloc.reset_peak()
    pipeline.step()
    peak = tracemalloc.get_traced_memory()[1] - sizes[-1]
    tracemalloc.stop()
    model.close()
    assert abs(sizes[-1] - sizes[9]) < 8 * 1024  # 50 frames on, there is no more than before
    assert peak < 64 * 1024  # of which the message itself is the most


def test_lines_without_tracks_are_refused_rather_than_silent(steps):
    line = RegionSection(name="gate", kind="line", points=[(0.5, 1.0), (0.5, 0.0)])
    with pytest.raises(ConfigError, match="the line 'gate' needs tracks, and nothing is tracked"):
        steps(RunConfig(region=[line]))


def test_a_classifier_has_nothing_to_place(tmp_path: Path):
    (tmp_path / "m.null").write_text(CLASSIFIER)
    config = RunConfig(geometry=GeometrySection(camera=str(tmp_path / "front.toml")))
    model = open_model(str(tmp_path / "m.null"), config.engine)
    with pytest.raises(ConfigError, match=r"no boxes to track or place: remove \[tracking\], \[geometry\]"):
        Pipeline(MemorySource([np.zeros((8, 8, 3), np.uint8)]), model, [], config)
    model.close()


@pytest.mark.parametrize(
    ("more", "cause"),
    [
        ("[geometry]\ncamera = 'none.toml'\n", "none.toml"),
        ("[tracking]\ntracker = 'bytetrak'\n", "did you mean 'bytetrack'"),
        (
            "[[region]]\nname = 'a'\nkind = 'zone'\npoints = [[0, 0], [1, 0], [1, 1]]\n",
            "the zone 'a' needs tracks, and nothing is tracked: add [tracking]",
        ),
        (
            "[tracking]\n[[region]]\nname = 'a'\nkind = 'zone'\nlabels = ['dog']\npoints = [[0, 0], [1, 0], [1, 1]]\n",
            "dog",
        ),
    ],
)
def test_check_looks_at_camera_tracker_and_regions(catalogue, tmp_path, capsys, more, cause):
    catalogue("face")
    config = tmp_path / "robot.toml"
    config.write_text(f"model = 'face'\nsource = 'synthetic://'\n{more}")
    assert main(["check", str(config)]) == 2
    assert cause in capsys.readouterr().err


def test_sizes_without_a_camera_are_refused():
    section = GeometrySection(sizes={"fce": ObjectSize(height_m=1.0)})
    with pytest.raises(ConfigError, match="has sizes and no camera"):
        open_locator(section, ["face"], 10)
