"""Thresholds that change while a run goes on: at once, everywhere, and without losing a track."""

import numpy as np
import pytest
from live_runs import detector, see

from edge.config import EngineSection, RunConfig, Thresholds, TrackingSection, with_thresholds
from edge.lineup import open_lineup
from edge.model import open_model
from edge.pipeline import Pipeline
from edge.registry import names
from edge.testing import MemoryPublisher, MemorySource


@pytest.fixture
def pipeline_of(tmp_path):
    """A pipeline over the detector that computes nothing."""
    made = []

    def make(tracking: TrackingSection | None = None, **thresholds: float) -> Pipeline:
        folder = tmp_path / f"pets-{len(made)}"
        config = RunConfig(
            model=str(detector(folder, "first", "second")),
            engine=EngineSection(target="first", fallback=["second"]),
            thresholds=Thresholds(**thresholds),
            tracking=tracking,
        )
        source = MemorySource([np.zeros((128, 128, 3), np.uint8)])
        made.append(Pipeline(source, open_lineup(config), [MemoryPublisher()], config))
        return made[-1]

    yield make
    for pipeline in made:
        pipeline.lineup.close()


def scores(pipeline: Pipeline) -> list[float]:
    return [round(found.score, 2) for found in pipeline.step().detections]


def test_the_next_frame_has_them(pipeline_of):
    pipeline = pipeline_of()
    see(pipeline, (32, 32, 0.9), (12, 12, 0.55), (50, 50, 0.3))
    assert scores(pipeline) == [0.9, 0.55]
    pipeline.set_thresholds(score=0.2)
    assert scores(pipeline) == [0.9, 0.55, 0.3]
    pipeline.set_thresholds(score=0.7)
    assert scores(pipeline) == [0.9]
    assert pipeline.config.thresholds == Thresholds(score=0.7)
    assert [member.model.decoder.score_threshold for member in pipeline.lineup.members] == [0.7, 0.7]


def test_overlap_alone_leaves_the_score_as_it_was(pipeline_of):
    pipeline = pipeline_of()
    see(pipeline, (30, 30, 0.9), (32, 30, 0.8))  # IoU 8/12
    assert scores(pipeline) == [0.9]
    pipeline.set_thresholds(iou=0.8)
    assert scores(pipeline) == [0.9, 0.8]
    assert (pipeline.config.thresholds.score, pipeline.nms.score_threshold) == (None, 0.5)


@pytest.mark.parametrize("tracker", names("trackers"))
@pytest.mark.parametrize("high", [None, 0.6])
def test_tracks_go_on(pipeline_of, tracker, high):
    """Also where high_score was configured: whoever moves the slider means what it says."""
    pipeline = pipeline_of(TrackingSection(tracker=tracker, min_hits=1, coast_s=0, high_score=high))
    see(pipeline, (32, 32, 0.9), (12, 12, 0.3))
    for _ in range(3):
        before = pipeline.step().detections
    assert [found.track_id for found in before] == [1]
    pipeline.set_thresholds(score=0.25)
    after = pipeline.step().detections
    assert {found.track_id: round(found.score, 2) for found in after} == {1: 0.9, 2: 0.3}
    pipeline.set_thresholds(score=0.95)
    after = pipeline.step().detections
    if tracker == "bytetrack":  # weak ones keep a track going
        assert [found.track_id for found in after] == [1, 2]
    else:
        assert after == []
    see(pipeline, (50, 12, 0.93))
    assert [found.track_id for found in pipeline.step().detections if found.track_id == 3] == []
    pipeline.set_thresholds(score=0.5)
    pipeline.step()
    assert 3 in {found.track_id for found in pipeline.step().detections}


def test_weak_detections_still_reach_the_tracker(pipeline_of):
    pipeline = pipeline_of(TrackingSection(low_score=0.1))
    pipeline.set_thresholds(score=0.6)
    decoder = pipeline.model.decoder
    assert decoder.score_threshold == pytest.approx(0.1)
    assert (pipeline.nms.score_threshold, pipeline.nms.blend_score) == (pytest.approx(0.1), 0.6)
    pipeline.set_thresholds(score=0.05)
    assert decoder.score_threshold == pytest.approx(0.05)


def test_they_hold_for_the_next_model(pipeline_of, tmp_path):
    pipeline = pipeline_of()
    pipeline.set_thresholds(score=0.2, iou=0.9)
    other = pipeline_of()
    old = pipeline.use(other.lineup)
    see(pipeline, (32, 32, 0.9), (12, 12, 0.3))
    assert scores(pipeline) == [0.9, 0.3]
    assert pipeline.nms.iou_threshold == 0.9
    pipeline.use(old)


def test_configured_thresholds_reach_a_model_opened_without_them(tmp_path):
    model = open_model(str(detector(tmp_path / "pets", "first")), EngineSection())
    pipeline = Pipeline(
        MemorySource([np.zeros((64, 64, 3), np.uint8)]), model, [], RunConfig(thresholds=Thresholds(score=0.8))
    )
    see(pipeline, (32, 32, 0.9), (12, 12, 0.7))
    assert scores(pipeline) == [0.9]
    model.close()


def test_a_copy_is_changed_and_not_what_others_hold():
    config = RunConfig(tracking=TrackingSection(high_score=0.7), thresholds=Thresholds(score=0.3, iou=0.4))
    changed = with_thresholds(config, 0.6, None)
    assert (changed.thresholds.score, changed.thresholds.iou, changed.tracking.high_score) == (0.6, 0.4, None)
    assert (config.thresholds.score, config.tracking.high_score) == (0.3, 0.7)
    assert with_thresholds(config, None, 0.9).tracking.high_score == 0.7
