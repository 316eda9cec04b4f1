"""Tracking as `harrier run` has it: off unless configured, weak detections let through, published with numbers."""

import tracemalloc

import cv2
import msgspec
import numpy as np
import pytest

from edge import catalogue as catalogue_module
from edge.cli import main
from edge.config import EngineSection, RunConfig, Thresholds, TrackingSection, read_config
from edge.detections import Detections
from edge.errors import ConfigError
from edge.lineup import lineup_of
from edge.model import open_model
from edge.nms import NmsSettings, suppress
from edge.pipeline import Pipeline
from edge.registry import names, resolve
from edge.testing import MemoryPublisher, MemorySource, check_tracker
from edge.timings import Stage
from edge.tracking.bytetrack import ByteTracker
from edge.tracking.iou import IouTracker
from edge.wire import jsonl

CLASSIFIER = """
[[inputs]]
name = "image"
shape = [1, 8, 8, 3]
layout = "NHWC"

[[outputs]]
name = "scores"
shape = [1, 3]
"""


@pytest.mark.parametrize("min_hits", [1, 2, 3])
@pytest.mark.parametrize("name", names("trackers"))
def test_the_contract(name, min_hits):
    check_tracker(resolve("trackers", name)(TrackingSection(min_hits=min_hits), 16), 16)


class Forgetful(IouTracker):
    """Gives the numbers it gave before."""

    def reset(self) -> None:
        super().reset()
        self.next_id = 1


def test_the_contract_finds_what_is_broken():
    with pytest.raises(AssertionError, match="number was given again"):
        check_tracker(Forgetful(TrackingSection(), 16))
    with pytest.raises(AssertionError, match="two objects that move apart"):
        check_tracker(ByteTracker(TrackingSection(min_hits=100), 16))


def test_an_unknown_tracker_names_those_there_are():
    with pytest.raises(ConfigError, match="there is no tracker 'bytetrak': did you mean 'bytetrack'"):
        resolve("trackers", "bytetrak")


def test_off_unless_configured(tmp_path):
    assert RunConfig().tracking is None
    (tmp_path / "run.toml").write_text("[tracking]\nmax_lost_s = 3\n")
    section = read_config(tmp_path / "run.toml").tracking
    assert (section.tracker, section.max_lost_s) == ("bytetrack", 3)
    (tmp_path / "run.toml").write_text("[tracking]\nmax_lost = 3\n")
    with pytest.raises(ConfigError, match="unknown key 'max_lost' in .tracking.*did you mean 'max_lost_s'"):
        read_config(tmp_path / "run.toml")


def test_a_classifier_has_nothing_to_track(tmp_path):
    (tmp_path / "m.null").write_text(CLASSIFIER)
    model = open_model(str(tmp_path / "m.null"), EngineSection())
    with pytest.raises(ConfigError, match="no boxes to track or place: remove .tracking."):
        Pipeline(MemorySource([np.zeros((8, 8, 3), np.uint8)]), model, [], RunConfig(tracking=TrackingSection()))


@pytest.fixture
def astronaut(catalogue) -> np.ndarray:
    catalogue("face")
    return cv2.imread(str(catalogue("astronaut") / catalogue_module.entries()["astronaut"].file))


def pipeline_of(images, tracking: TrackingSection | None, **thresholds) -> tuple[Pipeline, MemoryPublisher]:
    config = RunConfig(engine=EngineSection(threads=1), tracking=tracking)
    publisher = MemoryPublisher()
    return Pipeline(MemorySource(images), open_model("face", config.engine), [publisher], config), publisher


def test_a_face_is_followed(astronaut):
    images = [np.roll(astronaut, 3 * i, axis=1) for i in range(8)]
    pipeline, publisher = pipeline_of(images, TrackingSection())
    messages = [pipeline.step() for _ in images]
    assert messages[0].detections == []
    for message in messages[1:]:
        (face,) = message.detections
        assert (face.track_id, face.label) == (1, "face")
        assert len(face.keypoints) == 6
        assert face.predicted_sigma_px > 0
        assert len(face.predicted_box) == 4
    assert face.velocity_px_s[0] > 0
    assert publisher.messages[-1] is message
    assert (pipeline.timings.stages_ns[:, Stage.TRACK] > 0).all()
    assert pipeline.model.decoder.score_threshold == pytest.approx(0.1)


