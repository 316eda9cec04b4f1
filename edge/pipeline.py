"""The one place where the stages meet."""

import logging
from collections.abc import Callable, Sequence
from queue import SimpleQueue

import msgspec
import numpy as np

from edge.clock import monotonic_ns
from edge.config import RunConfig, require_no_boxes, with_thresholds
from edge.detections import Classification, Detections
from edge.errors import ConfigError, EngineError
from edge.events import RegionEvent
from edge.frame import Frame, FrameInfo
from edge.geometry.locator import Locator, open_locator
from edge.geometry.regions import Regions, open_regions
from edge.lineup import Lineup, lineup_of
from edge.model import Model
from edge.nms import settings_of, suppress
from edge.preprocess.letterbox import Geometry
from edge.publishers.base import Publisher, Viewer
from edge.sources.base import FrameSource, SourceEvent
from edge.timings import Stage, StageTimings
from edge.tracking.base import Tracker, open_tracker
from edge.tracking.camera_motion import carry_along
from edge.wire.building import Stream, greeting, heartbeat_of, message_of, region_of, status_of
from edge.wire.messages import ClassificationMessage, DetectionsMessage, FlagName, Message, SourceState

__all__ = ["Pipeline"]

_TOP_CLASSES = 5

log = logging.getLogger("harrier")


