"""A model that runs beside the one that counts, on the same pictures, and is compared with it before it takes over."""

import queue
import time
from dataclasses import dataclass
from typing import cast

import numpy as np

from edge.config import RunConfig
from edge.detections import Detections
from edge.evaluation.compare import agreement
from edge.evaluation.matching import Predicted
from edge.evaluation.runner import OneFrameSource
from edge.frame import Frame
from edge.lineup import Lineup
from edge.pipeline import Pipeline
from edge.sources.base import FrameSource
from edge.wire.messages import ClassificationMessage, DetectionsMessage

__all__ = ["Shadow", "ShadowReport"]

_PATIENCE_S = 0.2


@dataclass(frozen=True, slots=True)
class ShadowReport:
    """What a shadow run found: frames compared, mean agreement in [0, 1] where either found something, median ms."""

    frames: int
    agreement: float
    step_ms: float


class Shadow:
    """Runs a line-up on pictures of a run that goes on; as one of `pipeline.viewers` it copies one when it is idle.

    It rests as long as it works, so that the run it watches keeps its pace.
    """

    wants_frames = False

    def __init__(self, lineup: Lineup, config: RunConfig) -> None:
        self._source = OneFrameSource()
        self._pipeline = Pipeline(cast(FrameSource, self._source), lineup, [], RunConfig(thresholds=config.thresholds))
        self._handed: queue.SimpleQueue[tuple[np.ndarray, DetectionsMessage | ClassificationMessage]]
        self._handed = queue.SimpleQueue()

    def show(self, frame: Frame, message: DetectionsMessage | ClassificationMessage) -> None:
        """Take a picture and what the other model found on it."""
        self.wants_frames = False
        self._handed.put((frame.image.copy(), message))

    def run(self, frames: int, patience_s: float) -> ShadowReport:
        """Compare on so many frames, or as many as come in `patience_s`; from a thread of its own.

        Raises: EdgeError, as the candidate's engine does.
        """
        shares: list[float] = []
        times_ms: list[float] = []
        deadline = time.monotonic() + patience_s
        while len(times_ms) < frames and time.monotonic() < deadline:
            self.wants_frames = True
            try:
                image, message = self._handed.get(timeout=_PATIENCE_S)
            except queue.Empty:
                continue
            start = time.monotonic()
            self._source.put(image)
            self._pipeline.step()
            took_s = time.monotonic() - start
            times_ms.append(took_s * 1e3)
            share = self._share(message)
            if share is not None:
                shares.append(share)
            time.sleep(took_s)
        self.wants_frames = False
        mean = float(np.mean(shares)) if shares else 1.0
        return ShadowReport(len(times_ms), mean, float(np.median(times_ms)) if times_ms else 0.0)

    def _share(self, message: DetectionsMessage | ClassificationMessage) -> float | None:
        """How far the two agree on one picture, by the names of classes; None where neither found anything."""
        result, labels = self._pipeline.result, self._pipeline.stream.labels
        own = [labels[i] if i < len(labels) else str(i) for i in result.class_ids[: result.count].tolist()]
        if isinstance(message, ClassificationMessage):
            return float([c.label or str(c.class_id) for c in message.classes[:1]] == own[:1])
        if not isinstance(result, Detections) or not (own or message.detections):
            return None
        other = [d.label or str(d.class_id) for d in message.detections]
        numbers = {name: i for i, name in enumerate({*own, *other})}
        boxes = np.array([d.box for d in message.detections], np.float64).reshape(-1, 4)
        scores = np.array([d.score for d in message.detections])
        found = result.xyxy[: result.count].astype(np.float64)
        return agreement(
            _predicted(boxes, [numbers[name] for name in other], scores),
            _predicted(found, [numbers[name] for name in own], result.scores[: result.count].astype(np.float64)),
        )


def _predicted(xyxy: np.ndarray, class_ids: list[int], scores: np.ndarray) -> Predicted:
    xywh = xyxy.copy()
    xywh[:, 2:] -= xywh[:, :2]
    return Predicted(xywh, np.array(class_ids, np.int64), scores)