def test_numbers_go_on_where_tracking_was_off_for_a_while(astronaut):
    images = [np.roll(astronaut, 3 * i, axis=1) for i in range(8)]
    pipeline, _ = pipeline_of(images, TrackingSection(min_hits=1))
    (before,) = pipeline.step().detections
    on = pipeline.config
    pipeline.use(pipeline.lineup, msgspec.structs.replace(on, tracking=None))
    (untracked,) = pipeline.step().detections  # and none of the weak ones that only a tracker wants
    assert (untracked.track_id, pipeline.model.decoder.score_threshold) == (None, pytest.approx(0.5))
    pipeline.use(pipeline.lineup, on)
    (after,) = pipeline.step().detections
    assert (before.track_id, after.track_id) == (1, 2)


def test_a_threshold_that_is_configured_no_longer_holds_no_longer(astronaut):
    pipeline, _ = pipeline_of([astronaut] * 2, None)
    plain = pipeline.config
    pipeline.use(pipeline.lineup, msgspec.structs.replace(plain, thresholds=Thresholds(score=0.99)))
    assert pipeline.step().detections == []
    pipeline.use(pipeline.lineup, plain)
    assert len(pipeline.step().detections) == 1


def test_without_tracking_nothing_changes(astronaut):
    pipeline, _ = pipeline_of([astronaut], None)
    (face,) = pipeline.step().detections
    assert (face.track_id, face.velocity_px_s, face.predicted_box, face.unseen_ms) == (None, None, None, None)
    assert not pipeline.timings.stages_ns[:, Stage.TRACK].any()
    raw, _ = pipeline_of([astronaut], TrackingSection(smooth=False, min_hits=1))
    (tracked,) = raw.step().detections
    assert tracked.box == face.box  # also where weak boxes reach the tracker
    assert tracked.keypoints == face.keypoints


@pytest.mark.parametrize(("config", "max_lost_s"), [("", 1.5), ("[tracking]\nmax_lost_s = 3\n", 3)])
def test_the_option_turns_it_on_and_leaves_what_is_configured(catalogue, tmp_path, monkeypatch, config, max_lost_s):
    catalogue("face")
    seen = []
    monkeypatch.setattr("edge.run.run", lambda config, *_: seen.append(config))
    (tmp_path / "run.toml").write_text(f"model = 'face'\nsource = 'synthetic://'\n{config}")
    assert main(["run", str(tmp_path / "run.toml"), "--track"]) == 0
    assert seen[0].tracking.max_lost_s == max_lost_s


def test_the_option_is_all_it_takes(astronaut, tmp_path):
    for i in range(4):
        cv2.imwrite(str(tmp_path / f"{i}.png"), np.roll(astronaut, 3 * i, axis=1))
    words = ["run", "--model", "face", "--source", f"images://{tmp_path}", "--track"]
    assert main([*words, "--publish", f"file://{tmp_path}/seen.jsonl"]) == 0
    found = [jsonl.decode(line) for line in (tmp_path / "seen.jsonl").read_bytes().splitlines()]
    numbers = [[record.track_id for record in m.detections] for m in found if m.kind == "detections"]
    assert numbers == [[], [1], [1], [1]]


def test_a_step_with_tracking_allocates_nothing_that_grows(astronaut):
    images = [np.roll(cv2.resize(astronaut, (1280, 720)), 3 * i, axis=1) for i in range(4)]
    pipeline, publisher = pipeline_of(images, TrackingSection())
    for _ in range(5):
        pipeline.step()
    tracemalloc.start()
    for _ in range(10):
        pipeline.step()
        publisher.messages.clear()
    kept, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 128 * 1024
    assert kept < 16 * 1024


