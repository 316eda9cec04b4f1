"""What can be changed on the page: each request does what it answers."""

import json
import re
import threading

import cv2
import numpy as np
import pytest
from live_runs import LiveRun, detector, until

from edge.config import WebSection
from edge.testing import MemoryPublisher
from edge.web import control
from edge.wire.messages import HelloMessage

pytest.importorskip("aiohttp", reason="the extra 'web' is not installed")


@pytest.fixture
def run(tmp_path):
    with LiveRun(tmp_path) as run:
        yield run


class Recorder(MemoryPublisher):
    """Records as mcap:// does, but nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.address = "recorder"
        self.recording = False
        self.triggers: list[str] = []

    def record(self, on: bool) -> None:
        self.recording = on

    def trigger(self, reason: str) -> None:
        self.triggers.append(reason)


def test_thresholds_say_what_they_changed(run):
    status, told = run.ask("/api/thresholds", {"score": 0.55})
    assert status == 200
    assert told["changed"] == {"score": {"from": 0.5, "to": 0.55}}
    assert told["thresholds"] == {"score": 0.55, "iou": 0.4}
    assert run.ask("/api/thresholds", {"score": 0.55})[1]["changed"] == {}
    assert set(run.ask("/api/thresholds", {"score": 0.7, "iou": 0.1})[1]["changed"]) == {"score", "iou"}
    seq = run.pipeline.timings.count
    until(lambda: run.pipeline.timings.count > seq + 1, "the run does not go on")
    assert [len(m.detections) for m in run.publisher.messages if m.kind == "detections"][-1] == 1  # of 0.9 and 0.6
    assert run.ask("/api/state")[1]["thresholds"] == {"score": 0.7, "iou": 0.1}


def test_the_frame_that_is_named_is_the_first_with_the_new_threshold(run):
    """By its number, as the page and readers have it, not by how many results there were."""
    run.pipeline.ask(lambda pipeline: setattr(pipeline.source, "_seq", 1000))
    until(lambda: any(m.seq > 1000 for m in run.publisher.messages if m.kind == "detections"), "no frame came")
    first = run.ask("/api/thresholds", {"score": 0.7})[1]["frame"]
    until(lambda: run.publisher.messages[-1].seq > first, "the run does not go on")
    seen = {m.seq: len(m.detections) for m in run.publisher.messages if m.kind == "detections"}
    assert (seen[first - 1], seen[first]) == (2, 1)


def test_a_loop_that_hangs_is_said_and_nothing_is_done_later(run, monkeypatch):
    monkeypatch.setattr(control, "_LOOP_S", 0.2)
    asked = []
    monkeypatch.setattr(run.pipeline, "ask", asked.append)
    status, told = run.ask("/api/thresholds", {"score": 0.9})
    assert (status, told["error"]) == (503, "the loop does not answer")
    (late,) = asked
    late(run.pipeline)
    assert run.pipeline.config.thresholds.score is None


def test_a_defect_in_a_request_leaves_the_run_alone(run, monkeypatch, caplog):
    monkeypatch.setattr(run.pipeline, "set_thresholds", lambda *args: 1 / 0)
    assert run.ask("/api/thresholds", {"score": 0.9})[0] == 500
    assert "report this as a defect" in caplog.text
    assert run.ask("/healthz")[0] == 200


def test_pause_and_resume(run):
    assert run.ask("/api/pause", {}) == (200, {"state": "paused"})
    count = run.pipeline.timings.count
    told = run.ask("/api/state")[1]
    assert told["paused"] is True
    assert run.ask("/api/thresholds", {"score": 0.6})[0] == 200  # what is asked for is done while it rests, too
    assert run.pipeline.timings.count == count
    assert run.ask("/api/resume", {}) == (200, {"state": "streaming"})
    until(lambda: run.pipeline.timings.count > count, "it does not go on")


def test_a_pause_that_nobody_obeys_is_taken_back(run, monkeypatch):
    monkeypatch.setattr(control, "_LOOP_S", 0.2)
    run._stop.set()
    run._thread.join(5)
    assert run.ask("/api/pause", {})[0] == 503
    assert run.page.command == ""


def test_a_snapshot_is_a_frame_and_what_was_seen_on_it(run):
    status, told = run.ask("/api/snapshot", {})
    assert status == 200
    png, document = (run.ask(path) for path in told["downloads"])
    assert png[0] == document[0] == 200
    picture = cv2.imdecode(np.frombuffer(png[1], np.uint8), cv2.IMREAD_COLOR)
    assert (picture == 90).all(), "it is the frame as the camera gave it, without drawings"
    assert picture.shape == (128, 256, 3)
    assert document[1]["result"]["seq"] == told["frame"]
    assert [found["label"] for found in document[1]["result"]["detections"]] == ["cat", "cat"]
    assert document[1]["thresholds"] == {"score": 0.5, "iou": 0.4}
    assert document[1]["health"]["model"] == "pets"
    assert re.fullmatch(r"/api/snapshots/\d{8}T\d{6}Z-\d{6}\.png", told["downloads"][0])
    for _ in range(4):
        assert run.ask("/api/snapshot", {})[0] == 200
    assert run.ask(told["downloads"][0])[0] == 404  # only the last few are kept


def test_snapshots_go_into_a_folder_where_one_is_configured(tmp_path):
    folder = tmp_path / "shots" / "front"
    with LiveRun(tmp_path, WebSection(listen="127.0.0.1:0", snapshots=str(folder))) as run:
        _, told = run.ask("/api/snapshot", {})
        assert sorted(map(str, folder.iterdir())) == sorted(told["files"])
        assert json.loads(next(folder.glob("*.json")).read_text())["result"]["seq"] == told["frame"]
        assert cv2.imread(str(next(folder.glob("*.png")))).shape == (128, 256, 3)
    (tmp_path / "file").write_text("")
    (tmp_path / "again").mkdir()
    with LiveRun(tmp_path / "again", WebSection(listen="127.0.0.1:0", snapshots=str(tmp_path / "file" / "x"))) as run:
        status, told = run.ask("/api/snapshot", {})
        assert (status, "cannot make" in told["error"]) == (400, True)


def test_no_snapshot_where_no_frame_comes(run, monkeypatch):
    monkeypatch.setattr(control, "_FRAME_S", 0.1)
    run.frames = False
    until(lambda: run.ask("/api/snapshot", {})[0] == 503, "frames go on")
    run.frames = True  # what was asked for in vain is not taken later, and later ones are
    assert run.ask("/api/snapshot", {})[0] == 200


def test_recording_is_offered_where_something_records(run):
    assert run.ask("/api/state")[1]["record"] is None
    status, told = run.ask("/api/record", {"on": True})
    assert (status, told["cure"]) == (400, "add --publish mcap://FOLDER")
    recorder = Recorder()
    run.pipeline.publishers = [run.publisher, recorder]
    assert run.ask("/api/state")[1]["record"] == {"on": False, "files": []}
    assert run.ask("/api/record", {"on": True})[1]["record"]["on"] is True
    assert recorder.recording is True
    assert run.ask("/api/record", {"on": False})[1]["record"]["on"] is False
    assert run.ask("/api/trigger", {"reason": "near miss"})[0] == 200
    assert run.ask("/api/trigger", {})[0] == 200
    assert recorder.triggers == ["near miss", "asked for on the live page"]


def test_another_target_takes_over_between_two_frames(run):
    told = run.ask("/api/models")[1]
    assert (told["model"], told["target"]) == ("pets", "first")
    assert [(target["name"], target["here"]) for target in told["targets"]] == [("first", True), ("second", True)]
    run.ask("/api/thresholds", {"score": 0.3})
    status, said = run.ask("/api/model", {"target": "second"})
    assert (status, said["state"]) == (200, "opening")
    until(lambda: run.ask("/api/state")[1]["switching"]["state"] == "runs", "it is not opened")
    assert run.pipeline.model.target == "second"
    assert run.ask("/api/state")[1]["thresholds"]["score"] == 0.3, "what was set goes over to the next model"
    hellos = [m for m in run.publisher.messages if isinstance(m, HelloMessage)]
    assert len(hellos) >= 1, "readers are told"
    assert run.ask("/api/model", {"target": "second"})[0] == 400  # runs already


def test_only_what_is_listed_can_be_opened(run, tmp_path):
    other = detector(tmp_path / "other", "first")
    for asked in ({"model": str(other)}, {"model": "../other"}, {"target": "third"}, {"target": "kserve+http://x"}, {}):
        status, told = run.ask("/api/model", asked)
        assert (status, bool(told["cure"])) == (400, True), asked
    assert run.pipeline.model.target == "first"


def test_a_model_that_does_not_open_leaves_the_other_running(run, tmp_path):
    (tmp_path / "pets" / "second.null").write_text("nonsense")
    run.ask("/api/model", {"target": "second"})
    until(lambda: run.ask("/api/state")[1]["switching"]["state"] == "failed", "it does not fail")
    assert run.ask("/api/state")[1]["switching"]["why"]
    count = run.pipeline.timings.count
    until(lambda: run.pipeline.timings.count > count, "it does not go on")
    assert run.pipeline.model.target == "first"


def test_a_model_that_is_closed_while_somebody_looks_is_no_defect(run, monkeypatch):
    """The page's thread may look just when the loop has swapped models and the old one is closed."""
    real, closed = type(run.pipeline).model.fget, threading.Event()

    def closed_once(pipeline):
        if threading.current_thread() is not run._thread and closed.is_set():
            closed.clear()
            raise AssertionError("the model is closed")
        return real(pipeline)

    monkeypatch.setattr(type(run.pipeline), "model", property(closed_once))
    for path in ("/healthz", "/metrics", "/api/state"):
        closed.set()
        assert run.ask(path)[0] == 200, path
        assert not closed.is_set(), path


def test_the_state_says_what_the_page_shows(run):
    told = run.ask("/api/state")[1]
    assert told["health"]["state"] == "ok"
    assert [found["score"] for found in told["result"]["detections"]] == [0.9, 0.6]
    assert told["result"]["kind"] == "detections"
    assert "t_capture_local_ns" not in told["result"]
    stages = {stage["stage"]: stage["mean_ms"] for stage in told["waterfall"]["stages"]}
    assert sum(stages.values()) == pytest.approx(told["waterfall"]["step"]["mean_ms"], rel=0.05)
    assert told["viewers"] == 0
