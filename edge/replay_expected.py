"""A recording's pictures through a model once more, each result beside the one that was recorded."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import msgspec
import numpy as np

from edge.clock import monotonic_ns
from edge.config import RunConfig
from edge.errors import ConfigError, EndOfStreamError
from edge.frame import Frame, FrameInfo
from edge.model import Model, open_model
from edge.pipeline import Pipeline
from edge.progress import Progress
from edge.recording import Recorded, Recording, has_pictures, picture_in
from edge.replay_compare import Difference, Limits, Result, compare
from edge.replay_survey import Survey, result_in, survey
from edge.sources.base import FrameSource, SourceEvent
from edge.wire.messages import HelloMessage

__all__ = ["Outcome", "expect", "frames_of"]

log = logging.getLogger("harrier")

_WAITING = 4096  # results whose picture has not come yet


@dataclass(slots=True)
class Outcome:
    """Every frame that was compared, what ran, and how many were passed over.

    Those had no result, or one of another model, or were the first, in which the tracker of now has no tracks yet.
    """

    survey: Survey
    model: str
    target: str
    limits: Limits
    differences: list[Difference]
    passed_over: int


def expect(path: Path, config: RunConfig, limits: Limits) -> Outcome:
    """Run a recording's pictures through config's model, or else the recorded one, and compare the results.

    config: as for a run; its thresholds, tracking and regions are used, its source and publishers are not. The score
    that counts is config's, else the model's, or without tracks the least that was recorded, if that is lower.
    Raises: ConfigError for a recording without pictures or results of Harrier, and whatever the model raises.
    """
    found = survey(path)
    if not found.results:
        raise ConfigError(f"{path} holds no results of Harrier", "record one with --publish mcap://FILE.mcap")
    name = config.model or found.models.most_common(1)[0][0]
    if found.tracked and not config.tracking:
        log.warning("it was recorded with tracking: give the configuration it ran with (--config)")
    model = _open(name, config, given=config.model is not None)
    try:
        limits, config = _with_slack(config, model, limits, found)
        source = _RecordedFrames()
        pipeline = Pipeline(cast(FrameSource, source), model, [], config)
        progress = Progress(f"replaying {path.name}", found.results)
        differences, passed_over, t_first_ns = [], 0, None
        for recorded, then in frames_of(path):
            if then is None or (config.model is None and then.model != name):
                passed_over += 1
                continue
            image = picture_in(recorded.data)
            if image is None:
                passed_over += 1
                continue
            t_first_ns = recorded.t_publish_ns if t_first_ns is None else t_first_ns
            source.put(image, then.seq, recorded.t_publish_ns - t_first_ns)
            now = pipeline.step()
            if config.tracking and pipeline.timings.count < config.tracking.min_hits:
                passed_over += 1  # a piece of a longer run begins with tracks that went before it
                continue
            if type(now) is not type(then):
                raise ConfigError(
                    f"{model.name} gives {now.kind}, but {then.kind} were recorded", "give another --model"
                )
            differences.append(compare(then, now, (recorded.t_publish_ns - t_first_ns) / 1e9, limits))
            progress.update(len(differences), f"{sum(bool(one.size) for one in differences)} differ")
    finally:
        model.close()
    progress.finish(len(differences), f"{len(differences)} frames")
    if not differences:
        raise ConfigError(
            f"{path} holds no picture with a result of {name}", "record with pictures=jpeg, or give --model"
        )
    return Outcome(found, model.name, model.target, limits, differences, passed_over)


def frames_of(path: Path) -> Iterator[tuple[Recorded, Result | None]]:
    """Yield every picture of a recording with the result of that frame, None where there is none.

    Raises: ConfigError for a file that cannot be read.
    """
    results: dict[int, Result] = {}
    for recorded in Recording(path):
        message = result_in(recorded)
        if message is not None and not isinstance(message, HelloMessage):
            results[message.seq & 0xFFFFFFFF] = message
            if len(results) > _WAITING:
                del results[next(iter(results))]
        elif has_pictures(recorded):
            yield recorded, results.pop(recorded.sequence, None)


def _open(name: str, config: RunConfig, given: bool) -> Model:
    try:
        return open_model(name, config.engine, config.labels)
    except ConfigError:
        raise
    except Exception as exc:
        cause, cure = getattr(exc, "cause", None), getattr(exc, "cure", "")
        if given or cause is None:
            raise
        raise ConfigError(f"the recorded model '{name}' is not here ({cause})", f"give --model; {cure}") from exc


def _with_slack(config: RunConfig, model: Model, limits: Limits, found: Survey) -> tuple[Limits, RunConfig]:
    """Look a little below the threshold, so that what was recorded just above it can be found just below."""
    threshold = config.thresholds.score
    if threshold is None:
        threshold = model.manifest.decoder.score_threshold
        if not found.tracked:  # a track is kept going by detections far below it
            threshold = min(threshold, found.least_score)
    low = max(0.0, threshold - limits.score)
    model.decoder.score_threshold = low
    tracking = config.tracking
    if tracking and tracking.high_score is None:
        tracking = msgspec.structs.replace(tracking, high_score=threshold)
    thresholds = msgspec.structs.replace(config.thresholds, score=low)
    return (
        Limits(limits.iou, limits.score, threshold),
        msgspec.structs.replace(config, thresholds=thresholds, tracking=tracking),
    )


class _RecordedFrames:
    """Gives the picture that was put into it, once, with the time it was taken at."""

    def __init__(self) -> None:
        self.source_id = "recording"
        self.picture_fault = ""
        self._t_start_ns = monotonic_ns()
        self._frame: Frame | None = None

    def put(self, image: np.ndarray, seq: int, t_ns: int) -> None:
        """Give `image` (H, W, 3) uint8 BGR at the next read; t_ns: since the first one was taken."""
        height, width = image.shape[:2]
        t_capture_ns = self._t_start_ns + t_ns
        self._frame = Frame(image, FrameInfo(seq, self.source_id, t_capture_ns, width, height, "bgr8", "generated"))

    def read(self, timeout_s: float) -> Frame:
        """Return the picture.

        Raises: EndOfStreamError when there is none.
        """
        if self._frame is None:
            raise EndOfStreamError("no picture is left", "nothing to do")
        frame, self._frame = self._frame, None
        return frame

    def poll_events(self) -> list[SourceEvent]:
        """Return no events."""
        return []
