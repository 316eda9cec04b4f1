"""The one place where the stages meet."""

import logging
from collections.abc import Sequence

import numpy as np

from edge.clock import monotonic_ns
from edge.config import RunConfig, Thresholds
from edge.detections import Classification, Detections
from edge.frame import Frame
from edge.manifest import DecoderSection
from edge.model import Model
from edge.nms import NmsSettings, suppress
from edge.preprocess.letterbox import Geometry
from edge.preprocess.pixels import Preprocessor
from edge.publishers.base import Publisher
from edge.registry import resolve
from edge.sources.base import FrameSource, SourceEvent
from edge.timings import Stage, StageTimings
from edge.wire.jsonl import Message, message_of, status_of

__all__ = ["Pipeline", "nms_settings"]

_TOP_CLASSES = 5

log = logging.getLogger("harrier")


def nms_settings(section: DecoderSection, thresholds: Thresholds) -> NmsSettings:
    """Return the NMS settings: what the configuration says, else what the manifest says."""
    return NmsSettings(
        iou_threshold=section.iou_threshold if thresholds.iou is None else thresholds.iou,
        class_agnostic=thresholds.class_agnostic,
        max_detections=thresholds.max_detections,
        max_per_class=thresholds.max_per_class,
        method=thresholds.nms or section.nms,
        sigma=thresholds.sigma,
        score_threshold=section.score_threshold if thresholds.score is None else thresholds.score,
    )


class Pipeline:
    """Source, model and publishers, and the step that takes one frame through them.

    The pipeline borrows its parts: whoever made them closes them. result holds the last step's Detections
    (xyxy, source px) or Classification, frame the last Frame; both are refilled by the next step.
    """

    def __init__(self, source: FrameSource, model: Model, publishers: Sequence[Publisher], config: RunConfig) -> None:
        self.source = source
        self.model = model
        self.timings = StageTimings()
        self.nms = nms_settings(model.manifest.decoder, config.thresholds)
        self._timeout_s = config.frame_timeout_s
        self._engine = model.engine
        self._decoder = model.decoder
        self._preprocess = Preprocessor(model.manifest.input, model.engine.input_specs[0], model.engine.inputs[0])
        self.publishers = publishers
        self._encoders = [(p, resolve("formats", p.format)) for p in publishers]
        self.frame: Frame | None = None
        self._held: list[SourceEvent] = []
        self.result: Detections | Classification
        if model.decoder.kind == "detections":
            points = model.decoder.keypoint_count
            self._candidates = Detections(config.thresholds.max_candidates, points)
            self.result = Detections(config.thresholds.max_detections, points)
        else:
            self.result = Classification(min(_TOP_CLASSES, model.decoder.class_count or _TOP_CLASSES))

    def step(self, timeout_s: float | None = None) -> Message:
        """Take one frame from the source to the publishers and return what was published.

        timeout_s: how long to wait for a frame; the configuration's frame_timeout_s when None.
        Raises: SourceTimeoutError when no frame came in time, EndOfStreamError, EngineError.
        """
        laps = self.timings
        laps.start()
        self.frame = frame = self.source.read(self._timeout_s if timeout_s is None else timeout_s)
        laps.lap(Stage.WAIT)
        geometry = self._preprocess(frame.image)
        laps.lap(Stage.PREPROCESS)
        self._engine.run()
        laps.lap(Stage.INFER)
        if isinstance(self.result, Classification):
            self._decoder.decode(self._engine.outputs, self.result)
            laps.lap(Stage.DECODE)
        else:
            self._decoder.decode(self._engine.outputs, self._candidates)
            laps.lap(Stage.DECODE)
            self._select(self.result, geometry)
            laps.lap(Stage.NMS)
        self.relay_events()
        message = message_of(frame.info, self.result, self.model.labels, self.model.name)
        self._publish(message)
        laps.lap(Stage.PUBLISH)
        laps.finish(frame.info.t_capture_ns, monotonic_ns())
        return message

    def relay_events(self, at_end: bool = False) -> None:
        """Tell the readers and the log what the source has been doing.

        A source may have ended while its last frame is still on its way: that news waits for `at_end`.
        """
        for event in self.source.poll_events() + (self._held if at_end else []):
            if event.state == "ended" and not at_end:
                self._held.append(event)
            else:
                reason = f" ({event.reason})" if event.reason else ""
                log.info("source %s: %s%s", self.source.source_id, event.state, reason)
                self.publish_status(event.state, event.reason, event.t_ns)

    def publish_status(self, state: str, reason: str, t_event_ns: int) -> None:
        """Tell the readers what the source is doing since t_event_ns (CLOCK_MONOTONIC)."""
        self._publish(status_of(self.source.source_id, self.timings.count, state, reason, t_event_ns), keep=True)

    def _select(self, result: Detections, geometry: Geometry) -> None:
        candidates = self._candidates
        if self._decoder.needs_nms:
            suppress(candidates, result, self.nms)
        else:
            order = np.argsort(-candidates.scores[: candidates.count], kind="stable")
            result.take(candidates, order[: self.nms.max_detections])
        geometry.to_source(result)

    def _publish(self, message: Message, keep: bool = False) -> None:
        encoded: dict[str, bytes] = {}
        for publisher, encode in self._encoders:
            payload = encoded.get(publisher.format)
            if payload is None:
                payload = encoded[publisher.format] = encode(message)
            publisher.send(payload, keep)