class Pipeline:
    """Source, model and publishers, and the step that takes one frame through them.

    model: one that is open, or a line-up of several of which the later ones take over (`edge.lineup`).
    The pipeline borrows its parts: whoever made them closes them. result holds the last step's Detections
    (xyxy, source px) or Classification, frame the last Frame; both are refilled by the next step. t_newest_ns: when the
    newest result's frame was captured (CLOCK_MONOTONIC). conditions: what is not as it was asked for, and why.
    viewers: who is shown pictures, the publishers first. config: what holds now, thresholds set meanwhile included.
    camera_motion, where given, is asked for the camera's own motion between two capture times (CLOCK_MONOTONIC ns): a
    (3, 3) float64 homography, current from previous px, or None where it does not know (`edge.tracking.camera_motion`).
    """

    camera_motion: Callable[[int, int], np.ndarray | None] | None = None
    _tracker: Tracker | None = None
    _numbers: Tracker | None = None  # the last one there was, whose numbers the next goes on with

    def __init__(
        self, source: FrameSource, model: Model | Lineup, publishers: Sequence[Publisher], config: RunConfig
    ) -> None:
        self.source = source
        self.lineup = lineup_of(model) if isinstance(model, Model) else model
        self.timings = StageTimings()
        self.publishers = publishers
        self.viewers: list[Viewer] = list(publishers)
        self.frame: Frame | None = None
        self.state: SourceState = "connecting"
        self.region_events: list[RegionEvent] = []
        self.config = config
        self._timeout_s = config.frame_timeout_s
        self._t_start_ns = monotonic_ns()
        self.t_newest_ns: int | None = None
        self._t_beat_ns, self._frame_wh, self._faults = 0, (0, 0), ("",) * 4
        self.conditions: dict[FlagName, str] = {}
        self._held: list[SourceEvent] = []
        self._asked: SimpleQueue[Callable[[Pipeline], None]] = SimpleQueue()
        self._fit(self.lineup.model)

    def _fit(self, model: Model) -> None:
        """Make what stands behind the engine: for boxes or for classes, with what is configured."""
        config = self.config
        self._numbers = self._tracker or self._numbers
        self.nms = settings_of(model.manifest.decoder, config.thresholds)
        self.lineup.accept_from(self.nms.score_threshold)  # it may have let weak ones pass, for a tracker, until now
        self.stream = Stream(
            source=self.source.source_id,
            model=model.name,
            labels=tuple(model.labels),
            ttl_ms=config.wire.ttl_ms,
            heartbeat_ms=config.wire.heartbeat_ms,
        )
        self._locator: Locator | None = None
        self._regions: Regions | None = None
        self.result: Detections | Classification
        if model.decoder.kind == "detections":
            points = model.decoder.keypoint_count
            self._candidates = Detections(config.thresholds.max_candidates, points)
            most, score = config.thresholds.max_detections, self.nms.score_threshold
            self._tracker = open_tracker(config.tracking, score, most, points, before=self._numbers)
            self.result = self._found = Detections(most, points)
            if self._tracker:
                self._accept_weak(self._tracker)
                self.result = Detections(most, points, self._tracker.predicts)
            self._locator = open_locator(config.geometry, model.labels, most)
            if self._locator:
                camera, base = self._locator.frame_ids
                self.stream = msgspec.structs.replace(self.stream, frame_id=camera, base_frame_id=base)
            self._regions = open_regions(config.region, model.labels, tracked=self._tracker is not None)
        else:
            require_no_boxes(config, model.name)
            self._tracker = None
            self.result = Classification(min(_TOP_CLASSES, model.decoder.class_count or _TOP_CLASSES))

    def step(self, timeout_s: float | None = None) -> DetectionsMessage | ClassificationMessage:
        """Take one frame from the source to the publishers and return what was published.

        timeout_s: how long to wait for a frame; the configuration's frame_timeout_s when None.
        Raises: SourceTimeoutError when no frame came in time, EndOfStreamError, EngineError; EngineLostError when
        no engine could run this frame but may run a later one.
        """
        laps = self.timings
        laps.start()
        self.frame = frame = self.source.read(self._timeout_s if timeout_s is None else timeout_s)
        laps.lap(Stage.WAIT)
        model, geometry = self._infer(frame.image)
        if isinstance(self.result, Classification):
            model.decoder.decode(model.engine.outputs, self.result)
            laps.lap(Stage.DECODE)
        else:
            model.decoder.decode(model.engine.outputs, self._candidates)
            laps.lap(Stage.DECODE)
            self._select(self._found, geometry, model.decoder.needs_nms)
            if self._regions:
                kept = self._regions.kept(self._found, (frame.info.width_px, frame.info.height_px))
                self._found.take(self._found, np.flatnonzero(kept))
            laps.lap(Stage.NMS)
            if self._tracker:
                self._track(self._tracker, frame.info, self.result)
                laps.lap(Stage.TRACK)
            self._place(frame.info, self.result)
            laps.lap(Stage.LOCATE)
        self.t_newest_ns = frame.info.t_capture_ns
        self.relay_events()
        if self._frame_wh != (frame.info.width_px, frame.info.height_px):
            self._frame_wh = (frame.info.width_px, frame.info.height_px)
            self.greet()
        locations = self._locator.locations if self._locator else None
        message = message_of(frame.info, self.result, self.stream, self.flags, locations)
        self._publish(message)
        laps.lap(Stage.PUBLISH)
        laps.finish(frame.info.t_capture_ns, monotonic_ns())
        for viewer in self.viewers:
            if viewer.wants_frames:
                viewer.show(frame, message)
        return message

    @property
    def model(self) -> Model:
        """The model that ran the last frame, or will run the first."""
        return self.lineup.model

    @property
    def flags(self) -> tuple[FlagName, ...]:
        """What readers must know of every message: stale while the newest result is older than its time to live."""
        t_ns = self.t_newest_ns
        fresh = t_ns is not None and (monotonic_ns() - t_ns) / 1e6 <= self.stream.ttl_ms
        return (*self.conditions, *(() if fresh else ("stale",)))

    def set_condition(self, flag: FlagName, reason: str) -> None:
        """Raise a flag of every message to come, or lower it with reason ""; a change is told as a status."""
        if reason == self.conditions.get(flag, ""):
            return
        self.conditions.pop(flag, None)
        if reason:
            self.conditions[flag] = reason
        text = f"{flag}: {reason}" if reason else f"no longer {flag}"
        log.warning("%s", text)
        self.publish_status(self.state, text, monotonic_ns())

    def ask(self, action: Callable[["Pipeline"], None]) -> None:
        """Have `action` done between two frames by the thread that runs them; from any thread, returns at once."""
        self._asked.put(action)

    def do_asked(self) -> None:
        """Do what was asked for since the last time."""
        while not self._asked.empty():
            self._asked.get()(self)

    def use(self, lineup: Lineup, config: RunConfig | None = None) -> Lineup:
        """Let another line-up, or configuration, run the next frame; return the line-up until now, which stays open.

        Tracks begin anew, and readers are told the new model and its labels.
        Raises: ConfigError when its results do not fit what is configured; the old one then goes on.
        """
        if self._regions and self.frame:
            self._tell(self._regions.leave_all(), self.frame.info)
        old, self.lineup = self.lineup, lineup
        before, self.config = self.config, config or self.config
        try:
            self._fit(lineup.model)
        except ConfigError:
            self.lineup, self.config = old, before
            self._fit(old.model)
            raise
        self.greet()
        return old

    def set_thresholds(self, score: float | None = None, iou: float | None = None) -> None:
        """Let other thresholds (0 to 1; None: as before) hold from the next frame on; tracks go on."""
        self.config = with_thresholds(self.config, score, iou)
        self.nms = settings_of(self.model.manifest.decoder, self.config.thresholds)
        if score is not None:
            self.lineup.accept_from(score)
            if self._tracker:
                self._tracker.set_high_score(score)
        if self._tracker:
            self._accept_weak(self._tracker)

    def greet(self) -> None:
        """Tell the readers, those of now and those to come, what this stream is."""
        for message in greeting(self.stream, self._frame_wh):
            self._publish(message)

    def relay_events(self, at_end: bool = False) -> None:
        """Tell the readers and the log what the source has been doing, and the readers that the loop is alive.

        A source may have ended while its last frame is still on its way: that news waits for `at_end`.
        """
        if at_end and self._regions and self.frame:
            self._tell(self._regions.leave_all(), self.frame.info)
        for event in self.source.poll_events() + (self._held if at_end else []):
            if event.state == "ended" and not at_end:
                self._held.append(event)
            else:
                reason = f" ({event.reason})" if event.reason else ""
                log.info("source %s: %s%s", self.source.source_id, event.state, reason)
                self.publish_status(event.state, event.reason, event.t_ns)
        now = monotonic_ns()
        if now - self._t_beat_ns >= self.stream.heartbeat_ms * 1_000_000:
            self._t_beat_ns = now
            seq, t_start_ns = self.timings.count, self._t_start_ns
            self._publish(heartbeat_of(self.stream, seq, self.state, t_start_ns, self.t_newest_ns, self.flags))

    def publish_status(self, state: SourceState, reason: str, t_event_ns: int) -> None:
        """Tell the readers what the source is doing since t_event_ns (CLOCK_MONOTONIC)."""
        self.state, seq, engine = state, self.timings.count, self.model.target
        self._publish(status_of(self.stream, seq, state, reason, t_event_ns, engine, self.flags))

    def _infer(self, image: np.ndarray) -> tuple[Model, Geometry]:
        """Let the line-up run the frame, and tell the readers where it is not the first engine that did."""
        try:
            return self.lineup.infer(image, self.timings)
        except EngineError:
            self.timings.hold()
            raise
        finally:
            misfit = self._locator.misfit if self._locator else ""
            faults = (self.lineup.reason, self.source.picture_fault, misfit, self.lineup.fallback)
            if faults != self._faults:
                self._faults = faults
                self.set_condition("degraded", "; ".join(filter(None, faults[:3])))
                self.set_condition("fallback", faults[3])

    def _select(self, result: Detections, geometry: Geometry, needs_nms: bool) -> None:
        candidates = self._candidates
        if needs_nms:
            suppress(candidates, result, self.nms)
        else:
            best = np.argsort(-candidates.scores[: candidates.count], kind="stable")[: self.nms.max_detections]
            result.take(candidates, best)
        geometry.to_source(result)

    def _accept_weak(self, tracker: Tracker) -> None:
        """Let weak detections pass the decoder and NMS, for the tracker to judge."""
        low = min(tracker.low_score, score := self.nms.score_threshold)
        self.lineup.accept_from(low)
        # boxes blended by score stay what they are without the weak ones
        self.nms = msgspec.structs.replace(self.nms, score_threshold=low, blend_score=score)

    def _track(self, tracker: Tracker, info: FrameInfo, result: Detections) -> None:
        t_before_ns, t_ns = self.t_newest_ns, info.t_capture_ns
        moved = self.camera_motion(t_before_ns, t_ns) if self.camera_motion and t_before_ns is not None else None
        tracker.update(self._found, result, t_ns, moved)
        result.clip((info.width_px, info.height_px))  # a filtered box may reach over the edge
        now = monotonic_ns()
        if self.camera_motion and now > t_ns and (moved := self.camera_motion(t_ns, now)) is not None:
            carry_along(result, moved, (now - t_ns) / 1e9)

    def _place(self, info: FrameInfo, result: Detections) -> None:
        frame_wh = (info.width_px, info.height_px)
        if self._regions:
            self._tell(self._regions.events(result, frame_wh, info.t_capture_ns), info)
        if self._locator:
            self._locator.locate(result, frame_wh)

    def _tell(self, events: list[RegionEvent], info: FrameInfo) -> None:
        self.region_events = events
        for event in events:
            message = region_of(event, info, self.stream, tuple(self.conditions))
            log.info("region %s: %s, %s, track %s", event.region, event.kind, message.label, event.track_id)
            self._publish(message)

    def _publish(self, message: Message) -> None:
        for publisher in self.publishers:
            publisher.send(message)