@pytest.mark.parametrize("tracker", ["bytetrack", "iou"])
def test_numbers_go_on_when_another_model_takes_over_or_is_refused(astronaut, tmp_path, tracker):
    pipeline, _ = pipeline_of([astronaut], TrackingSection(tracker=tracker, min_hits=1))

    def number() -> int:
        return pipeline.step().detections[0].track_id

    assert [number(), number()] == [1, 1]
    pipeline.use(lineup_of(open_model("face", pipeline.config.engine)))
    assert [number(), number()] == [2, 2]
    (tmp_path / "m.null").write_text(CLASSIFIER)
    with pytest.raises(ConfigError, match="no boxes to track"):
        pipeline.use(lineup_of(open_model(str(tmp_path / "m.null"), EngineSection())))
    assert [number(), number()] == [3, 3]


def test_the_camera_is_asked_for_its_motion(astronaut):
    pipeline, _ = pipeline_of([astronaut], TrackingSection())
    asked = []

    def motion(t_previous_ns: int, t_current_ns: int) -> np.ndarray:
        asked.append((t_previous_ns, t_current_ns))
        return np.eye(3)

    pipeline.camera_motion = motion
    for _ in range(3):
        pipeline.step()
    between, since = [asked[1], asked[3]], [asked[0], asked[2], asked[4]]
    assert between[0][1] == between[1][0] < between[1][1]  # from frame to frame
    assert [t for t, _ in since] == [asked[1][0], asked[1][1], asked[3][1]]  # and from each capture to now
    assert all(now > captured for captured, now in since)


def test_what_the_camera_did_since_capture_is_in_the_prediction(astronaut):
    pipeline, _ = pipeline_of([astronaut], TrackingSection())

    def motion(t_previous_ns: int, t_current_ns: int) -> np.ndarray:
        moved = np.eye(3)
        moved[0, 2] = 40.0 * (t_previous_ns == pipeline.frame.info.t_capture_ns)  # px; still between frames
        return moved

    pipeline.camera_motion = motion
    for _ in range(3):
        (face,) = pipeline.step().detections or [None]
    assert face.predicted_box[0] - face.box[0] == pytest.approx(40, abs=8)
    assert face.predicted_box[1] - face.box[1] == pytest.approx(0, abs=3)


def test_published_boxes_stay_in_the_picture_and_those_gone_are_left_out(astronaut):
    pipeline, _ = pipeline_of([astronaut], TrackingSection())

    class Leaving(ByteTracker):
        def update(self, detections, into, t_capture_ns, current_from_previous=None) -> None:
            into.count = 2
            into.xyxy[:2] = (-5, 10, 600, 20), (520, 10, 530, 20)
            into.track_ids[:2] = 4, 5

    pipeline._tracker = Leaving(TrackingSection(), 100, 6)
    (record,) = pipeline.step().detections
    assert (record.track_id, record.box) == (4, [0, 10, 512, 20])


def test_weak_boxes_have_no_part_in_the_blend_of_strong_ones():
    found, into = Detections(4), Detections(4)
    found.count = 3
    found.xyxy[:3] = (0, 0, 10, 10), (1, 0, 11, 10), (2, 0, 12, 10)
    found.scores[:3] = 0.8, 0.8, 0.2
    settings = NmsSettings(method="weighted", iou_threshold=0.3, blend_score=0.5)
    suppress(found, into, settings)
    assert (into.count, into.xyxy[0].tolist()) == (1, [0.5, 0, 10.5, 10])
    found.scores[:3] = 0.4, 0.4, 0.2
    suppress(found, into, settings)
    assert into.xyxy[0].tolist() == pytest.approx([0.8, 0, 10.8, 10])


def test_the_iou_tracker_follows_what_overlaps():
    tracker, into, found = IouTracker(TrackingSection(), 16), Detections(16), Detections(16)
    numbers = []
    for i in range(6):
        found.count = 2
        found.xyxy[:2] = (10 * i, 0, 50 + 10 * i, 50), (300, 0, 350, 50)
        found.scores[:2] = 0.9, 0.6
        tracker.update(found, into, i * 33_000_000)
        numbers.append(into.track_ids[: into.count].tolist())
    assert numbers == [[]] + 5 * [[1, 2]]
    found.xyxy[0] = (200, 0, 250, 50)  # overlaps nothing any more
    tracker.update(found, into, 6 * 33_000_000)
    assert into.track_ids[: into.count].tolist() == [2]
